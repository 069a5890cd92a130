//! A table of nftables of the family `inet`: fixed chains and rules, loaded by one transaction, and the elements of a map for each
//! address family. No program is started. Layouts: `include/uapi/linux/netfilter/nf_tables.h`.
//!
//! # Guarantees
//! * A table is loaded whole or not at all: one that exists is complete.
//! * Tables of others are not changed.

use std::io;
use std::net::IpAddr;

use nix::errno::Errno;

use super::nfnetlink::{CREATE, DUMP, IPV4, IPV6, NESTED, REQUEST, attribute, name, put, text, walk};
use super::nfnetlink_socket::{NfnetlinkChange, NfnetlinkSocket};

const SUBSYSTEM: u16 = 10;
const NEW_TABLE: u16 = 0;
const DELETE_TABLE: u16 = 2;
const NEW_CHAIN: u16 = 3;
const NEW_RULE: u16 = 6;
const NEW_SET: u16 = 9;
const NEW_ELEMENT: u16 = 12;
const GET_ELEMENT: u16 = 13;
const DELETE_ELEMENT: u16 = 14;
/// `NLM_F_EXCL`.
const ONLY: u16 = 0x200;
/// `NLM_F_APPEND`.
const APPEND: u16 = 0x800;
/// The family `inet` (`NFPROTO_INET`).
const INET: u8 = 1;
/// `NFT_SET_MAP`.
const MAP: u32 = 8;
/// `NFT_REG_1`.
const REGISTER: u32 = 1;

/// Where a chain is called (`NF_INET_…`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum FilterHook {
    /// What comes in.
    Prerouting = 0,
    /// What is for the machine itself.
    Input = 1,
    /// What passes.
    Forward = 2,
    /// What leaves.
    Postrouting = 4,
}

/// A chain of a table, called by the kernel.
#[derive(Clone, Debug)]
pub struct FilterChain {
    /// Its name.
    pub name: &'static str,
    /// `filter` or `nat`.
    pub kind: &'static str,
    /// Where it is called.
    pub hook: FilterHook,
    /// Smaller numbers are called first.
    pub priority: i32,
    /// What no rule decides is dropped.
    pub drops: bool,
    /// Its rules, each a list of expressions.
    pub rules: Vec<Vec<Expression>>,
}

/// A part of a rule. A condition that is not met ends the rule.
#[derive(Clone, Copy, Debug)]
pub enum Expression {
    /// It came in by this interface.
    From(&'static str),
    /// It leaves by this interface.
    By(&'static str),
    /// It is an answer, or an error that answers, of a flow that the other side began.
    Answers,
    /// Its destination was translated.
    IsTranslated,
    /// It asks for the MAC of a neighbour of IPv6, or answers that.
    IsNeighbourDiscovery,
    /// Let it pass.
    Accept,
    /// If it is of this family, its destination becomes what the table's map has for it; without an element the rule ends.
    DestinationFromMap(FilterFamily),
    /// If it is of the address' family, its source becomes this address.
    Source(IpAddr),
    /// Set this bit of its mark.
    Mark(u32),
}

/// An address family of a table, which has a map for each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FilterFamily {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl FilterFamily {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    fn protocol(self) -> u8 {
        match self {
            Self::V4 => IPV4,
            Self::V6 => IPV6,
        }
    }

    /// The name of its map.
    fn map(self) -> &'static str {
        match self {
            Self::V4 => "pods",
            Self::V6 => "pods6",
        }
    }

    /// The type of its addresses in the eyes of the program `nft`, and their length.
    fn address(self) -> (u32, u32) {
        match self {
            Self::V4 => (7, 4),
            Self::V6 => (8, 16),
        }
    }

    /// Where the destination is in the header.
    fn destination(self) -> u32 {
        match self {
            Self::V4 => 16,
            Self::V6 => 24,
        }
    }

    /// The condition that a packet is of it.
    fn is(self) -> Vec<u8> {
        [meta_to_register(15), equals(&[self.protocol()])].concat()
    }
}

