//! `atollctl install` and `uninstall`: installs and removes plugin, secrets and network configuration.
//!
//! | module | what |
//! |---|---|
//! | [`places`] | the destination: the directories that the node's runtimes search. Pure |
//! | [`plan`] | from the wanted and the present files to a list of steps. Pure |
//! | [`steps`] | executes steps; each leaves the old file or the new one |
//!
//! # Guarantees
//! - After a kill at any point every file is complete, and a network configuration exists only while the plugin does:
//!   the configuration is written last and removed first.
//! - The command is idempotent. Processes that execute the old binary continue.
//! - A configuration of another product is not changed, unless forced.
//! - A configuration that can never work is not installed; an existing one is reported.
//! - At its end the runtimes that answer have loaded the installed configuration, or a note names those that have not.

mod places;
mod plan;
mod steps;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use atoll_model::cni::version::Version;
use atoll_model::config::Config;
use atoll_node::files::{CONFIG, PROGRAM, lock, make, read as files};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use self::places::Destination;
use self::plan::{DesiredFile, FileAction, FileChange};
use crate::failure::Failure;
use crate::nodefiles::{self, AddState};
use crate::output::{self, OutputFormat, count};
use crate::runtime::PLUGIN;
use crate::runtime::root::Root;
use crate::runtime::{self, LoadState, Runtime, Status};
use crate::settings::{self, Settings, distinct};
use crate::{interrupt, plugin};

/// Options of `install`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The plugin is written first and the network configuration last, each to a hidden temporary file that is synced and
renamed: after a kill at any point, every file is the old one or the new one. The command is idempotent and does not disturb
running pods. Plugin and configuration are installed in the directories that the node's runtimes report over their CRI
sockets, or else have in their files. A configuration that is in place and that a runtime has not loaded is written again, so
that the runtime detects it.

Example: a new node
  atollctl install --conflist 10-atoll.conflist --secret password:/etc/atoll/password

Example: a new version of the plugin alone
  atollctl install --plugin ./atoll")]
pub(crate) struct Install {
    /// The plugin's binary; else `atoll` beside this program
    #[arg(long, value_name = "FILE")]
    pub(crate) plugin: Option<PathBuf>,
    /// The network configuration, a list with Atoll first; may be left out when one is in place
    #[arg(long, value_name = "FILE")]
    pub(crate) conflist: Option<PathBuf>,
    /// A secret and where it goes, with mode 0600; a directory stands for the files in it; may be repeated
    #[arg(long, value_name = "FILE:TARGET")]
    pub(crate) secret: Vec<SecretCopy>,
    /// Also put this program there
    #[arg(long, value_name = "DIR")]
    pub(crate) cli_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) to: InstallTarget,
    /// Replace a network configuration of another product
    #[arg(long)]
    pub(crate) force: bool,
    /// Print what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Options of `uninstall`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The network configuration is removed first, the plugin last. A node that has pods of Atoll is refused: their DEL needs the
plugin. Records in etcd, secrets, logs and the directories `runDir` and `stateDir` remain.

Example: take a node out
  kubectl drain n1 --ignore-daemonsets
  atollctl uninstall")]
pub(crate) struct Uninstall {
    /// Also take this program away from there
    #[arg(long, value_name = "DIR")]
    pub(crate) cli_dir: Option<PathBuf>,
    #[command(flatten)]
    pub(crate) from: InstallTarget,
    /// Although pods use it, or although the network configuration is another product's
    #[arg(long)]
    pub(crate) force: bool,
    /// Print what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

/// Where an installation is.
#[derive(Debug, clap::Args)]
pub(crate) struct InstallTarget {
    /// Directory of plugins; else where the runtimes of the node look
    #[arg(long, value_name = "DIR")]
    pub(crate) bin_dir: Option<PathBuf>,
    /// Directory of network configurations; else where the runtimes of the node look
    #[arg(long, value_name = "DIR")]
    pub(crate) conf_dir: Option<PathBuf>,
    /// CRI socket of the container runtime, may be repeated; else the usual ones of containerd, CRI-O and k3s
    #[arg(long, value_name = "SOCKET")]
    pub(crate) runtime_endpoint: Vec<PathBuf>,
    /// The node's root directory, seen from a container; every path of the node is below it
    #[arg(long, value_name = "DIR", default_value = "/")]
    pub(crate) host_root: PathBuf,
    /// Name of our network configuration there; runtimes take the first by name
    #[arg(long, value_name = "NAME", default_value = "10-atoll.conflist", value_parser = file_name)]
    pub(crate) conf_name: String,
}

/// A name that runtimes read, and no path.
fn file_name(text: &str) -> Result<String, String> {
    if text.contains('/') || text.starts_with('.') || !text.ends_with(".conflist") {
        return Err("a file name that ends with .conflist is expected".to_owned());
    }
    Ok(text.to_owned())
}

/// A secret and where it goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SecretCopy {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
}

