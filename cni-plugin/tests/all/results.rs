//! Configuration, the pod's kernel and the result agree: every configured route, for every version of the specification; and
//! neighbours get an announcement.

use atoll_cni_plugin::kernel::{FoundRoute, Kernel, Netns, PodChange, PolicyRule};
use atoll_model::cni::result::AddResult;
use atoll_model::cni::version::Version;
use atoll_model::config::{Config, DnsConfig};
use atoll_model::error::Classify;
use atoll_model::route::{MAIN_TABLE, PodRoute};
use serde_json::{Value, json};

use crate::lab::{Lab, NETNS};

/// Routes of every kind that a configuration can have; `gw` 0 stands for an address of the pod's subnet.
fn configured() -> Vec<(&'static str, Value)> {
    vec![
        ("by the subnet's gateway", json!({ "dst": "10.96.0.0/12" })),
        ("by another next hop", json!({ "dst": "10.97.0.0/16", "gw": "10.0.0.7" })),
        ("on the link", json!({ "dst": "192.0.2.0/24", "scope": 253 })),
        ("behind what is on the link", json!({ "dst": "198.51.100.0/24", "gw": "192.0.2.1" })),
        ("with metrics", json!({ "dst": "203.0.113.0/24", "mtu": 1400, "advmss": 1360 })),
        ("that stands back", json!({ "dst": "10.96.0.0/12", "priority": 50 })),
        ("of another table", json!({ "dst": "10.96.0.0/12", "table": 100 })),
        ("a default route of another table", json!({ "dst": "0.0.0.0/0", "table": 100 })),
        ("a host", json!({ "dst": "198.51.100.7/32" })),
        ("larger than the pool", json!({ "dst": "10.0.0.0/7" })),
    ]
}

/// ADD with these routes and name servers.
async fn attach(
    lab: &Lab,
    routes: &[Value],
) -> Result<(AddResult, Vec<FoundRoute>), atoll_cni_plugin::error::CallError> {
    let mut plugin = lab.plugin();
    let next_hop = lab.first_subnet().nth(7).expect("large enough").to_string();
    let routes: Vec<Value> =
        serde_json::from_str(&json!(routes).to_string().replace("10.0.0.7", &next_hop)).expect("JSON");
    let text = json!({ "etcd": { "endpoints": ["http://127.0.0.1:1"] },
        "controller": { "endpoints": ["http://127.0.0.1:1/midonet-api"] }, "routes": routes });
    let config = Config::parse(&text).expect("valid");
    config.refuse_impossible().expect("a pod can have it");
    plugin.config.routes = config.routes;
    let mut call = lab.call();
    call.dns = DnsConfig { nameservers: vec!["192.0.2.53".to_owned()], search: vec!["a.b".to_owned()], ..call.dns };
    let attached = Box::pin(plugin.add(&call)).await?;
    let found = lab.kernel.routes(&Netns::At(NETNS.into())).await.expect("works");
    Ok((attached, found))
}

/// A route of a result, with the fields of its version.
fn route_of(route: &Value) -> PodRoute {
    let number = |key: &str| route[key].as_u64().map(|n| u32::try_from(n).expect("it fits"));
    PodRoute {
        destination: route["dst"].as_str().expect("a text").parse().expect("a network"),
        gateway: route["gw"].as_str().map(|text| text.parse().expect("an address")),
        mtu: number("mtu"),
        advmss: number("advmss"),
        priority: number("priority"),
        table: number("table"),
        scope: number("scope").map(|scope| u8::try_from(scope).expect("it fits")),
    }
}

#[tokio::test(start_paused = true)]
async fn every_configured_route_is_in_the_kernel_and_in_the_result_of_every_version() {
    let all: Vec<Value> = configured().into_iter().map(|(_, route)| route).collect();
    let lab = Lab::warm().await;
    let (attached, found) = attach(&lab, &all).await.expect("works");
    let gateway = attached.addresses[0].1;
    let next_hop = lab.first_subnet().nth(7).expect("large enough").into();
    // In the kernel: every one, once, and nothing else but the default route.
    assert_eq!(found.len(), all.len() + 1, "{found:?}");
    for (what, route) in configured() {
        let mut expected = route_of(&route);
        let is_local = expected.is_local();
        expected.gateway = match expected.gateway {
            Some(gateway) if gateway == std::net::IpAddr::from([10, 0, 0, 7]) => Some(next_hop),
            None if !is_local => Some(gateway),
            gateway => gateway,
        };
        let is_it = |found: &&FoundRoute| found.route.is_instead_of(&expected);
        let there: Vec<_> = found.iter().filter(is_it).collect();
        let [there] = there.as_slice() else { panic!("{what}: {there:?}") };
        assert_eq!(there.route, expected, "{what}");
        // In the result: the same, as far as the version has words for it.
        for version in Version::ALL {
            let result: Value = serde_json::from_str(&attached.to_json(version)).expect("JSON");
            let routes = if version < Version::V0_3_0 { &result["ip4"]["routes"] } else { &result["routes"] };
            let routes: Vec<PodRoute> = routes.as_array().expect("a list").iter().map(route_of).collect();
            assert_eq!(routes.len(), all.len() + 1, "{version}");
            let shown = if version >= Version::V1_1_0 {
                expected.clone()
            } else {
                PodRoute::plain(expected.destination, expected.gateway)
            };
            assert!(routes.contains(&shown), "{version}: {what} is not in the result: {routes:?}");
            let default = PodRoute::plain("0.0.0.0/0".parse().expect("valid"), Some(gateway));
            assert!(routes.contains(&default), "{version}: {routes:?}");
            assert_eq!(result["dns"]["nameservers"], json!(["192.0.2.53"]), "{version}");
            assert_eq!(result["dns"]["search"], json!(["a.b"]), "{version}");
        }
    }
}

