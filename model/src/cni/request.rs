//! The input from a runtime: environment variables and a JSON object on standard input.
//!
//! Checked in the order of the reference implementation, so that a test suite written for that one sees the same codes:
//! the command, then its variables (all that are missing in one error), then JSON, name and version. VERSION needs
//! neither variables nor standard input. The configuration proper, the pod's names and its address requests are read on demand:
//! a DEL must not fail because of an argument that it does not need.

use std::ffi::OsString;

use serde_json::{Map, Value};

use super::trace::TraceId;
use super::version::Version;
use crate::config::{Config, ConfigError, DnsConfig};
use crate::error::{Class, Classify};
use crate::ids::{ContainerId, IfName, InvalidName, Namespace, NetworkName};

/// `CNI_COMMAND`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CniCommand {
    /// Attach a container.
    Add,
    /// Detach it.
    Del,
    /// Whether it is as it was left.
    Check,
    /// Remove what is not in the list.
    Gc,
    /// Whether an ADD could work.
    Status,
    /// The supported versions.
    Version,
}

impl CniCommand {
    /// Every command.
    pub const ALL: [Self; 6] = [Self::Add, Self::Del, Self::Check, Self::Gc, Self::Status, Self::Version];

    /// As it is written in `CNI_COMMAND`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Add => "ADD",
            Self::Del => "DEL",
            Self::Check => "CHECK",
            Self::Gc => "GC",
            Self::Status => "STATUS",
            Self::Version => "VERSION",
        }
    }

    /// The variables it cannot do without. `CNI_PATH` is not among them: we run no other plugin.
    const fn required(self) -> &'static [&'static str] {
        match self {
            Self::Add | Self::Check => &["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"],
            Self::Del => &["CNI_CONTAINERID", "CNI_IFNAME"],
            Self::Gc | Self::Status | Self::Version => &[],
        }
    }

    /// The first version of the specification that has it.
    const fn since(self) -> Version {
        match self {
            Self::Add | Self::Del | Self::Version => Version::V0_1_0,
            Self::Check => Version::V0_4_0,
            Self::Gc | Self::Status => Version::V1_1_0,
        }
    }
}

/// The variables of a call, checked as far as its command needs them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Environment {
    /// `CNI_COMMAND`.
    pub command: CniCommand,
    /// `CNI_CONTAINERID`; there for ADD, DEL and CHECK.
    pub container: Option<ContainerId>,
    /// `CNI_IFNAME`; there for ADD, DEL and CHECK.
    pub interface: Option<IfName>,
    /// `CNI_NETNS`, verbatim; there for ADD and CHECK. Empty is the same as absent.
    pub netns: Option<String>,
    /// `CNI_ARGS`, verbatim.
    pub args: String,
    /// `CNI_NETNS_OVERRIDE`: the caller insists on its own namespace.
    pub netns_override: bool,
    /// `TRACEPARENT`, where the runtime gives one.
    pub trace: Option<TraceId>,
}

impl Environment {
    /// Reads the variables through `get`. `None`: there is no `CNI_COMMAND`, the plugin was not started by a runtime.
    pub fn read(get: impl Fn(&str) -> Option<OsString>) -> Result<Option<Self>, RequestError> {
        let text = |name: &'static str| match get(name).map(OsString::into_string) {
            None => Ok(None),
            Some(Ok(text)) => Ok(Some(text).filter(|text| !text.is_empty())),
            Some(Err(_)) => Err(RequestError::NotText(name)),
        };
        let Some(command) = text("CNI_COMMAND")? else { return Ok(None) };
        let Some(command) = CniCommand::ALL.into_iter().find(|known| known.as_str() == command) else {
            return Err(RequestError::UnknownCommand(command.chars().take(80).collect()));
        };
        let required = command.required();
        let mut missing = Vec::new();
        for name in required.iter().copied() {
            if text(name)?.is_none() {
                missing.push(name);
            }
        }
        if !missing.is_empty() {
            return Err(RequestError::Missing(missing));
        }
        // A variable that the command does not need is not validated: VERSION comes with placeholders.
        let needed = |name: &'static str| if required.contains(&name) { text(name) } else { Ok(None) };
        let bad = |name: &'static str| move |source| RequestError::Variable { name, source };
        let interface = needed("CNI_IFNAME")?.map(IfName::new).transpose().map_err(bad("CNI_IFNAME"))?;
        if let Some(interface) = interface.as_ref().filter(|_| command == CniCommand::Add) {
            interface.refuse_as_new().map_err(bad("CNI_IFNAME"))?;
        }
        Ok(Some(Self {
            command,
            container: needed("CNI_CONTAINERID")?.map(ContainerId::new).transpose().map_err(bad("CNI_CONTAINERID"))?,
            interface,
            netns: if command == CniCommand::Version { None } else { text("CNI_NETNS")? },
            args: if required.is_empty() { String::new() } else { text("CNI_ARGS")?.unwrap_or_default() },
            netns_override: matches!(
                text("CNI_NETNS_OVERRIDE").ok().flatten().as_deref(),
                Some("1" | "true" | "True" | "TRUE" | "t" | "T")
            ),
            trace: text("TRACEPARENT").ok().flatten().and_then(|text| TraceId::from_traceparent(&text)),
        }))
    }
}

