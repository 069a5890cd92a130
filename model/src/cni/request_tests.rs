//! Every line of what a bad request gets, and what the real runtimes send.

use proptest::prelude::*;
use serde_json::json;

use super::*;

type Variables<'a> = &'a [(&'a str, &'a str)];

const ADD: [(&str, &str); 4] =
    [("CNI_COMMAND", "ADD"), ("CNI_CONTAINERID", "3f9a"), ("CNI_NETNS", "/run/netns/x"), ("CNI_IFNAME", "eth0")];

fn environment(variables: Variables<'_>) -> Result<Option<Environment>, RequestError> {
    Environment::read(|name| variables.iter().rev().find(|(n, _)| *n == name).map(|(_, value)| (*value).into()))
}

fn with(variables: &[(&'static str, &'static str)]) -> Vec<(&'static str, &'static str)> {
    ADD.into_iter().chain(variables.iter().copied()).collect()
}

fn request(variables: &[(&'static str, &'static str)], input: &Value) -> Result<Request, RequestError> {
    let environment = environment(&with(variables))?.expect("there is a command");
    Request::read(environment, input.to_string().as_bytes())
}

fn plain() -> Value {
    json!({ "cniVersion": "1.0.0", "name": "atoll", "type": "atoll" })
}

fn and(key: &str, value: Value) -> Value {
    let mut input = plain();
    input[key] = value;
    input
}

#[test]
fn the_environment_is_checked_before_anything_is_read() {
    let cases: [(Variables<'_>, u32, &str); 15] = [
        (&with(&[("CNI_IFNAME", "eth%d")]), 4, "env variable CNI_IFNAME is malformed: interface name \"eth%d\""),
        (
            &with(&[("CNI_IFNAME", "${IFNAME}")]),
            4,
            "env variable CNI_IFNAME is malformed: interface name \"${IFNAME}\"",
        ),
        (&with(&[("CNI_IFNAME", "all")]), 4, "env variable CNI_IFNAME is malformed: interface name \"all\""),
        (&[("CNI_COMMAND", "add")], 4, "unknown CNI_COMMAND: add"),
        (&[("CNI_COMMAND", "FOO")], 4, "unknown CNI_COMMAND: FOO"),
        (&[("CNI_COMMAND", "ADD")], 4, "required env variables [CNI_CONTAINERID,CNI_NETNS,CNI_IFNAME] missing"),
        (
            &[("CNI_COMMAND", "CHECK"), ("CNI_IFNAME", "e")],
            4,
            "required env variables [CNI_CONTAINERID,CNI_NETNS] missing",
        ),
        (
            &[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "/n")],
            4,
            "required env variables [CNI_CONTAINERID,CNI_IFNAME] missing",
        ),
        (&with(&[("CNI_CONTAINERID", "")]), 4, "required env variables [CNI_CONTAINERID] missing"),
        (&with(&[("CNI_CONTAINERID", "-a")]), 4, "env variable CNI_CONTAINERID is malformed: container id \"-a\""),
        (&with(&[("CNI_CONTAINERID", "a/b")]), 4, "env variable CNI_CONTAINERID is malformed: container id \"a/b\""),
        (&with(&[("CNI_IFNAME", "..")]), 4, "env variable CNI_IFNAME is malformed: interface name \"..\""),
        (&with(&[("CNI_IFNAME", "a b")]), 4, "env variable CNI_IFNAME is malformed"),
        (&with(&[("CNI_IFNAME", "a:b")]), 4, "env variable CNI_IFNAME is malformed"),
        (&with(&[("CNI_IFNAME", "sixteen_letters_")]), 4, "env variable CNI_IFNAME is malformed"),
    ];
    for (variables, code, expected) in cases {
        let error = environment(variables).expect_err(expected);
        assert_eq!(error.class().cni_code(), code, "{error}");
        assert!(error.to_string().starts_with(expected), "{error}");
    }
}

/// An attachment that an earlier version accepted must be removable.
#[test]
fn a_delete_takes_a_name_that_no_add_gets() {
    for command in ["DEL", "CHECK"] {
        let variables = with(&[("CNI_COMMAND", command), ("CNI_IFNAME", "eth%d")]);
        assert!(environment(&variables).expect("valid").is_some(), "{command}");
    }
}

#[test]
fn a_variable_that_is_not_needed_is_not_validated() {
    // As libcni asks for VERSION.
    let version = [("CNI_COMMAND", "VERSION"), ("CNI_NETNS", "dummy"), ("CNI_IFNAME", "a/b"), ("CNI_CONTAINERID", "")];
    assert_eq!(environment(&version).expect("valid").map(|e| e.command), Some(CniCommand::Version));
    let status = [("CNI_COMMAND", "STATUS"), ("CNI_CONTAINERID", "/"), ("CNI_ARGS", "broken")];
    assert_eq!(environment(&status).expect("valid").map(|e| (e.container, e.args)), Some((None, String::new())));
    // A DEL without a namespace, absent or empty.
    for netns in [&[("CNI_COMMAND", "DEL"), ("CNI_NETNS", "")][..], &[("CNI_COMMAND", "DEL")]] {
        let variables: Vec<_> = [("CNI_CONTAINERID", "a"), ("CNI_IFNAME", "e")].iter().chain(netns).copied().collect();
        assert_eq!(environment(&variables).expect("valid").map(|e| e.netns), Some(None));
    }
    assert_eq!(environment(&[]).expect("nothing is wrong"), None);
}

