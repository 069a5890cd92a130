//! When rules apply.

use atoll_model::attachment::Mac;
use atoll_model::topology::{Condition, Fragments, Test};
use ipnetwork::Ipv4Network;
use uuid::Uuid;

use super::{ConvertError, Reader};
use crate::api::{Range, Rule};
use crate::dialect::Dialect;
use crate::resource::Resource;

const READER: Reader = Reader(Resource::Rule);
const EVERY_BIT: Mac = Mac([0xff; 6]);

impl Rule {
    /// Which fragments a rule means that does not say so: MidoNet REST API, section "Rule", validation of
    /// `fragmentPolicy`.
    pub fn default_fragments(&self) -> Fragments {
        let ports = self.tp_src.is_some() || self.tp_dst.is_some();
        if matches!(self.kind.as_deref(), Some("snat" | "dnat")) && (ports || !self.is_floating_ip()) {
            Fragments::Unfragmented
        } else if ports {
            Fragments::Header
        } else {
            Fragments::Any
        }
    }

    /// A translation to one single address that keeps the ports.
    pub fn is_floating_ip(&self) -> bool {
        matches!(self.nat_targets.as_deref(), Some([target])
            if target.address_from == target.address_to && target.port_from == 0 && target.port_to == 0)
    }

    pub(super) fn condition(&self, dialect: Dialect) -> Result<Condition, ConvertError> {
        Ok(Condition {
            inverted: self.cond_invert,
            forward_flow: self.match_forward_flow,
            return_flow: self.match_return_flow,
            in_ports: list(self.in_ports.as_deref(), self.inv_in_ports),
            out_ports: list(self.out_ports.as_deref(), self.inv_out_ports),
            in_port_group: test(self.in_port_group, self.inv_in_port_group)
                .or_else(|| test(self.port_group, self.inv_port_group)),
            out_port_group: test(self.out_port_group, self.inv_out_port_group),
            source_group: test(self.ip_addr_group_src, self.inv_ip_addr_group_src),
            destination_group: test(self.ip_addr_group_dst, self.inv_ip_addr_group_dst),
            traversed: test(self.traversed_device, self.inv_traversed_device),
            ether_type: test(number("dlType", self.dl_type)?, self.inv_dl_type),
            ether_source: test(
                mac(("dlSrc", "dlSrcMask"), self.dl_src.as_deref(), self.dl_src_mask.as_deref())?,
                self.inv_dl_src,
            ),
            ether_destination: test(
                mac(("dlDst", "dlDstMask"), self.dl_dst.as_deref(), self.dl_dst_mask.as_deref())?,
                self.inv_dl_dst,
            ),
            vlan: if self.no_vlan { Some(None) } else { number("vlan", self.vlan)?.map(Some) },
            tos: test(small("nwTos", self.nw_tos, dialect)?, self.inv_nw_tos),
            protocol: test(small("nwProto", self.nw_proto, dialect)?, self.inv_nw_proto),
            source: test(
                network(("nwSrcAddress", "nwSrcLength"), self.nw_src_address.as_deref(), self.nw_src_length)?,
                self.inv_nw_src,
            ),
            destination: test(
                network(("nwDstAddress", "nwDstLength"), self.nw_dst_address.as_deref(), self.nw_dst_length)?,
                self.inv_nw_dst,
            ),
            source_port: test(range("tpSrc", self.tp_src)?, self.inv_tp_src),
            destination_port: test(range("tpDst", self.tp_dst)?, self.inv_tp_dst),
            fragments: self.fragments()?,
            other: self.unsupported(),
        })
    }

    fn fragments(&self) -> Result<Fragments, ConvertError> {
        match self.fragment_policy.as_deref() {
            None => Ok(self.default_fragments()),
            Some("any") => Ok(Fragments::Any),
            Some("header") => Ok(Fragments::Header),
            Some("nonheader") => Ok(Fragments::NonHeader),
            Some("unfragmented") => Ok(Fragments::Unfragmented),
            other => Err(READER.wrong("fragmentPolicy", other, "any, header, nonheader or unfragmented")),
        }
    }

    /// Conditions that the topology model does not have.
    fn unsupported(&self) -> Vec<String> {
        let both_groups = self.port_group.is_some() && self.in_port_group.is_some();
        [
            (both_groups, "portGroup"),
            (self.match_nw_dst_rewritten, "matchNwDstRewritten"),
            (self.icmp_data_src_ip_address.is_some(), "icmpDataSrcIpAddress"),
            (self.icmp_data_dst_ip_address.is_some(), "icmpDataDstIpAddress"),
        ]
        .into_iter()
        .filter(|(there, _)| *there)
        .map(|(_, name)| name.to_owned())
        .collect()
    }

