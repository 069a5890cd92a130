//! The error object: CNI SPEC 1.1.0, section "Error".
//!
//! # Guarantees
//! - The code depends only on the error's class.
//! - `msg` is one line: what failed, on which object. `details` has the causes and the hint.
//! - A message of DEL never contains text that a runtime interprets as success (see [`CniFailure::of_delete`]).

use serde::Serialize;

use super::version::Version;
use crate::error::{Class, Classify, ExhaustedResource, causes, class_of, hint_of};

/// The output of a failed call instead of a result.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CniFailure {
    /// The version of the request.
    #[serde(rename = "cniVersion")]
    pub version: Version,
    /// The code.
    pub code: u32,
    /// The operation and the object.
    pub msg: String,
    /// Causes, and what can be done.
    pub details: String,
}

impl CniFailure {
    /// The failure that reports an error to the caller.
    pub fn of(error: &dyn Classify, version: Version) -> Self {
        let mut details = causes(error);
        details.extend(hint_of(error));
        Self {
            version,
            code: class_of(error).cni_code(),
            msg: line(&error.to_string()),
            details: line(&details.join("; ")),
        }
    }

    /// The same for a DEL: containerd swallows an error of DEL that contains "not found", and without a namespace also
    /// one that contains "no such file or directory". It would never call again, and what is left would leak.
    pub fn of_delete(error: &dyn Classify, version: Version) -> Self {
        let Self { version, code, msg, details } = Self::of(error, version);
        Self { version, code, msg: unswallowed(&msg), details: unswallowed(&details) }
    }

    /// The failure by which the panic hook reports a panic to the caller. A library that panics because this machine has
    /// run out of a resource is not a defect.
    pub fn of_panic(message: &str, place: &str, version: Version) -> Self {
        if let Some(resource) = ExhaustedResource::named_in(message) {
            return Self {
                version,
                code: Class::Resources.cni_code(),
                msg: unswallowed(&line(&format!("the call could not be carried out: {message}"))),
                details: format!("at {place}; {}", resource.advice()),
            };
        }
        Self {
            version,
            code: Class::Bug.cni_code(),
            msg: unswallowed(&line(&format!("atoll has a defect and stopped: {message}"))),
            details: format!("at {place}; please report it"),
        }
    }

    /// As one JSON document.
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("texts and a number")
    }
}

fn line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn unswallowed(text: &str) -> String {
    let text = replace_in_any_case(text, "not found", "absent");
    replace_in_any_case(&text, "no such file or directory", "ENOENT")
}

fn replace_in_any_case(text: &str, phrase: &str, by: &str) -> String {
    // Both phrases are ASCII, and ASCII lower case keeps every byte's place.
    let lower = text.to_ascii_lowercase();
    let mut replaced = String::new();
    let mut done = 0;
    for (at, _) in lower.match_indices(phrase) {
        replaced.push_str(&text[done..at]);
        replaced.push_str(by);
        done = at + phrase.len();
    }
    replaced.push_str(&text[done..]);
    replaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("open {0}")]
    struct Outer(&'static str, #[source] std::io::Error);

    impl Classify for Outer {
        fn class(&self) -> Class {
            Class::Kernel
        }

        fn hint(&self) -> Option<String> {
            Some("look".to_owned())
        }
    }

    fn error(text: &'static str, cause: &str) -> Outer {
        Outer(text, std::io::Error::other(cause.to_owned()))
    }

    #[test]
    fn an_error_has_its_causes_and_its_hint_in_one_line_each() {
        let failure = CniFailure::of(&error("/x\n", "No such file or directory (os error 2)"), Version::V0_4_0);
        let expected = r#"{"cniVersion":"0.4.0","code":103,"msg":"open /x","details":"No such file or directory (os error 2); look"}"#;
        assert_eq!(failure.to_json(), expected);
    }

    #[test]
    fn a_delete_never_has_words_that_a_runtime_takes_for_success() {
        for text in [
            "port not found",
            "Not Found: NOT FOUND",
            "not  found",
            "not\nfound",
            "ä not found ä",
            "not not found found",
        ] {
            let failure = CniFailure::of_delete(&error(text, "bridge: No such file or directory"), Version::V1_0_0);
            let text_of = failure.to_json().to_lowercase();
            assert!(
                !text_of.contains("not found") && !text_of.contains("no such file or directory"),
                "{text:?}: {text_of}"
            );
        }
        let panic = CniFailure::of_panic("key not found", "add.rs:1", Version::V0_4_0);
        assert_eq!(panic.version, Version::V0_4_0);
        let full = "OS can't spawn worker thread: Resource temporarily unavailable (os error 11)";
        let full = CniFailure::of_panic(full, "pool.rs:1", Version::V1_0_0);
        assert!(full.code == 11 && !full.to_json().contains("report") && !full.msg.contains("defect"), "{full:?}");
        assert!(!panic.to_json().contains("not found") && panic.code == 199, "{panic:?}");
    }
}