/// A call: its variables, and its standard input as far as every command needs it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The variables.
    pub environment: Environment,
    /// `cniVersion`.
    pub version: Version,
    /// `name`.
    pub network: NetworkName,
    input: Map<String, Value>,
}

/// The pod, as far as the runtime identifies it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pod {
    /// `K8S_POD_NAMESPACE`.
    pub namespace: Option<Namespace>,
    /// `K8S_POD_NAME`.
    pub name: Option<String>,
    /// `K8S_POD_UID`.
    pub uid: Option<String>,
}

impl Request {
    /// Reads standard input.
    pub fn read(environment: Environment, stdin: &[u8]) -> Result<Self, RequestError> {
        let Value::Object(input) = serde_json::from_slice(stdin).map_err(RequestError::Json)? else {
            return Err(RequestError::Shape("standard input", "an object"));
        };
        let network = match input.get("name") {
            None | Some(Value::Null) => return Err(RequestError::NoName),
            Some(Value::String(name)) if name.is_empty() => return Err(RequestError::NoName),
            Some(Value::String(name)) => NetworkName::new(name.as_str()).map_err(RequestError::Name)?,
            Some(_) => return Err(RequestError::Shape("name", "a text")),
        };
        let given = match input.get("cniVersion") {
            None | Some(Value::Null) => "",
            Some(Value::String(version)) => version.as_str(),
            Some(_) => return Err(RequestError::Shape("cniVersion", "a text")),
        };
        let Some(version) = Version::parse(given) else {
            return Err(RequestError::Version(given.chars().take(80).collect()));
        };
        if version < environment.command.since() {
            return Err(RequestError::CommandTooNew { command: environment.command, version });
        }
        Ok(Self { environment, version, network, input })
    }

    /// The version of the answer to `stdin`, even if another part of the input is invalid: the caller's version, as far as
    /// it can be read. Input that is broken or cut off behind it does not matter.
    pub fn version_of(stdin: &[u8]) -> Version {
        let mut given = None;
        let mut deserializer = serde_json::Deserializer::from_slice(stdin);
        let whole = serde::Deserializer::deserialize_map(&mut deserializer, FindVersion(&mut given)).is_ok();
        let whole = whole && deserializer.end().is_ok();
        let given = match given {
            // An object that is complete and names none.
            None | Some(Value::Null) if whole => Some(""),
            None => None,
            Some(ref version) => version.as_str(),
        };
        given.and_then(Version::parse).unwrap_or(Version::NEWEST)
    }

    /// The configuration. A command that removes an attachment does not need the part that is for new pods.
    pub fn config(&self) -> Result<Config, ConfigError> {
        let config = Config::parse(&Value::Object(self.input.clone()))?;
        match self.environment.command {
            CniCommand::Add | CniCommand::Status => config.refuse_impossible()?,
            CniCommand::Del | CniCommand::Check | CniCommand::Gc | CniCommand::Version => {}
        }
        Ok(config)
    }

