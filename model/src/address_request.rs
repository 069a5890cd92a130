//! The requests that a pod may make for its interface: certain addresses, a certain MAC, a certain subnet.
//!
//! # Guarantees
//! A request is met exactly or refused with the reason; a substitute is never assigned. This module neither parses the
//! sources of a request nor decides whether it can be met: `ipam` decides in the transaction that claims.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

use crate::attachment::Mac;

/// The request; the default is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressRequest {
    /// All of these, and of their families no others; for a family of the subnet of which there is none here: any one address.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub addresses: Vec<IpAddr>,
    /// This MAC instead of the derived one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<Mac>,
    /// An address of this subnet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subnet: Option<SubnetChoice>,
}

/// No request, for callers that need a reference.
pub static NOTHING: AddressRequest = AddressRequest { addresses: Vec::new(), mac: None, subnet: None };

impl AddressRequest {
    /// Nothing is requested.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty() && self.mac.is_none() && self.subnet.is_none()
    }
}

impl fmt::Display for AddressRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut parts: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        parts.extend(self.mac.map(|mac| format!("MAC {mac}")));
        parts.extend(self.subnet.map(|subnet| subnet.to_string()));
        f.write_str(&if parts.is_empty() { "anything".to_owned() } else { parts.join(", ") })
    }
}

/// A subnet of the tenant: by its number, or by one of its networks. As text, `2`, `10.128.3.0/24` or `fd00:0:0:3::/64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum SubnetChoice {
    /// Its number within the tenant, as `atollctl subnet list` shows it.
    Ordinal(u32),
    /// One of its networks; never with host bits.
    Cidr(IpNetwork),
}

impl fmt::Display for SubnetChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ordinal(ordinal) => write!(f, "subnet {ordinal}"),
            Self::Cidr(cidr) => write!(f, "subnet {cidr}"),
        }
    }
}

/// The text names no subnet.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no subnet: its number (`2`) or its network (`10.128.3.0/24`) is expected")]
pub struct InvalidChoice(pub String);

impl FromStr for SubnetChoice {
    type Err = InvalidChoice;

    fn from_str(text: &str) -> Result<Self, InvalidChoice> {
        let refuse = || InvalidChoice(text.chars().take(80).collect());
        // The standard library also accepts `+2`; here it is refused.
        if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
            return text.parse().map(Self::Ordinal).map_err(|_| refuse());
        }
        // Without a prefix length it would be a single address.
        let network: IpNetwork = text.contains('/').then(|| text.parse().ok()).flatten().ok_or_else(refuse)?;
        if network.ip() == network.network() { Ok(Self::Cidr(network)) } else { Err(refuse()) }
    }
}

impl TryFrom<String> for SubnetChoice {
    type Error = InvalidChoice;

    fn try_from(text: String) -> Result<Self, InvalidChoice> {
        text.parse()
    }
}

impl From<SubnetChoice> for String {
    fn from(choice: SubnetChoice) -> Self {
        match choice {
            SubnetChoice::Ordinal(ordinal) => ordinal.to_string(),
            SubnetChoice::Cidr(cidr) => cidr.to_string(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_subnet_is_named_by_number_or_network() {
        assert_eq!("2".parse(), Ok(SubnetChoice::Ordinal(2)));
        let cidr = "10.128.3.0/24".parse::<IpNetwork>().expect("a network");
        assert_eq!("10.128.3.0/24".parse(), Ok(SubnetChoice::Cidr(cidr)));
        for bad in [
            "",
            " 2",
            "+2",
            "-1",
            "4294967296",
            "10.128.3.0",
            "10.128.3.7/24",
            "10.128.3.0/33",
            "fd00::1/64",
            "fd00::",
            "a",
        ] {
            let refused = bad.parse::<SubnetChoice>();
            assert_eq!(refused, Err(InvalidChoice(bad.to_owned())), "{bad}");
        }
    }

    #[test]
    fn an_address_request_is_described() {
        assert_eq!(AddressRequest::default().to_string(), "anything");
        assert!(AddressRequest::default().is_empty());
        let requested = AddressRequest {
            addresses: vec![[10, 0, 0, 2].into(), [10, 0, 0, 3].into()],
            mac: Some(Mac([2, 0, 0, 0, 0, 1])),
            subnet: Some(SubnetChoice::Ordinal(2)),
        };
        assert!(!requested.is_empty());
        assert_eq!(requested.to_string(), "10.0.0.2, 10.0.0.3, MAC 02:00:00:00:00:01, subnet 2");
        let text = serde_json::to_string(&requested).expect("plain data");
        assert_eq!(serde_json::from_str::<AddressRequest>(&text).ok(), Some(requested));
        assert_eq!(serde_json::from_str::<AddressRequest>("{}").ok(), Some(AddressRequest::default()));
    }
}
