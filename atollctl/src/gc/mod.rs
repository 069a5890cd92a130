//! `atollctl gc`: for runtimes that never call the plugin's GC. Removes attachments of containers that no longer exist.
//!
//! | module | what |
//! |---|---|
//! | [`sandboxes`] | the existing containers: from a list, or from the runtime over its CRI socket |
//! | [`observe`] | one observation: claims first, the runtime's answer last |
//! | [`decide`] | finds what is unwanted in two observations. Pure |
//! | [`collect`] | removes it: by the plugin's own DEL, or here where no DEL can name it |
//!
//! # Guarantees
//! - Only what was unwanted in both of two observations, two deadlines apart, is collected; nothing that is younger
//!   than a deadline or whose lock is held.
//! - A failed answer of a runtime collects nothing, an empty one only on request.
//! - Only the plugin removes attachments.

mod collect;
pub(crate) mod decide;
pub(crate) mod observe;
pub(crate) mod sandboxes;

use std::path::PathBuf;
use std::time::Duration;

use atoll_model::ids::NetworkName;
use serde_json::json;

use self::collect::{CleanupItem, CleanupOutcome, Collector};
use self::decide::Unwanted;
use self::observe::NodeObservation;
use self::sandboxes::Source;
use crate::failure::Failure;
use crate::output::{self, CommandOutput, OutputFormat, count};
use crate::runtime::root::Root;
use crate::settings::{Settings, distinct};
use crate::{plugin, progress, runtime};

/// Options of `gc`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Compares twice, two deadlines (`timeoutSeconds`) apart, and collects what is unwanted both times: this node's claims of this
network whose container the runtime does not list, host interfaces without a claim, and pending cleanup of earlier calls.
A claim that is younger than the deadline, or whose lock is held, is kept. If the runtime's answer fails, nothing is
collected; an empty list counts only with --empty-is-true. If several runtimes share the network, name all of them.

Example: what would be collected on this node?
  atollctl gc --dry-run

Example: with CRI-O
  atollctl gc --runtime-endpoint /run/crio/crio.sock

Example: with podman, which has no such socket
  podman ps --all --quiet --no-trunc > /run/containers.list
  atollctl gc --sandboxes /run/containers.list")]
