//! `atollctl install` and `uninstall`: plugin, secrets and network configuration in place, and away again.
//!
//! | module | what |
//! |---|---|
//! | [`plan`] | from what is wanted and what is there to a list of steps. Pure |
//! | [`steps`] | carrying steps out; each leaves a whole file, the old one or the new one |
//!
//! Promises: killed at any point, every file is whole, and a network configuration is there only while the plugin is: the
//! configuration is written last and removed first. Twice is once. Processes that run the old binary go on. A
//! configuration of somebody else is not touched, unless forced.

mod plan;
mod steps;

use std::fs::{self, File, TryLockError};
use std::path::{Path, PathBuf};

use atoll_model::cni::version::Version;
use atoll_model::config::Config;
use serde_json::{Value, json};

use self::plan::{Action, Change, Wanted};
use crate::args::{Install, Output, Secret, Uninstall};
use crate::failure::Failure;
use crate::nodefiles::{self, Progress};
use crate::output::{self, count};
use crate::settings::{self, PLUGIN};
use crate::{plugin, settings::Settings};

/// Programs are for everybody, whatever holds or names a secret is for root.
const PROGRAM: u32 = 0o755;
const PRIVATE: u32 = 0o600;

pub(crate) async fn install(output: Output, options: &Install) -> Result<String, Failure> {
    let source = match &options.plugin {
        Some(source) => source.clone(),
        None => beside(PLUGIN)?,
    };
    let version = plugin::version(&source).await;
    let version =
        version.map_err(|why| Failure::config(format!("{} is not to be installed: {why}", source.display())))?;

    let mut wanted = vec![Wanted::new(options.to.bin_dir.join(PLUGIN), read(&source)?, PROGRAM)];
    if let Some(directory) = &options.cli_dir {
        wanted.push(Wanted::new(directory.join("atollctl"), read(&own()?)?, PROGRAM));
    }
    for Secret { source, target } in &options.secret {
        wanted.push(Wanted::new(target.clone(), read(source)?, PRIVATE));
    }
    let conflist = options.to.conf_dir.join(&options.to.conf_name);
    refuse_foreign(&conflist, options.force)?;
    match &options.conflist {
        Some(source) => {
            check(source)?;
            wanted.push(Wanted::new(conflist.clone(), read(source)?, PRIVATE));
        }
        None if conflist.exists() => {}
        None => return Err(Failure::config(format!("{} is not there: name one with --conflist", conflist.display()))),
    }
    // Before anything is looked at: what is decided must still be true when it is done.
    let _lock = if options.dry_run { None } else { Some(lock(&options.to.conf_dir)?) };
    let changes = plan::install(wanted, |path| steps::look(path).ok().flatten());
    carry_out(&changes, options.dry_run)?;
    let mut notes = vec![format!("the plugin is version {version}")];
    notes.extend(first_by_name(&options.to.conf_dir, &conflist));
    Ok(said(output, if options.dry_run { "would install" } else { "installed" }, &changes, &notes))
}

pub(crate) fn uninstall(output: Output, options: &Uninstall) -> Result<String, Failure> {
    let conflist = options.from.conf_dir.join(&options.from.conf_name);
    refuse_foreign(&conflist, options.force)?;
    let mut notes = Vec::new();
    match Settings::load(Some(&conflist)) {
        Ok(settings) => {
            if !options.force {
                refuse_in_use(&settings.config)?;
            }
            let (state, run) = (settings.config.state_dir.display(), settings.config.run_dir.display());
            notes.push(format!("left as they are: {state}, {run}, and what the configuration names"));
        }
        Err(_) if !conflist.exists() => {}
        Err(failure) if !options.force => {
            let problem = format!("whether pods use it cannot be told: {}", failure.message());
            return Err(Failure::refused(problem, "correct the file, or say --force"));
        }
        Err(_) => {}
    }
    let mut doomed = vec![conflist, options.from.bin_dir.join(PLUGIN)];
    doomed.extend(options.cli_dir.iter().map(|directory| directory.join("atollctl")));
    let _lock =
        if options.dry_run || !options.from.conf_dir.exists() { None } else { Some(lock(&options.from.conf_dir)?) };
    let changes = plan::uninstall(doomed, Path::exists);
    carry_out(&changes, options.dry_run)?;
    Ok(said(output, if options.dry_run { "would uninstall" } else { "uninstalled" }, &changes, &notes))
}

/// Two at once would write the same temporary files. The lock goes with the process.
fn lock(directory: &Path) -> Result<File, Failure> {
    let failed = |error: std::io::Error| Failure::other(format!("{}: {error}", directory.display()));
    fs::create_dir_all(directory).map_err(failed)?;
    let file = File::open(directory).map_err(failed)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::Error(error)) => Err(failed(error)),
        Err(TryLockError::WouldBlock) => {
            Err(Failure::unavailable("another atollctl installs or uninstalls here", "wait until it has ended"))
        }
    }
}

