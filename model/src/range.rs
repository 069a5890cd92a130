//! A range of addresses, as an operator writes it.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnetwork::IpNetwork;
use serde::{Deserialize, Serialize};

/// Neighbouring addresses of one family, both ends included. As text: `10.0.0.7`, `10.0.0.7-10.0.0.20`, or a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct AddressRange {
    first: IpAddr,
    last: IpAddr,
}

impl AddressRange {
    /// None when `last` is before `first`, or of the other family.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        (first.is_ipv4() == last.is_ipv4() && first <= last).then_some(Self { first, last })
    }

    /// The first.
    pub fn first(self) -> IpAddr {
        self.first
    }

    /// The last.
    pub fn last(self) -> IpAddr {
        self.last
    }

    /// Whether it is one of them.
    pub fn contains(self, address: IpAddr) -> bool {
        (self.first..=self.last).contains(&address)
    }
}

impl fmt::Display for AddressRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.first == self.last { write!(f, "{}", self.first) } else { write!(f, "{}-{}", self.first, self.last) }
    }
}

/// The text is no range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no range: an address, two joined by '-' (10.0.0.7-10.0.0.20) or a network (10.0.0.8/29) is expected")]
pub struct InvalidRange(pub String);

impl FromStr for AddressRange {
    type Err = InvalidRange;

    fn from_str(text: &str) -> Result<Self, InvalidRange> {
        let range = || {
            if text.contains('/') {
                let network: IpNetwork = text.parse().ok()?;
                // Host bits: a typing error more often than not.
                return (network.ip() == network.network())
                    .then(|| Self::new(network.network(), network.broadcast()))?;
            }
            let (first, last) = text.split_once('-').unwrap_or((text, text));
            Self::new(first.parse().ok()?, last.parse().ok()?)
        };
        range().ok_or_else(|| InvalidRange(text.chars().take(80).collect()))
    }
}

impl TryFrom<String> for AddressRange {
    type Error = InvalidRange;

    fn try_from(text: String) -> Result<Self, InvalidRange> {
        text.parse()
    }
}

impl From<AddressRange> for String {
    fn from(range: AddressRange) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_is_read_in_each_of_its_forms() {
        for (text, shown) in [
            ("10.0.0.7", "10.0.0.7"),
            ("10.0.0.7-10.0.0.20", "10.0.0.7-10.0.0.20"),
            ("10.0.0.7-10.0.0.7", "10.0.0.7"),
            ("10.0.0.8/29", "10.0.0.8-10.0.0.15"),
            ("10.0.0.8/32", "10.0.0.8"),
            ("0.0.0.0/0", "0.0.0.0-255.255.255.255"),
            ("fd00::1", "fd00::1"),
            ("fd00::7-fd00::1:0", "fd00::7-fd00::1:0"),
            ("fd00::/126", "fd00::-fd00::3"),
        ] {
            assert_eq!(text.parse::<AddressRange>().map(|range| range.to_string()), Ok(shown.to_owned()));
        }
        for bad in ["", "-", "10.0.0.9-10.0.0.7", "10.0.0.9/29", "10.0.0.1-", "10.0.0.0/33", "a-b", "10.0.0.1-fd00::1"]
        {
            assert_eq!(bad.parse::<AddressRange>(), Err(InvalidRange(bad.to_owned())));
        }
    }
}
