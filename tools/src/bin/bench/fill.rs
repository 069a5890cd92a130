//! ADD while more and more addresses of one /16 are in use. Each amount has a node of its own; the nodes are measured in turn.

use std::net::Ipv4Addr;

use anyhow::{Context as _, Result};
use atoll_model::attachment::Attachment;
use atoll_model::config::EtcdConfig;
use atoll_model::ids::{ClaimId, ContainerId, IfName, NetworkName, NodeName, TenantName};
use atoll_records::{AddressRecord, AddressState, Key, SCHEMA, Unknown, encode};
use atoll_store::{Etcd, Store as _, StoreChange, Txn};
use atoll_testkit::lab::node::{LabNode, PREFIX};
use atoll_testkit::lab::servers;
use ipnetwork::Ipv4Network;
use serde_json::json;

use crate::progress::step;
use crate::report::{Report, ReportLine, SpeedTarget};
use crate::site::{BenchSite, TENANT, etcd_requests, pod};
use crate::spread::{Spread, mean};

/// Addresses in use; the first is what the others are compared with.
const IN_USE: [u32; 4] = [0, 1_000, 32_000, 60_000];
/// etcd accepts at most 128 changes in one transaction by default.
const BATCH: usize = 120;

/// Adds its findings to the report.
pub(crate) fn measure(rounds: usize, report: &mut Report) -> Result<()> {
    let mut sites = Vec::new();
    for in_use in IN_USE {
        step(&format!("addresses in use: {in_use}"));
        let site = BenchSite::atoll(false, &json!({ "podCidr": "10.128.0.0/16", "subnetPrefix": 16 }))?;
        let anchor = pod("anchor")?;
        let (anchored, _) = site.add(&anchor)?;
        let node = site.node().context("a site with servers")?;
        fill(node, anchored.address, in_use)?;
        sites.push((site, anchor));
    }

    step(&format!("addresses in use: {rounds} rounds"));
    let mut wall = vec![Vec::new(); IN_USE.len()];
    let mut asked = vec![Vec::new(); IN_USE.len()];
    for round in 0..rounds {
        for turn in 0..sites.len() {
            let place = (turn + round) % sites.len();
            let site = &sites[place].0;
            let node = site.node().context("a site with servers")?;
            let pod = pod("measured")?;
            let before = etcd_requests(node)?;
            wall[place].push(site.add(&pod)?.1.wall);
            asked[place].push(etcd_requests(node)? - before);
            site.del(&pod)?;
        }
    }
    let base = Spread::of(&wall[0]).context("samples")?;
    let base_asked = mean(&asked[0]);
    for (place, in_use) in IN_USE.into_iter().enumerate() {
        let here = Spread::of(&wall[place]).context("samples")?;
        let (target, beside) = match in_use {
            0 => (SpeedTarget::None, None),
            1_000 | 32_000 => (SpeedTarget::RatioAtMost(1.2), Some(base)),
            _ => (SpeedTarget::None, Some(base)),
        };
        report.find(ReportLine::new(format!("ADD, {in_use} of a /16 in use: wall"), "ms", target, here, beside));
        let target = if in_use == 60_000 { SpeedTarget::AtMost(base_asked + 1.0) } else { SpeedTarget::None };
        let asked = Spread::exactly(mean(&asked[place]));
        report.find(ReportLine::new(format!("ADD, {in_use} in use: mean requests to etcd"), "", target, asked, None));
    }
    for (site, anchor) in sites {
        site.del(&anchor)?;
        // The invented address records still exist, which `finish` would report.
        if let Some(node) = site.node() {
            node.scratch().passed();
        }
    }
    Ok(())
}

/// Writes records of `count` addresses that pods of another node have, spread evenly over the subnet.
fn fill(node: &LabNode, anchored: Ipv4Network, count: u32) -> Result<()> {
    let tenant = TenantName::new(TENANT)?;
    let (_, record) =
        node.keys("tenants/")?.into_iter().next().context("the tenant's record: the anchor has built it")?;
    let ordinal = u32::try_from(record["subnets"][0]["ordinal"].as_u64().context("the subnet's ordinal")?)?;
    let gateway: Ipv4Addr = record["subnets"][0]["gateway"].as_str().context("the gateway")?.parse()?;
    let kept = [anchored.ip(), gateway, anchored.network(), anchored.broadcast()];
    let first = u32::from(anchored.network());
    // Multiplying by an odd number modulo a power of two visits each address once, and spreads neighbours.
    let addresses =
        (0..=u32::from(u16::MAX)).map(|number| first + (number.wrapping_mul(40_503) & 0xffff)).map(Ipv4Addr::from);
    let addresses: Vec<Ipv4Addr> =
        addresses.filter(|address| !kept.contains(address)).take(usize::try_from(count)?).collect();
    let config = EtcdConfig {
        endpoints: vec![format!("http://{}", servers::ETCD)],
        prefix: PREFIX.to_owned(),
        ca: None,
        cert: None,
        key: None,
    };
    node.netns().within(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let store = Etcd::connect(&config)?;
            for batch in addresses.chunks(BATCH) {
                let then = batch.iter().map(|address| put(&tenant, ordinal, *address)).collect::<Result<_>>()?;
                store.commit(Txn { then, ..Txn::default() }).await?;
            }
            Ok(())
        })
    })
}

fn put(tenant: &TenantName, ordinal: u32, address: Ipv4Addr) -> Result<StoreChange> {
    let attachment = Attachment {
        node: NodeName::new("elsewhere")?,
        network: NetworkName::new("atoll")?,
        container: ContainerId::new(format!("pod-{}", u32::from(address)))?,
        interface: IfName::new("eth0")?,
    };
    let state = AddressState::Claimed { claim: ClaimId::random(), attachment };
    let record = AddressRecord { v: SCHEMA, state, unknown: Unknown::new() };
    Ok(StoreChange::Put {
        key: Key::from(AddressRecord::at(tenant, ordinal, address.into())),
        value: encode(&record),
        lease: None,
    })
}
