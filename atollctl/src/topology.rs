//! `atollctl topology`: reads the records, asks the engine for the state of the ports, and draws both.

use atoll_engines::AnyEngine;
use atoll_model::config::Addressing;
use atoll_model::config::DnsConfig;
use atoll_model::ids::TenantName;
use atoll_ovn::UplinkFacts;
use atoll_records::{Origin, Quota, Uplink, Via};
use atoll_tenant::inventory::{Inventory, ListedPod, ListedSubnet, ListedTenant, ListedUplink, PodState};

use crate::dot;
use crate::failure::Failure;
use crate::inventory::{absent, ask, engine_of, name, phase, shown, state, state_of};
use crate::output::{self, OutputFormat, count};
use crate::settings::{ConfiguredEngine, Settings};
use crate::tree::Tree;

/// Options of `topology`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example: everything, as a tree
  atollctl topology

Example: one tenant as a diagram
  atollctl topology red --dot | dot -Tsvg > red.svg")]
pub(crate) struct ShowTopology {
    /// Only these tenants
    pub(crate) tenants: Vec<TenantName>,
    /// Graphviz DOT
    #[arg(long, conflicts_with = "output")]
    pub(crate) dot: bool,
    /// Do not ask the engine whether the pods' packets flow
    #[arg(long)]
    pub(crate) offline: bool,
}

pub(crate) async fn run(settings: &Settings, output: OutputFormat, options: &ShowTopology) -> Result<String, Failure> {
    let mut inventory = Inventory::read(&settings.store()?).await?;
    for name in &options.tenants {
        if !inventory.tenants.iter().any(|tenant| tenant.name == *name) {
            return Err(absent(name));
        }
    }
    if !options.tenants.is_empty() {
        inventory.tenants.retain(|tenant| options.tenants.contains(&tenant.name));
        inventory.orphaned.clear();
    }
    if !options.offline {
        let engine = engine_of(settings, &inventory)?;
        ask_uplinks(&engine, &mut inventory).await;
        ask(&engine, inventory.pods_mut()).await;
    }
    Ok(match (options.dot, output) {
        (true, _) => dot::draw(&inventory),
        (false, OutputFormat::Json) => output::json(&inventory),
        (false, OutputFormat::Table) => tree(&inventory).draw(),
    })
}

/// Fills in the state of the uplinks from the engine.
async fn ask_uplinks(engine: &ConfiguredEngine, inventory: &mut Inventory) {
    let Some(cluster) = &mut inventory.cluster else { return };
    let Some(provider) = &mut cluster.provider else { return };
    match engine {
        AnyEngine::MidoNet(engine) => {
            for uplink in &mut provider.uplinks {
                uplink.state = Some(state_of(engine, uplink.port).await);
            }
        }
        // The hosts of one network share one port, which moves between them.
        AnyEngine::Ovn(engine) => {
            let found = engine.uplinks(cluster.id).await.ok();
            for uplink in &mut provider.uplinks {
                carried(uplink, found.as_deref());
            }
        }
    }
}

/// The state of an uplink of OVN. `found`: none: it is not known.
fn carried(uplink: &mut ListedUplink, found: Option<&[UplinkFacts]>) {
    let (host, network) = (uplink.uplink.host.as_str(), uplink.uplink.interface.as_str());
    let Some(found) = found else {
        uplink.state = Some(PodState::Unknown);
        return;
    };
    let facts = found.iter().find(|facts| facts.network == network);
    let member = facts.and_then(|facts| facts.members.iter().find(|(chassis, _)| chassis == host));
    uplink.priority = member.map(|(_, priority)| *priority);
    uplink.state = Some(match facts {
        Some(facts) if facts.carrier.as_deref() == Some(host) => PodState::Active,
        Some(UplinkFacts { carrier: Some(_), .. }) if member.is_some() => PodState::Inactive,
        Some(_) if member.is_some() => PodState::Unbound,
        _ => PodState::Missing,
    });
}

/// The state of an uplink, for people.
fn uplink_state(uplink: &ListedUplink) -> String {
    match (uplink.priority, uplink.state) {
        (Some(priority), Some(PodState::Inactive)) => format!("standby, priority {priority}"),
        (Some(priority), Some(PodState::Unbound)) => format!("no chassis carries it, priority {priority}"),
        (Some(priority), state) => format!("{}, priority {priority}", shown(state)),
        (None, state) => shown(state),
    }
}

/// An uplink, for people.
pub(crate) fn uplink(uplink: &Uplink) -> String {
    let Uplink { address, gateway, host, interface } = uplink;
    format!("{address}  by {gateway}  on {interface} of host {host}")
}

