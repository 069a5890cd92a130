//! The list of a GC: which attachments of the network are still wanted. CNI SPEC 1.1.0, section "GC".
//!
//! # Guarantees
//! - A list that is missing or `null` is an error, because "no attachments" and "unknown" cannot be distinguished.
//! - One unreadable element makes the whole list an error, because its attachment would be removed.

use std::collections::BTreeSet;

use super::request::{Request, RequestError};
use crate::ids::{ContainerId, IfName};

/// The key of the specification, and its misspelt twin that libcni sends beside it.
const KEYS: [&str; 2] = ["cni.dev/valid-attachments", "cni.dev/attachments"];

const LIST: &str = "a list of objects with \"containerID\" and \"ifname\"";

impl Request {
    /// The attachments that must stay; none: there is no list, and nothing may be collected.
    pub fn valid_attachments(&self) -> Result<Option<BTreeSet<(ContainerId, IfName)>>, RequestError> {
        let mut valid: Option<BTreeSet<_>> = None;
        for key in KEYS {
            let Some(list) = self.input(key) else { continue };
            let wrong = || RequestError::Shape(key, LIST);
            // Both lists count: an attachment that either of them names stays.
            let valid = valid.get_or_insert_default();
            for attachment in list.as_array().ok_or_else(wrong)? {
                let text = |name: &str| super::request::any_case(attachment, name)?.as_str();
                let container = text("containerID").and_then(|id| ContainerId::new(id).ok()).ok_or_else(wrong)?;
                let interface = text("ifname").and_then(|name| IfName::new(name).ok()).ok_or_else(wrong)?;
                valid.insert((container, interface));
            }
        }
        Ok(valid)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::request::Environment;
    use super::*;

    fn request(key: &str, list: &Value) -> Request {
        let environment = Environment::read(|name| (name == "CNI_COMMAND").then(|| "GC".into()));
        let environment = environment.expect("valid").expect("a command");
        let mut input = json!({ "cniVersion": "1.1.0", "name": "net" });
        input[key] = list.clone();
        Request::read(environment, input.to_string().as_bytes()).expect("valid")
    }

    #[test]
    fn no_list_is_not_an_empty_list() {
        for key in KEYS {
            assert_eq!(request(key, &Value::Null).valid_attachments().expect("fine"), None);
            assert_eq!(request(key, &json!([])).valid_attachments().expect("fine"), Some(BTreeSet::new()));
        }
        assert_eq!(request("colour", &json!([])).valid_attachments().expect("fine"), None);
    }

    #[test]
    fn both_spellings_count_and_whatever_one_names_stays() {
        let one = |id: &str| json!({ "containerID": id, "ifname": "eth0" });
        for key in KEYS {
            let valid = request(key, &json!([one("a"), one("b"), one("a")])).valid_attachments().expect("fine");
            assert_eq!(valid.map(|valid| valid.len()), Some(2));
        }
        let environment = Environment::read(|name| (name == "CNI_COMMAND").then(|| "GC".into()));
        let input = json!({ "cniVersion": "1.1.0", "name": "net", KEYS[0]: [one("a")], KEYS[1]: [one("b")] });
        let request = Request::read(environment.expect("valid").expect("GC"), input.to_string().as_bytes());
        assert_eq!(request.expect("valid").valid_attachments().expect("fine").map(|valid| valid.len()), Some(2));
    }

    #[test]
    fn one_element_that_cannot_be_read_spoils_the_list() {
        let good = json!({ "containerID": "a", "ifname": "eth0" });
        for bad in [
            json!({}),
            json!([good, {}]),
            json!([good, "b"]),
            json!([{ "containerID": "", "ifname": "eth0" }]),
            json!([{ "containerID": "a", "ifname": "a/b" }]),
            json!([{ "containerID": 7, "ifname": "eth0" }]),
            json!("all"),
        ] {
            for key in KEYS {
                let error = request(key, &bad).valid_attachments().expect_err("wrong");
                assert!(error.to_string().contains(key), "{error}");
            }
        }
    }
}
