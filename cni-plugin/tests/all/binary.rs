//! The real binary, with each fault that occurs before a request to a server: exactly one JSON document with the right code,
//! the right exit code, no other output on standard output, and no files left in its directories.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use crate::ground::variables;
use serde_json::{Value, json};

const VERSIONS: [&str; 7] = ["0.1.0", "0.2.0", "0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"];

/// Runs the plugin in an empty environment but for `variables`.
fn run(variables: &[(&str, &str)], input: &[u8]) -> Output {
    start(&mut Command::new(env!("CARGO_BIN_EXE_atoll")), variables, input)
}

fn start(program: &mut Command, variables: &[(&str, &str)], input: &[u8]) -> Output {
    let mut child = program
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // It may not read its input at all.
    let _ = child.stdin.take().expect("a pipe").write_all(input);
    child.wait_with_output().expect("it ends")
}

/// The one error object of an answer.
#[track_caller]
fn refused(output: &Output, code: u64, when: &str) -> Value {
    let text = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    let mut documents = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    let document = documents.next().unwrap_or_else(|| panic!("{when}: nothing was printed")).expect("JSON");
    assert!(documents.next().is_none(), "{when}: more than one document: {text}");
    assert_eq!(document["code"], code, "{when}: {text}");
    assert!(document["msg"].as_str().is_some_and(|msg| !msg.is_empty()), "{when}: {text}");
    assert!(document["cniVersion"].is_string() && document["details"].is_string(), "{when}: {text}");
    assert_eq!(output.status.code(), Some(1), "{when}");
    document
}

type Variables<'a> = Vec<(&'a str, &'a str)>;

/// The directory of a call in which one thing is wrong.
struct Ground(crate::ground::Ground);

impl Ground {
    fn new() -> Self {
        Self(crate::ground::Ground::new())
    }

    fn path(&self, name: &str) -> String {
        self.0.path(name).display().to_string()
    }

    /// A configuration of which everything is right, with `value` at `key`.
    fn input(&self, key: &str, value: Value) -> Vec<u8> {
        let mut input = self.0.config();
        if !key.is_empty() {
            input[key] = value;
        }
        input.to_string().into_bytes()
    }

    fn plain(&self) -> Vec<u8> {
        self.input("", Value::Null)
    }

    fn files(&self) -> Vec<String> {
        fn walk(directory: &Path, found: &mut Vec<String>) {
            for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
                match entry.file_type() {
                    Ok(kind) if kind.is_dir() => walk(&entry.path(), found),
                    _ => found.push(entry.path().display().to_string()),
                }
            }
        }
        let mut found = Vec::new();
        for directory in ["run", "state"] {
            walk(&self.0.path(directory), &mut found);
        }
        found
    }
}

#[test]
fn version_needs_nothing() {
    let output = run(&[("CNI_COMMAND", "VERSION"), ("CNI_NETNS", "dummy"), ("CNI_IFNAME", "a/b")], b"");
    let answer: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    assert_eq!(answer["supportedVersions"], json!(VERSIONS));
    assert!(output.status.success() && output.stderr.is_empty());
}

#[test]
fn version_does_not_wait_for_input() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let mut child = Command::new(env!("CARGO_BIN_EXE_atoll"))
        .env_clear()
        .env("CNI_COMMAND", "VERSION")
        .stdin(reader)
        .stdout(Stdio::null())
        .spawn()
        .expect("it starts");
    assert!(child.wait().expect("it ends although its input is open").success());
    drop(writer);
}

#[test]
fn started_by_hand_it_introduces_itself() {
    let output = run(&[], b"");
    assert!(output.status.success() && output.stdout.is_empty());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&format!("CNI protocol versions supported: {}", VERSIONS.join(", "))), "{text}");
}

