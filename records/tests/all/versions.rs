//! A record that an earlier version wrote is read, and written again without a loss: with a UUID as the id of a host, which
//! every host had before, and with an id of another form; without the name of an engine, which is MidoNet's then.

use atoll_records::{
    ClaimRecord, ClusterRecord, FIRST_ENGINE, NodeRecord, SubnetEntry, TombstoneRecord, decode, encode,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The ids of hosts that records have: MidoNet's, and those of an OVN chassis (its host name, a system id of a test bed).
const HOST_IDS: [&str; 3] = ["3f5e1b9a-0c5b-4f1e-9d2a-6a1f5e0c7b11", "node-1.example", "chassis:7/{a}"];

const ID: &str = "00000000-0000-0000-0000-000000000001";

fn node(host: &str) -> Value {
    json!({ "v": 1, "host_id": host, "machine_id": "m", "epoch": 3 })
}

fn claim(host: &str) -> Value {
    json!({
        "v": 1, "claim": ID, "tenant": "red", "incarnation": ID, "namespace": "red", "pod": "web-0",
        "attachment": { "node": "n1", "network": "atoll", "container": "c", "ifname": "eth0" },
        "addresses": [{ "ordinal": 1, "address": "10.128.0.5/24", "gateway": "10.128.0.1" }],
        "port": ID, "host_interface": "at0123456789ab", "mac": "02:00:00:00:00:01", "host_id": host, "since": 7,
    })
}

fn cluster(host: &str) -> Value {
    json!({
        "v": 1, "id": ID, "epoch": ID, "addressing": "unique", "pod_cidr": "10.128.0.0/9", "subnet_prefix": 24,
        "transit_cidr": "100.64.0.0/16", "node_side_cidr": "169.254.128.0/17", "provider_router": ID,
        "provider": { "uplinks": [
            { "address": "203.0.113.2/24", "gateway": "203.0.113.1", "host": host, "interface": "eth1" },
        ] },
    })
}

fn tombstone() -> Value {
    let attachment = &claim(HOST_IDS[0])["attachment"];
    json!({ "v": 1, "kind": "delete", "attachment": attachment, "port": ID, "not_before": 9, "since": 8, "note": "x" })
}

/// The same record with the name of an engine.
fn of(record: &Value, engine: &str) -> Value {
    let mut record = record.clone();
    record["engine"] = engine.into();
    record
}

/// The JSON of a record after it was read and written.
fn again<R: DeserializeOwned + Serialize>(json: &Value) -> Value {
    let record: R = decode(json.to_string().as_bytes()).unwrap_or_else(|error| panic!("{error}: {json}"));
    serde_json::from_slice(&encode(&record)).expect("JSON")
}

#[test]
fn a_host_id_of_any_form_is_read_and_written_as_it_is() {
    for host in HOST_IDS {
        assert_eq!(again::<NodeRecord>(&node(host)), node(host));
        assert_eq!(again::<ClaimRecord>(&claim(host)), claim(host));
        let cluster = of(&cluster(host), FIRST_ENGINE);
        assert_eq!(again::<ClusterRecord>(&cluster), cluster);
    }
}

/// The cluster's record names its engine from then on. Claims and tombstones of MidoNet stay as they are, byte for byte.
#[test]
fn a_record_that_names_no_engine_is_midonets() {
    let host = HOST_IDS[0];
    assert_eq!(FIRST_ENGINE, "midonet");
    assert_eq!(again::<ClusterRecord>(&cluster(host)), of(&cluster(host), "midonet"));
    for named in [of(&claim(host), "midonet"), claim(host)] {
        assert_eq!(again::<ClaimRecord>(&named), claim(host));
    }
    for named in [of(&tombstone(), "midonet"), tombstone()] {
        assert_eq!(again::<TombstoneRecord>(&named), tombstone());
    }
}

#[test]
fn another_engine_is_kept_in_every_record_that_needs_one() {
    for host in HOST_IDS {
        let (cluster, claim) = (of(&cluster(host), "ovn"), of(&claim(host), "ovn"));
        assert_eq!(again::<ClusterRecord>(&cluster), cluster);
        assert_eq!(again::<ClaimRecord>(&claim), claim);
    }
    let tombstone = of(&tombstone(), "ovn");
    assert_eq!(again::<TombstoneRecord>(&tombstone), tombstone);
}

#[test]
fn what_can_be_no_host_id_is_no_record() {
    for host in ["", "node 1", "node\n1", "node\u{0}", "\u{e4}", &"n".repeat(254)] {
        assert!(decode::<NodeRecord>(node(host).to_string().as_bytes()).is_err(), "{host:?}");
        assert!(decode::<ClaimRecord>(claim(host).to_string().as_bytes()).is_err(), "{host:?}");
    }
    assert!(decode::<NodeRecord>(node(&"n".repeat(253)).to_string().as_bytes()).is_ok());
}

/// The JSON of a subnet with one prefix is what it was before subnets could have two.
#[test]
fn the_prefixes_of_a_subnet_are_fields_of_it() {
    let subnet = |prefixes: Value| {
        let mut subnet = json!({ "ordinal": 1, "phase": "active", "later": 7 });
        for (key, value) in prefixes.as_object().into_iter().flatten() {
            subnet[key] = value.clone();
        }
        subnet
    };
    let [v4, v6] = [("10.128.3.0/24", "10.128.3.1"), ("fd00::/64", "fd00::1")];
    for (prefixes, families) in [
        (json!({ "cidr": v4.0, "gateway": v4.1 }), vec![true]),
        (json!({ "cidr": v6.0, "gateway": v6.1 }), vec![false]),
        (json!({ "cidr": v4.0, "gateway": v4.1, "cidr6": v6.0, "gateway6": v6.1 }), vec![true, false]),
    ] {
        let json = subnet(prefixes);
        let entry: SubnetEntry = serde_json::from_value(json.clone()).expect("a subnet");
        assert_eq!(entry.prefixes.iter().map(|prefix| prefix.cidr.is_ipv4()).collect::<Vec<_>>(), families);
        assert_eq!(serde_json::to_value(&entry).expect("JSON"), json);
    }
    for damaged in [
        json!({ "cidr": v4.0, "gateway": v6.1 }),
        json!({ "cidr": v4.0, "gateway": v4.1, "cidr6": v6.0 }),
        json!({ "cidr": v4.0, "gateway": v4.1, "cidr6": v4.0, "gateway6": v4.1 }),
        json!({ "cidr": v6.0, "gateway": v6.1, "cidr6": v6.0, "gateway6": v6.1 }),
        json!({}),
    ] {
        assert!(serde_json::from_value::<SubnetEntry>(subnet(damaged.clone())).is_err(), "{damaged}");
    }
}
