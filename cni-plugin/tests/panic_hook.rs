//! A panic prints exactly one error object on standard output and ends with exit code 1.
//!
//! A binary of its own: the test starts its own program a second time, and there the panic hook is that of the plugin.
//! Lines without a JSON document are those of the test harness.

#![expect(clippy::panic, reason = "it is about panics")]

use std::process::{Command, Stdio};

use serde_json::Value;

const ALONE: &str = "ATOLL_TEST_PANICS";

#[test]
fn a_panic_is_one_error_object() {
    if std::env::var_os(ALONE).is_some() {
        atoll_cni_plugin::panic_hook::install();
        atoll_cni_plugin::panic_hook::set_version(atoll_model::cni::version::Version::V0_4_0);
        panic!("the key was not found");
    }
    let this = std::env::current_exe().expect("it runs");
    let output = Command::new(this)
        .args(["--exact", "a_panic_is_one_error_object", "--nocapture", "--test-threads=1"])
        .env(ALONE, "1")
        .stdin(Stdio::null())
        .output()
        .expect("it starts");
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let documents: Vec<Value> =
        text.lines().filter_map(|line| serde_json::from_str(&line[line.find('{')?..]).ok()).collect();
    let [document] = documents.as_slice() else { panic!("{text}") };
    assert_eq!((&document["code"], &document["cniVersion"]), (&199.into(), &"0.4.0".into()));
    assert!(document["msg"].as_str().is_some_and(|msg| msg.contains("defect") && !msg.contains("not found")), "{text}");
    assert!(document["details"].as_str().is_some_and(|details| details.contains("panic_hook.rs")), "{text}");
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
}