/// As configurations for other plugins have it: a default route among the others is the pod's default route.
#[tokio::test(start_paused = true)]
async fn a_configured_default_route_goes_instead_of_ours() {
    for (route, by_gateway) in
        [(json!({ "dst": "0.0.0.0/0" }), true), (json!({ "dst": "0.0.0.0/0", "gw": "10.0.0.7" }), false)]
    {
        let lab = Lab::warm().await;
        let (attached, found) = attach(&lab, &[route]).await.expect("works");
        let [only] = found.as_slice() else { panic!("{found:?}") };
        let expected =
            if by_gateway { attached.addresses[0].1 } else { lab.first_subnet().nth(7).expect("large enough").into() };
        assert_eq!((only.route.gateway, only.route.table.unwrap_or(MAIN_TABLE)), (Some(expected), MAIN_TABLE));
        assert_eq!(attached.routes.len(), 1);
    }
}

/// What the pod's kernel would refuse after all else is made, or take and lose packets by, is refused before.
#[tokio::test(start_paused = true)]
async fn a_route_that_does_not_fit_the_subnet_is_refused_before_anything_is_done() {
    let lab = Lab::warm().await;
    let subnet = lab.first_subnet();
    let before = (lab.etcd.dump(), lab.pod_ports());
    for (route, expected) in [
        (json!({ "dst": "198.51.100.0/24", "gw": "192.0.2.1" }), "192.0.2.1 is not in the pod's subnet"),
        (json!({ "dst": subnet.to_string() }), "inside the pod's own subnet"),
        (json!({ "dst": "198.51.100.0/24", "gw": subnet.network().to_string() }), "no host"),
    ] {
        lab.plan.reset();
        let error = attach(&lab, &[route]).await.expect_err(expected);
        assert_eq!(error.class().cni_code(), 7, "{error}");
        assert!(error.to_string().contains("\"routes\"") && error.to_string().contains(expected), "{error}");
        assert_eq!((lab.etcd.dump(), lab.pod_ports()), before, "{expected}");
        let wrote = |effect: &&String| effect.starts_with("store: commit") || effect.starts_with("kernel: create");
        assert_eq!(lab.plan.passed().iter().find(wrote), None, "{expected}");
        lab.assert_empty(expected);
    }
}

/// Once its port is active, also if it existed already; a failed announcement is no failed ADD.
#[tokio::test(start_paused = true)]
async fn the_addresses_are_announced_when_packets_flow() {
    let lab = Lab::warm().await;
    for times in 1..3 {
        lab.plan.reset();
        lab.add().await.expect("works");
        let announced: Vec<_> = lab.kernel.everything().iter().map(|(_, link)| link.announced).collect();
        assert!(announced.contains(&times), "{announced:?}");
        let effects = lab.plan.passed();
        let last = effects.last().expect("there are some");
        assert!(
            last.starts_with("kernel: announce eth0"),
            "before its port is active nothing of it arrives: {effects:#?}"
        );
    }
    let announce = lab.plan.passed().len() - 1;
    lab.plan.reset();
    lab.plan.arm(announce, atoll_testkit::fault::Fault::Refused);
    lab.add().await.expect("it is a line in the log");
}

/// What a further interface sends leaves through it, whichever interface comes first; CHECK minds it, DEL takes it along.
#[tokio::test(start_paused = true)]
async fn a_further_interface_has_a_way_of_its_own() {
    let lab = Lab::warm().await;
    lab.interface.set("eth1");
    let attached = lab.add().await.expect("works");
    let address = attached.addresses[0].0;
    let rules = lab.kernel.all_rules();
    let [(netns, rule)] = rules.as_slice() else { panic!("{rules:?}") };
    assert_eq!((netns.as_path(), rule.address()), (std::path::Path::new(NETNS), Some(address.ip())));
    let routes = lab.kernel.routes(&Netns::At(NETNS.into())).await.expect("works");
    let own: Vec<_> = routes.iter().filter(|found| found.route.table == Some(rule.table)).collect();
    let destinations: Vec<_> = own.iter().map(|found| found.route.destination.to_string()).collect();
    assert_eq!(destinations, [lab.first_subnet().to_string(), "0.0.0.0/0".to_owned()]);
    assert_eq!(attached.routes.len(), 1, "the result has the routes of the pod in `main`");
    // Of an earlier attachment with another address.
    let stale = PolicyRule::from_address([192, 0, 2, 7].into(), rule.table);
    lab.kernel.configure(NETNS.as_ref(), &PodChange::AddRule(stale)).await.expect("works");
    lab.add().await.expect("again");
    assert_eq!(lab.kernel.all_rules(), rules, "and no other");
    lab.del().await.expect("works");
    lab.assert_empty("a further interface");
}
