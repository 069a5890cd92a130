//! A healthy node of a cluster with OVN, then one fault at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use atoll_model::ids::{HostId, IfName, Incarnation};
use atoll_ovn::ovsdb::MemberState;
use atoll_ovn::{
    BridgeFacts, ChassisFacts, ConfigurationProgress, HostEndFacts, ListenerFacts, NorthboundFacts, OwnedRow,
    SouthboundFacts, SwitchFacts, TunnelFacts,
};
use uuid::Uuid;

use super::super::seen::{DatabaseMember, DoctorEvidence, EngineEvidence, OvnEvidence};
use super::tests::{Fault, NOW, gone, reported, site, well};
use super::{Level, judge};

const INCARNATION: Incarnation = Incarnation(Uuid::from_u128(5));

fn member(database: &'static str, host: &str, leader: bool) -> DatabaseMember {
    let state = MemberState { clustered: true, leader, connected: true, index: Some(70) };
    let port = if database == "OVN_Northbound" { 6641 } else { 6642 };
    DatabaseMember {
        url: format!("ssl:{host}:{port}"),
        database,
        state: Ok((Duration::from_millis(4), state)),
        newest: Some(70),
    }
}

/// Three members of each database, three chassis, of which this is c1.
fn ovn() -> OvnEvidence {
    let listeners = |port| vec![ListenerFacts { target: format!("pssl:{port}"), probe: Some(60_000) }];
    let chassis = ["c1", "c2", "c3"].map(|name| ChassisFacts {
        name: name.to_owned(),
        hostname: format!("{name}.example"),
        confirmed: 7,
        features: ["ct-commit-nat-v2", "fdb-timestamp"].map(str::to_owned).into(),
    });
    let settings = [
        ("system-id", "c1"),
        ("ovn-remote", "ssl:10.0.0.1:6642"),
        ("ovn-encap-type", "geneve"),
        ("ovn-encap-ip", "10.0.0.11"),
        ("ovn-bridge-mappings", "ext:br-ex"),
        ("ovn-remote-probe-interval", "60000"),
        ("ovn-openflow-probe-interval", "60"),
    ];
    let tunnel = |name: &str, remote: &str| TunnelFacts {
        name: format!("ovn-{name}-0"),
        remote: remote.to_owned(),
        error: None,
        link: Some("up".to_owned()),
        bfd: Some("up".to_owned()),
    };
    let databases = ["OVN_Northbound", "OVN_Southbound"];
    let hosts = [("10.0.0.1", true), ("10.0.0.2", false), ("10.0.0.3", false)];
    let members = databases.iter().flat_map(|database| hosts.map(|(host, leader)| member(database, host, leader)));
    OvnEvidence {
        members: members.collect(),
        northbound: Ok(NorthboundFacts {
            version: Some("25.03.0-20.41.0-80.1".to_owned()),
            routers: 1000,
            listeners: listeners(6641),
            gateways: vec!["c1".to_owned(), "c2".to_owned()],
        }),
        southbound: Ok(Some(SouthboundFacts { listeners: listeners(6642), chassis: chassis.to_vec() })),
        progress: Ok(ConfigurationProgress { asked: 7, northd: (7, seconds_ago(1)), chassis: (7, seconds_ago(1)) }),
        controller: Some("25.03.0".to_owned()),
        switch: Ok(SwitchFacts {
            settings: settings.map(|(key, value)| (key.to_owned(), value.to_owned())).into(),
            version: Some("3.5.0".to_owned()),
            bridge: Some(BridgeFacts { datapath: "system".to_owned(), confirmed: Some(7) }),
            tunnels: vec![tunnel("c2", "10.0.0.12"), tunnel("c3", "10.0.0.13")],
            pods: vec![],
        }),
        owned: Ok(vec![row("Logical_Router", 1, INCARNATION)]),
        incarnations: Ok(BTreeSet::from([INCARNATION])),
    }
}

/// Milliseconds since 1970.
fn seconds_ago(seconds: i64) -> i64 {
    (i64::try_from(NOW).expect("in range") - seconds) * 1000
}

fn row(table: &'static str, uuid: u128, incarnation: Incarnation) -> OwnedRow {
    OwnedRow { table, uuid: Uuid::from_u128(uuid), tenant: "red".to_owned(), incarnation, interface: None }
}

fn pod(installed: bool, error: Option<&str>) -> HostEndFacts {
    HostEndFacts { interface: interface(), error: error.map(str::to_owned), installed }
}

fn interface() -> IfName {
    IfName::new("at0123456789ab").expect("valid")
}