    /// The pod, from `CNI_ARGS`. An unknown key is ignored, with and without `IgnoreUnknown`.
    pub fn pod(&self) -> Result<Pod, RequestError> {
        let mut pod = Pod::default();
        for (key, value) in self.args()? {
            let value = Some(value.to_owned()).filter(|value| !value.is_empty());
            match key {
                "K8S_POD_NAMESPACE" => {
                    let bad = |source| RequestError::Argument { key: "K8S_POD_NAMESPACE", source };
                    pod.namespace = value.map(Namespace::new).transpose().map_err(bad)?;
                }
                "K8S_POD_NAME" => pod.name = value.map(|name| plain("K8S_POD_NAME", name)).transpose()?,
                "K8S_POD_UID" => pod.uid = value.map(|uid| plain("K8S_POD_UID", uid)).transpose()?,
                _ => {}
            }
        }
        Ok(pod)
    }

    /// The pairs of `CNI_ARGS`.
    pub(super) fn args(&self) -> Result<Vec<(&str, &str)>, RequestError> {
        let pair = |pair| match str::split_once(pair, '=') {
            Some((key, value)) if !key.is_empty() && !value.contains('=') => Ok((key, value)),
            _ => Err(RequestError::Arguments(pair.chars().take(80).collect())),
        };
        self.environment.args.split(';').filter(|pair| !pair.is_empty()).map(pair).collect()
    }

    /// A key of standard input; `null` is the same as absent.
    pub(super) fn input(&self, key: &str) -> Option<&Value> {
        self.input.get(key).filter(|value| !value.is_null())
    }

    /// A key of `runtimeConfig`.
    pub(super) fn runtime(&self, key: &str) -> Option<&Value> {
        any_case(self.input("runtimeConfig")?, key)
    }

    /// Name servers: the runtime's, where it names any, else those of the configuration.
    pub fn dns(&self, configured: &DnsConfig) -> Result<DnsConfig, RequestError> {
        let Some(dns) = self.runtime("dns") else { return Ok(configured.clone()) };
        if !dns.is_object() {
            return Err(RequestError::Shape("runtimeConfig.dns", "an object"));
        }
        let requested = DnsConfig {
            nameservers: texts(dns, "servers").ok_or(RequestError::Shape("runtimeConfig.dns.servers", LIST))?,
            domain: None,
            search: texts(dns, "searches").ok_or(RequestError::Shape("runtimeConfig.dns.searches", LIST))?,
            options: texts(dns, "options").ok_or(RequestError::Shape("runtimeConfig.dns.options", LIST))?,
        };
        requested.refuse_unusable().map_err(|wrong| RequestError::AddressRequest {
            key: format!("runtimeConfig.dns {}", wrong.what),
            value: wrong.given,
            expected: wrong.expected,
        })?;
        Ok(if requested == DnsConfig::default() { configured.clone() } else { requested })
    }
}

/// Finds `cniVersion` in an object, key by key, and keeps it even if the object is cut off behind it.
struct FindVersion<'a>(&'a mut Option<Value>);

impl<'de> serde::de::Visitor<'de> for FindVersion<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if key == "cniVersion" {
                *self.0 = Some(map.next_value()?);
            } else {
                map.next_value::<serde::de::IgnoredAny>()?;
            }
        }
        Ok(())
    }
}

/// A name as Kubernetes and podman give it. It goes into records and onto terminals.
fn plain(key: &'static str, name: String) -> Result<String, RequestError> {
    if name.len() <= 253 && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-')) {
        return Ok(name);
    }
    let rule = "it must hold at most 253 letters, digits, '_', '.' and '-'";
    Err(RequestError::Argument {
        key,
        source: InvalidName { what: "name", given: name.chars().take(80).collect(), rule },
    })
}

const LIST: &str = "a list of texts";

/// A key of an object as Go reads it: case-insensitive, with the exact key preferred. Runtimes rely on that: containerd
/// sends `Servers` where the conventions have `servers`.
pub(super) fn any_case<'a>(object: &'a Value, key: &str) -> Option<&'a Value> {
    let object = object.as_object()?;
    let found = object.get(key).or_else(|| object.iter().find(|(k, _)| k.eq_ignore_ascii_case(key)).map(|(_, v)| v));
    found.filter(|value| !value.is_null())
}