impl FromStr for SecretCopy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((source, target)) if !source.is_empty() && target.starts_with('/') => {
                Ok(Self { source: source.into(), target: target.into() })
            }
            _ => Err("FILE:TARGET is expected, TARGET with its whole path".to_owned()),
        }
    }
}

/// Every user may execute programs; only root may read files that contain or name a secret ([`make::PRIVATE`]).
const EXECUTABLE: u32 = 0o755;

/// How long a runtime may take to load a configuration after it has detected it.
const NOTICED: Duration = Duration::from_secs(5);
/// The pause between two queries of a runtime.
const AGAIN: Duration = Duration::from_millis(200);

pub(crate) async fn install(output: OutputFormat, options: &Install) -> Result<String, Failure> {
    let source = match &options.plugin {
        Some(source) => source.clone(),
        None => beside(PLUGIN)?,
    };
    let version = plugin::version(&source).await;
    let version =
        version.map_err(|why| Failure::config(format!("{} is not to be installed: {why}", source.display())))?;

    let Node { root, runtimes, destination } = Node::of(&options.to).await;
    let text = options.conflist.as_deref().map(read).transpose()?;
    let config = options.conflist.as_deref().map(check).transpose()?.map(|settings| settings.config);
    let plugin = read(&source)?;
    let mut wanted: Vec<_> = destination
        .bin
        .iter()
        .map(|directory| DesiredFile::new(root.below(directory).join(PLUGIN), plugin.clone(), EXECUTABLE))
        .collect();
    if let Some(directory) = &options.cli_dir {
        wanted.push(DesiredFile::new(root.below(directory).join("atollctl"), read(&own()?)?, EXECUTABLE));
    }
    for secret in &options.secret {
        for (source, target) in secrets(secret)? {
            wanted.push(DesiredFile::new(root.below(&target), read(&source)?, make::PRIVATE));
        }
    }
    let conflists: Vec<_> =
        destination.conf.iter().map(|directory| root.below(directory).join(&options.to.conf_name)).collect();
    for conflist in &conflists {
        refuse_foreign(conflist, options.force)?;
    }
    let here: Vec<_> = conflists.iter().filter(|conflist| conflist.exists()).collect();
    if let (None, [], Some(first)) = (&text, here.as_slice(), conflists.first()) {
        return Err(Failure::config(format!("{} is not there: name one with --conflist", first.display())));
    }
    // Before the files are read: they must not change between the decision and its execution.
    let _locks = if options.dry_run { Vec::new() } else { lock_all(&conflists)? };
    for conflist in &conflists {
        // Without `--conflist` the installed configuration is the wanted one.
        let new = text.clone().map(|text| (text, make::PRIVATE));
        let Some((content, mode)) = new.or_else(|| steps::read(conflist).ok().flatten()) else { continue };
        let is_missed =
            is_first(conflist) && readers(&root, &runtimes, conflist).any(|status| misses(status, &content));
        wanted.push(DesiredFile::new(conflist.clone(), content, mode).renewed(is_missed));
    }
    let changes = plan::install(wanted, |path| steps::read(path).ok().flatten());
    carry_out(&changes, options.dry_run)?;
    let mut notes = vec![format!("the plugin is version {version}")];
    notes.extend(destination.notes);
    notes.extend(conflists.iter().filter_map(|conflist| first_by_name(conflist)));
    if text.is_none() {
        notes.extend(conflists.iter().filter_map(|conflist| impossible(conflist)));
    }
    let absent = |file: &settings::Named<'_>| {
        !root.below(file.path).exists() && !changes.iter().any(|change| change.path == root.below(file.path))
    };
    notes.extend(config.iter().flat_map(settings::files).filter(absent).map(|file| {
        format!("`{}` names {}, which is not there: calls that need it will fail", file.setting, file.path.display())
    }));
    if !options.dry_run {
        notes.extend(wait_for(&root, &options.to, &runtimes, &conflists).await);
    }
    Ok(render(output, if options.dry_run { "would install" } else { "installed" }, &changes, &notes))
}

