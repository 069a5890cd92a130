//! Reads objects of the API as objects of the topology model, as a server interprets them.
//!
//! Only tests read in this direction. Reading fails on the first invalid field and names it. No field that restricts traffic
//! is dropped: fields that the topology model does not have are kept by name.

use std::net::Ipv4Addr;

use atoll_model::topology;
use atoll_sdn_client::Resource;
use atoll_sdn_client::api::{Bridge, Extra, IpAddrGroup, PortGroup, Router};
use ipnetwork::Ipv4Network;
use serde_json::Value;
use uuid::Uuid;

mod condition;
mod port;
mod route;
mod rule;

pub(crate) use condition::default_fragments;
pub(crate) use rule::{chain_to_topology, rule_to_topology};

/// An object of the API that stands for one of the topology model.
pub(crate) trait ToTopology {
    /// The object of the topology model.
    type Object;

    /// The object's id, and what it means.
    fn to_topology(&self) -> Result<(Uuid, Self::Object), ConvertError>;
}

/// A field of an object that is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{resource}: field {field:?} is {found}; expected {expected}")]
pub(crate) struct ConvertError {
    /// The resource.
    pub(crate) resource: Resource,
    /// The field, by its name in the JSON.
    pub(crate) field: &'static str,
    /// Its value.
    pub(crate) found: String,
    /// What is expected.
    pub(crate) expected: &'static str,
}

/// Reads the fields of one object and names them in errors.
#[derive(Clone, Copy)]
pub(crate) struct Reader(Resource);

impl Reader {
    fn wrong(self, field: &'static str, found: Option<&str>, expected: &'static str) -> ConvertError {
        let found = found.map_or_else(|| "absent".to_owned(), |text| format!("{:?}", shorten(text)));
        ConvertError { resource: self.0, field, found, expected }
    }

    fn id(self, field: &'static str, id: Option<Uuid>) -> Result<Uuid, ConvertError> {
        id.ok_or_else(|| self.wrong(field, None, "a UUID"))
    }

    fn address(self, field: &'static str, text: Option<&str>) -> Result<Ipv4Addr, ConvertError> {
        text.and_then(|t| t.parse().ok()).ok_or_else(|| self.wrong(field, text, "an IPv4 address"))
    }

    fn length(self, field: &'static str, length: Option<i32>) -> Result<u8, ConvertError> {
        length
            .and_then(|n| u8::try_from(n).ok())
            .filter(|n| *n <= 32)
            .ok_or_else(|| self.wrong(field, length.map(|n| n.to_string()).as_deref(), "a prefix length from 0 to 32"))
    }

    /// A network; the bits of the host part are dropped.
    fn network(
        self,
        fields: (&'static str, &'static str),
        address: Option<&str>,
        length: Option<i32>,
    ) -> Result<Ipv4Network, ConvertError> {
        let (address, length) = (self.address(fields.0, address)?, self.length(fields.1, length)?);
        let network = Ipv4Network::new(address, length).map(|n| (n.network(), n.prefix()));
        let (network, prefix) = network.map_err(|_| self.wrong(fields.1, None, "a prefix length from 0 to 32"))?;
        Ipv4Network::new(network, prefix).map_err(|_| self.wrong(fields.1, None, "a prefix length from 0 to 32"))
    }

    fn parsed<T: std::str::FromStr>(
        self,
        field: &'static str,
        text: &str,
        expected: &'static str,
    ) -> Result<T, ConvertError> {
        text.parse().map_err(|_| self.wrong(field, Some(text), expected))
    }
}

/// The names of the fields that are set.
fn named<const N: usize>(fields: [(bool, &str); N]) -> impl Iterator<Item = String> {
    fields.map(|(there, name)| there.then(|| name.to_owned())).into_iter().flatten()
}

/// Those of `names` that hold something: not null, false, zero, or an empty list or text.
fn set(other: &Extra, names: &[&str]) -> impl Iterator<Item = String> {
    let holds = |value: &Value| match value {
        Value::Null => false,
        Value::Bool(flag) => *flag,
        Value::Number(number) => number.as_f64() != Some(0.0),
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(_) => true,
    };
    let there: Vec<_> = names.iter().filter(|name| other.get(**name).is_some_and(holds)).copied().collect();
    there.into_iter().map(str::to_owned)
}

/// The beginning of a text.
fn shorten(text: &str) -> String {
    text.chars().take(60).collect()
}

impl ToTopology for Router {
    type Object = topology::Router;

    /// As an object of the topology model.
    fn to_topology(&self) -> Result<(Uuid, Self::Object), ConvertError> {
        let router = topology::Router {
            tenant: self.tenant_id.clone().unwrap_or_default(),
            name: self.name.clone().unwrap_or_default(),
            up: self.admin_state_up.0,
            inbound: self.inbound_filter_id,
            outbound: self.outbound_filter_id,
            other: router_unsupported(self),
        };
        Ok((Reader(Resource::Router).id("id", self.id)?, router))
    }
}

/// Fields with a value that the topology model does not have. An unset number of an autonomous system is -1 or 0.
fn router_unsupported(router: &Router) -> Vec<String> {
    named([
        (router.load_balancer_id.is_some(), "loadBalancerId"),
        (router.as_number.is_some_and(|number| number > 0), "asNumber"),
        (router.local_redirect_chain_id.is_some(), "localRedirectChainId"),
        (router.forward_chain_id.is_some(), "forwardChainId"),
    ])
    .chain(set(&router.other, &["inboundMirrorIds", "outboundMirrorIds"]))
    .collect()
}

impl ToTopology for Bridge {
    type Object = topology::Bridge;

    /// As an object of the topology model, with empty tables.
    fn to_topology(&self) -> Result<(Uuid, Self::Object), ConvertError> {
        let bridge = topology::Bridge {
            tenant: self.tenant_id.clone().unwrap_or_default(),
            name: self.name.clone().unwrap_or_default(),
            up: self.admin_state_up.0,
            inbound: self.inbound_filter_id,
            outbound: self.outbound_filter_id,
            other: bridge_unsupported(self),
            ..topology::Bridge::default()
        };
        Ok((Reader(Resource::Bridge).id("id", self.id)?, bridge))
    }
}

/// Fields with a value that the topology model does not have.
fn bridge_unsupported(bridge: &Bridge) -> Vec<String> {
    let vteps = bridge.vx_lan_port_ids.as_ref().is_some_and(|ids| !ids.is_empty());
    named([(vteps, "vxLanPortIds"), (bridge.vx_lan_port_id.is_some(), "vxLanPortId")])
        .chain(set(&bridge.other, &["disableAntiSpoof", "qosPolicyId", "inboundMirrorIds", "outboundMirrorIds"]))
        .collect()
}

impl ToTopology for PortGroup {
    type Object = topology::PortGroup;

    /// As an object of the topology model, without members.
    fn to_topology(&self) -> Result<(Uuid, Self::Object), ConvertError> {
        let name = self.name.clone().unwrap_or_default();
        let group = topology::PortGroup { name, stateful: self.stateful, members: Vec::new() };
        Ok((Reader(Resource::PortGroup).id("id", self.id)?, group))
    }
}

impl ToTopology for IpAddrGroup {
    type Object = topology::AddressGroup;

    /// As an object of the topology model, without members.
    fn to_topology(&self) -> Result<(Uuid, Self::Object), ConvertError> {
        let name = self.name.clone().unwrap_or_default();
        let group = topology::AddressGroup { name, members: Vec::new() };
        Ok((Reader(Resource::IpAddrGroup).id("id", self.id)?, group))
    }
}