#[test]
fn a_fault_of_a_request_is_reported_once_and_leaves_nothing() {
    let ground = Ground::new();
    let file = ground.path("file");
    std::fs::write(&file, "").expect("works");
    let gone = ground.path("gone");
    let good = || variables("ADD", "/proc/self/ns/net");
    let set = |name: &'static str, value: &'static str| {
        let mut variables = good();
        variables.push((name, value));
        variables
    };
    let without = |name: &str| good().into_iter().filter(|(n, _)| *n != name).collect::<Vec<_>>();
    let cases: Vec<(&str, Variables<'_>, Vec<u8>, u64)> = vec![
        ("broken JSON", good(), b"{".to_vec(), 6),
        ("no input", good(), vec![], 6),
        ("two documents", good(), b"{}{}".to_vec(), 6),
        ("no object", good(), b"7".to_vec(), 6),
        ("bytes", good(), vec![0xff, 0xfe], 6),
        ("no container", without("CNI_CONTAINERID"), ground.plain(), 4),
        ("no namespace", without("CNI_NETNS"), ground.plain(), 4),
        ("no interface", without("CNI_IFNAME"), ground.plain(), 4),
        ("a bad container", set("CNI_CONTAINERID", "../x"), ground.plain(), 4),
        ("a bad interface", set("CNI_IFNAME", "sixteen_letters_"), ground.plain(), 4),
        ("a template as interface", set("CNI_IFNAME", "eth%d"), ground.plain(), 4),
        ("a variable as interface", set("CNI_IFNAME", "${IFNAME}"), ground.plain(), 4),
        ("host ports", good(), ground.input("runtimeConfig", json!({ "portMappings": [{ "hostPort": 80 }] })), 2),
        ("ranges", good(), ground.input("runtimeConfig", json!({ "ipRanges": [[{ "subnet": "10.9.9.0/24" }]] })), 2),
        ("a mistyped annotation", good(), annotation(&ground), 7),
        ("a route into the pod", good(), ground.input("routes", json!([{ "dst": "127.0.0.0/8" }])), 7),
        ("a name server that is a name", good(), ground.input("dns", json!({ "nameservers": ["dns.example"] })), 7),
        ("a STATUS of it", variables("STATUS", ""), ground.input("routes", json!([{ "dst": "127.0.0.0/8" }])), 7),
        ("an unknown command", set("CNI_COMMAND", "add"), ground.plain(), 4),
        ("bad arguments", set("CNI_ARGS", "K8S_POD_NAMESPACE"), ground.plain(), 4),
        ("a bad pod namespace", set("CNI_ARGS", "K8S_POD_NAMESPACE=a/b"), ground.plain(), 4),
        ("an unknown version", good(), ground.input("cniVersion", json!("9.9.9")), 1),
        ("a version that is no text", good(), ground.input("cniVersion", json!(1)), 6),
        ("no name", good(), ground.input("name", json!("")), 7),
        ("a bad name", good(), ground.input("name", json!("a/b")), 7),
        ("a wrong type", good(), ground.input("mtu", json!("1450")), 7),
        ("a wrong section", good(), ground.input("etcd", json!([])), 7),
        ("a foreign address manager", good(), ground.input("ipam", json!({ "type": "host-local" })), 7),
        ("a certificate that is not there", good(), certificate(&ground), 7),
        ("a host id that can be none", good(), ground.input("hostId", json!("node 1")), 7),
        ("a host id of another engine", good(), ground.input("hostId", json!("node-1.example")), 7),
        ("an address that is none", set("CNI_ARGS", "IP=10.0.0"), ground.plain(), 4),
        ("a MAC of a group", set("CNI_ARGS", "MAC=01:00:5e:00:00:01"), ground.plain(), 4),
        ("an address that is no text", good(), ground.input("runtimeConfig", json!({ "IPs": [7] })), 7),
        ("an IPv6 address that is none", set("CNI_ARGS", "IP=fd00::7/129"), ground.plain(), 4),
        ("the runtime's own namespace", good(), ground.plain(), 8),
        ("a namespace that is a file", variables("ADD", &file), ground.plain(), 8),
        ("a namespace that is not there", variables("ADD", &gone), ground.plain(), 8),
        ("a DEL of the runtime's own namespace", variables("DEL", "/proc/self/ns/net"), ground.plain(), 8),
        ("a DEL with a broken configuration", variables("DEL", ""), ground.input("etcd", json!(7)), 7),
    ];
    for (when, variables, input, code) in cases {
        let error = refused(&run(&variables, &input), code, when).to_string();
        assert!(!error.contains('\n'), "{when}: {error}");
        assert_eq!(ground.files(), Vec::<String>::new(), "{when}: something was left");
    }
}