fn carry_out(changes: &[Change], dry_run: bool) -> Result<(), Failure> {
    if dry_run {
        return Ok(());
    }
    for step in changes.iter().flat_map(|change| &change.steps) {
        steps::perform(step).map_err(|error| {
            Failure::other(format!(
                "{step}: {error}; what was there before is whole, and the same command goes on from here"
            ))
        })?;
    }
    Ok(())
}

/// A file beside our own program.
fn beside(name: &str) -> Result<PathBuf, Failure> {
    let path = own()?.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::config(format!("the plugin is not at {}: name it with --plugin", path.display())))
}

fn own() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::other(format!("where this program is cannot be told: {error}")))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    fs::read(path).map_err(|error| Failure::config(format!("{}: {error}", path.display())))
}

/// A file that is there and has no entry of ours is somebody else's.
fn refuse_foreign(path: &Path, force: bool) -> Result<(), Failure> {
    let Ok(text) = fs::read(path) else { return Ok(()) };
    let ours = serde_json::from_slice::<Value>(&text).is_ok_and(|value| settings::entry(&value).is_some());
    if ours || force {
        return Ok(());
    }
    Err(Failure::refused(
        format!("{} is there and has no plugin of type \"{PLUGIN}\": it is somebody else's", path.display()),
        "choose another --conf-name, or say --force if it may go",
    ))
}

/// Pods that have their network from this installation need the plugin for their DEL.
fn refuse_in_use(config: &Config) -> Result<(), Failure> {
    let files = nodefiles::all_progress(&config.run_dir).unwrap_or_default();
    let pods = files.iter().filter(|file| !matches!(file.progress, Progress::Unreadable)).count();
    let graves = nodefiles::graves(&config.state_dir).map_or(0, |graves| graves.len());
    let hint =
        "drain the node first (`kubectl drain`), or say --force: their DEL will fail, and they stay in Terminating";
    match (pods, graves) {
        (0, 0) => Ok(()),
        (0, graves) => Err(Failure::refused(
            format!("{} in files of this node: what it stands for would never be done", count(graves, "tombstone")),
            "`atollctl gc` settles them while etcd is there; or say --force",
        )),
        (pods, _) => Err(Failure::refused(format!("{} of this node use it", count(pods, "attachment")), hint)),
    }
}

/// Would a runtime and the plugin take this file?
pub(crate) fn check(path: &Path) -> Result<(), Failure> {
    let wrong = |problem: String| Failure::config(format!("{} is not to be installed: {problem}", path.display()));
    let value: Value = serde_json::from_slice(&read(path)?).map_err(|error| wrong(format!("not JSON: {error}")))?;
    let plugins = value.get("plugins").and_then(Value::as_array);
    let plugins =
        plugins.ok_or_else(|| wrong("it is no list: {\"cniVersion\", \"name\", \"plugins\": [...]}".to_owned()))?;
    let kind = |plugin: &Value| plugin.get("type").and_then(Value::as_str).unwrap_or_default().to_owned();
    match plugins.iter().position(|plugin| kind(plugin) == PLUGIN) {
        Some(0) => {}
        Some(_) => return Err(wrong(format!("{PLUGIN} must be the first of its plugins"))),
        None => return Err(wrong(format!("no plugin of type \"{PLUGIN}\" is in it"))),
    }
    let version = value.get("cniVersion").and_then(Value::as_str).unwrap_or_default();
    if Version::parse(version).is_none() {
        let spoken = Version::ALL.map(Version::as_str).join(", ");
        return Err(wrong(format!("cniVersion {version:?}: one of {spoken} is expected")));
    }
    if value.get("name").and_then(Value::as_str).is_none_or(str::is_empty) {
        return Err(wrong("it has no name".to_owned()));
    }
    Settings::load(Some(path)).map(drop)
}

/// The runtime takes the first configuration by name.
fn first_by_name(directory: &Path, ours: &Path) -> Option<String> {
    let first = settings::conflists(directory).ok()?.into_iter().next()?;
    (first < *ours).then(|| format!("the runtime will take {} instead: it comes first by name", first.display()))
}

fn said(output: Output, done: &str, changes: &[Change], notes: &[String]) -> String {
    if output == Output::Json {
        return output::json(&json!({ "done": done, "changes": changes, "notes": notes }));
    }
    let row = |change: &Change| [change.action.word().to_owned(), change.path.display().to_string()];
    let table = output::table(["action", "file"], changes.iter().map(row));
    let notes = notes.iter().fold(String::new(), |text, note| format!("{text}note: {note}\n"));
    let changed = changes.iter().filter(|change| change.action != Action::Keep).count();
    format!(
        "{table}\n{done}: {}\n{notes}",
        if changed == 0 { "nothing to change".to_owned() } else { count(changed, "change") }
    )
}
