//! Every key, its bounds, and inputs that are not configurations.

use proptest::prelude::*;
use serde_json::json;

use super::*;

/// The smallest configuration there is.
fn least() -> Value {
    json!({ "etcd": { "endpoints": ["http://127.0.0.1:2379"] },
            "controller": { "endpoints": ["http://127.0.0.1:8181/midonet-api"] } })
}

/// `least`, with `value` at a path like `cluster.mtu`.
fn with(path: &str, value: Value) -> Value {
    let mut config = least();
    let mut place = &mut config;
    for key in path.split('.') {
        place = &mut place[key];
    }
    *place = value;
    config
}

/// The example of the documentation: every key there is.
fn full() -> Value {
    let text = include_str!("../../../../docs/configuration.md");
    let start = text.find("```json\n").expect("an example") + "```json\n".len();
    let end = text[start..].find("```").expect("its end") + start;
    serde_json::from_str(&text[start..end]).expect("the example is JSON")
}

#[test]
fn defaults_are_filled_in() {
    insta::assert_debug_snapshot!(Config::parse(&least()).expect("valid"));
}

#[test]
fn the_documented_example_is_read_wholly() {
    insta::assert_debug_snapshot!(Config::parse(&full()).expect("valid"));
}

#[test]
fn keystone_takes_an_application_credential_or_the_user() {
    let mut config = least();
    config["controller"]["keystone"] = json!({
        "endpoints": ["https://127.0.0.1:5000/v3/"], "userDomainName": "people",
        "applicationCredential": { "id": "4f", "secretFile": "/etc/atoll/secret" } });
    let keystone = Config::parse(&config).expect("valid").controller.keystone.expect("given");
    assert_eq!(keystone.endpoints, ["https://127.0.0.1:5000/v3"]);
    assert_eq!(keystone.user_domain, KeystoneDomain::Name("people".to_owned()));
    assert_eq!(keystone.project_domain, KeystoneDomain::Id("default".to_owned()));
    assert_eq!(keystone.application_credential, Some(("4f".to_owned(), "/etc/atoll/secret".into())));
    config["controller"]["keystone"]["applicationCredential"] = Value::Null;
    Config::parse(&config).expect_err("there is neither a user nor a credential");
    config["controller"]["username"] = json!("admin");
    config["controller"]["passwordFile"] = json!("/etc/atoll/password");
    Config::parse(&config).expect("valid");
}

