//! Every object as the reference shows it, read and written back.

use std::path::Path;

use atoll_sdn_client::api::{self, *};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// Every fixture: name and text.
pub(crate) fn all() -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut fixtures: Vec<_> = std::fs::read_dir(folder)
        .expect("fixtures")
        .map(|entry| {
            let path = entry.expect("entry").path();
            let name = path.file_name().expect("name").to_string_lossy().into_owned();
            (name, std::fs::read(path).expect("text"))
        })
        .collect();
    fixtures.sort();
    fixtures
}

/// One fixture.
pub(crate) fn text(name: &str) -> Vec<u8> {
    all().into_iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no fixture {name}")).1
}

/// No field that was read is lost, and no field is invented.
fn round_trip<T: DeserializeOwned + Serialize + PartialEq + std::fmt::Debug>(name: &str, text: &[u8]) {
    let object: T = api::read(text).unwrap_or_else(|error| panic!("{name}: {error}"));
    let written = api::full(&object);
    let original: Value = serde_json::from_slice(text).expect("JSON");
    let original = original.as_object().expect("object");
    for (key, value) in original {
        assert_eq!(written.get(key), Some(value), "{name}: {key}");
    }
    for (key, value) in &written {
        let unset = value.is_null() || *value == Value::Bool(false);
        assert!(original.contains_key(key) || unset, "{name}: {key} was made up: {value}");
    }
    let again: T = api::read(Value::Object(written).to_string().as_bytes()).expect("own text");
    assert_eq!(again, object, "{name}");
}

#[test]
fn every_object_survives_the_round_trip() {
    let mut kinds = std::collections::BTreeSet::new();
    for (name, text) in all() {
        let kind = name.split('.').next().expect("kind").to_owned();
        match kind.as_str() {
            "application" => round_trip::<Application>(&name, &text),
            "token" => round_trip::<Token>(&name, &text),
            "system_state" => round_trip::<SystemState>(&name, &text),
            "tenant" => round_trip::<Tenant>(&name, &text),
            "router" => round_trip::<Router>(&name, &text),
            "bridge" => round_trip::<Bridge>(&name, &text),
            "port" => round_trip::<Port>(&name, &text),
            "binding" => round_trip::<HostInterfacePort>(&name, &text),
            "route" => round_trip::<Route>(&name, &text),
            "chain" => round_trip::<Chain>(&name, &text),
            "rule" => round_trip::<Rule>(&name, &text),
            "port_group" => round_trip::<PortGroup>(&name, &text),
            "port_group_port" => round_trip::<PortGroupPort>(&name, &text),
            "ip_addr_group" => round_trip::<IpAddrGroup>(&name, &text),
            "ip_addr_group_addr" => round_trip::<IpAddrGroupAddr>(&name, &text),
            "host" => round_trip::<Host>(&name, &text),
            "interface" => round_trip::<Interface>(&name, &text),
            "tunnel_zone" => round_trip::<TunnelZone>(&name, &text),
            "tunnel_zone_host" => round_trip::<TunnelZoneHost>(&name, &text),
            "mac_port" => round_trip::<MacPort>(&name, &text),
            "ip4_mac" => round_trip::<Ip4Mac>(&name, &text),
            "error" => round_trip::<ErrorBody>(&name, &text),
            other => panic!("a fixture of an unknown kind: {other}"),
        }
        kinds.insert(kind);
    }
    assert_eq!(kinds.len(), 22, "every kind of object has a fixture: {kinds:?}");
}

#[test]
fn a_key_that_occurs_twice_counts_the_last_time() {
    let port: Port = api::read(br#"{"type":"Router","type":"Bridge"}"#).expect("duplicates are read");
    assert_eq!(port.kind.as_deref(), Some("Bridge"));
}

#[test]
fn numbers_and_flags_may_be_text_and_null_is_zero() {
    let text = br#"{"networkLength":" 24 ","vlanId":"","active":"TRUE","adminStateUp":null,"tunnelKey":null}"#;
    let port: Port = api::read(text).expect("lenient");
    assert_eq!((port.network_length, port.vlan_id, port.active), (Some(24), None, true));
    assert!(!port.admin_state_up.0, "an explicit null is false, as every null flag of the server");
    let port: Port = api::read(b"{}").expect("empty");
    assert!(port.admin_state_up.0, "an absent one is the default");
    let route: Route = api::read(br#"{"weight":null}"#).expect("lenient");
    assert_eq!(route.weight, 0);
    for wrong in [r#"{"vlanId":"x"}"#, r#"{"vlanId":1.5}"#, r#"{"vlanId":[]}"#, r#"{"vlanId":99999999999}"#] {
        assert!(api::read::<Port>(wrong.as_bytes()).is_err(), "{wrong}");
    }
    for wrong in [r#"{"active":"maybe"}"#, r#"{"active":1}"#, r#"{"id":"x"}"#, "[]", ""] {
        assert!(api::read::<Port>(wrong.as_bytes()).is_err(), "{wrong}");
    }
}

#[test]
fn a_request_omits_absent_fields() {
    let mut router = Router { name: Some("r".to_owned()), ..Router::default() };
    assert_eq!(Value::Object(api::sparse(&router)).to_string(), r#"{"name":"r"}"#);
    router.admin_state_up.0 = false;
    assert_eq!(Value::Object(api::sparse(&router)).to_string(), r#"{"adminStateUp":false,"name":"r"}"#);
    assert!(api::full(&router).contains_key("inboundFilterId"), "an answer has every key");
}

#[test]
fn a_token_is_not_printed() {
    let token: Token = api::read(&text("token.1.9.json")).expect("token");
    assert!(!format!("{token:?}").contains("999888777666"));
}
