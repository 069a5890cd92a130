//! Elements of sets and maps as nfnetlink has them (`include/uapi/linux/netfilter/nf_tables.h`).

use std::net::Ipv4Addr;

use atoll_model::attachment::Mac;
use atoll_node::netlink::nfnetlink::{NESTED, attribute, name, put, text};

use crate::compile::{AllowedSource, Element, NftSet};

/// The table of a router namespace, in both families.
pub(super) const TABLE: &str = "atoll";
/// The verdict "jump" (`NFT_JUMP`).
const JUMP: i32 = -3;

/// A concatenation is its parts, each padded to four bytes.
fn key(element: &Element) -> Vec<u8> {
    if let Some((address, _)) = element.node {
        return address.octets().to_vec();
    }
    let mut key = element.interface.clone().into_bytes();
    key.resize(16, 0);
    if let Some(AllowedSource { mac, address }) = element.source {
        let macs = match element.set {
            NftSet::ArpSenders => 2,
            NftSet::Known => 0,
            _ => 1,
        };
        for _ in 0..macs {
            key.extend(mac.0);
            key.extend([0; 2]);
        }
        key.extend(address.octets());
    }
    key
}

pub(super) fn decode(set: NftSet, element: &[u8]) -> Option<Element> {
    let key = attribute(attribute(element, 1)?, 1)?;
    let data = || attribute(element, 2);
    if set == NftSet::HostToPod {
        let address = |bytes: &[u8]| <[u8; 4]>::try_from(bytes).ok().map(Ipv4Addr::from);
        let node = Some((address(key)?, address(data().and_then(|data| attribute(data, 1))?)?));
        return Some(Element { set, interface: String::new(), source: None, chain: None, node });
    }
    let interface = String::from_utf8(key.get(..16)?.split(|b| *b == 0).next()?.to_vec()).ok()?;
    let source = match set {
        NftSet::AllowedSources | NftSet::ArpSenders => {
            let mac = Mac(key.get(16..22)?.try_into().ok()?);
            let address: [u8; 4] = key.get(key.len() - 4..)?.try_into().ok()?;
            Some(AllowedSource { mac, address: address.into() })
        }
        NftSet::Known => {
            let address: [u8; 4] = key.get(16..20)?.try_into().ok()?;
            Some(AllowedSource { mac: Mac([0; 6]), address: address.into() })
        }
        NftSet::Open | NftSet::Stage(_) | NftSet::HostToPod => None,
    };
    let verdict = data().and_then(|data| attribute(data, 2));
    let chain = text(verdict.and_then(|verdict| attribute(verdict, 2))).map(str::to_owned);
    Some(Element { set, interface, source, chain, node: None })
}

pub(super) fn encode(element: &Element) -> Vec<u8> {
    let (mut value, mut wrapped, mut list, mut elements) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    put(&mut value, 1, &key(element));
    put(&mut wrapped, 1 | NESTED, &value);
    if let Some(chain) = &element.chain {
        let (mut verdict, mut data) = (Vec::new(), Vec::new());
        put(&mut verdict, 1, &JUMP.to_be_bytes());
        put(&mut verdict, 2, &name(chain));
        put(&mut data, 2 | NESTED, &verdict);
        put(&mut wrapped, 2 | NESTED, &data);
    }
    if let Some((_, pod)) = element.node {
        let mut data = Vec::new();
        put(&mut data, 1, &pod.octets());
        put(&mut wrapped, 2 | NESTED, &data);
    }
    put(&mut list, 1 | NESTED, &wrapped);
    put(&mut elements, 1, &name(TABLE));
    put(&mut elements, 2, &name(element.set.name()));
    put(&mut elements, 3 | NESTED, &list);
    elements
}