fn tree(inventory: &Inventory) -> Tree {
    let Some(cluster) = &inventory.cluster else {
        return Tree::new("no cluster yet: the first pod or `atollctl init` makes it");
    };
    let addressing = match cluster.addressing {
        Addressing::Unique => "unique",
        Addressing::Overlapping => "overlapping",
    };
    let root = Tree::new(format!(
        "cluster {}  pods {} ({addressing})  transit {}  provider router {}",
        cluster.id, cluster.pod_cidr, cluster.transit_cidr, cluster.provider_router
    ));
    let orphaned = inventory.orphaned.iter().map(|pod| Tree::new(format!("in no subnet that is there: {}", line(pod))));
    let damaged = inventory.damaged.iter().map(|key| Tree::new(format!("damaged record: {key}")));
    let uplinks = cluster.provider.iter().flat_map(|provider| &provider.uplinks);
    let uplinks = uplinks.map(|found| Tree::new(format!("uplink  {}  {}", uplink(&found.uplink), uplink_state(found))));
    root.with(uplinks).with(inventory.tenants.iter().map(tenant)).with(orphaned).with(damaged)
}

/// One tenant with everything below it.
pub(crate) fn tenant(tenant: &ListedTenant) -> Tree {
    let namespaces = match tenant.namespaces.as_slice() {
        [] => "no namespace".to_owned(),
        names => names.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "),
    };
    Tree::new(format!("tenant {}  {}  {}", tenant.name, phase(tenant.phase), origin(&tenant.origin)))
        .with([
            Tree::new(format!("namespaces  {namespaces}")),
            Tree::new(format!("router  {}", tenant.router)),
            Tree::new(format!(
                "transit  provider {}  tenant {}  (seen from the external network)",
                tenant.transit.provider.ip(),
                tenant.transit.tenant.ip()
            )),
        ])
        .with(settings(tenant).map(Tree::new))
        .with(tenant.subnets.iter().map(subnet))
}

/// What an operator has set, one line each.
pub(crate) fn settings(tenant: &ListedTenant) -> impl Iterator<Item = String> {
    let Quota { subnets, addresses } = tenant.quota;
    let most = |most: Option<u32>, what| most.map(|most| format!("at most {most} {what}"));
    let quota: Vec<_> = [most(subnets, "subnets"), most(addresses, "addresses")].into_iter().flatten().collect();
    let quota = (!quota.is_empty()).then(|| format!("quota  {}", quota.join(", ")));
    let routes = tenant.routes.iter().map(|route| format!("route  {}  {}", route.destination, via(route.via)));
    let dns = tenant.dns.iter().map(|dns| {
        let DnsConfig { nameservers, domain, search, options } = dns;
        let parts = [("", nameservers), ("search ", search), ("options ", options)];
        let parts = parts.into_iter().filter(|(_, list)| !list.is_empty());
        let parts = parts.map(|(what, list)| format!("{what}{}", list.join(" ")));
        let domain = domain.iter().map(|domain| format!("domain {domain}"));
        format!("dns  {}", parts.chain(domain).collect::<Vec<_>>().join("  "))
    });
    let names = tenant.pod_domain.iter().map(|domain| format!("names  in {domain}"));
    quota.into_iter().chain(routes).chain(dns).chain(names).collect::<Vec<_>>().into_iter()
}

fn via(via: Via) -> String {
    match via {
        Via::Gateway(address) => format!("by {address}"),
        Via::Reject => "reject".to_owned(),
        Via::Blackhole => "blackhole".to_owned(),
    }
}

fn subnet(subnet: &ListedSubnet) -> Tree {
    Tree::new(format!(
        "subnet {}  {}  gateway {}  {}  {}",
        subnet.ordinal,
        subnet.cidrs(),
        subnet.gateways(),
        phase(subnet.phase),
        count(subnet.pods.len(), "pod")
    ))
    .with(subnet.pods.iter().map(|pod| Tree::new(line(pod))))
}

fn line(pod: &ListedPod) -> String {
    format!("{}  {}  on {}  {}  {}", pod.address.ip(), name(pod), pod.node, pod.interface, state(pod))
}