fn healthy() -> DoctorEvidence {
    let mut seen = well();
    let site = site(&mut seen);
    site.engine = EngineEvidence::Ovn(Box::new(ovn()));
    site.machine.as_mut().expect("ok").host_id = HostId::new("c1").expect("valid");
    seen
}

fn engine(seen: &mut DoctorEvidence) -> &mut OvnEvidence {
    match &mut site(seen).engine {
        EngineEvidence::Ovn(seen) => seen,
        EngineEvidence::MidoNet(_) => unreachable!("it has OVN"),
    }
}

fn northbound(seen: &mut DoctorEvidence) -> &mut NorthboundFacts {
    engine(seen).northbound.as_mut().expect("ok")
}

fn southbound(seen: &mut DoctorEvidence) -> &mut SouthboundFacts {
    engine(seen).southbound.as_mut().expect("ok").as_mut().expect("there")
}

fn switch(seen: &mut DoctorEvidence) -> &mut SwitchFacts {
    engine(seen).switch.as_mut().expect("ok")
}

fn settings(seen: &mut DoctorEvidence) -> &mut BTreeMap<String, String> {
    &mut switch(seen).settings
}

fn state(seen: &mut DoctorEvidence, member: usize) -> &mut MemberState {
    &mut engine(seen).members[member].state.as_mut().expect("ok").1
}

fn without_southbound(seen: &mut DoctorEvidence) {
    engine(seen).southbound = Ok(None);
}

#[test]
fn a_node_where_all_is_well_has_no_finding_of_ovn() {
    for change in [(|_: &mut DoctorEvidence| {}) as Fault, without_southbound] {
        let mut seen = healthy();
        change(&mut seen);
        let findings = judge(&seen);
        let alarming: Vec<_> = findings.iter().filter(|f| f.level != Level::Ok).map(|f| (f.check, &f.found)).collect();
        assert!(
            matches!(alarming.as_slice(), [("cluster", _)]),
            "`init` has not run yet, and nothing else: {alarming:?}"
        );
    }
    insta::assert_snapshot!("ovn_well", super::super::shown(&judge(&healthy())));
}