#[test]
fn wrong_values_name_key_value_and_expectation() {
    let cases = [
        ("etcd", json!("http://x")),
        ("etcd.endpoints", json!([])),
        ("etcd.endpoints", json!("http://127.0.0.1:2379")),
        ("etcd.endpoints", json!(["http://127.0.0.1:2379", 7])),
        ("etcd.endpoints", json!(["127.0.0.1:2379"])),
        ("etcd.endpoints", json!(["http://127.0.0.1:2379/path"])),
        ("etcd.endpoints", json!(["http://127.0.0.1:99999"])),
        ("etcd.endpoints", json!(["http://root:hunter2@127.0.0.1:2379"])),
        ("etcd.prefix", json!("atoll")),
        ("etcd.prefix", json!("/atoll/")),
        ("etcd.cert", json!("/c.pem")),
        ("etcd.key", json!("/k.pem")),
        ("etcd.ca", json!("ca.pem")),
        ("controller.endpoints", json!(["ftp://127.0.0.1"])),
        ("controller.version", json!("6")),
        ("controller.version", json!(5)),
        ("controller.username", json!("admin")),
        ("controller.passwordFile", json!("/pw")),
        ("controller.cert", json!("/c.pem")),
        ("controller.key", json!("/k.pem")),
        ("controller.keystone", json!({ "endpoints": ["https://127.0.0.1:5000/v3"] })),
        ("controller.keystone", json!({ "applicationCredential": { "id": "a", "secretFile": "/s" } })),
        ("controller.keystone.applicationCredential", json!({ "id": "a" })),
        ("controller.keystone.applicationCredential", json!({ "secretFile": "/s" })),
        ("controller.keystone", json!({ "userDomainId": "a", "userDomainName": "b" })),
        ("cluster.addressing", json!("both")),
        ("cluster.podCidr", json!("10.0.0.1/8")),
        ("cluster.podCidr", json!("fd00::/48")),
        ("cluster.podCidr", json!("100.64.0.0/10")),
        ("cluster.podCidr", json!("0.0.0.0/0")),
        ("cluster.subnetPrefix", json!(31)),
        ("cluster.subnetPrefix", json!(8)),
        ("cluster.subnetPrefix", json!("24")),
        ("cluster.transitCidr", json!("100.64.0.0/31")),
        ("cluster.podCidr6", json!("10.0.0.0/8")),
        ("cluster.podCidr6", json!("fd00::1/48")),
        ("cluster.podCidr6", json!("fd64::/64")),
        ("cluster.transitCidr6", json!("fd65::/64")),
        ("cluster.subnetPrefix6", json!(64)),
        ("cluster.ipFamilies", json!(["IPv6"])),
        ("cluster.ipFamilies", json!(["IPv6", "IPv4"])),
        ("cluster.serviceCidr", json!("10.96.0.1/12")),
        ("cluster.serviceCidr", json!("10.200.0.0/16")),
        ("cluster.serviceCidr", json!("0.0.0.0/0")),
        ("cluster.providerRouter", json!("mine")),
        ("tenant.from", json!("label")),
        ("tenant.default", json!("a/b")),
        ("nodeName", json!("-")),
        ("engine", json!("ovn")),
        ("hostId", json!("node 1")),
        ("hostId", json!(7)),
        ("mtu", json!(67)),
        ("mtu", json!(-1)),
        ("mtu", json!(1450.5)),
        ("mtu", json!("1450")),
        ("mtu", json!("Auto")),
        ("tunnel.type", json!("wireguard")),
        ("tunnel.interface", json!("a/b")),
        ("tunnel.overhead", json!(1001)),
        ("tunnel", json!(7)),
        ("log.maxMegabytes", json!(0)),
        ("log.keep", json!(-1)),
        ("subnet", json!("first")),
        ("subnet", json!(2)),
        ("routes", json!({})),
        ("routes", json!(["10.0.0.0/8"])),
        ("routes", json!([{ "gw": "10.0.0.1" }])),
        ("routes", json!([{ "dst": "10.0.0.0/8" }, { "dst": "10.0.0.0/8", "gw": "::1" }])),
        ("routes", json!([{ "dst": "10.0.0.0/8", "mtu": 67 }])),
        ("routes", json!([{ "dst": "10.0.0.0/8", "advmss": 0 }])),
        ("routes", json!([{ "dst": "10.0.0.0/8", "priority": -1 }])),
        ("routes", json!([{ "dst": "10.0.0.0/8", "table": 0 }])),
        ("routes", json!([{ "dst": "10.0.0.0/8", "scope": 256 }])),
        ("routes", json!([{ "dst": "10.0.0.0/8", "scope": 253, "gw": "10.0.0.1" }])),
        ("dns", json!([])),
        ("dns.nameservers", json!(["1.1.1.1", 8])),
        ("timeoutSeconds", json!(0)),
        ("quietPeriodSeconds", json!(3601)),
        ("cooldownSeconds", json!(-1)),
        ("status", json!("lenient")),
        ("log.level", json!("loud")),
        ("log.file", json!("cni.log")),
        ("runDir", json!("run")),
        ("stateDir", json!("/x\u{0}")),
        ("ipam", json!("host-local")),
        ("ipam.type", json!("host-local")),
        ("log.file", json!("x".repeat(200))),
    ];
    let mut errors = Vec::new();
    for (path, value) in cases {
        let error = Config::parse(&with(path, value.clone())).expect_err(&format!("{path} = {value}"));
        errors.push(error.to_string());
    }
    errors.push(Config::parse(&json!([])).expect_err("no object").to_string());
    let errors = errors.join("\n");
    assert!(!errors.contains("hunter2"), "a secret was shown");
    insta::assert_snapshot!(errors);
}

/// Its networks have the first address of the pool in their rows.
#[test]
fn the_pool_of_host_to_pod_addressing_is_the_default_with_ovn() {
    let mut config = least();
    (config["engine"], config["ovn"]) = (json!("ovn"), json!({ "northbound": ["tcp:192.0.2.1:6641"] }));
    config["cluster"] = json!({ "nodeSideCidr": "169.254.128.0/17" });
    Config::parse(&config).expect("it is the default");
    config["cluster"] = json!({ "nodeSideCidr": "169.254.192.0/18" });
    let error = Config::parse(&config).expect_err("another one").to_string();
    for part in ["cluster.nodeSideCidr", "169.254.192.0/18", "169.254.128.0/17, or nothing: with OVN"] {
        assert!(error.contains(part), "{part}: {error}");
    }
    config["engine"] = json!("midonet");
    Config::parse(&config).expect("it has no effect there");
}

