//! Names and ids. A value of one of these types has been checked: it is safe in an etcd key, a file name and a log line, so
//! no later code checks it again.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// A name was refused: the kind of name, the value and the rule that it breaks.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{what} {given:?} is not valid: {rule}")]
pub struct InvalidName {
    /// The kind of the name, for instance `container id`.
    pub what: &'static str,
    /// The refused text, cut to 80 characters.
    pub given: String,
    /// The rule that it breaks.
    pub rule: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $type:ident, $what:literal, $check:path, $rule:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(try_from = "String", into = "String")]
        pub struct $type(String);

        impl $type {
            /// Checks and wraps a name.
            pub fn new(name: impl Into<String>) -> Result<Self, InvalidName> {
                let name = name.into();
                if $check(&name) {
                    Ok(Self(name))
                } else {
                    Err(InvalidName { what: $what, given: name.chars().take(80).collect(), rule: $rule })
                }
            }

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl AsRef<str> for $type {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $type {
            type Err = InvalidName;

            fn from_str(name: &str) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl TryFrom<String> for $type {
            type Error = InvalidName;

            fn try_from(name: String) -> Result<Self, InvalidName> {
                Self::new(name)
            }
        }

        impl From<$type> for String {
            fn from(name: $type) -> Self {
                name.0
            }
        }
    };
}

name!(
    /// The id a runtime gives a container (CNI SPEC 1.1.0, `CNI_CONTAINERID`). No length limit: hash it for names.
    ContainerId, "container id", is_cni_name, "it must start with a letter or digit and hold only letters, digits, '_', '.' and '-'"
);
name!(
    /// The name of a CNI network (CNI SPEC 1.1.0, `name`).
    NetworkName, "network name", is_cni_name, "it must start with a letter or digit and hold only letters, digits, '_', '.' and '-'"
);
name!(
    /// A network interface name as Linux accepts it (`CNI_IFNAME`).
    IfName, "interface name", is_interface_name, "it must have 1 to 15 bytes, must not be '.' or '..' and must hold no '/', ':', white space or control character"
);
name!(
    /// A Kubernetes namespace, or the name another runtime gives its grouping of containers.
    Namespace, "namespace", is_label, "it must start and end with a letter or digit and hold at most 63 letters, digits, '_', '.' and '-'"
);
name!(
    /// The owner of one virtual network.
    TenantName, "tenant name", is_label, "it must start and end with a letter or digit and hold at most 63 letters, digits, '_', '.' and '-'"
);
name!(
    /// A machine of the cluster: `nodeName` of the configuration, else the host name.
    NodeName, "node name", is_node_name, "it must start and end with a letter or digit and hold at most 253 letters, digits, '_', '.' and '-'"
);
name!(
    /// A pod of a namespace (a DNS subdomain in Kubernetes).
    PodName, "pod name", is_node_name, "it must start and end with a letter or digit and hold at most 253 letters, digits, '_', '.' and '-'"
);

name!(
    /// The domain in which a tenant's pods have names. Queries are compared in lower case.
    PodDomain, "domain", is_domain, "it must be a domain in lower case: at most 200 letters, digits and '-' in labels of at most 63, with '.' between them"
);

impl PodDomain {
    /// The names of a pod: `pod.namespace.domain`, which no other pod of the cluster has, and `pod.domain`, which pods of several
    /// namespaces may have. A pod whose own name has dots has the first alone, so that its name is no other pod's. None: the
    /// runtime gave no name, or one that no resolver can ask for.
    pub fn names(&self, pod: Option<&str>, namespace: Option<&Namespace>) -> Vec<String> {
        let Some(pod) = pod.map(str::to_ascii_lowercase) else { return Vec::new() };
        let full = namespace.map(|namespace| format!("{pod}.{}.{self}", namespace.as_str().to_ascii_lowercase()));
        let short = (!pod.contains('.')).then(|| format!("{pod}.{self}"));
        full.into_iter().chain(short).filter(|name| name.len() <= 253 && has_labels(name)).collect()
    }
}

name!(
    /// A host as the engine identifies it: MidoNet's agent has a UUID, an OVN chassis a name or a system id. Opaque to
    /// everything but the engine, which also decides which ids it can have. The limit is that of a host name
    /// (RFC 1035, section 2.3.4), the longest id of a host that an engine uses.
    HostId, "host id", is_host_id, "it must hold 1 to 253 visible ASCII characters"
);

impl From<Uuid> for HostId {
    fn from(id: Uuid) -> Self {
        Self(id.to_string())
    }
}

fn is_host_id(id: &str) -> bool {
    (1..=253).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
}

fn is_cni_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric()) && name.chars().all(is_plain)
}

fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')
}

fn is_bounded(name: &str, longest: usize) -> bool {
    is_cni_name(name) && name.len() <= longest && name.ends_with(|c: char| c.is_ascii_alphanumeric())
}

fn is_label(name: &str) -> bool {
    is_bounded(name, 63)
}

fn is_domain(name: &str) -> bool {
    // Room for the names of pods within the 253 characters of a name (RFC 1035, section 2.3.4).
    name.len() <= 200 && has_labels(name)
}

/// Every label can be part of a question (RFC 1123, section 2.1).
fn has_labels(name: &str) -> bool {
    name.split('.').all(|label| {
        let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        (1..=63).contains(&label.len())
            && label.chars().all(is_plain)
            && !label.starts_with('-')
            && !label.ends_with('-')
    })
}