    pub(super) fn set_condition(&mut self, condition: &Condition) {
        let c = condition;
        self.cond_invert = c.inverted;
        self.match_forward_flow = c.forward_flow;
        self.match_return_flow = c.return_flow;
        (self.in_ports, self.inv_in_ports) = split(c.in_ports.as_ref());
        (self.out_ports, self.inv_out_ports) = split(c.out_ports.as_ref());
        // The older name is the one that both dialects know.
        (self.port_group, self.inv_port_group) = split(c.in_port_group.as_ref());
        (self.out_port_group, self.inv_out_port_group) = split(c.out_port_group.as_ref());
        (self.ip_addr_group_src, self.inv_ip_addr_group_src) = split(c.source_group.as_ref());
        (self.ip_addr_group_dst, self.inv_ip_addr_group_dst) = split(c.destination_group.as_ref());
        (self.traversed_device, self.inv_traversed_device) = split(c.traversed.as_ref());
        let (ether_type, inverted) = split(c.ether_type.as_ref());
        (self.dl_type, self.inv_dl_type) = (ether_type.map(i32::from), inverted);
        (self.dl_src, self.dl_src_mask, self.inv_dl_src) = split_mac(c.ether_source.as_ref());
        (self.dl_dst, self.dl_dst_mask, self.inv_dl_dst) = split_mac(c.ether_destination.as_ref());
        self.no_vlan = c.vlan == Some(None);
        self.vlan = c.vlan.flatten().map(i32::from);
        let (tos, inverted) = split(c.tos.as_ref());
        (self.nw_tos, self.inv_nw_tos) = (tos.map(i32::from), inverted);
        let (protocol, inverted) = split(c.protocol.as_ref());
        (self.nw_proto, self.inv_nw_proto) = (protocol.map(i32::from), inverted);
        (self.nw_src_address, self.nw_src_length, self.inv_nw_src) = split_network(c.source.as_ref());
        (self.nw_dst_address, self.nw_dst_length, self.inv_nw_dst) = split_network(c.destination.as_ref());
        (self.tp_src, self.inv_tp_src) = split_range(c.source_port.as_ref());
        (self.tp_dst, self.inv_tp_dst) = split_range(c.destination_port.as_ref());
        let policy = match c.fragments {
            Fragments::Any => "any",
            Fragments::Header => "header",
            Fragments::NonHeader => "nonheader",
            Fragments::Unfragmented => "unfragmented",
        };
        self.fragment_policy = Some(policy.to_owned());
    }
}

fn test<T>(value: Option<T>, inverted: bool) -> Option<Test<T>> {
    value.map(|value| Test { value, inverted })
}

/// An empty list means any port, as an absent one does.
fn list(ports: Option<&[Uuid]>, inverted: bool) -> Option<Test<Vec<Uuid>>> {
    test(ports.filter(|ports| !ports.is_empty()).map(<[Uuid]>::to_vec), inverted)
}

fn number(field: &'static str, field_value: Option<i32>) -> Result<Option<u16>, ConvertError> {
    let read = |n: i32| u16::try_from(n).map_err(|_| READER.wrong(field, Some(&n.to_string()), "0 to 65535"));
    field_value.map(read).transpose()
}

fn small(field: &'static str, field_value: Option<i32>, dialect: Dialect) -> Result<Option<u8>, ConvertError> {
    match field_value {
        Some(n) if !(0..=255).contains(&n) => Err(READER.wrong(field, Some(&n.to_string()), "0 to 255")),
        value => Ok(dialect.protocol_or_tos(value)),
    }
}

fn mac(
    fields: (&'static str, &'static str),
    address: Option<&str>,
    mask: Option<&str>,
) -> Result<Option<(Mac, Mac)>, ConvertError> {
    let Some(address) = address else { return Ok(None) };
    let address = READER.parsed(fields.0, address, "a MAC address")?;
    let mask = mask.map_or(Ok(EVERY_BIT), |text| {
        read_mask(text).ok_or_else(|| READER.wrong(fields.1, Some(text), "a MAC mask like ffff.ff00.0000"))
    })?;
    Ok(Some((address, mask)))
}

/// `hhhh.hhhh.hhhh`
fn read_mask(text: &str) -> Option<Mac> {
    let mut bytes = [0; 6];
    let mut parts = text.split('.');
    for pair in bytes.chunks_exact_mut(2) {
        let part = parts.next().filter(|p| p.len() == 4 && p.bytes().all(|b| b.is_ascii_hexdigit()))?;
        pair.copy_from_slice(&u16::from_str_radix(part, 16).ok()?.to_be_bytes());
    }
    parts.next().is_none().then_some(Mac(bytes))
}

/// A network is given by its address. A missing length is 0, as every number that the server misses.
fn network(
    fields: (&'static str, &'static str),
    address: Option<&str>,
    length: Option<i32>,
) -> Result<Option<Ipv4Network>, ConvertError> {
    let Some(address) = address else { return Ok(None) };
    READER.network(fields, Some(address), length.or(Some(0))).map(Some)
}

/// An open end is the end of all ports; a range open on both sides says nothing.
fn range(field: &'static str, range: Option<Range>) -> Result<Option<(u16, u16)>, ConvertError> {
    match range {
        None | Some(Range { start: None, end: None }) => Ok(None),
        Some(Range { start, end }) => {
            let (start, end) = (number(field, start)?.unwrap_or(0), number(field, end)?.unwrap_or(u16::MAX));
            Ok(Some((start, end)))
        }
    }
}

fn split<T: Clone>(test: Option<&Test<T>>) -> (Option<T>, bool) {
    test.map_or((None, false), |test| (Some(test.value.clone()), test.inverted))
}

fn split_mac(test: Option<&Test<(Mac, Mac)>>) -> (Option<String>, Option<String>, bool) {
    let Some(Test { value: (mac, mask), inverted }) = test else { return (None, None, false) };
    let groups = mask.0.chunks_exact(2).map(|pair| format!("{:02x}{:02x}", pair[0], pair[1]));
    let mask = (*mask != EVERY_BIT).then(|| groups.collect::<Vec<_>>().join("."));
    (Some(mac.to_string()), mask, *inverted)
}

fn split_network(test: Option<&Test<Ipv4Network>>) -> (Option<String>, Option<i32>, bool) {
    let Some(Test { value, inverted }) = test else { return (None, None, false) };
    (Some(value.network().to_string()), Some(value.prefix().into()), *inverted)
}

fn split_range(test: Option<&Test<(u16, u16)>>) -> (Option<Range>, bool) {
    let Some(Test { value: (start, end), inverted }) = test else { return (None, false) };
    (Some(Range { start: Some((*start).into()), end: Some((*end).into()) }), *inverted)
}