#[test]
fn an_mtu_is_a_number_or_what_the_tunnel_leaves() {
    let mtu = |mtu: Value, tunnel: Value| {
        let mut config = least();
        (config["mtu"], config["tunnel"]) = (mtu, tunnel);
        Config::parse(&config).expect("valid").mtu
    };
    assert_eq!(mtu(Value::Null, Value::Null), Mtu::Fixed(1450));
    // Its agent records what its tunnels are.
    let mut ovn = least();
    (ovn["engine"], ovn["ovn"]) = (json!("ovn"), json!({ "northbound": ["tcp:192.0.2.1:6641"] }));
    let by_record = Mtu::Auto(Tunnel { interface: None, overhead: None });
    assert_eq!(Config::parse(&ovn).expect("valid").mtu, by_record);
    assert_eq!(mtu(json!(9000), json!({ "type": "gre" })), Mtu::Fixed(9000));
    for (tunnel, overhead) in [
        (json!(null), None),
        (json!({ "type": "vxlan" }), Some(50)),
        (json!({ "type": "geneve" }), Some(58)),
        (json!({ "type": "gre" }), Some(42)),
        (json!({ "type": "none" }), Some(0)),
        (json!({ "type": "gre", "overhead": 60 }), Some(60)),
        (json!({ "overhead": 70 }), Some(70)),
    ] {
        assert_eq!(mtu(json!("auto"), tunnel), Mtu::Auto(Tunnel { interface: None, overhead }));
    }
    let interface = IfName::new("bond0").ok();
    let auto = mtu(json!("auto"), json!({ "interface": "bond0" }));
    assert_eq!(auto, Mtu::Auto(Tunnel { interface, overhead: None }));
}

#[test]
fn null_is_absent_and_unknown_keys_are_ignored() {
    let expected = Config::parse(&least());
    let known = [
        "etcd.prefix",
        "etcd.ca",
        "controller.version",
        "controller.username",
        "cluster",
        "cluster.podCidr",
        "cluster.providerRouter",
        "tenant",
        "tenant.default",
        "nodeName",
        "hostId",
        "mtu",
        "tunnel",
        "tunnel.type",
        "subnet",
        "routes",
        "dns",
        "timeoutSeconds",
        "quietPeriodSeconds",
        "cooldownSeconds",
        "status",
        "log",
        "log.file",
        "runDir",
        "stateDir",
        "ipam",
        "ipam.type",
        "colour",
        "etcd.colour",
    ];
    for path in known {
        assert_eq!(Config::parse(&with(path, Value::Null)), expected, "{path}");
    }
    for path in ["colour", "etcd.colour", "capabilities", "prevResult", "name", "ipMasq"] {
        assert_eq!(Config::parse(&with(path, json!({ "type": 7 }))), expected, "{path}");
    }
    assert_eq!(Config::parse(&with("ipam", json!({}))), expected);
    assert_eq!(Config::parse(&with("ipam.type", json!("atoll"))), expected);
}

/// Any JSON, with our own keys among the names so that it reaches the depths.
fn anything() -> impl Strategy<Value = Value> {
    let keys = "etcd|controller|cluster|tenant|endpoints|prefix|podCidr|subnetPrefix|routes|dst|gw|mtu|dns|log|ipam|[a-z]{0,4}";
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
        "https?://[\\[\\]a-z0-9:/.@]{0,20}".prop_map(Value::from),
        "[0-9a-f.:]{1,15}/[0-9]{1,3}".prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 64, 8, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys, inner, 0..8).prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn each_key(value: &Value, path: &str, paths: &mut Vec<String>) {
    if let Value::Object(object) = value {
        for (key, value) in object {
            let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
            each_key(value, &path, paths);
            paths.push(path);
        }
    }
}

proptest! {
    #[test]
    fn no_json_panics(value in anything()) {
        drop(Config::parse(&value));
    }

    /// One key of the full example is replaced by an arbitrary value: there is no panic, and an error names that key or a
    /// related one, never another section.
    #[test]
    fn one_wrong_value_never_panics_and_is_blamed(value in anything(), which in any::<prop::sample::Index>()) {
        let mut config = full();
        let mut paths = Vec::new();
        each_key(&config, "", &mut paths);
        let path = which.get(&paths).clone();
        let mut place = &mut config;
        for key in path.split('.') {
            place = &mut place[key];
        }
        *place = value;
        if let Err(error) = Config::parse(&config) {
            let section = path.split('.').next().unwrap_or_default();
            prop_assert!(error.key.starts_with(section), "{path} was wrong, {} is blamed", error.key);
        }
    }
}