fn texts(object: &Value, key: &str) -> Option<Vec<String>> {
    match any_case(object, key) {
        None => Some(vec![]),
        Some(value) => value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect(),
    }
}

/// A request was refused before it had an effect.
#[derive(Debug, thiserror::Error)]
pub enum RequestError {
    /// `CNI_COMMAND` names no command.
    #[error("unknown CNI_COMMAND: {0}")]
    UnknownCommand(String),
    /// Variables are missing or empty.
    #[error("required env variables [{}] missing", .0.join(","))]
    Missing(Vec<&'static str>),
    /// A variable is no UTF-8.
    #[error("env variable {0} is not UTF-8 text")]
    NotText(&'static str),
    /// A variable is malformed.
    #[error("env variable {name} is malformed: {source}")]
    Variable {
        /// Its name.
        name: &'static str,
        /// The fault.
        source: InvalidName,
    },
    /// `CNI_ARGS` is malformed.
    #[error("env variable CNI_ARGS is malformed: {0:?} is not of the form KEY=VALUE")]
    Arguments(String),
    /// A value of `CNI_ARGS` is malformed.
    #[error("env variable CNI_ARGS is malformed: {key}: {source}")]
    Argument {
        /// Its key.
        key: &'static str,
        /// The fault.
        source: InvalidName,
    },
    /// Standard input is not JSON.
    #[error("standard input is not a JSON document")]
    Json(#[source] serde_json::Error),
    /// A part of standard input has another type than in the specification.
    #[error("{0} must be {1}")]
    Shape(&'static str, &'static str),
    /// `prevResult` is missing where it is needed.
    #[error("prevResult is missing: CHECK compares with it")]
    NoPrevious,
    /// `name` is missing.
    #[error("configuration key \"name\" is missing: the name of the network is expected")]
    NoName,
    /// `name` is malformed.
    #[error("configuration key \"name\" is wrong: {0}")]
    Name(InvalidName),
    /// The version is not supported.
    #[error("incompatible CNI versions")]
    Version(String),
    /// The version has no such command.
    #[error("incompatible CNI versions: {} came with CNI {}, the configuration has {version}", command.as_str(), command.since())]
    CommandTooNew {
        /// The command.
        command: CniCommand,
        /// The version of the configuration.
        version: Version,
    },
    /// An address request on standard input is malformed.
    #[error("{key} = {value:?} is wrong: {expected} is expected")]
    AddressRequest {
        /// The source of the value.
        key: String,
        /// The value.
        value: String,
        /// What is valid there.
        expected: &'static str,
    },
    /// An address request in `CNI_ARGS` is malformed.
    #[error("env variable CNI_ARGS is malformed: {key} = {value:?}: {expected} is expected")]
    InvalidArgument {
        /// The source of the value.
        key: String,
        /// The value.
        value: String,
        /// What is valid there.
        expected: &'static str,
    },
    /// The request cannot be met, and there is no substitute.
    #[error("{key} = {value} is not supported: {reason}")]
    Unsupported {
        /// The source of the request.
        key: String,
        /// The requested value.
        value: String,
        /// Why not.
        reason: &'static str,
    },
}

impl Classify for RequestError {
    fn class(&self) -> Class {
        match self {
            Self::UnknownCommand(_)
            | Self::Missing(_)
            | Self::NotText(_)
            | Self::Variable { .. }
            | Self::Arguments(_)
            | Self::Argument { .. }
            | Self::InvalidArgument { .. } => Class::Environment,
            Self::Json(_) | Self::Shape(..) => Class::Decode,
            Self::AddressRequest { .. } | Self::NoPrevious | Self::NoName | Self::Name(_) => Class::Config,
            Self::Version(_) | Self::CommandTooNew { .. } => Class::Version,
            Self::Unsupported { .. } => Class::Unsupported,
        }
    }

    fn hint(&self) -> Option<String> {
        match self {
            Self::Version(given) => {
                let all = Version::ALL.map(Version::as_str).join(" ");
                Some(format!("config is {given:?}, plugin supports [{all}]"))
            }
            _ => None,
        }
    }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