fn annotation(ground: &Ground) -> Vec<u8> {
    ground.input("runtimeConfig", json!({ "io.kubernetes.cri.pod-annotations": { "atoll.dev/ip": "10.0.0.1" } }))
}

/// A CA file that does not exist is a wrong setting, detected before a connection is made.
fn certificate(ground: &Ground) -> Vec<u8> {
    ground.input("etcd", json!({ "endpoints": ["https://127.0.0.1:9"], "ca": ground.path("no-ca.pem") }))
}

/// The engine knows which ids its hosts can have. What needs no host id works without a right one.
#[test]
fn a_host_id_that_the_engine_cannot_have_is_refused_with_the_remedy() {
    let ground = Ground::new();
    let input = ground.input("hostId", json!("node-1.example"));
    let expected = "controller: host node-1.example: the id of a MidoNet host is a UUID";
    let remedy =
        "set the host's id to the one that MidoNet's agent has written to /etc/midonet_host_id.properties on it";
    for (command, code) in [("ADD", 7), ("STATUS", 50)] {
        let error = refused(&run(&variables(command, "/proc/self/ns/net"), &input), code, command);
        let whole = format!("{} {}", error["msg"], error["details"]);
        assert!(whole.contains(expected) && whole.contains(remedy), "{command}: {whole}");
    }
    let output = run(&variables("DEL", ""), &input);
    assert!(output.status.success(), "{output:?}");
}

#[test]
fn the_version_of_the_request_is_the_version_of_the_error() {
    let ground = Ground::new();
    for version in VERSIONS {
        let mut input: Value = serde_json::from_slice(&ground.input("mtu", json!(1))).expect("JSON");
        input["cniVersion"] = version.into();
        let output = run(&variables("ADD", "/proc/self/ns/net"), input.to_string().as_bytes());
        assert_eq!(refused(&output, 7, version)["cniVersion"], version);
    }
}

/// Also if the variables are wrong, which are validated first, and if standard input is cut off.
#[test]
fn the_version_is_used_wherever_it_can_be_read() {
    let ground = Ground::new();
    for version in VERSIONS {
        let mut input: Value = serde_json::from_slice(&ground.plain()).expect("JSON");
        input["cniVersion"] = version.into();
        let whole = input.to_string();
        let mut wrong = variables("ADD", "/proc/self/ns/net");
        wrong.push(("CNI_IFNAME", "a b"));
        assert_eq!(refused(&run(&wrong, whole.as_bytes()), 4, version)["cniVersion"], version);
        assert_eq!(refused(&run(&[("CNI_COMMAND", "FOO")], whole.as_bytes()), 4, version)["cniVersion"], version);
        let cut = format!("{{\"cniVersion\":\"{version}\",\"name\":\"net\",\"etcd\":{{\"end");
        let good = variables("ADD", "/proc/self/ns/net");
        assert_eq!(refused(&run(&good, cut.as_bytes()), 6, version)["cniVersion"], version);
    }
}

/// A caller that neither writes nor closes is not waited for when its variables are wrong already.
#[test]
fn wrong_variables_do_not_wait_for_input() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let child = Command::new(env!("CARGO_BIN_EXE_atoll"))
        .env_clear()
        .env("CNI_COMMAND", "FOO")
        .stdin(reader)
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let output = child.wait_with_output().expect("it ends although its input is open");
    refused(&output, 4, "an unknown command");
    drop(writer);
}

/// An existing pod must be removable under any configuration for new pods.
#[test]
fn del_does_not_validate_what_is_for_new_pods() {
    let ground = Ground::new();
    let mut variables = variables("DEL", "");
    variables.push(("CNI_IFNAME", "eth%d"));
    let output = run(&variables, &ground.input("routes", json!([{ "dst": "127.0.0.0/8" }])));
    assert!(output.status.success(), "{output:?}");
}

