//! `"mtu": "auto"`: what the node's interface leaves inside the tunnel, or nothing at all.

use atoll_cni_plugin::error::CallError;
use atoll_cni_plugin::kernel::{Kernel, Netns};
use atoll_model::cni::result::AddResult;
use atoll_model::config::{Mtu, Tunnel};
use atoll_model::error::Classify;
use atoll_model::route::PodRoute;

use crate::lab::{Lab, LabEngine, NETNS};

async fn add(lab: &Lab, tunnel: Tunnel) -> Result<AddResult, CallError> {
    let mut plugin = lab.plugin();
    plugin.config.mtu = Mtu::Auto(tunnel);
    Box::pin(plugin.add(&lab.call())).await
}

/// An interface of the node, with a default route of this priority if there is one.
fn uplink(lab: &Lab, name: &str, index: u32, mtu: u32, default: Option<u32>) {
    lab.kernel.add_foreign(&Netns::Own, name, false);
    lab.kernel.damage(&Netns::Own, name, |mut link| {
        (link.link.index, link.link.mtu) = (index, mtu);
        let everything = "0.0.0.0/0".parse().expect("valid");
        let route =
            |priority| PodRoute { priority: Some(priority), table: Some(254), ..PodRoute::plain(everything, None) };
        link.routes.extend(default.map(route));
        Some(link)
    });
}

#[tokio::test(start_paused = true)]
async fn it_is_what_the_interface_leaves() {
    for (interface, overhead, expected) in [
        (None, None, 1450),
        (None, Some(50), 1450),
        (None, Some(42), 1458),
        (None, Some(0), 1500),
        (Some("jumbo"), Some(50), 8950),
    ] {
        let lab = Lab::warm().await;
        uplink(&lab, "slow", 70, 1400, Some(100));
        uplink(&lab, "fast", 71, 1500, Some(10));
        uplink(&lab, "jumbo", 72, 9000, None);
        let interface = interface.map(|name: &str| name.parse().expect("valid"));
        let attached = add(&lab, Tunnel { interface, overhead }).await.expect("it can be known");
        assert_eq!(attached.mtu, expected);
        let eth0 = lab.call().attachment.interface;
        let link = lab.kernel.inspect(&Netns::At(NETNS.into()), &eth0).await.expect("works").expect("there");
        assert_eq!(link.mtu, expected);
    }
}

/// A packet may take any of several default routes of one priority, and a route may carry less than its interface.
#[tokio::test(start_paused = true)]
async fn of_several_ways_the_smallest_counts() {
    let lab = Lab::warm().await;
    uplink(&lab, "one", 70, 9000, Some(10));
    uplink(&lab, "two", 71, 1500, Some(10));
    uplink(&lab, "back", 72, 1300, Some(20));
    let attached = add(&lab, Tunnel { interface: None, overhead: Some(50) }).await.expect("it can be known");
    assert_eq!(attached.mtu, 1450);
    lab.del().await.expect("works");
    lab.kernel.damage(&Netns::Own, "one", |mut link| {
        link.routes[0].mtu = Some(1400);
        Some(link)
    });
    let attached = add(&lab, Tunnel { interface: None, overhead: Some(50) }).await.expect("it can be known");
    assert_eq!(attached.mtu, 1350);
    lab.del().await.expect("works");
    // The table that the kernel asks after `main`.
    for name in ["one", "two", "back"] {
        lab.kernel.damage(&Netns::Own, name, |mut link| {
            link.routes.iter_mut().for_each(|route| route.table = Some(253));
            Some(link)
        });
    }
    assert_eq!(add(&lab, Tunnel { interface: None, overhead: Some(0) }).await.expect("it can be known").mtu, 1400);
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_known_is_refused_before_anything_is_done() {
    let lab = Lab::warm().await;
    let before = lab.etcd.dump();
    let refused = async |tunnel: Tunnel, expected: &str| {
        let error = add(&lab, tunnel).await.expect_err(expected);
        assert_eq!(error.class().cni_code(), 7, "{error}");
        let text = error.to_string();
        assert!(text.contains("\"mtu\"") && text.contains(expected), "{text}");
        assert_eq!(lab.etcd.dump(), before);
        lab.assert_empty(expected);
    };
    refused(Tunnel { interface: None, overhead: Some(50) }, "no default route").await;
    refused(Tunnel { interface: "none".parse().ok(), overhead: Some(50) }, "no interface none").await;
    // A default route of another table is none.
    uplink(&lab, "other", 70, 1500, None);
    lab.kernel.damage(&Netns::Own, "other", |mut link| {
        let everything = "0.0.0.0/0".parse().expect("valid");
        link.routes.push(PodRoute { table: Some(100), ..PodRoute::plain(everything, None) });
        Some(link)
    });
    let error = add(&lab, Tunnel { interface: None, overhead: Some(50) }).await.expect_err("no default route");
    assert_eq!(error.class().cni_code(), 7, "{error}");
    assert!(error.to_string().contains("no default route in the table main, only in 100"), "{error}");
    uplink(&lab, "tiny", 71, 100, Some(1));
    let error = add(&lab, Tunnel { interface: None, overhead: Some(50) }).await.expect_err("nothing is left");
    assert!(error.to_string().contains("tiny has 100 bytes"), "{error}");
}

/// With OVN: the interface and the type of the tunnels are those of the chassis, unless the configuration says otherwise.
#[tokio::test(start_paused = true)]
async fn with_ovn_it_is_what_the_tunnels_of_the_chassis_leave() {
    let lab = Lab::warm_with(LabEngine::Ovn).await;
    uplink(&lab, "default", 70, 1500, Some(10));
    uplink(&lab, "under", 71, 9000, None);
    let recorded = Tunnel { interface: None, overhead: None };
    let refused = async |expected: &str| {
        let error = add(&lab, recorded.clone()).await.expect_err(expected);
        assert_eq!(error.class().cni_code(), 7, "{error}");
        assert!(error.to_string().contains(expected), "{error}");
        assert_eq!((lab.claims().len(), lab.pod_ports().len()), (0, 0), "{error}");
    };
    refused("ovn-encap-type is not set").await;
    lab.record_tunnel("geneve", "192.0.2.7");
    refused("tunnels end at 192.0.2.7, and no interface").await;
    lab.kernel.damage(&Netns::Own, "under", |mut link| {
        link.link.addresses.push("192.0.2.7/24".parse().expect("valid"));
        Some(link)
    });
    let default = "default".parse().ok();
    for (tunnel, expected) in [
        (recorded.clone(), 8942),
        (Tunnel { overhead: Some(100), ..recorded.clone() }, 8900),
        (Tunnel { interface: default, ..recorded.clone() }, 1442),
    ] {
        let attached = add(&lab, tunnel.clone()).await.expect("it can be known");
        assert_eq!(attached.mtu, expected, "{tunnel:?}");
        lab.del().await.expect("works");
    }
}
