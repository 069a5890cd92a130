//! A pod gets exactly what it requests, or an error.

use atoll_cni_plugin::add::AddCall;
use atoll_cni_plugin::kernel::{Kernel, Netns};
use atoll_model::address_request::{AddressRequest, SubnetChoice};
use atoll_model::attachment::Mac;
use atoll_model::error::Classify;
use atoll_model::port_security::PortSecurity;

use crate::lab::{Lab, NETNS, attachment, del};

const MAC: Mac = Mac([2, 0, 0x5e, 0x10, 0, 9]);

async fn requesting(count: u32) -> Lab {
    let lab = Lab::warm().await;
    let subnet = lab.first_subnet();
    let addresses = (0..count).map(|n| subnet.nth(20 + n).expect("it is large enough").into()).collect();
    lab.requested.replace(AddressRequest { addresses, mac: Some(MAC), subnet: None });
    lab
}

#[tokio::test(start_paused = true)]
async fn addresses_and_mac_are_given_as_asked() {
    for count in [1, 2, 5] {
        let lab = requesting(count).await;
        lab.plan.reset();
        let attached = lab.add().await.expect("it can be met");
        let given: Vec<_> = attached.addresses.iter().map(|(address, _)| address.ip()).collect();
        assert_eq!((&given, attached.mac), (&lab.requested.borrow().addresses, MAC));
        let eth0 = lab.call().attachment.interface;
        let link = lab.kernel.inspect(&Netns::At(NETNS.into()), &eth0).await.expect("works").expect("there");
        let on_link: Vec<_> = link.addresses.iter().map(ipnetwork::IpNetwork::ip).collect();
        assert_eq!((on_link, link.mac), (given.clone(), Some(MAC)));
        // The first one is in the port, the others are seeds of the bridge, all with that MAC.
        let ports = lab.controller.dump().ports;
        let vif =
            ports.values().find_map(|port| port.vif_id.and_then(PortSecurity::from_vif_id)).expect("a pod's port");
        assert_eq!((vif.mac, vif.address.into()), (MAC, given[0]));
        let seeds: Vec<_> = given[1..].iter().map(|address| (*address, MAC)).collect();
        assert_eq!((lab.seeds(), lab.seeded_macs()), (seeds, usize::from(count > 1)));
        let requests = lab.plan.passed().iter().filter(|effect| effect.starts_with("controller: POST")).count();
        assert_eq!(requests, if count == 1 { 1 } else { count as usize + 1 }, "one address costs one request");
        // Again is the same, and DEL takes all along, also one that remembers nothing.
        assert_eq!(lab.add().await.expect("again"), attached);
        lab.forget();
        lab.del().await.expect("works");
        lab.assert_empty(&format!("{count} addresses"));
    }
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_met_is_refused_and_leaves_nothing() {
    let lab = requesting(2).await;
    let first = lab.add().await.expect("works");
    // Another pod requests one of the two, and a free one.
    lab.kernel.add_netns("/netns/second");
    let subnet = lab.first_subnet();
    let second = AddCall {
        attachment: attachment("second", "eth0"),
        sandbox: "/netns/second".to_owned(),
        requested: AddressRequest {
            addresses: vec![subnet.nth(40).expect("fits").into(), first.addresses[1].0.ip()],
            mac: None,
            subnet: None,
        },
        ..lab.call()
    };
    let before = (lab.etcd.dump(), lab.pod_ports(), lab.links(), lab.seeds());
    let error = lab.plugin().add(&second).await.expect_err("it is taken");
    assert!(error.to_string().contains(&first.addresses[1].0.ip().to_string()), "{error}");
    assert_eq!((lab.etcd.dump(), lab.pod_ports(), lab.links(), lab.seeds()), before, "all or nothing");
    for requested in [
        AddressRequest { addresses: vec![[192, 0, 2, 1].into()], ..AddressRequest::default() },
        AddressRequest { addresses: vec![subnet.network().into()], ..AddressRequest::default() },
        AddressRequest { subnet: Some(SubnetChoice::Ordinal(77)), ..AddressRequest::default() },
        AddressRequest { subnet: "192.0.2.0/24".parse().ok(), ..AddressRequest::default() },
    ] {
        let error = lab
            .plugin()
            .add(&AddCall { requested: requested.clone(), ..second.clone() })
            .await
            .expect_err("impossible");
        assert_ne!(error.class().cni_code(), 199, "{requested}: {error}");
        assert_eq!((lab.pod_ports(), lab.links()), (before.1.clone(), before.2.clone()), "{requested}");
    }
    // The same attachment with another address request is another request.
    lab.requested
        .replace(AddressRequest { addresses: vec![subnet.nth(50).expect("fits").into()], ..AddressRequest::default() });
    lab.add().await.expect_err("it has other addresses");
    assert_eq!(lab.links().len(), 2, "and keeps them");
    lab.plugin().del(&del(&second)).await.expect("works");
    lab.del().await.expect("works");
    lab.assert_empty("after all");
}