/// Without descriptors, memory or room for a thread a call reports that, in the caller's version: never a defect of the
/// plugin, and never less than one document. A limit that does not affect the call changes nothing.
#[test]
fn a_full_machine_is_reported_as_one() {
    let ground = Ground::new();
    let list = json!([]);
    let mut reported = std::collections::BTreeSet::new();
    for verb in ["ADD", "DEL", "GC", "STATUS"] {
        let input = ground.input("cni.dev/valid-attachments", list.clone());
        let netns = if verb == "ADD" { "/proc/self/ns/net" } else { "" };
        let free = code(&run(&variables(verb, netns), &input));
        let descriptors = (4..17).map(|n| format!("--nofile={n}"));
        let memory = (12..72).step_by(4).map(|n| format!("--as={n}000000"));
        for limit in descriptors.chain(memory) {
            let limited = |variables: &[(&str, &str)]| {
                let program = [&limit, env!("CARGO_BIN_EXE_atoll")];
                start(atoll_testkit::program::command("prlimit").args(program), variables, &input)
            };
            // If the program cannot be loaded, there is no output to check.
            if !limited(&[("CNI_COMMAND", "VERSION")]).status.success() {
                continue;
            }
            let output = limited(&variables(verb, netns));
            let (when, text) = (format!("{verb} {limit}"), String::from_utf8_lossy(&output.stdout).into_owned());
            let code = code(&output);
            assert!(code == free || code == Some(11) || code == Some(50), "{when}: {output:?}");
            assert!(!text.contains("report") && !text.contains("defect"), "{when}: {text}");
            assert!(text.is_empty() || text.contains("\"cniVersion\":\"1.1.0\""), "{when}: {text}");
            if text.contains("try again") {
                reported.insert((verb, limit.split('=').next().unwrap_or_default().to_owned()));
            }
        }
    }
    for verb in ["ADD", "DEL", "GC"] {
        for limit in ["--nofile", "--as"] {
            assert!(reported.contains(&(verb, limit.to_owned())), "{verb} {limit} is no hindrance: {reported:?}");
        }
    }
}

/// The code of an answer; 0: it succeeded.
fn code(output: &Output) -> Option<u64> {
    if output.status.success() {
        return Some(0);
    }
    serde_json::from_slice::<Value>(&output.stdout).ok()?["code"].as_u64()
}

/// DEL of an unknown attachment while all servers are down: it is recorded, and succeeds.
#[test]
fn del_succeeds_although_etcd_is_down() {
    let ground = Ground::new();
    let output = run(&variables("DEL", ""), &ground.plain());
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.is_empty(), "a DEL prints nothing");
    let files = ground.files();
    assert_eq!(files.iter().filter(|file| file.contains("/tombstones/")).count(), 1, "{files:?}");
}

/// A configuration in which a file of a secret cannot be used, and what is wrong with it.
fn unusable(ground: &Ground) -> Vec<(&'static str, Vec<u8>)> {
    let pem = ground.path("is.pem");
    std::fs::write(&pem, "no certificate").expect("works");
    let open = ground.path("open.key");
    std::fs::write(&open, "no key").expect("works");
    std::fs::set_permissions(&open, std::os::unix::fs::PermissionsExt::from_mode(0o644)).expect("works");
    let (none, directory) = (ground.path("none"), ground.path("directory"));
    std::fs::create_dir_all(&directory).expect("works");
    let etcd = |ca: &str, cert: &str, key: &str| json!({ "endpoints": ["https://127.0.0.1:9"], "ca": ca, "cert": cert, "key": key });
    let controller = |ca: &str, cert: &str, key: &str| json!({ "endpoints": ["https://127.0.0.1:9/api"], "ca": ca, "cert": cert, "key": key });
    let password =
        |file: &str| json!({ "endpoints": ["http://127.0.0.1:9/api"], "username": "admin", "passwordFile": file });
    vec![
        ("etcd's CA is missing", ground.input("etcd", etcd(&none, &pem, &pem))),
        ("etcd's CA is a directory", ground.input("etcd", etcd(&directory, &pem, &pem))),
        ("etcd's CA is none", ground.input("etcd", json!({ "endpoints": ["https://127.0.0.1:9"], "ca": pem }))),
        ("etcd's certificate is missing", ground.input("etcd", etcd(&pem, &none, &pem))),
        ("etcd's key is open", ground.input("etcd", etcd(&pem, &pem, &open))),
        ("the controller's CA is missing", ground.input("controller", controller(&none, &pem, &pem))),
        ("the controller's key is open", ground.input("controller", controller(&pem, &pem, &open))),
        ("the password is missing", ground.input("controller", password(&none))),
        ("the password is open", ground.input("controller", password(&open))),
        ("the log is a directory", ground.input("log", json!({ "file": directory }))),
    ]
}

