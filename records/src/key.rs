//! Keys: the encoding of names and addresses, and keys with the type of their record.
//!
//! Keys are written without the prefix of the installation (`/atoll/<name>`), which the store adds. Names are safe as they
//! are (`model::ids` checked them): none may hold `/`. An interface name is the only one that may hold `%`, which is written
//! `%25`. IPv4 addresses are 8 lower-case hexadecimal digits, ordinals 8, MACs 12: all sort as numbers, so that a window of
//! keys is a window of addresses.

use std::fmt;
use std::marker::PhantomData;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::Deref;

use atoll_model::attachment::Attachment;
use atoll_model::ids::{ContainerId, IfName, NetworkName, NodeName};

/// The key under which a record of type `R` stands.
pub struct RecordKey<R> {
    key: Key,
    record: PhantomData<fn() -> R>,
}

/// The beginning of the keys of records of type `R`.
pub struct Prefix<R> {
    key: Key,
    record: PhantomData<fn() -> R>,
}

impl<R> RecordKey<R> {
    pub(crate) fn new(key: String) -> Self {
        Self { key: Key(key), record: PhantomData }
    }
}

impl<R> Prefix<R> {
    pub(crate) fn new(key: String) -> Self {
        Self { key: Key(key), record: PhantomData }
    }
}

impl<R> Clone for RecordKey<R> {
    fn clone(&self) -> Self {
        Self { key: self.key.clone(), record: PhantomData }
    }
}

impl<R> Deref for RecordKey<R> {
    type Target = Key;

    fn deref(&self) -> &Key {
        &self.key
    }
}

impl<R> Deref for Prefix<R> {
    type Target = Key;

    fn deref(&self) -> &Key {
        &self.key
    }
}

impl<R> fmt::Display for RecordKey<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

impl<R> fmt::Display for Prefix<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

impl<R> fmt::Debug for RecordKey<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

impl<R> fmt::Debug for Prefix<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.key.fmt(f)
    }
}

impl<R> From<RecordKey<R>> for Key {
    fn from(typed: RecordKey<R>) -> Self {
        typed.key
    }
}

impl<R> From<&RecordKey<R>> for Key {
    fn from(typed: &RecordKey<R>) -> Self {
        typed.key.clone()
    }
}

impl<R> From<Prefix<R>> for Key {
    fn from(typed: Prefix<R>) -> Self {
        typed.key
    }
}

impl<R> From<&Prefix<R>> for Key {
    fn from(typed: &Prefix<R>) -> Self {
        typed.key.clone()
    }
}

impl From<&Key> for Key {
    fn from(key: &Key) -> Self {
        key.clone()
    }
}

/// A key, or the beginning of keys, without the prefix of the installation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(String);

impl Key {
    /// Everything there is.
    pub fn all() -> Self {
        Self("v2/".to_owned())
    }

    /// A key as it came from the store, without the prefix of the installation.
    pub fn raw(key: impl Into<String>) -> Self {
        Self(key.into())
    }

    /// The first possible key behind this one.
    pub fn next(&self) -> Self {
        Self(format!("{}\0", self.0))
    }

    /// As text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it is below `prefix`.
    pub fn begins_with(&self, prefix: &Self) -> bool {
        self.0.starts_with(&prefix.0)
    }

    /// The attachment of a claim, a tombstone or a release marker: `v2/<kind>/<node>/<network>/<container>/<ifname>`.
    pub fn attachment_part(&self) -> Option<Attachment> {
        let mut parts = self.0.split('/').skip(2);
        let (node, network, container) = (parts.next()?, parts.next()?, parts.next()?);
        Some(Attachment {
            node: NodeName::new(node).ok()?,
            network: NetworkName::new(network).ok()?,
            container: ContainerId::new(container).ok()?,
            // The only name that may hold a `%`, which the key writes `%25`.
            interface: IfName::new(parts.next()?.replace("%25", "%")).ok()?,
        })
    }

