//! Chains and rules: MidoNet REST API, sections "Chain", "Rule".

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::lenient;
use super::object::{Extra, object};

/// A chain.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Chain {
    /// Id, chosen by the client or the server.
    pub id: Option<Uuid>,
    /// Owner, free text; required on 1.9.
    pub tenant_id: Option<String>,
    /// Name, not unique; required on 1.9.
    pub name: Option<String>,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Extra,
}

/// A range of addresses and ports to translate to; ports 0 to 0 keep the packet's port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct NatTarget {
    /// First address.
    pub address_from: Option<String>,
    /// Last address.
    pub address_to: Option<String>,
    /// First port.
    #[serde(deserialize_with = "lenient::integer_or_zero")]
    pub port_from: i32,
    /// Last port.
    #[serde(deserialize_with = "lenient::integer_or_zero")]
    pub port_to: i32,
}

/// A range whose ends may be open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Range {
    /// First.
    #[serde(deserialize_with = "lenient::integer")]
    pub start: Option<i32>,
    /// Last.
    #[serde(deserialize_with = "lenient::integer")]
    pub end: Option<i32>,
}

/// A rule of any kind. A condition that is absent matches everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Rule {
    /// Id, chosen by the client or the server.
    pub id: Option<Uuid>,
    /// The chain; taken from the path on creation.
    pub chain_id: Option<Uuid>,
    /// `accept`, `drop`, `reject`, `return`, `jump`, `snat`, `dnat`, `rev_snat`, `rev_dnat`, `trace`, `l2_transform`.
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// Place in its chain, from 1; a new rule goes to the head unless it says otherwise.
    #[serde(deserialize_with = "lenient::integer")]
    pub position: Option<i32>,
    /// What follows a rewriting: `accept`, `continue`, `return`; 5.x also `redirect`.
    pub flow_action: Option<String>,
    /// What to translate to; `snat` and `dnat` need one or more.
    pub nat_targets: Option<Vec<NatTarget>>,
    /// `jump`: to this chain.
    pub jump_chain_id: Option<Uuid>,
    /// `jump`: the chain's name.
    pub jump_chain_name: Option<String>,
    /// `trace`: the request.
    pub request_id: Option<Uuid>,
    /// `trace`: how many.
    #[serde(deserialize_with = "lenient::integer")]
    pub limit: Option<i64>,
    /// `l2_transform`: take the VLAN tag off.
    #[serde(deserialize_with = "lenient::flag")]
    pub pop_vlan: bool,
    /// `l2_transform`: put this VLAN tag on.
    #[serde(deserialize_with = "lenient::integer")]
    pub push_vlan: Option<i32>,
    /// `l2_transform`: send it to this port.
    pub target_port_id: Option<Uuid>,
    /// `l2_transform`: into the device, not out of it.
    #[serde(deserialize_with = "lenient::flag")]
    pub ingress: bool,
    /// `l2_transform`: pass when the target is down.
    #[serde(deserialize_with = "lenient::flag")]
    pub fail_open: bool,
    /// Meter that counts what matches.
    pub meter_name: Option<String>,
    /// Negates the conjunction of all conditions but `fragmentPolicy`.
    #[serde(deserialize_with = "lenient::flag")]
    pub cond_invert: bool,
    /// The packet is of the direction that opened its flow.
    #[serde(deserialize_with = "lenient::flag")]
    pub match_forward_flow: bool,
    /// The packet is of the direction that answers.
    #[serde(deserialize_with = "lenient::flag")]
    pub match_return_flow: bool,
    /// Entered through one of these ports.
    pub in_ports: Option<Vec<Uuid>>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_in_ports: bool,
    /// Leaves through one of these ports.
    pub out_ports: Option<Vec<Uuid>>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_out_ports: bool,
    /// Entered through a member of this group.
    pub port_group: Option<Uuid>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_port_group: bool,
    /// 5.x: the same.
    pub in_port_group: Option<Uuid>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_in_port_group: bool,
    /// 5.x: leaves through a member of this group.
    pub out_port_group: Option<Uuid>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_out_port_group: bool,
    /// Source is in this group.
    pub ip_addr_group_src: Option<Uuid>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_ip_addr_group_src: bool,
    /// Destination is in this group.
    pub ip_addr_group_dst: Option<Uuid>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_ip_addr_group_dst: bool,
    /// Has traversed this device.
    pub traversed_device: Option<Uuid>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_traversed_device: bool,
    /// 5.x: has no VLAN tag.
    #[serde(deserialize_with = "lenient::flag")]
    pub no_vlan: bool,
    /// 5.x: has this VLAN tag.
    #[serde(deserialize_with = "lenient::integer")]
    pub vlan: Option<i32>,
    /// EtherType.
    #[serde(deserialize_with = "lenient::integer")]
    pub dl_type: Option<i32>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_dl_type: bool,
    /// Source MAC.
    pub dl_src: Option<String>,
    /// Which bits of it, `hhhh.hhhh.hhhh`.
    pub dl_src_mask: Option<String>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_dl_src: bool,
    /// Destination MAC.
    pub dl_dst: Option<String>,
    /// Which bits of it, `hhhh.hhhh.hhhh`.
    pub dl_dst_mask: Option<String>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_dl_dst: bool,
    /// Type of service; unset is 0 on 1.9.
    #[serde(deserialize_with = "lenient::integer")]
    pub nw_tos: Option<i32>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_nw_tos: bool,
    /// IP protocol; unset is 0 on 1.9.
    #[serde(deserialize_with = "lenient::integer")]
    pub nw_proto: Option<i32>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_nw_proto: bool,
    /// Source network.
    pub nw_src_address: Option<String>,
    /// Length of its prefix.
    #[serde(deserialize_with = "lenient::integer")]
    pub nw_src_length: Option<i32>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_nw_src: bool,
    /// Destination network.
    pub nw_dst_address: Option<String>,
    /// Length of its prefix.
    #[serde(deserialize_with = "lenient::integer")]
    pub nw_dst_length: Option<i32>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_nw_dst: bool,
    /// Source ports or ICMP types.
    pub tp_src: Option<Range>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_tp_src: bool,
    /// Destination ports or ICMP codes.
    pub tp_dst: Option<Range>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_tp_dst: bool,
    /// `any`, `header`, `nonheader`, `unfragmented`; the default depends on the rest of the rule.
    pub fragment_policy: Option<String>,
    /// Late 5.x: its destination was rewritten.
    #[serde(deserialize_with = "lenient::flag")]
    pub match_nw_dst_rewritten: bool,
    /// 5.x: source inside an ICMP error.
    pub icmp_data_src_ip_address: Option<String>,
    /// Length of its prefix.
    #[serde(deserialize_with = "lenient::integer")]
    pub icmp_data_src_ip_length: Option<i32>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_icmp_data_src_ip: bool,
    /// 5.x: destination inside an ICMP error.
    pub icmp_data_dst_ip_address: Option<String>,
    /// Length of its prefix.
    #[serde(deserialize_with = "lenient::integer")]
    pub icmp_data_dst_ip_length: Option<i32>,
    /// Negates it.
    #[serde(deserialize_with = "lenient::flag")]
    pub inv_icmp_data_dst_ip: bool,
    /// Its own address.
    pub uri: Option<String>,
    /// Everything else; `properties` on 1.9.
    #[serde(flatten)]
    pub other: Extra,
}

object!(Chain, id id);
object!(Rule, id id, in Chain by chain_id "chainId");
