//! When rules apply.

use atoll_model::attachment::Mac;
use atoll_model::topology::{Condition, Fragments, Test};
use atoll_sdn_client::api::{Range, Rule};
use atoll_sdn_client::{Dialect, Resource};
use ipnetwork::Ipv4Network;
use uuid::Uuid;

use super::{ConvertError, Reader};

const READER: Reader = Reader(Resource::Rule);
const EVERY_BIT: Mac = Mac([0xff; 6]);

/// The default fragment policy of a rule: MidoNet REST API, section "Rule", validation of
/// `fragmentPolicy`.
pub(crate) fn default_fragments(rule: &Rule) -> Fragments {
    let ports = rule.tp_src.is_some() || rule.tp_dst.is_some();
    if matches!(rule.kind.as_deref(), Some("snat" | "dnat")) && (ports || !is_floating_ip(rule)) {
        Fragments::Unfragmented
    } else if ports {
        Fragments::Header
    } else {
        Fragments::Any
    }
}

/// A translation to one single address that keeps the ports.
fn is_floating_ip(rule: &Rule) -> bool {
    matches!(rule.nat_targets.as_deref(), Some([target])
        if target.address_from == target.address_to && target.port_from == 0 && target.port_to == 0)
}

pub(super) fn condition(rule: &Rule, dialect: Dialect) -> Result<Condition, ConvertError> {
    Ok(Condition {
        inverted: rule.cond_invert,
        forward_flow: rule.match_forward_flow,
        return_flow: rule.match_return_flow,
        in_ports: list(rule.in_ports.as_deref(), rule.inv_in_ports),
        out_ports: list(rule.out_ports.as_deref(), rule.inv_out_ports),
        in_port_group: test(rule.in_port_group, rule.inv_in_port_group)
            .or_else(|| test(rule.port_group, rule.inv_port_group)),
        out_port_group: test(rule.out_port_group, rule.inv_out_port_group),
        source_group: test(rule.ip_addr_group_src, rule.inv_ip_addr_group_src),
        destination_group: test(rule.ip_addr_group_dst, rule.inv_ip_addr_group_dst),
        traversed: test(rule.traversed_device, rule.inv_traversed_device),
        ether_type: test(number("dlType", rule.dl_type)?, rule.inv_dl_type),
        ether_source: test(
            mac(("dlSrc", "dlSrcMask"), rule.dl_src.as_deref(), rule.dl_src_mask.as_deref())?,
            rule.inv_dl_src,
        ),
        ether_destination: test(
            mac(("dlDst", "dlDstMask"), rule.dl_dst.as_deref(), rule.dl_dst_mask.as_deref())?,
            rule.inv_dl_dst,
        ),
        vlan: if rule.no_vlan { Some(None) } else { number("vlan", rule.vlan)?.map(Some) },
        tos: test(small("nwTos", rule.nw_tos, dialect)?, rule.inv_nw_tos),
        protocol: test(small("nwProto", rule.nw_proto, dialect)?, rule.inv_nw_proto),
        source: test(
            network(("nwSrcAddress", "nwSrcLength"), rule.nw_src_address.as_deref(), rule.nw_src_length)?,
            rule.inv_nw_src,
        ),
        destination: test(
            network(("nwDstAddress", "nwDstLength"), rule.nw_dst_address.as_deref(), rule.nw_dst_length)?,
            rule.inv_nw_dst,
        ),
        source_port: test(range("tpSrc", rule.tp_src)?, rule.inv_tp_src),
        destination_port: test(range("tpDst", rule.tp_dst)?, rule.inv_tp_dst),
        fragments: fragments(rule)?,
        other: unsupported(rule),
    })
}

fn fragments(rule: &Rule) -> Result<Fragments, ConvertError> {
    match rule.fragment_policy.as_deref() {
        None => Ok(default_fragments(rule)),
        Some("any") => Ok(Fragments::Any),
        Some("header") => Ok(Fragments::Header),
        Some("nonheader") => Ok(Fragments::NonHeader),
        Some("unfragmented") => Ok(Fragments::Unfragmented),
        other => Err(READER.wrong("fragmentPolicy", other, "any, header, nonheader or unfragmented")),
    }
}

/// Conditions that the topology model does not have.
fn unsupported(rule: &Rule) -> Vec<String> {
    let both_groups = rule.port_group.is_some() && rule.in_port_group.is_some();
    [
        (both_groups, "portGroup"),
        (rule.match_nw_dst_rewritten, "matchNwDstRewritten"),
        (rule.icmp_data_src_ip_address.is_some(), "icmpDataSrcIpAddress"),
        (rule.icmp_data_dst_ip_address.is_some(), "icmpDataDstIpAddress"),
    ]
    .into_iter()
    .filter(|(there, _)| *there)
    .map(|(_, name)| name.to_owned())
    .collect()
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

/// A network is given by its address. A missing length is 0, like every absent number.
fn network(
    fields: (&'static str, &'static str),
    address: Option<&str>,
    length: Option<i32>,
) -> Result<Option<Ipv4Network>, ConvertError> {
    let Some(address) = address else { return Ok(None) };
    READER.network(fields, Some(address), length.or(Some(0))).map(Some)
}

/// An open end is the end of all ports; a range that is open on both sides matches everything.
fn range(field: &'static str, range: Option<Range>) -> Result<Option<(u16, u16)>, ConvertError> {
    match range {
        None | Some(Range { start: None, end: None }) => Ok(None),
        Some(Range { start, end }) => {
            let (start, end) = (number(field, start)?.unwrap_or(0), number(field, end)?.unwrap_or(u16::MAX));
            Ok(Some((start, end)))
        }
    }
}
