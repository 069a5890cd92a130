//! The packets part of the engines' conformance suite over real chassis: what the engine says is what its packets do.
//!
//! One lab serves all cases, one after the other: each begins without the networks and the interfaces of those before. The node
//! reaches its pods by the plugin's own code.

use std::cell::RefCell;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::rc::Rc;

use anyhow::{Context as _, Result, ensure};
use atoll_model::derive::NetworkPart;
use atoll_model::host_to_pod::nodes_like;
use atoll_model::ids::{ClusterId, HostId, IfName};
use atoll_network::conformance::packets::{CASES, ForwardsPackets, run_only};
use atoll_network::conformance::samples::{Families, network};
use atoll_network::conformance::{CaseReport, EngineUnderTest};
use atoll_network::{Engine as _, NetworkSubnet, PodPort, ProviderNetwork, ProviderUplink, provider_object};
use atoll_ovn::Ovn;
use atoll_ovn::ovsdb::Remote;
use atoll_testkit::lab::ovn::{FURTHER, OUTSIDE, OvnLab, PHYSICAL, UPLINK};
use atoll_testkit::lab::place::LabPlace;
use atoll_testkit::lab::station::LabStation;
use atoll_testkit::ovn::Packages;
use ipnetwork::IpNetwork;
use serde_json::json;
use uuid::Uuid;

/// The cluster of the provider router that all cases share. The networks of the cases are of another one.
const OPERATOR: ClusterId = ClusterId(Uuid::from_u128(0xa));
/// The external host's address of IPv6, and the provider router's.
const OUTSIDE6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 1);
const UPLINK6: Ipv6Addr = Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, 2);

/// A lab with a provider router, and the engine of each of its chassis.
struct Subject {
    lab: OvnLab,
    engines: Vec<Ovn<Remote>>,
    /// The pods of the first chassis in this case, with the networks of their subnets.
    pods: RefCell<Vec<(PodPort, Vec<IpNetwork>)>>,
}

/// A subject for one case.
struct Turn(Rc<Subject>);

/// Two interfaces of one network on the first two chassis.
fn uplink(lab: &OvnLab, physical: &str, address: (IpAddr, u8), gateway: IpAddr) -> Result<Vec<ProviderUplink>> {
    let hosts = lab.chassis.iter().map(|chassis| {
        Ok(ProviderUplink {
            address: format!("{}/{}", address.0, address.1).parse()?,
            gateway,
            host: HostId::new(&chassis.name).map_err(|problem| anyhow::anyhow!("{problem}"))?,
            interface: IfName::new(physical).map_err(|problem| anyhow::anyhow!("{problem}"))?,
        })
    });
    hosts.collect()
}

impl Subject {
    async fn start() -> Result<Self> {
        let mut lab = OvnLab::start_central(LabPlace::of_test()?, Packages::new())?;
        for _ in 0..2 {
            lab.add_chassis(&json!({}))?;
        }
        for address in [format!("{OUTSIDE6}/64"), "198.51.100.17/28".to_owned(), "198.51.100.33/28".to_owned()] {
            lab.out.run("ip", &["address", "add", &address, "dev", "ext"])?;
        }
        for number in 1..=2 {
            lab.out.run("ip", &["address", "add", &format!("fd78:{number}::1/64"), "dev", "ext", "nodad"])?;
        }
        // Everything is behind the provider router.
        for router in [UPLINK.to_owned(), UPLINK6.to_string()] {
            lab.out.run("ip", &["route", "add", "default", "via", &router])?;
        }
        let mut uplinks = uplink(&lab, PHYSICAL, (UPLINK.parse()?, 24), OUTSIDE.parse()?)?;
        uplinks.extend(uplink(&lab, PHYSICAL, (UPLINK6.into(), 64), OUTSIDE6.into())?);
        let engines = lab.chassis.iter().map(|chassis| lab.engine(chassis)).collect::<Result<Vec<_>>>()?;
        engines[0].ensure_provider(&ProviderNetwork { cluster: OPERATOR, uplinks }).await?;
        Ok(Self { lab, engines, pods: RefCell::default() })
    }

    /// Removes what the case before has left: networks, a provider router of its own.
    async fn clean(&self) -> Result<()> {
        self.pods.borrow_mut().clear();
        let cluster = network(Uuid::nil(), 1, 0, Families::V4).id.cluster;
        for provider in [OPERATOR, cluster].map(|cluster| provider_object(cluster, &NetworkPart::ProviderRouter)) {
            for number in 1..=2 {
                self.engines[0].delete_network(&network(provider, number, 0, Families::V4)).await?;
            }
        }
        for table in ["Logical_Router", "Logical_Switch", "HA_Chassis_Group"] {
            let ours = format!("external_ids:atoll-cluster={cluster}");
            for row in
                self.lab.ctl("ovn-nbctl", &["--bare", "--columns=_uuid", "find", table, &ours])?.split_whitespace()
            {
                self.lab.ctl("ovn-nbctl", &["destroy", table, row])?;
            }
        }
        Ok(())
    }

    /// Lets the first chassis reach its pods. Returns its interface towards those of the last one's subnet.
    fn reach_pods(&self) -> Result<IfName> {
        let (chassis, mut end) = (&self.lab.chassis[0], None);
        for (port, networks) in &*self.pods.borrow() {
            // A runtime has connections of its own.
            end = Some(chassis.reach_pod(&self.lab.engine(chassis)?, port, networks)?);
        }
        end.context("the node has a pod")
    }