/// An element of a table's map.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MapElement {
    /// What is looked up.
    pub key: IpAddr,
    /// What is found, of the same family.
    pub value: IpAddr,
    /// Its comment.
    pub comment: String,
}

/// A socket to the packet filter of the calling thread's namespace.
pub struct FilterSocket(NfnetlinkSocket);

impl FilterSocket {
    /// Opens the socket.
    ///
    /// # Errors
    /// The error of `socket` or `bind`.
    pub fn here() -> io::Result<Self> {
        NfnetlinkSocket::here(SUBSYSTEM).map(Self)
    }

    /// Loads a table with its chains and empty maps. One that exists stays as it is.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn load(&mut self, table: &str, chains: &[FilterChain]) -> io::Result<()> {
        let mut requests = vec![change(NEW_TABLE, CREATE | ONLY, attributes(&[(1, &name(table))]))];
        requests.extend((1..).zip(FilterFamily::ALL).map(|(id, family)| map(table, id, family)));
        for chain in chains {
            requests.push(change(NEW_CHAIN, CREATE, chain.attributes(table)));
            for rule in &chain.rules {
                requests.push(change(NEW_RULE, CREATE | APPEND, chain.rule(table, rule)));
            }
        }
        match self.0.transaction(requests) {
            Err(error) if error.raw_os_error() == Some(Errno::EEXIST as i32) => Ok(()),
            other => other,
        }
    }

    /// Deletes a table; an absent one is fine.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn unload(&mut self, table: &str) -> io::Result<()> {
        absent_is_fine(self.0.transaction(vec![change(DELETE_TABLE, 0, attributes(&[(1, &name(table))]))]))
    }

    /// Adds an element to a table's map; the same one may be there.
    ///
    /// # Errors
    /// `EEXIST`: the map has another value for this key. `ENOENT`: there is no such table. Otherwise the kernel's error.
    pub fn add(&mut self, table: &str, element: &MapElement) -> io::Result<()> {
        self.0.transaction(vec![change(NEW_ELEMENT, CREATE, element.attributes(table))])
    }

    /// Deletes an element of a table's map; an absent one, or an absent table, is fine.
    ///
    /// # Errors
    /// The kernel's error.
    pub fn delete(&mut self, table: &str, element: &MapElement) -> io::Result<()> {
        absent_is_fine(self.0.transaction(vec![change(DELETE_ELEMENT, 0, element.attributes(table))]))
    }

    /// The elements of a table's maps. None: there is no such table.
    ///
    /// # Errors
    /// The kernel's error; `EINTR` when the list changed at each attempt.
    pub fn elements(&mut self, table: &str) -> io::Result<Option<Vec<MapElement>>> {
        let mut elements = Vec::new();
        for family in FilterFamily::ALL {
            let wanted = attributes(&[(1, &name(table)), (2, &name(family.map()))]);
            let lists = match self.0.request(INET, GET_ELEMENT, REQUEST | DUMP, &wanted) {
                Err(error) if error.raw_os_error() == Some(Errno::ENOENT as i32) => return Ok(None),
                other => other?,
            };
            let listed = lists.iter().flat_map(|list| walk(attribute(list, 3).unwrap_or_default()));
            elements.extend(listed.filter_map(|(_, element)| MapElement::read(element)));
        }
        Ok(Some(elements))
    }
}

impl FilterChain {
    fn attributes(&self, table: &str) -> Vec<u8> {
        let priority = self.priority.to_be_bytes();
        let hook = attributes(&[(1, &(self.hook as u32).to_be_bytes()), (2, &priority)]);
        let policy = u32::from(!self.drops).to_be_bytes();
        attributes(&[
            (1, &name(table)),
            (3, &name(self.name)),
            (4 | NESTED, &hook),
            (5, &policy),
            (7, &name(self.kind)),
        ])
    }

    fn rule(&self, table: &str, rule: &[Expression]) -> Vec<u8> {
        let expressions: Vec<u8> = rule.iter().flat_map(|expression| expression.encode()).collect();
        attributes(&[(1, &name(table)), (2, &name(self.name)), (4 | NESTED, &expressions)])
    }
}