fn is_node_name(name: &str) -> bool {
    is_bounded(name, 253)
}

fn is_interface_name(name: &str) -> bool {
    (1..=15).contains(&name.len())
        && name != "."
        && name != ".."
        && !name.contains(|c: char| c == '/' || c == ':' || c.is_control() || c.is_whitespace())
}

impl IfName {
    /// Can a new interface get this name, and have it afterwards? The kernel takes one with `%` for a template, and every
    /// byte from 160 on for white space in some encodings; `all`, `default` and `lo` have a meaning of their own in each
    /// network namespace; a `$` or a brace is what remains of a variable that was not filled in. Interfaces that exist
    /// may have such names, so that taking one apart does not ask.
    pub fn refuse_as_new(&self) -> Result<(), InvalidName> {
        let name = self.as_str();
        let rule = if name.contains('%') {
            "the kernel would expand '%' as a template and make an interface of another name: give the name itself"
        } else if name.contains(['$', '{', '}', '<', '>']) {
            "it looks like a template that was not filled in: give the name itself"
        } else if !name.bytes().all(|byte| byte.is_ascii_graphic()) {
            "the name of a new interface must hold only visible ASCII characters"
        } else if matches!(name, "lo" | "all" | "default") {
            "it has a meaning of its own in every network namespace: give another name"
        } else {
            return Ok(());
        };
        Err(InvalidName { what: "interface name", given: name.to_owned(), rule })
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $type:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $type(pub Uuid);

        impl $type {
            /// A new random id.
            pub fn random() -> Self {
                Self(Uuid::new_v4())
            }
        }

        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
    };
}

id!(
    /// A cluster: random, written once by `init` or the first ADD, never a name.
    ClusterId
);
id!(
    /// One incarnation of a tenant: fixed when its record is created, so that a recreated tenant shares no object id with
    /// its predecessor.
    Incarnation
);
id!(
    /// One claim: random, so that a release can name the claim it means and not merely its owner.
    ClaimId
);
id!(
    /// Rewritten by `init` and after a restore of etcd: what was cached under another epoch is worthless.
    Epoch
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_checked_where_they_enter() {
        assert!(ContainerId::new("3f9a_x.y-z").is_ok());
        for bad in ["", "-a", ".a", "a/b", "a b", "a\0b", "ä"] {
            assert!(ContainerId::new(bad).is_err(), "{bad:?}");
        }
        for bad in ["", ".", "..", "a/b", "a:b", "a b", "a\u{a0}b", "sixteencharacter", "a\u{1b}[2J", "a\u{9b}2J", "\0"]
        {
            assert!(IfName::new(bad).is_err(), "{bad:?}");
        }
        assert!(IfName::new("fifteencharact.").is_ok());
        assert!(TenantName::new("a".repeat(64)).is_err());
        assert!(TenantName::new("red-").is_err());
    }

    #[test]
    fn the_names_of_a_pod_are_those_that_a_resolver_can_ask_for() {
        let domain = PodDomain::new("red.internal").expect("a domain");
        let namespace = Namespace::new("Shop").expect("valid");
        let names = |pod| domain.names(pod, Some(&namespace));
        assert_eq!(names(Some("web-0")), ["web-0.shop.red.internal", "web-0.red.internal"]);
        assert_eq!(domain.names(Some("Web"), None), ["web.red.internal"], "in lower case");
        // `a.b` of a namespace is no other pod's name: a namespace has no dots in Kubernetes.
        assert_eq!(names(Some("a.b")), ["a.b.shop.red.internal"]);
        let (long, longer) = ("a".repeat(63), "a".repeat(64));
        assert_eq!(names(Some(&long)).len(), 2);
        for none in [None, Some(""), Some("a_b"), Some("-a"), Some("a b"), Some("a."), Some(longer.as_str())] {
            assert_eq!(names(none), Vec::<String>::new(), "{none:?}");
        }
        let deep = PodDomain::new(vec!["a".repeat(49); 4].join(".")).expect("199 characters");
        assert_eq!(deep.names(Some(&long), Some(&namespace)), Vec::<String>::new(), "longer than 253 characters");
        assert_eq!(deep.names(Some("web"), Some(&namespace)).len(), 2);
        for bad in ["", ".", "a.", ".a", "a..b", "Red", "a_b", "a b", "-a", "a-", &longer, &"a.".repeat(100), "ä"] {
            assert!(PodDomain::new(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_new_interface_gets_no_name_that_means_something_else() {
        for bad in
            ["eth%d", "%", "a%b", "${IF}", "$IF", "{{.If}}", "<name>", "lo", "all", "default", "\u{e0}", "\u{df}"]
        {
            let name = IfName::new(bad).expect("an interface may have it");
            let error = name.refuse_as_new().expect_err(bad);
            assert!(error.to_string().contains(bad), "{error}");
        }
        for good in ["eth0", "net1", "a", "eth0.7", "x-y_z+1", "eth@1", "lo0", "fifteencharact."] {
            IfName::new(good).expect("valid").refuse_as_new().unwrap_or_else(|error| panic!("{error}"));
        }
    }

    #[test]
    fn a_refused_name_is_reported_with_its_kind() {
        let error = IfName::new("a/b").expect_err("a slash is not allowed");
        assert!(error.to_string().starts_with("interface name \"a/b\" is not valid: "), "{error}");
    }
}
