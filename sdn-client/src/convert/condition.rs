//! When rules apply.

use atoll_model::attachment::Mac;
use atoll_model::topology::{Condition, Fragments, Test};
use ipnetwork::Ipv4Network;

use crate::api::{Range, Rule};

const EVERY_BIT: Mac = Mac([0xff; 6]);

impl Rule {
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
