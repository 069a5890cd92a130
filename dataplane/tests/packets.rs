//! Packets through a real kernel: who reaches whom, and who does not.

mod lab;

use lab::*;

#[test]
fn pods_of_a_tenant_reach_each_other_their_gateway_and_the_outside() {
    let lab = Lab::start(provider());
    let red = lab.tenant(1);
    let (a, b) = (lab.pod(red, 1), lab.pod(red, 2));
    assert_eq!(lab.plane().report().unsupported.len(), 0, "{:#?}", lab.plane().report());
    for to in ["10.9.0.102", "10.9.0.1", "100.64.0.6", "100.64.0.5", "203.0.113.2", "203.0.113.1"] {
        assert!(pings(&a, to), "{to}");
    }
    assert!(pings(&b, "203.0.113.1"));
}