impl Expression {
    fn encode(self) -> Vec<u8> {
        let register = REGISTER.to_be_bytes();
        match self {
            Self::From(interface) => [meta_to_register(6), is_interface(interface)].concat(),
            Self::By(interface) => [meta_to_register(7), is_interface(interface)].concat(),
            // Established or related (`NF_CT_STATE_BIT`), and of the direction `IP_CT_DIR_REPLY`.
            Self::Answers => [ct(0), bits(0b110), differs(&0_u32.to_ne_bytes()), ct(1), equals(&[1])].concat(),
            // `IPS_DST_NAT`.
            Self::IsTranslated => [ct(2), bits(0x20), differs(&0_u32.to_ne_bytes())].concat(),
            // ICMPv6 (`NFT_META_L4PROTO`) of a type from 135 to 136 (RFC 4861): solicitation and advertisement.
            Self::IsNeighbourDiscovery => {
                [FilterFamily::V6.is(), meta_to_register(16), equals(&[58]), payload(2, 0, 1), within(135, 136)]
                    .concat()
            }
            Self::Accept => {
                let accept = attributes(&[(1, &1_u32.to_be_bytes())]);
                immediate(0, &attributes(&[(2 | NESTED, &accept)]))
            }
            Self::DestinationFromMap(family) => {
                let address = payload(1, family.destination(), family.address().1);
                let found = attributes(&[(1, &name(family.map())), (2, &register), (3, &register)]);
                [family.is(), address, expression("lookup", &found), translate(1, family)].concat()
            }
            Self::Source(address) => {
                let family = FilterFamily::of(address);
                let value = attributes(&[(1, &octets(address))]);
                [family.is(), immediate(REGISTER, &value), translate(0, family)].concat()
            }
            Self::Mark(bit) => {
                let set = attributes(&[(2, &3_u32.to_be_bytes()), (3, &register)]);
                [meta_to_register(3), bitwise(!bit, bit), expression("meta", &set)].concat()
            }
        }
    }
}

impl MapElement {
    fn attributes(&self, table: &str) -> Vec<u8> {
        let key = attributes(&[(1, &octets(self.key))]);
        let value = attributes(&[(1, &octets(self.value))]);
        // The comment as the program `nft` shows it: type 0, length, text.
        let text = name(&self.comment);
        let mut comment = vec![0, u8::try_from(text.len()).unwrap_or(u8::MAX)];
        comment.extend(text);
        let element = attributes(&[(1 | NESTED, &key), (2 | NESTED, &value), (6, &comment)]);
        let list = attributes(&[(1 | NESTED, &element)]);
        attributes(&[(1, &name(table)), (2, &name(FilterFamily::of(self.key).map())), (3 | NESTED, &list)])
    }

    fn read(element: &[u8]) -> Option<Self> {
        let address = |kind| {
            let octets = attribute(attribute(element, kind)?, 1)?;
            let v4 = <[u8; 4]>::try_from(octets).ok().map(IpAddr::from);
            v4.or_else(|| <[u8; 16]>::try_from(octets).ok().map(IpAddr::from))
        };
        let comment = attribute(element, 6).unwrap_or_default();
        let length = usize::from(*comment.get(1).unwrap_or(&0));
        let comment = text(comment.get(2..2 + length)).unwrap_or_default().to_owned();
        Some(Self { key: address(1)?, value: address(2)?, comment })
    }
}

fn absent_is_fine(answer: io::Result<()>) -> io::Result<()> {
    answer.or_else(|error| if error.raw_os_error() == Some(Errno::ENOENT as i32) { Ok(()) } else { Err(error) })
}