pub(crate) fn origin(origin: &Origin) -> String {
    match origin {
        Origin::Namespace(namespace) => format!("made for namespace {namespace}"),
        Origin::Default => "made for runtimes that name no namespace".to_owned(),
        Origin::Operator => "made by an operator".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::ids::{ClaimId, ClusterId};
    use atoll_records::{FIRST_ENGINE, Phase, PrefixEntry};
    use atoll_tenant::inventory::Cluster;
    use atoll_tenant::network::Transit;
    use uuid::Uuid;

    use super::*;

    fn pod(address: &str, pod: Option<&str>, state: Option<PodState>) -> ListedPod {
        ListedPod {
            address: address.parse().expect("valid"),
            tenant: "red".parse().expect("valid"),
            subnet: 1,
            namespace: Some("red".parse().expect("valid")),
            pod: pod.map(str::to_owned),
            node: "n1".parse().expect("valid"),
            network: "atoll".to_owned(),
            container: "3f9a5b7c9d1e2f3a".to_owned(),
            interface: "eth0".to_owned(),
            host_interface: "at50926f89922e".to_owned(),
            mac: "02:00:00:00:00:01".to_owned(),
            port: Uuid::from_u128(9),
            claim: ClaimId(Uuid::from_u128(10)),
            since: 0,
            state,
        }
    }

    fn inventory() -> Inventory {
        let subnet = ListedSubnet {
            ordinal: 1,
            prefixes: vec![PrefixEntry {
                cidr: "10.128.3.0/24".parse().expect("valid"),
                gateway: [10, 128, 3, 1].into(),
            }],
            phase: Phase::Active,
            exclude: Vec::new(),
            bridge: Uuid::from_u128(8),
            pods: vec![
                pod("10.128.3.7/24", Some("web-0"), Some(PodState::Active)),
                pod("10.128.3.9/24", None, Some(PodState::Missing)),
            ],
        };
        let tenant = ListedTenant {
            name: "red".parse().expect("valid"),
            incarnation: Uuid::from_u128(5),
            origin: Origin::Namespace("red".parse().expect("valid")),
            phase: Phase::Active,
            namespaces: vec!["green".parse().expect("valid"), "red".parse().expect("valid")],
            router: Uuid::from_u128(6),
            transit: Transit::of("100.64.1.4/30".parse().expect("valid")),
            quota: Quota::default(),
            routes: vec![],
            dns: None,
            pod_domain: None,
            subnets: vec![subnet],
        };
        Inventory {
            revision: 7,
            cluster: Some(Cluster {
                id: ClusterId(Uuid::from_u128(1)),
                engine: FIRST_ENGINE.to_owned(),
                addressing: Addressing::Unique,
                pod_cidr: "10.128.0.0/9".parse().expect("valid"),
                subnet_prefix: 24,
                transit_cidr: "100.64.0.0/16".parse().expect("valid"),
                ipv4: true,
                ipv6: None,
                node_side_cidr: "169.254.128.0/17".parse().expect("valid"),
                service_cidr: None,
                provider_router: Uuid::from_u128(3),
                provider: None,
            }),
            nodes: vec![],
            tenants: vec![tenant],
            tombstones: vec![],
            damaged: vec!["v2/tenants/broken".to_owned()],
            orphaned: vec![],
        }
    }

    /// Two hosts take turns in one network; a third is not in the group.
    #[test]
    fn each_uplink_of_ovn_has_its_priority_and_one_carries_it() {
        let uplink = |host: &str| ListedUplink {
            uplink: Uplink {
                address: "192.0.2.2/24".parse().expect("valid"),
                gateway: [192, 0, 2, 1].into(),
                host: host.parse().expect("valid"),
                interface: "ext".parse().expect("valid"),
            },
            port: Uuid::from_u128(9),
            state: None,
            priority: None,
        };
        let facts = |carrier: Option<&str>| {
            let members = vec![("c1".to_owned(), 30), ("c2".to_owned(), 29)];
            vec![UplinkFacts { network: "ext".to_owned(), members, carrier: carrier.map(str::to_owned) }]
        };
        let states = |facts: Option<&[UplinkFacts]>| {
            ["c1", "c2", "c3"].map(|host| {
                let mut uplink = uplink(host);
                carried(&mut uplink, facts);
                uplink_state(&uplink)
            })
        };
        assert_eq!(states(Some(&facts(Some("c2")))), ["standby, priority 30", "active, priority 29", "no port"]);
        let none = ["no chassis carries it, priority 30", "no chassis carries it, priority 29", "no port"];
        assert_eq!(states(Some(&facts(None))), none);
        assert_eq!(states(Some(&[])), ["no port"; 3], "the provider router was lost");
        assert_eq!(states(None), ["unknown"; 3], "Southbound did not answer");
    }

    #[test]
    fn tree_dot_and_json_match_their_snapshots() {
        let inventory = inventory();
        insta::assert_snapshot!("tree", tree(&inventory).draw());
        insta::assert_snapshot!("dot", dot::draw(&inventory));
        insta::assert_snapshot!("json", output::json(&inventory));
    }
}