#[test]
fn every_fault_of_ovn_is_reported_with_its_effect_and_its_remedy() {
    let faults: &[(&str, Level, Fault)] = &[
        ("database", Level::Fail, |s| engine(s).members[1].state = Err(gone())),
        ("database", Level::Fail, |s| state(s, 1).connected = false),
        ("database", Level::Fail, |s| state(s, 0).leader = false),
        ("database", Level::Fail, |s| state(s, 3).leader = false),
        ("database", Level::Warn, |s| state(s, 1).index = Some(69)),
        ("database", Level::Warn, |s| engine(s).members[0].state.as_mut().expect("ok").0 = Duration::from_secs(1)),
        ("database", Level::Ok, |s| {
            *state(s, 0) = MemberState { clustered: false, leader: true, connected: true, index: None };
        }),
        ("ovn-version", Level::Warn, |s| northbound(s).version = Some("23.03.1-20.27.0-70.6".to_owned())),
        ("ovn-version", Level::Ok, |s| northbound(s).version = Some("23.06.0-20.31.0-72.1".to_owned())),
        ("ovn-version", Level::Skip, |s| northbound(s).version = None),
        ("ovn-version", Level::Warn, |s| engine(s).controller = Some("24.09.1".to_owned())),
        ("ovn-version", Level::Warn, |s| engine(s).controller = Some("25.03.2".to_owned())),
        ("ovn-version", Level::Warn, |s| southbound(s).chassis[1].features.retain(|it| it != "ct-commit-nat-v2")),
        ("ovn-version", Level::Warn, |s| southbound(s).chassis[1].features.retain(|it| it != "fdb-timestamp")),
        ("ovn-version", Level::Warn, |s| southbound(s).chassis.iter_mut().for_each(|one| one.features.clear())),
        ("probe", Level::Warn, |s| northbound(s).listeners[0].probe = None),
        ("probe", Level::Warn, |s| southbound(s).listeners[0].probe = Some(5000)),
        ("probe", Level::Warn, |s| drop(settings(s).remove("ovn-remote-probe-interval"))),
        ("probe", Level::Warn, |s| {
            engine(s).controller = Some("23.03.1".to_owned());
            settings(s).insert("ovn-openflow-probe-interval".to_owned(), "5".to_owned());
        }),
        ("probe", Level::Ok, |s| drop(settings(s).remove("ovn-openflow-probe-interval"))),
        ("probe", Level::Ok, |s| northbound(s).listeners[0].probe = Some(0)),
        ("probe", Level::Ok, |s| {
            northbound(s).routers = 99;
            northbound(s).listeners[0].probe = None;
            settings(s).remove("ovn-openflow-probe-interval");
        }),
        ("probe", Level::Warn, |s| {
            northbound(s).routers = 99;
            northbound(s).listeners[0].probe = Some(1000);
        }),
        ("northd", Level::Fail, |s| engine(s).progress.as_mut().expect("ok").northd = (6, seconds_ago(600))),
        ("northd", Level::Fail, |s| engine(s).progress.as_mut().expect("ok").northd = (0, 0)),
        ("northd", Level::Skip, |s| engine(s).progress = Err(gone())),
        ("chassis", Level::Skip, |s| engine(s).progress.as_mut().expect("ok").northd = (6, 0)),
        ("chassis", Level::Warn, |s| {
            engine(s).progress.as_mut().expect("ok").chassis = (6, seconds_ago(600));
            southbound(s).chassis[2].confirmed = 6;
        }),
        ("chassis", Level::Warn, |s| {
            engine(s).progress.as_mut().expect("ok").chassis = (6, seconds_ago(600));
            without_southbound(s);
        }),
        ("chassis", Level::Fail, |s| {
            engine(s).progress.as_mut().expect("ok").chassis = (6, seconds_ago(600));
            switch(s).bridge.as_mut().expect("there").confirmed = Some(6);
        }),
        ("chassis", Level::Fail, |s| {
            engine(s).progress.as_mut().expect("ok").chassis = (0, 0);
            switch(s).bridge.as_mut().expect("there").confirmed = None;
        }),
        ("open-vswitch", Level::Fail, |s| engine(s).switch = Err(gone())),
        ("open-vswitch", Level::Fail, |s| drop(settings(s).remove("system-id"))),
        ("open-vswitch", Level::Fail, |s| drop(settings(s).insert("system-id".to_owned(), "c9".to_owned()))),
        ("open-vswitch", Level::Fail, |s| switch(s).bridge = None),
        ("open-vswitch", Level::Fail, |s| drop(settings(s).remove("ovn-remote"))),
        ("open-vswitch", Level::Fail, |s| drop(settings(s).remove("ovn-encap-type"))),
        ("open-vswitch", Level::Fail, |s| drop(settings(s).insert("ovn-encap-ip".to_owned(), String::new()))),
        ("open-vswitch", Level::Fail, |s| drop(settings(s).remove("ovn-bridge-mappings"))),
        ("open-vswitch", Level::Ok, |s| {
            settings(s).remove("ovn-bridge-mappings");
            northbound(s).gateways.retain(|name| name != "c1");
        }),
        ("gateway", Level::Warn, |s| northbound(s).gateways.truncate(1)),
        ("gateway", Level::Warn, |s| southbound(s).chassis.truncate(2)),
        ("gateway", Level::Warn, |s| {
            without_southbound(s);
            switch(s).tunnels.truncate(1);
        }),
        ("gateway", Level::Fail, |s| northbound(s).gateways = vec!["g1".to_owned(), "g2".to_owned()]),
        ("tunnel", Level::Fail, |s| switch(s).tunnels[0].error = Some("could not add network device".to_owned())),
        ("tunnel", Level::Warn, |s| switch(s).tunnels[0].bfd = Some("down".to_owned())),
        ("tunnel", Level::Warn, |s| switch(s).tunnels[1].link = Some("down".to_owned())),
        ("port", Level::Fail, |s| switch(s).pods = vec![pod(false, Some("could not open network device"))]),
        ("port", Level::Warn, |s| switch(s).pods = vec![pod(false, None)]),
        ("owner", Level::Warn, |s| switch(s).pods = vec![pod(true, None)]),
        ("owner", Level::Warn, |s| {
            let port = OwnedRow { interface: Some(interface()), ..row("Logical_Switch_Port", 9, INCARNATION) };
            engine(s).owned = Ok(vec![port]);
        }),
        ("owner", Level::Warn, |s| {
            let gone = Incarnation(Uuid::from_u128(6));
            engine(s).owned = Ok((10..17).map(|uuid| row("Logical_Switch", uuid, gone)).collect());
        }),
        ("owner", Level::Skip, |s| engine(s).owned = Err(gone())),
        ("owner", Level::Skip, |s| engine(s).incarnations = Err(gone())),
        ("owner", Level::Skip, |s| site(s).records = Err(gone())),
        ("owner", Level::Skip, |s| site(s).attachment_states = Err(gone())),
        ("owner", Level::Skip, |s| {
            site(s).records.as_mut().expect("ok").damaged.push("v2/claims/n1/a/b/c".to_owned());
        }),
    ];
    insta::assert_snapshot!("ovn_faults", reported(healthy, faults));
}