pub(crate) struct Gc {
    /// CRI socket of the container runtime, may be repeated; else the usual ones of containerd, CRI-O and k3s
    #[arg(long, value_name = "SOCKET", conflicts_with = "sandboxes")]
    pub(crate) runtime_endpoint: Vec<PathBuf>,
    /// A list of the containers: ids, one a line, or JSON; `-` is standard input. Read again for the second comparison
    #[arg(long, value_name = "FILE")]
    pub(crate) sandboxes: Option<PathBuf>,
    /// Accept an empty list: this node has no container
    #[arg(long)]
    pub(crate) empty_is_true: bool,
    /// Seconds between the two comparisons, if not two deadlines; a shorter time may collect a pod that is starting
    #[arg(long, value_name = "SECONDS")]
    pub(crate) pause: Option<u64>,
    /// Directory of the plugin's binary, may be repeated; else CNI_PATH, else those of the runtimes
    #[arg(long, value_name = "DIR")]
    pub(crate) bin_dir: Vec<PathBuf>,
    /// Print what would be collected, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

pub(crate) async fn run(settings: &Settings, output: OutputFormat, options: &Gc) -> Result<CommandOutput, Failure> {
    let stores = settings.stores()?;
    let node = atoll_tenant::machine::name(&settings.config).map_err(|error| Failure::classified(&error))?;
    let network = network(settings)?;
    let mut directories = plugin::directories(&options.bin_dir);
    if plugin::given_directories(&options.bin_dir).is_empty() && options.sandboxes.is_none() {
        // The directories that a runtime reports come before the usual ones.
        let runtimes = runtime::find(&Root::own(), &options.runtime_endpoint).await;
        let places = runtimes.into_iter().flat_map(|runtime| runtime.places.bin);
        directories = distinct(places.chain(directories).collect());
    }
    let Some(program) = plugin::find(&directories) else {
        let places: Vec<_> = directories.iter().map(|path| path.display().to_string()).collect();
        return Err(Failure::config(format!(
            "the plugin is in none of {}: name its directory with --bin-dir",
            places.join(", ")
        )));
    };
    let mut source = Source::choose(options.sandboxes.as_deref(), &options.runtime_endpoint)?;
    let deadline = settings.config.timeout;

    let first = NodeObservation::read(&stores, &settings.config, &node, &mut source).await?;
    let mut unwanted =
        decide::unwanted(&first, &network, deadline.as_secs(), settings.config.max_request_lifetime.as_secs());
    if !unwanted.is_empty() && first.sandboxes.is_empty() && !options.empty_is_true {
        return Err(Failure::refused(
            format!("{source} names no container at all, while {} would be collected", unwanted.summary()),
            "check the runtime; if it has no containers, use --empty-is-true",
        ));
    }
    if !unwanted.is_empty() {
        let pause = options.pause.map_or(deadline * 2, Duration::from_secs);
        progress::wait(pause, &format!("{}; comparing again after the pause", unwanted.summary())).await;
        let second = NodeObservation::read(&stores, &settings.config, &node, &mut source).await?;
        if second.sandboxes.is_empty() && !options.empty_is_true {
            return Err(Failure::refused(
                format!("{source} named containers at first and names none now"),
                "check the runtime; nothing was collected",
            ));
        }
        let again =
            decide::unwanted(&second, &network, deadline.as_secs(), settings.config.max_request_lifetime.as_secs());
        unwanted = decide::agreed(&unwanted, again);
    }
    let collector =
        Collector { stores: &stores, config: &settings.config, stdin: &settings.stdin, program: &program, node: &node };
    let items = if options.dry_run {
        collect::planned(&unwanted)
    } else {
        let mut items = collector.collect(&unwanted).await?;
        items.extend(collector.retry_pending_cleanup(&network).await?);
        items
    };
    let tombstones = collector.tombstones().await?.number();
    let failed = items.iter().any(|item| item.outcome == CleanupOutcome::Failed);
    let text = match output {
        OutputFormat::Json => output::json(&json!({
            "node": node, "network": network, "dryRun": options.dry_run, "sandboxes": first.sandboxes.len(),
            "claims": first.claims.len(), "items": items, "tombstones": tombstones,
        })),
        OutputFormat::Table => shown(options.dry_run, &source, &first, &items, tombstones),
    };
    Ok(CommandOutput::check(text, failed))
}

/// The network of this configuration: the name of its list.
pub(crate) fn network(settings: &Settings) -> Result<NetworkName, Failure> {
    let wrong = |problem: String| Failure::config(format!("{}: {problem}", settings.file.display()));
    let name = settings.stdin.get("name").and_then(serde_json::Value::as_str);
    let name = name.ok_or_else(|| wrong("it has no `name`, which is the network's".to_owned()))?;
    NetworkName::new(name).map_err(|error| wrong(format!("`name`: {error}")))
}

fn shown(
    dry_run: bool,
    source: &Source,
    observed: &NodeObservation,
    items: &[CleanupItem],
    tombstones: usize,
) -> String {
    let table = if items.is_empty() {
        String::new()
    } else {
        let row = |item: &CleanupItem| {
            [item.outcome.word().to_owned(), item.kind.to_owned(), item.object.clone(), item.why.clone()]
        };
        output::table(["", "kind", "object", "why"], items.iter().map(row)) + "\n"
    };
    let number = |outcome| items.iter().filter(|item| item.outcome == outcome).count();
    let (sandboxes, claims) = (count(observed.sandboxes.len(), "container"), count(observed.claims.len(), "claim"));
    let done = if dry_run {
        format!("would collect {}", number(CleanupOutcome::Would))
    } else {
        format!(
            "collected {}, {} failed",
            number(CleanupOutcome::Done) + number(CleanupOutcome::Pending),
            number(CleanupOutcome::Failed)
        )
    };
    let left = match tombstones {
        0 => String::new(),
        number => format!("{} left on this node: `atollctl doctor` shows why.\n", count(number, "tombstone")),
    };
    format!("{table}{sandboxes} ({source}), {claims} of this node; {done}.\n{left}")
}

impl Unwanted {
    /// `2 attachments, 1 interface, 0 files`.
    fn summary(&self) -> String {
        let (attachments, links) = (count(self.attachments.len(), "attachment"), count(self.links.len(), "interface"));
        format!("{attachments}, {links}, {}", count(self.files.len(), "file"))
    }
}