/// The request that makes a table's map of a family. `id`: its number within the transaction.
fn map(table: &str, id: u32, family: FilterFamily) -> NfnetlinkChange {
    let (kind, length) = family.address();
    let numbers: [(u16, u32); 6] = [(3, MAP), (4, kind), (5, length), (6, kind), (7, length), (10, id)];
    let mut set = attributes(&[(1, &name(table)), (2, &name(family.map()))]);
    for (kind, number) in numbers {
        put(&mut set, kind, &number.to_be_bytes());
    }
    change(NEW_SET, CREATE, set)
}

fn change(kind: u16, flags: u16, attributes: Vec<u8>) -> NfnetlinkChange {
    NfnetlinkChange { family: INET, kind, flags, attributes }
}

fn attributes(all: &[(u16, &[u8])]) -> Vec<u8> {
    let mut buffer = Vec::new();
    for (kind, value) in all {
        put(&mut buffer, *kind, value);
    }
    buffer
}

fn expression(kind: &str, data: &[u8]) -> Vec<u8> {
    let inner = attributes(&[(1, &name(kind)), (2 | NESTED, data)]);
    attributes(&[(1 | NESTED, &inner)])
}

fn meta_to_register(key: u32) -> Vec<u8> {
    expression("meta", &attributes(&[(1, &REGISTER.to_be_bytes()), (2, &key.to_be_bytes())]))
}

/// Loads bytes of the header of the network (`base` 1) or of the transport (2).
fn payload(base: u32, offset: u32, length: u32) -> Vec<u8> {
    let numbers: [(u16, u32); 4] = [(1, REGISTER), (2, base), (3, offset), (4, length)];
    let data: Vec<u8> = numbers.iter().flat_map(|(kind, it)| attributes(&[(*kind, &it.to_be_bytes())])).collect();
    expression("payload", &data)
}

fn octets(address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(address) => address.octets().to_vec(),
        IpAddr::V6(address) => address.octets().to_vec(),
    }
}

fn ct(key: u32) -> Vec<u8> {
    expression("ct", &attributes(&[(1, &REGISTER.to_be_bytes()), (2, &key.to_be_bytes())]))
}

fn is_interface(interface: &str) -> Vec<u8> {
    let mut padded = interface.as_bytes().to_vec();
    padded.resize(16, 0);
    equals(&padded)
}

fn equals(value: &[u8]) -> Vec<u8> {
    compare(0, value)
}

fn differs(value: &[u8]) -> Vec<u8> {
    compare(1, value)
}

/// The byte in the register is from `first` to `last`.
fn within(first: u8, last: u8) -> Vec<u8> {
    [compare(5, &[first]), compare(3, &[last])].concat()
}

fn compare(operator: u32, value: &[u8]) -> Vec<u8> {
    let value = attributes(&[(1, value)]);
    let data = [(1, &REGISTER.to_be_bytes()[..]), (2, &operator.to_be_bytes()), (3 | NESTED, &value)];
    expression("cmp", &attributes(&data))
}

/// Leaves only these bits of the register.
fn bits(mask: u32) -> Vec<u8> {
    bitwise(mask, 0)
}

fn bitwise(mask: u32, xor: u32) -> Vec<u8> {
    let register = REGISTER.to_be_bytes();
    let [mask, xor] = [mask, xor].map(|value| attributes(&[(1, &value.to_ne_bytes())]));
    let length = 4_u32.to_be_bytes();
    let data = [(1, &register[..]), (2, &register), (3, &length), (4 | NESTED, &mask), (5 | NESTED, &xor)];
    expression("bitwise", &attributes(&data))
}

fn immediate(register: u32, data: &[u8]) -> Vec<u8> {
    expression("immediate", &attributes(&[(1, &register.to_be_bytes()), (2 | NESTED, data)]))
}

/// Translates to the address in the register: 0, the source; 1, the destination.
fn translate(kind: u32, family: FilterFamily) -> Vec<u8> {
    let numbers = [(1, kind), (2, u32::from(family.protocol())), (3, REGISTER)]
        .map(|(kind, number)| (kind, number.to_be_bytes()));
    let data: Vec<_> = numbers.iter().map(|(kind, bytes)| (*kind, &bytes[..])).collect();
    expression("nat", &attributes(&data))
}
