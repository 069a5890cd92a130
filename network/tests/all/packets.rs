//! The packets part of the conformance suite fails for a network that forwards nothing, and for one that forwards everything to
//! everyone.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use atoll_model::attachment::Mac;
use atoll_model::ids::{HostId, IfName};
use atoll_network::conformance::EngineUnderTest;
use atoll_network::conformance::packets::{CASES, ForwardsPackets, Frame, Received, Station, run};
use atoll_network::conformance::samples::Families;
use atoll_network::{DatapathNeeds, NetworkSubnet, PodPort, ProviderUplink};
use atoll_testkit::recorder::Recorder;
use uuid::Uuid;

use crate::recorder::Bench;

/// The source of every frame that a kernel sends, and the next hop of everything.
const ROUTER: Mac = Mac([2, 0, 0, 0, 0, 1]);

/// Every station of one network; it has sent these frames. None: the network forwards nothing.
#[derive(Clone)]
struct Air(Option<Arc<Mutex<Vec<Frame>>>>);

impl Station for Air {
    const LIMIT: Duration = Duration::ZERO;

    fn adapt(&self, _: DatapathNeeds) -> Result<(), String> {
        Ok(())
    }

    fn send(&self, frame: &Frame) -> Result<(), String> {
        if let Some(sent) = &self.0 {
            sent.lock().expect("no panic while it is held").push(frame.clone());
        }
        Ok(())
    }

    fn resolved(&self, _: IpAddr) -> Result<Mac, String> {
        Ok(ROUTER)
    }

    async fn receive(&self, mark: &str) -> Option<Received> {
        self.received(mark).first().copied()
    }

    fn received(&self, mark: &str) -> Vec<Received> {
        let sent = self.0.iter().flat_map(|sent| sent.lock().expect("no panic while it is held").clone());
        let marked = sent.filter(|frame| frame.mark() == mark);
        let received = |frame| match frame {
            Frame::Datagram { from, .. } => Received { mac: ROUTER, from },
            Frame::Raw { from: (mac, from), .. } => Received { mac, from },
            Frame::Claim { frame: mac, address, .. } => Received { mac, from: (address, 0).into() },
        };
        marked.map(received).collect()
    }
}

struct Lab {
    bench: Bench,
    air: Air,
}

impl EngineUnderTest for Lab {
    type Engine = Recorder;

    fn engine(&self) -> &Recorder {
        self.bench.engine()
    }

    fn provider(&self) -> Uuid {
        self.bench.provider()
    }

    fn hosts(&self) -> [HostId; 2] {
        self.bench.hosts()
    }

    async fn lose(&self, id: Uuid) -> bool {
        self.bench.lose(id).await
    }
}

impl ForwardsPackets for Lab {
    type Station = Air;

    async fn attach(&self, _: &PodPort, _: &NetworkSubnet) -> Result<Air, String> {
        Ok(self.air.clone())
    }

    fn external(&self) -> Result<Air, String> {
        Ok(self.air.clone())
    }

    fn external_addresses(&self) -> Vec<IpAddr> {
        vec![Ipv4Addr::new(203, 0, 113, 1).into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()]
    }

    fn uplinks(&self, _: Families) -> Vec<ProviderUplink> {
        let uplink = |number: u8| ProviderUplink {
            address: format!("203.0.113.{}/28", number * 16 + 2).parse().expect("an address"),
            gateway: IpAddr::from([203, 0, 113, number * 16 + 1]),
            host: self.hosts()[0].clone(),
            interface: IfName::new(format!("uplink{number}")).expect("a name"),
        };
        [1, 2].map(uplink).into()
    }

    fn node(&self) -> Result<Air, String> {
        Ok(self.air.clone())
    }
}

/// The cases that pass although everything arrives everywhere: they ask for nothing but arrival.
const NOTHING_BUT_ARRIVAL: &[&str] = &[
    "pods_of_one_subnet_reach_each_other",
    "pods_of_two_subnets_reach_each_other_by_their_router",
    "every_address_of_a_port_is_served",
    "several_uplinks_carry_packets_if_the_engine_says_so",
    "a_port_that_is_ensured_twice_keeps_forwarding",
];

/// Runs the suite; the cases that pass are `expected`.
async fn only_these_pass(air: impl Fn() -> Air, expected: &[&str]) {
    let reports = run(async || Lab { bench: Bench(Recorder::default()), air: air() }).await;
    assert_eq!(reports.len(), CASES.len() * 3, "every case in every combination of address families");
    for report in reports {
        let case = report.case.split(' ').next().unwrap_or_default();
        assert_eq!(report.failure.is_none(), expected.contains(&case), "{report}");
    }
}

#[tokio::test]
async fn a_network_that_forwards_nothing_passes_no_case() {
    only_these_pass(|| Air(None), &[]).await;
}

#[tokio::test]
async fn a_network_that_forwards_everything_passes_no_case_about_isolation() {
    only_these_pass(|| Air(Some(Arc::default())), NOTHING_BUT_ARRIVAL).await;
}
