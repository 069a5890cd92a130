//! `atollctl attachment evict-node`: asks before it forces, shows its progress, reports the result by pod.

use atoll_model::ids::NodeName;
use std::time::Duration;

use atoll_network::Engine as _;
use atoll_records::ClaimRecord;
use atoll_tenant::admin::{self, Admin, Candidate, Eviction};
use serde_json::{Value, json};

use crate::delete::confirm;
use crate::failure::Failure;
use crate::output::{self, OutputFormat, count};
use crate::progress::Progress;
use crate::settings::Settings;

/// Options of `attachment evict-node`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Nothing is evicted by a timeout: a node is dead when its operator says so. The engine must report its host
as dead, or --force is needed. It takes the deadline of a call and the maximum request lifetime (105 s by default): after that
no request of the node can be carried out. Interrupted, the same command goes on where it stopped. Until it is done the
node can attach no pod; after that it comes back by itself.

Example: what would be lost?
  atollctl attachment evict-node n1 --dry-run

Example: the machine is replaced by another one of the same name
  atollctl attachment evict-node n1 --forget")]
pub(crate) struct EvictNode {
    /// The node
    pub(crate) node: NodeName,
    /// Evict it although the engine reports its host as alive
    #[arg(long)]
    pub(crate) force: bool,
    /// Do not ask for the node's name before forcing
    #[arg(long)]
    pub(crate) yes: bool,
    /// The node is gone for good: delete its record, too
    #[arg(long)]
    pub(crate) forget: bool,
    /// Print what would happen, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,
}

pub(crate) async fn run(settings: &Settings, output: OutputFormat, options: &EvictNode) -> Result<String, Failure> {
    let (store, controller) = (settings.store()?, settings.controller()?);
    let admin = Admin { store: &store, engine: &controller, config: &settings.config.cluster };
    let node = &options.node;
    let wait = settings.config.timeout + settings.config.max_request_lifetime;
    let how = Eviction {
        force: options.force,
        forget: options.forget,
        wait: if controller.fences() { Duration::ZERO } else { wait },
        cooldown: settings.config.cooldown,
    };
    if options.dry_run {
        let found = admin::candidate(&admin, node).await?;
        return Ok(match output {
            OutputFormat::Json => output::json(&json!({
                "would": if found.is_dead() || options.force { "evict" } else { "refuse" },
                "node": node,
                "hostAlive": found.alive,
                "begun": found.record.evicting.is_some(),
                "waitSeconds": how.wait.as_secs(),
                "tombstones": found.tombstones,
                "damaged": found.damaged.iter().map(ToString::to_string).collect::<Vec<_>>(),
                "pods": pods(&found.claims),
            })),
            OutputFormat::Table => consequences(options, &found, how.wait),
        });
    }
    if options.force && !options.yes {
        let question = format!("Pods of node {node} lose network and addresses at once.");
        confirm(&question, node.as_str(), &format!("node {node} is not evicted"))?;
    }
    let progress = Progress::new(how.wait);
    let done = admin::evict(&admin, node, how, |step| progress.show(step)).await;
    progress.end();
    let released = done?;
    Ok(match output {
        OutputFormat::Json => {
            output::json(&json!({"done": "evicted", "node": node, "forgotten": how.forget, "pods": pods(&released)}))
        }
        OutputFormat::Table => {
            let mut lines = vec![format!("Node {node} is evicted; {} lost network and addresses.", {
                count(released.len(), "pod")
            })];
            lines.extend(released.iter().map(|claim| format!("  {}", line(claim))));
            lines.push(if how.forget {
                "Its record is gone: another machine may have its name.".to_owned()
            } else {
                "If it comes back, it goes on by itself; pods that still run on it have to be made again.".to_owned()
            });
            output::lines(&lines)
        }
    })
}

/// The effects of the eviction, for people.
fn consequences(options: &EvictNode, found: &Candidate, wait: Duration) -> String {
    let node = &options.node;
    let host = match found.alive {
        Some(true) => "alive",
        Some(false) => "dead",
        None => "unknown",
    };
    let mut lines = vec![format!("host {} of node {node} is {host} to the engine", found.record.host_id)];
    if found.record.evicting.is_some() {
        lines.push("an eviction has begun and would be finished".to_owned());
    }
    if !found.is_dead() && !options.force {
        lines.push("would refuse: shut the machine or its agent down first, or use --force".to_owned());
    }
    let seconds = wait.as_secs();
    lines.push(match found.claims.len() {
        0 => format!("would find no pods, and be done after {seconds} s"),
        pods => {
            format!("would delete the ports of {}, and after {seconds} s free their addresses:", count(pods, "pod"))
        }
    });
    lines.extend(found.claims.iter().map(|claim| format!("  {}", line(claim))));
    if found.tombstones > 0 {
        lines.push(format!("would finish the cleanup of {}", count(found.tombstones, "tombstone")));
    }
    if !found.damaged.is_empty() {
        let keys: Vec<_> = found.damaged.iter().map(ToString::to_string).collect();
        let records = count(keys.len(), "record");
        lines.push(format!("would not end: {records} of the node cannot be read: {}", keys.join(", ")));
    }
    output::lines(&lines)
}

fn addresses(claim: &ClaimRecord) -> Vec<String> {
    claim.addresses.iter().map(|address| address.address.ip().to_string()).collect()
}

fn line(claim: &ClaimRecord) -> String {
    let pod = claim.pod.clone().unwrap_or_else(|| format!("container {}", claim.attachment.container));
    let namespace = claim.namespace.as_ref().map(|namespace| format!("{namespace}/")).unwrap_or_default();
    format!("{namespace}{pod}  {}  tenant {}", addresses(claim).join(", "), claim.tenant)
}

fn pods(claims: &[ClaimRecord]) -> Vec<Value> {
    let pod = |claim: &ClaimRecord| {
        json!({
            "namespace": claim.namespace,
            "pod": claim.pod,
            "tenant": claim.tenant,
            "container": claim.attachment.container,
            "interface": claim.attachment.interface,
            "addresses": addresses(claim),
        })
    };
    claims.iter().map(pod).collect()
}