/// The destination of an installation.
struct Node {
    root: Root,
    runtimes: Vec<Runtime>,
    destination: Destination,
}

impl Node {
    async fn of(target: &InstallTarget) -> Self {
        let root = Root::at(&target.host_root);
        let runtimes = runtime::find(&root, &target.runtime_endpoint).await;
        let is_there = |path: &Path| root.below(path).is_dir();
        let destination =
            places::destination(&runtimes, target.bin_dir.as_deref(), target.conf_dir.as_deref(), is_there);
        Self { root, runtimes, destination }
    }
}

/// The runtimes that read the directory of this file, as they report.
fn readers<'a>(root: &Root, runtimes: &'a [Runtime], conflist: &Path) -> impl Iterator<Item = &'a Status> {
    let directory = conflist.parent().map(Path::to_owned);
    let root = root.clone();
    let reads = move |runtime: &&Runtime| Some(root.below(&runtime.places.conf)) == directory;
    runtimes.iter().filter(reads).filter_map(|runtime| runtime.status.as_ref().ok())
}

/// Whether a runtime has not loaded this text. One that does not report what it has loaded counts as current if its network is ready.
fn misses(status: &Status, text: &[u8]) -> bool {
    let Ok(document) = settings::json(text) else { return false };
    status.network.is_err() || !matches!(status.load_state(&document), LoadState::Current | LoadState::Unknown)
}

/// Waits until the runtimes have loaded what was installed, or reported why they have not; returns the text for people.
async fn wait_for(root: &Root, target: &InstallTarget, before: &[Runtime], conflists: &[PathBuf]) -> Vec<String> {
    let answered = |runtime: &&Runtime| runtime.status.is_ok();
    if !before.iter().any(|runtime| answered(&runtime)) {
        return Vec::new();
    }
    let end = Instant::now() + NOTICED;
    loop {
        let runtimes = runtime::find(root, &target.runtime_endpoint).await;
        let mut is_loaded = true;
        let mut notes = Vec::new();
        for runtime in runtimes.iter().filter(answered) {
            let read = conflists.iter().find(|path| path.parent() == Some(&root.below(&runtime.places.conf)));
            let Some(conflist) = read.filter(|conflist| is_first(conflist)) else { continue };
            let (Ok(text), Ok(status)) = (files::given(conflist, CONFIG), &runtime.status) else { continue };
            let is_missed = misses(status, &text);
            is_loaded &= !is_missed;
            notes.push(match &status.network {
                Err(why) => format!("{}: its network is not ready: {why}", runtime.name),
                Ok(()) if is_missed => format!("{}: it has not loaded {}", runtime.name, conflist.display()),
                Ok(()) => format!("{}: its network is ready", runtime.name),
            });
        }
        if is_loaded || Instant::now() >= end {
            return notes;
        }
        sleep(AGAIN).await;
    }
}

/// The files that an option names: one, or those of a directory, as Kubernetes mounts a Secret.
fn secrets(SecretCopy { source, target }: &SecretCopy) -> Result<Vec<(PathBuf, PathBuf)>, Failure> {
    if !source.is_dir() {
        return Ok(vec![(source.clone(), target.clone())]);
    }
    let entries = nodefiles::entries(source);
    let entries = entries.map_err(|error| Failure::config(format!("{}: {error}", source.display())))?;
    let is_hidden = |path: &Path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
    let files = entries.into_iter().filter(|path| path.is_file() && !is_hidden(path));
    Ok(files.map(|path| (path.clone(), target.join(path.file_name().unwrap_or_default()))).collect())
}

