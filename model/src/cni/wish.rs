//! What a caller asks of its interface: addresses and a MAC, from `CNI_ARGS`, `args.cni`, `runtimeConfig` or the pod's
//! annotations.
//!
//! Promise: a wish that cannot be met is an error that names it, never a substitute. So far none can be met, so that
//! each of them is refused; a caller that asks for nothing is served.

use serde_json::Value;

use super::request::{Request, RequestError, any_case};

/// The capability by which containerd and CRI-O pass on a pod's annotations.
const ANNOTATIONS: &str = "io.kubernetes.cri.pod-annotations";

impl Request {
    /// Refuses what cannot be done.
    pub fn refuse_wishes(&self) -> Result<(), RequestError> {
        match self.wish() {
            Ok(None) => Ok(()),
            Ok(Some((key, value, reason))) => {
                Err(RequestError::Unsupported { key, value: value.chars().take(80).collect(), reason })
            }
            Err(error) => Err(error),
        }
    }

    /// The first wish: where it was said, what it is, why it cannot be met.
    fn wish(&self) -> Result<Option<(String, String, &'static str)>, RequestError> {
        const FIXED: &str = "addresses and MACs cannot be chosen yet";
        for (key, value) in self.args()? {
            if matches!(key, "IP" | "MAC") && !value.is_empty() {
                return Ok(Some((format!("CNI_ARGS {key}"), value.to_owned(), FIXED)));
            }
        }
        let args = self.input("args").and_then(|args| any_case(args, "cni"));
        let annotations = self.runtime(ANNOTATIONS);
        let annotation = |key| annotations.and_then(|all| all.get(key));
        let places = [
            ("args.cni.ips", args.and_then(|cni| any_case(cni, "ips"))),
            ("args.cni.mac", args.and_then(|cni| any_case(cni, "mac"))),
            ("runtimeConfig.ips", self.runtime("ips")),
            ("runtimeConfig.mac", self.runtime("mac")),
            ("annotation atoll.dev/ips", annotation("atoll.dev/ips")),
            ("annotation atoll.dev/mac", annotation("atoll.dev/mac")),
            ("annotation atoll.dev/subnet", annotation("atoll.dev/subnet")),
        ];
        let said = places.into_iter().find_map(|(key, value)| Some((key, value.filter(|value| !is_empty(value))?)));
        if let Some((key, value)) = said {
            return Ok(Some((key.to_owned(), value.to_string(), FIXED)));
        }
        match self.input("prevResult").filter(|value| !is_empty(value)) {
            Some(value) => {
                let reason = "Atoll makes the interface, so it must be the first plugin of the list";
                Ok(Some(("prevResult".to_owned(), value.to_string(), reason)))
            }
            None => Ok(None),
        }
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(object) => object.is_empty(),
        _ => false,
    }
}