/// A file of a secret that cannot be used is like a server that is away: DEL does what is local, and in time.
#[test]
fn del_needs_no_secret() {
    let ground = Ground::new();
    for (when, input) in unusable(&ground) {
        let begun = std::time::Instant::now();
        let output = run(&variables("DEL", ""), &input);
        assert!(output.status.success() && output.stdout.is_empty(), "{when}: {output:?}");
        assert!(begun.elapsed() < std::time::Duration::from_secs(2), "{when}: it took {:?}", begun.elapsed());
        let local_tombstones: Vec<_> =
            ground.files().into_iter().filter(|file| file.contains("/tombstones/")).collect();
        assert_eq!(local_tombstones.len(), 1, "{when}: {local_tombstones:?}");
        std::fs::remove_file(&local_tombstones[0]).expect("works");
    }
}

/// GC reports what it could not read, as with a server that is down; CHECK compares the state of this machine.
#[test]
fn gc_and_check_need_no_secret() {
    let ground = Ground::new();
    for (when, input) in unusable(&ground) {
        let mut input: Value = serde_json::from_slice(&input).expect("JSON");
        input["cni.dev/valid-attachments"] = json!([]);
        let gc = run(&variables("GC", ""), input.to_string().as_bytes());
        refused(&gc, 11, when);
        let interface = json!({ "name": "none0", "mac": "02:00:00:00:00:01", "sandbox": "/proc/self/ns/net" });
        input["prevResult"] = json!({ "cniVersion": "1.1.0", "interfaces": [interface], "ips": [] });
        let mut here = variables("CHECK", "/proc/self/ns/net");
        here.retain(|(name, _)| *name != "CNI_IFNAME");
        here.extend([
            ("CNI_IFNAME", "none0"),
            ("CNI_NETNS_OVERRIDE", "1"),
            ("CNI_ARGS", "K8S_POD_NAMESPACE=red;K8S_POD_NAME=web"),
        ]);
        let check = refused(&run(&here, input.to_string().as_bytes()), 104, when);
        assert!(check.to_string().contains("interface none0 is missing"), "{when}: {check}");
    }
}

/// A runtime that gives no list asks for nothing.
#[test]
fn gc_without_a_list_does_nothing() {
    let ground = Ground::new();
    let gc = run(&variables("GC", ""), &ground.plain());
    assert!(gc.status.success() && gc.stdout.is_empty(), "{gc:?}");
}

#[test]
fn status_checks_this_node_alone() {
    let ground = Ground::new();
    let ready = run(&variables("STATUS", ""), &ground.plain());
    assert!(ready.status.success() && ready.stdout.is_empty(), "{ready:?}");
    let controller =
        json!({ "endpoints": ["http://127.0.0.1:9"], "username": "admin", "passwordFile": ground.path("none") });
    refused(&run(&variables("STATUS", ""), &ground.input("controller", controller)), 50, "no password file");
    refused(&run(&variables("STATUS", ""), &ground.input("cniVersion", json!("1.0.0"))), 1, "too old for STATUS");
}