pub(crate) async fn uninstall(output: OutputFormat, options: &Uninstall) -> Result<String, Failure> {
    let Node { root, runtimes, destination } = Node::of(&options.from).await;
    let conflists: Vec<_> =
        destination.conf.iter().map(|directory| root.below(directory).join(&options.from.conf_name)).collect();
    let mut notes = Vec::new();
    for conflist in &conflists {
        refuse_foreign(conflist, options.force)?;
        match Settings::load(Some(conflist)) {
            Ok(settings) => {
                if !options.force {
                    refuse_in_use(&settings.config, &root)?;
                }
                let (state, run) = (settings.config.state_dir.display(), settings.config.run_dir.display());
                notes.push(format!("left as they are: {state}, {run}, and what the configuration names"));
            }
            Err(_) if matches!(conflist.try_exists(), Ok(false)) => {}
            Err(failure) if !options.force => {
                let problem = format!("cannot check whether pods use it: {}", failure.message());
                return Err(Failure::refused(problem, "correct the file, or use --force"));
            }
            Err(_) => {}
        }
    }
    notes.sort();
    notes.dedup();
    let mut bin = destination.bin;
    if options.from.bin_dir.is_none() {
        // Also where it was installed before the runtime's directory changed.
        bin.extend(runtimes.iter().flat_map(|runtime| runtime.places.bin.iter().cloned()));
        bin.extend(plugin::DIRECTORIES.map(PathBuf::from));
    }
    let mut doomed = conflists.clone();
    doomed.extend(distinct(bin).iter().map(|directory| root.below(directory).join(PLUGIN)));
    doomed.extend(options.cli_dir.iter().map(|directory| root.below(directory).join("atollctl")));
    let there: Vec<_> = conflists.into_iter().filter(|path| path.parent().is_some_and(Path::exists)).collect();
    let _locks = if options.dry_run { Vec::new() } else { lock_all(&there)? };
    let changes = plan::uninstall(distinct(doomed), steps::there);
    carry_out(&changes, options.dry_run)?;
    Ok(render(output, if options.dry_run { "would uninstall" } else { "uninstalled" }, &changes, &notes))
}

/// Locks the directories of these files, always in the same order.
fn lock_all(files: &[PathBuf]) -> Result<Vec<File>, Failure> {
    let mut directories: Vec<_> = files.iter().filter_map(|path| path.parent().map(Path::to_owned)).collect();
    directories.sort();
    directories.dedup();
    directories.iter().map(|directory| lock(directory)).collect()
}

/// An install removes the temporary files that an interrupted one left: another process must not write them now. The lock is
/// released when the process ends.
fn lock(directory: &Path) -> Result<File, Failure> {
    let failed = |error: std::io::Error| Failure::file(directory.display(), &error);
    make::directory(directory, make::DIRECTORY).map_err(failed)?;
    let file = File::open(directory).map_err(failed)?;
    if !lock::try_lock(&file).map_err(failed)? {
        return Err(Failure::unavailable("another atollctl installs or uninstalls here", "wait until it has ended"));
    }
    Ok(file)
}

fn carry_out(changes: &[FileChange], dry_run: bool) -> Result<(), Failure> {
    if dry_run {
        return Ok(());
    }
    for step in changes.iter().flat_map(|change| &change.steps) {
        let done = steps::perform(step).inspect(|()| interrupt::note(step.to_string()));
        done.map_err(|error| {
            Failure::file(step, &error).and("what was there before is whole, and the same command goes on from here")
        })?;
    }
    Ok(())
}

/// A file in the directory of this program.
fn beside(name: &str) -> Result<PathBuf, Failure> {
    let path = own()?.with_file_name(name);
    if path.is_file() {
        return Ok(path);
    }
    Err(Failure::config(format!("the plugin is not at {}: name it with --plugin", path.display())))
}

fn own() -> Result<PathBuf, Failure> {
    std::env::current_exe().map_err(|error| Failure::file("cannot find the path of this program", &error))
}

fn read(path: &Path) -> Result<Vec<u8>, Failure> {
    files::given(path, PROGRAM).map_err(|error| Failure::unreadable(path, &error))
}

