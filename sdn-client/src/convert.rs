//! Converts between the API's objects ([`crate::api`]) and the topology model ([`atoll_model::topology`]).
//!
//! `from_topology` makes the object of a request; `to_topology` reads an answer, or a request on a server's side. Reading
//! fails on the first invalid field and names it. No field that restricts traffic is dropped: fields that the topology model does not have are kept by name.

use std::net::Ipv4Addr;

use atoll_model::topology;
use ipnetwork::Ipv4Network;
use serde_json::Value;
use uuid::Uuid;

use crate::api::lenient::Up;
use crate::api::{Bridge, Extra, IpAddrGroup, PortGroup, Router};
use crate::resource::Resource;

mod condition;
mod port;
mod route;
mod rule;

/// A field of an object that is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{resource}: field {field:?} is {found}; expected {expected}")]
pub struct ConvertError {
    /// The resource.
    pub resource: Resource,
    /// The field, by its name in the JSON.
    pub field: &'static str,
    /// Its value.
    pub found: String,
    /// What is expected.
    pub expected: &'static str,
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

impl Router {
    /// As a request.
    pub fn from_topology(id: Uuid, router: &topology::Router) -> Self {
        Self {
            id: Some(id),
            tenant_id: Some(router.tenant.clone()),
            name: Some(router.name.clone()),
            admin_state_up: Up(router.up),
            inbound_filter_id: router.inbound,
            outbound_filter_id: router.outbound,
            ..Self::default()
        }
    }

    /// As an object of the topology model.
    pub fn to_topology(&self) -> Result<(Uuid, topology::Router), ConvertError> {
        let router = topology::Router {
            tenant: self.tenant_id.clone().unwrap_or_default(),
            name: self.name.clone().unwrap_or_default(),
            up: self.admin_state_up.0,
            inbound: self.inbound_filter_id,
            outbound: self.outbound_filter_id,
            other: self.unsupported(),
        };
        Ok((Reader(Resource::Router).id("id", self.id)?, router))
    }

    /// Fields with a value that the topology model does not have. An unset number of an autonomous system is -1 or 0.
    fn unsupported(&self) -> Vec<String> {
        named([
            (self.load_balancer_id.is_some(), "loadBalancerId"),
            (self.as_number.is_some_and(|number| number > 0), "asNumber"),
            (self.local_redirect_chain_id.is_some(), "localRedirectChainId"),
            (self.forward_chain_id.is_some(), "forwardChainId"),
        ])
        .chain(set(&self.other, &["inboundMirrorIds", "outboundMirrorIds"]))
        .collect()
    }
}

impl Bridge {
    /// As a request. The static entries of its tables are requests of their own.
    pub fn from_topology(id: Uuid, bridge: &topology::Bridge) -> Self {
        Self {
            id: Some(id),
            tenant_id: Some(bridge.tenant.clone()),
            name: Some(bridge.name.clone()),
            admin_state_up: Up(bridge.up),
            inbound_filter_id: bridge.inbound,
            outbound_filter_id: bridge.outbound,
            ..Self::default()
        }
    }

    /// As an object of the topology model, with empty tables.
    pub fn to_topology(&self) -> Result<(Uuid, topology::Bridge), ConvertError> {
        let bridge = topology::Bridge {
            tenant: self.tenant_id.clone().unwrap_or_default(),
            name: self.name.clone().unwrap_or_default(),
            up: self.admin_state_up.0,
            inbound: self.inbound_filter_id,
            outbound: self.outbound_filter_id,
            other: self.unsupported(),
            ..topology::Bridge::default()
        };
        Ok((Reader(Resource::Bridge).id("id", self.id)?, bridge))
    }

    /// Fields with a value that the topology model does not have.
    fn unsupported(&self) -> Vec<String> {
        let vteps = self.vx_lan_port_ids.as_ref().is_some_and(|ids| !ids.is_empty());
        named([(vteps, "vxLanPortIds"), (self.vx_lan_port_id.is_some(), "vxLanPortId")])
            .chain(set(&self.other, &["disableAntiSpoof", "qosPolicyId", "inboundMirrorIds", "outboundMirrorIds"]))
            .collect()
    }
}

impl PortGroup {
    /// As an object of the topology model, without members.
    pub fn to_topology(&self) -> Result<(Uuid, topology::PortGroup), ConvertError> {
        let name = self.name.clone().unwrap_or_default();
        let group = topology::PortGroup { name, stateful: self.stateful, members: Vec::new() };
        Ok((Reader(Resource::PortGroup).id("id", self.id)?, group))
    }
}

impl IpAddrGroup {
    /// As an object of the topology model, without members.
    pub fn to_topology(&self) -> Result<(Uuid, topology::AddressGroup), ConvertError> {
        let name = self.name.clone().unwrap_or_default();
        let group = topology::AddressGroup { name, members: Vec::new() };
        Ok((Reader(Resource::IpAddrGroup).id("id", self.id)?, group))
    }
}