#[test]
fn bytes_that_are_no_text_are_refused() {
    use std::os::unix::ffi::OsStringExt;
    let get = |name: &str| match name {
        "CNI_NETNS" => Some(OsString::from_vec(vec![b'/', 0xff])),
        _ => ADD.iter().find(|(n, _)| *n == name).map(|(_, value)| (*value).into()),
    };
    assert!(matches!(Environment::read(get), Err(RequestError::NotText("CNI_NETNS"))));
}

#[test]
fn standard_input_is_checked_in_the_order_json_name_version() {
    let env = || environment(&ADD).expect("valid").expect("there is a command");
    for (text, code, expected) in [
        ("", 6, "standard input is not a JSON document"),
        ("{", 6, "standard input is not a JSON document"),
        ("{} {}", 6, "standard input is not a JSON document"),
        ("[]", 6, "standard input must be an object"),
        ("{}", 7, "configuration key \"name\" is missing"),
        (r#"{"name":""}"#, 7, "configuration key \"name\" is missing"),
        (r#"{"name":null}"#, 7, "configuration key \"name\" is missing"),
        (r#"{"name":7}"#, 6, "name must be a text"),
        (r#"{"name":"a/b","cniVersion":"9.9.9"}"#, 7, "configuration key \"name\" is wrong"),
        (r#"{"name":"a","cniVersion":9}"#, 6, "cniVersion must be a text"),
        (r#"{"name":"a","cniVersion":"9.9.9"}"#, 1, "incompatible CNI versions"),
        (r#"{"name":"a","cniVersion":"0.3.2"}"#, 1, "incompatible CNI versions"),
    ] {
        let error = Request::read(env(), text.as_bytes()).expect_err(text);
        assert_eq!(error.class().cni_code(), code, "{text}: {error}");
        assert!(error.to_string().starts_with(expected), "{text}: {error}");
    }
    let error = Request::read(env(), br#"{"name":"a","cniVersion":"9.9.9"}"#).expect_err("too new");
    assert_eq!(
        error.hint().as_deref(),
        Some(r#"config is "9.9.9", plugin supports [0.1.0 0.2.0 0.3.0 0.3.1 0.4.0 1.0.0 1.1.0]"#)
    );
}

#[test]
fn no_version_means_the_first() {
    for (input, version) in [
        (json!({ "name": "a" }), Version::V0_1_0),
        (json!({ "name": "a", "cniVersion": "" }), Version::V0_1_0),
        (json!({ "name": "a", "cniVersion": null }), Version::V0_1_0),
        (json!({ "name": "a", "cniVersion": "0.4.0" }), Version::V0_4_0),
    ] {
        assert_eq!(request(&[], &input).expect("valid").version, version, "{input}");
    }
    // The version of an error even if the name is invalid.
    for (stdin, version) in [
        (r#"{"cniVersion":"0.3.0","name":""}"#, Version::V0_3_0),
        (r#"{"name":""}"#, Version::V0_1_0),
        (r#"{"cniVersion":7}"#, Version::NEWEST),
        (r#"{"cniVersion":"9.9.9"}"#, Version::NEWEST),
        ("{", Version::NEWEST),
        ("[]", Version::NEWEST),
        // Broken or cut off behind it.
        (r#"{"args":{"a":[1]},"cniVersion":"0.4.0","name":"x""#, Version::V0_4_0),
        (r#"{"cniVersion":"0.3.1","etcd":{"endpoints":[tru"#, Version::V0_3_1),
        (r#"{"cniVersion":"0.3.1"} {}"#, Version::V0_3_1),
        (r#"{"name":"x","cniVer"#, Version::NEWEST),
    ] {
        assert_eq!(Request::version_of(stdin.as_bytes()), version, "{stdin}");
    }
}

#[test]
fn a_command_needs_the_version_that_brought_it() {
    for (command, version, served) in [
        ("CHECK", "0.3.1", false),
        ("CHECK", "0.4.0", true),
        ("GC", "1.0.0", false),
        ("GC", "1.1.0", true),
        ("STATUS", "1.0.0", false),
        ("ADD", "0.1.0", true),
        ("DEL", "", true),
        ("CHECK", "", false),
    ] {
        let answer = request(&[("CNI_COMMAND", command)], &and("cniVersion", json!(version)));
        assert_eq!(answer.is_ok(), served, "{command} {version}");
        if let Err(error) = answer {
            assert_eq!(error.class().cni_code(), 1);
        }
    }
}

#[test]
fn the_pod_is_read_from_the_arguments_of_containerd_and_podman() {
    let containerd =
        "K8S_POD_UID=7;IgnoreUnknown=1;K8S_POD_INFRA_CONTAINER_ID=3f9a;K8S_POD_NAMESPACE=red;K8S_POD_NAME=web";
    let pod = request(&[("CNI_ARGS", containerd)], &plain()).and_then(|r| r.pod()).expect("valid");
    let expected =
        Pod { namespace: Some(Namespace::new("red").expect("valid")), name: Some("web".into()), uid: Some("7".into()) };
    assert_eq!(pod, expected);
    let podman =
        request(&[("CNI_ARGS", "IgnoreUnknown=1;K8S_POD_NAME=box;")], &plain()).and_then(|r| r.pod()).expect("valid");
    assert_eq!(podman, Pod { name: Some("box".into()), ..Pod::default() });
    let bare = request(&[("CNI_ARGS", "K8S_POD_NAMESPACE=")], &plain()).and_then(|r| r.pod()).expect("valid");
    assert_eq!(bare, Pod::default());
    let long: &str = format!("K8S_POD_NAME={}", "x".repeat(254)).leak();
    for bad in [
        "K8S_POD_NAMESPACE",
        "=x",
        "A=1=2",
        "K8S_POD_NAMESPACE=a/b",
        "K8S_POD_NAMESPACE=-",
        "K8S_POD_NAME=a/b",
        "K8S_POD_NAME=a\u{1b}[2Jb",
        "K8S_POD_UID=a\nb",
        long,
    ] {
        let error = request(&[("CNI_ARGS", bad)], &plain()).and_then(|r| r.pod()).expect_err(bad);
        assert_eq!(error.class().cni_code(), 4, "{error}");
        assert!(error.to_string().contains("CNI_ARGS"), "{error}");
    }
}

#[test]
fn the_runtimes_name_servers_go_before_ours_in_any_case() {
    let ours = DnsConfig { nameservers: vec!["9.9.9.9".into()], ..DnsConfig::default() };
    let requested = json!({ "DNS": { "Servers": ["10.96.0.10"], "Searches": ["a.b"], "Options": null } });
    let dns = request(&[], &and("runtimeConfig", requested)).and_then(|r| r.dns(&ours)).expect("valid");
    assert_eq!(
        (dns.nameservers, dns.search, dns.options),
        (vec!["10.96.0.10".to_owned()], vec!["a.b".to_owned()], vec![])
    );
    for nothing in
        [json!(null), json!({}), json!({ "dns": null }), json!({ "dns": {} }), json!({ "dns": { "servers": [] } })]
    {
        let dns = request(&[], &and("runtimeConfig", nothing)).and_then(|r| r.dns(&ours)).expect("valid");
        assert_eq!(dns, ours);
    }
    for wrong in [json!({ "dns": [] }), json!({ "dns": { "Servers": "x" } }), json!({ "dns": { "options": [7] } })] {
        let error = request(&[], &and("runtimeConfig", wrong)).and_then(|r| r.dns(&ours)).expect_err("wrong");
        assert_eq!(error.class().cni_code(), 6);
    }
    for (wrong, what) in [
        (json!({ "dns": { "servers": ["dns.example"] } }), "dns.example"),
        (json!({ "dns": { "searches": ["a\nnameserver 192.0.2.1"] } }), "runtimeConfig.dns domain"),
        (json!({ "dns": { "options": ["a b"] } }), "a b"),
    ] {
        let error = request(&[], &and("runtimeConfig", wrong)).and_then(|r| r.dns(&ours)).expect_err(what);
        assert_eq!(error.class().cni_code(), 7);
        assert!(error.to_string().contains(what), "{error}");
    }
}

#[test]
fn an_add_behind_another_plugin_is_refused() {
    let error =
        request(&[], &and("prevResult", json!({ "ips": [] }))).and_then(|r| r.refuse_previous()).expect_err("2nd");
    assert_eq!(error.class().cni_code(), 2, "{error}");
    assert!(error.to_string().contains("prevResult") && error.to_string().contains("ips"), "{error}");
    for input in [plain(), and("prevResult", json!(null)), and("prevResult", json!({}))] {
        request(&[], &input).and_then(|r| r.refuse_previous()).expect("it is the first");
    }
}

proptest! {
    #[test]
    fn no_input_panics(args in ".{0,60}", stdin in prop::collection::vec(any::<u8>(), 0..80), name in "[a-z./]{0,5}") {
        let variables = [("CNI_ARGS", args.as_str()), ("CNI_CONTAINERID", name.as_str()), ("CNI_COMMAND", "ADD"),
                         ("CNI_NETNS", "/n"), ("CNI_IFNAME", name.as_str())];
        if let Ok(Some(environment)) = environment(&variables) {
            drop(Request::read(environment.clone(), &stdin));
            let request = Request::read(environment, plain().to_string().as_bytes()).expect("the input is fine");
            drop(request.pod());
            drop(request.config().map(|config| request.address_request(&config)));
        }
    }
}