/// An existing file without Atoll's entry belongs to another product; an unreadable one may.
fn refuse_foreign(path: &Path, force: bool) -> Result<(), Failure> {
    if force || matches!(path.symlink_metadata(), Err(error) if error.kind() == std::io::ErrorKind::NotFound) {
        return Ok(());
    }
    let why = match settings::document(path) {
        Ok(document) if settings::entry(&document).is_some() => return Ok(()),
        Ok(_) => format!("has no plugin of type \"{PLUGIN}\": it belongs to another product"),
        Err(problem) => format!("may belong to another product, because it cannot be read: {problem}"),
    };
    Err(Failure::refused(
        format!("{} is there and {why}", path.display()),
        "choose another --conf-name, or use --force if it may go",
    ))
}

/// Pods that have their network from this installation need the plugin for their DEL.
fn refuse_in_use(config: &Config, root: &Root) -> Result<(), Failure> {
    let unknown = |directory: &Path, error: std::io::Error| {
        let problem = format!("cannot check whether pods use it: {}: {error}", directory.display());
        Failure::refused(problem, "run as root and check that directory, or use --force")
    };
    let (run_dir, state_dir) = (root.below(&config.run_dir), root.below(&config.state_dir));
    let files = nodefiles::attachments(&run_dir).map_err(|error| unknown(&run_dir, error))?;
    let pods = files.iter().filter(|file| !matches!(file.phase, AddState::Unreadable)).count();
    let local_tombstones = nodefiles::local_tombstones(&state_dir).map_err(|error| unknown(&state_dir, error))?.len();
    let hint =
        "drain the node first (`kubectl drain`), or use --force: their DEL will fail, and they stay in Terminating";
    match (pods, local_tombstones) {
        (0, 0) => Ok(()),
        (0, local_tombstones) => Err(Failure::refused(
            format!(
                "{} in files of this node: what it stands for would never be done",
                count(local_tombstones, "tombstone")
            ),
            "`atollctl gc` finishes their cleanup while etcd answers; or use --force",
        )),
        (pods, _) => Err(Failure::refused(format!("{} of this node use it", count(pods, "attachment")), hint)),
    }
}

/// Whether a runtime and the plugin accept this file.
pub(crate) fn check(path: &Path) -> Result<Settings, Failure> {
    let wrong = |problem: String| Failure::config(format!("{} is not to be installed: {problem}", path.display()));
    let value = settings::document(path).map_err(wrong)?;
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
    let settings = Settings::load(Some(path))?;
    settings::refuse_impossible(&settings.config).map_err(wrong)?;
    Ok(settings)
}

/// An installed configuration that can never work.
fn impossible(conflist: &Path) -> Option<String> {
    let problem = match Settings::load(Some(conflist)) {
        Ok(settings) => settings::refuse_impossible(&settings.config).err()?,
        Err(failure) => failure.message(),
    };
    Some(format!("every ADD will fail: {}: {problem}", conflist.display()))
}

/// The configuration that a runtime takes from the directory of this one: the first by name.
fn first_in_directory(ours: &Path) -> Option<PathBuf> {
    settings::conflists(ours.parent()?).ok()?.into_iter().next()
}

fn is_first(ours: &Path) -> bool {
    first_in_directory(ours).is_none_or(|first| *ours <= first)
}

fn first_by_name(ours: &Path) -> Option<String> {
    let first = first_in_directory(ours).filter(|first| first.as_path() < ours)?;
    Some(format!("the runtime will take {} instead: it comes first by name", first.display()))
}

fn render(output: OutputFormat, done: &str, changes: &[FileChange], notes: &[String]) -> String {
    if output == OutputFormat::Json {
        return output::json(&json!({ "done": done, "changes": changes, "notes": notes }));
    }
    let row = |change: &FileChange| [change.action.word().to_owned(), change.path.display().to_string()];
    let table = output::table(["action", "file"], changes.iter().map(row));
    let notes = notes.iter().fold(String::new(), |text, note| format!("{text}note: {note}\n"));
    let changed = changes.iter().filter(|change| change.action != FileAction::Keep).count();
    format!(
        "{table}\n{done}: {}\n{notes}",
        if changed == 0 { "nothing to change".to_owned() } else { count(changed, "change") }
    )
}