    /// The address of an address record, a cool-down marker or a reservation.
    pub fn address_part(&self) -> Option<IpAddr> {
        let mut parts = self.0.rsplit('/');
        let (last, family) = (parts.next()?, parts.next()?);
        match (family, last.len()) {
            ("4", 8) => u32::from_str_radix(last, 16).ok().map(|number| Ipv4Addr::from(number).into()),
            ("6", 32) => u128::from_str_radix(last, 16).ok().map(|number| Ipv6Addr::from(number).into()),
            _ => None,
        }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// An address in a key: the family, and the address with all its digits. So keys sort by family and address.
pub(crate) fn address_path(address: IpAddr) -> String {
    match address {
        IpAddr::V4(address) => format!("4/{:08x}", u32::from(address)),
        IpAddr::V6(address) => format!("6/{:032x}", u128::from(address)),
    }
}

/// The part of a key that names an attachment.
pub(crate) fn attachment_path(attachment: &Attachment) -> String {
    let Attachment { node, network, container, interface } = attachment;
    format!("{node}/{network}/{container}/{}", interface.as_str().replace('%', "%25"))
}

#[cfg(test)]
mod tests {
    use atoll_model::ids::TenantName;

    use super::*;
    use crate::{AddressRecord, ClaimRecord, ReleasedRecord, TombstoneRecord};

    #[test]
    fn addresses_sort_as_numbers() {
        let tenant = TenantName::new("red").expect("valid");
        let mut keys: Vec<_> =
            ["10.0.0.9", "fd00::10", "9.255.0.1", "fd00::9", "10.0.0.10", "2001:db8::1", "192.168.0.1"]
                .map(|a| Key::from(AddressRecord::at(&tenant, 1, a.parse().expect("an address"))))
                .into();
        keys.sort();
        let order: Vec<_> = keys.iter().filter_map(Key::address_part).map(|a| a.to_string()).collect();
        assert_eq!(order, ["9.255.0.1", "10.0.0.9", "10.0.0.10", "192.168.0.1", "2001:db8::1", "fd00::9", "fd00::10"]);
    }

    #[test]
    fn an_attachment_is_found_again_in_its_keys() {
        for interface in ["eth0", "eth%d", "%25"] {
            let attachment = Attachment {
                node: NodeName::new("node-1").expect("valid"),
                network: NetworkName::new("net").expect("valid"),
                container: ContainerId::new("c0ffee").expect("valid"),
                interface: IfName::new(interface).expect("valid"),
            };
            for key in [
                Key::from(ClaimRecord::at(&attachment)),
                TombstoneRecord::at(&attachment).into(),
                ReleasedRecord::at(&attachment).into(),
            ] {
                assert_eq!(key.attachment_part(), Some(attachment.clone()), "{key}");
            }
        }
        let written = |interface: &str| {
            let [node, network, container] = ["node-1", "net", "c0ffee"];
            Key::raw(format!("v2/claims/{node}/{network}/{container}/{interface}"))
        };
        let parts = written("eth%25d").attachment_part().expect("an attachment");
        assert_eq!((parts.interface.as_str(), Key::from(ClaimRecord::at(&parts))), ("eth%d", written("eth%25d")));
    }

    #[test]
    fn only_all_the_digits_of_a_family_are_an_address() {
        let part = |last: &str| Key::raw(format!("v2/addresses/red/00000001/{last}")).address_part();
        assert_eq!(part("4/0a000001"), Some([10, 0, 0, 1].into()));
        assert_eq!(part("6/fd000000000000000000000000000001"), Some("fd00::1".parse().expect("an address")));
        let long = "0".repeat(32);
        for other in ["4/a000001", "4/00a000001", "4/", "4/0a00000g", "0a000001", "6/0a000001", &format!("4/{long}")] {
            assert_eq!(part(other), None, "{other:?}");
        }
    }
}