    fn reach_nothing(&self) {
        let chassis = &self.lab.chassis[0];
        let gone = self.lab.engine(chassis).and_then(|engine| chassis.reach_nothing(&engine));
        gone.expect("the node's ways to pods are removed");
    }

    fn unplug(&self, host: &HostId, interface: &IfName) {
        let chassis = &self.lab.chassis[self.place(host).expect("it had the pod")];
        chassis.vsctl(&["--timeout=60", "--if-exists", "del-port", interface.as_str()]).expect("Open vSwitch runs");
    }

    fn place(&self, host: &HostId) -> Result<usize, String> {
        let place = self.lab.chassis.iter().position(|chassis| chassis.name == host.to_string());
        place.ok_or_else(|| format!("no chassis {host}"))
    }
}

impl EngineUnderTest for Turn {
    type Engine = Ovn<Remote>;

    fn engine(&self) -> &Ovn<Remote> {
        &self.0.engines[0]
    }

    fn provider(&self) -> Uuid {
        provider_object(OPERATOR, &NetworkPart::ProviderRouter)
    }

    fn hosts(&self) -> [HostId; 2] {
        [0, 1].map(|place: usize| HostId::new(&self.0.lab.chassis[place].name).expect("a name"))
    }

    async fn lose(&self, id: Uuid) -> bool {
        // It refuses a row that does not exist.
        let destroy = |table| self.0.lab.ctl("ovn-nbctl", &["destroy", table, &id.to_string()]);
        ["Logical_Router", "Logical_Switch"].into_iter().any(|table| destroy(table).is_ok())
    }
}

impl ForwardsPackets for Turn {
    type Station = LabStation;

    fn engine_of(&self, host: &HostId) -> &Ovn<Remote> {
        self.0.place(host).map_or(self.engine(), |place| &self.0.engines[place])
    }

    async fn attach(&self, port: &PodPort, subnet: &NetworkSubnet) -> Result<LabStation, String> {
        let chassis = &self.0.lab.chassis[self.0.place(&port.location.host)?];
        let engine = self.engine_of(&port.location.host);
        let side = engine.host_side(port.subnet.network);
        let pod = LabStation::pod(chassis.netns.path(), &side, port, subnet).map_err(|error| format!("{error:#}"))?;
        for prefix in &subnet.prefixes {
            // As ADD does: through the gateway an answer would leave the node.
            let [source, _] = nodes_like(prefix.gateway);
            pod.add_neighbour(source).map_err(|error| format!("{error:#}"))?;
        }
        if port.location.host == self.hosts()[0] {
            let networks = subnet.prefixes.iter().map(|prefix| prefix.prefix).collect();
            self.0.pods.borrow_mut().push((port.clone(), networks));
        }
        // As DEL does. A datapath in user space that loses an interface of a port can lose others with it.
        let (subject, host, interface) =
            (Rc::clone(&self.0), port.location.host.clone(), port.location.interface.clone());
        Ok(pod.before_end(move || subject.unplug(&host, &interface)))
    }

    fn external(&self) -> Result<LabStation, String> {
        Ok(LabStation::at(self.0.lab.out.path()))
    }

    fn external_addresses(&self) -> Vec<IpAddr> {
        vec![OUTSIDE.parse().expect("an address"), OUTSIDE6.into()]
    }

    fn uplinks(&self, families: Families) -> Vec<ProviderUplink> {
        let uplinks = (1..).zip(FURTHER).map(|(number, physical)| {
            let v4 =
                |last: u8| IpAddr::from(Ipv4Addr::new(198, 51, 100, u8::try_from(number * 16).unwrap_or(0) + last));
            let v6 = |last| IpAddr::from(Ipv6Addr::new(0xfd78, number, 0, 0, 0, 0, 0, last));
            let of_families = families.of(((v4(2), 28), v4(1)), ((v6(2), 64), v6(1)));
            let both =
                of_families.into_iter().map(|(address, gateway)| uplink(&self.0.lab, physical, address, gateway));
            both.collect::<Result<Vec<_>>>().expect("addresses").concat()
        });
        uplinks.flatten().collect()
    }

    fn node(&self) -> Result<LabStation, String> {
        let end = self.0.reach_pods().map_err(|error| format!("{error:#}"))?;
        let node = LabStation::behind(self.0.lab.chassis[0].netns.path(), end.as_str());
        let subject = Rc::clone(&self.0);
        Ok(node.before_end(move || subject.reach_nothing()))
    }
}

/// Runs every case in these combinations of address families.
fn forwards(wanted: &[Families]) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let (reports, subject) = runtime.block_on(async {
        let subject = Rc::new(Subject::start().await?);
        let fresh = async || {
            subject.clean().await.expect("what the case before has left is removed");
            Turn(Rc::clone(&subject))
        };
        let reports = Box::pin(run_only(fresh, |_, families| wanted.contains(&families))).await;
        subject.clean().await.context("the end")?;
        Ok::<_, anyhow::Error>((reports, subject))
    })?;
    let failed: Vec<_> = reports.iter().filter(|report| report.failure.is_some()).map(CaseReport::to_string).collect();
    ensure!(failed.is_empty(), "{}", failed.join("\n"));
    ensure!(reports.len() == wanted.len() * CASES.len(), "{} cases", reports.len());
    Rc::into_inner(subject).context("no case is running")?.lab.passed();
    Ok(())
}

#[test]
fn ovn_forwards_both_families_as_the_suite_expects() -> Result<()> {
    forwards(&[Families::Both])
}

#[test]
#[ignore = "long: the same cases in each family alone"]
fn ovn_forwards_each_family_alone_as_the_suite_expects() -> Result<()> {
    forwards(&[Families::V4, Families::V6])
}
