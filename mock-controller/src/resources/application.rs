//! The root document: the URIs of all resources.

use serde_json::{Map, Value};

use crate::call::{Call, Reply, ReplyResult};

/// Key and path; keys that end in `Template` get `/{id}`.
static LINKS: &[(&str, &str)] = &[
    ("tenants", "tenants"),
    ("routers", "routers"),
    ("bridges", "bridges"),
    ("ports", "ports"),
    ("chains", "chains"),
    ("portGroups", "port_groups"),
    ("ipAddrGroups", "ip_addr_groups"),
    ("hosts", "hosts"),
    ("tunnelZones", "tunnel_zones"),
    ("loadBalancers", "load_balancers"),
    ("pools", "pools"),
    ("poolMembers", "pool_members"),
    ("vips", "vips"),
    ("healthMonitors", "health_monitors"),
    ("vteps", "vteps"),
    ("traceRequests", "traces"),
    ("systemState", "system_state"),
    ("tenantTemplate", "tenants"),
    ("routerTemplate", "routers"),
    ("bridgeTemplate", "bridges"),
    ("portTemplate", "ports"),
    ("chainTemplate", "chains"),
    ("portGroupTemplate", "port_groups"),
    ("ipAddrGroupTemplate", "ip_addr_groups"),
    ("hostTemplate", "hosts"),
    ("tunnelZoneTemplate", "tunnel_zones"),
    ("loadBalancerTemplate", "load_balancers"),
    ("poolTemplate", "pools"),
    ("poolMemberTemplate", "pool_members"),
    ("vipTemplate", "vips"),
    ("healthMonitorTemplate", "health_monitors"),
    ("vtepTemplate", "vteps"),
    ("routeTemplate", "routes"),
    ("ruleTemplate", "rules"),
];

/// What only 1.9 has.
static OLD: &[(&str, &str)] = &[
    ("writeVersion", "write_version"),
    ("hostVersions", "versions"),
    ("bgpTemplate", "bgps"),
    ("adRouteTemplate", "ad_routes"),
];

/// What only 5.x has.
static NEW: &[(&str, &str)] = &[
    ("neutron", "neutron"),
    ("l2insertions", "l2insertions"),
    ("mirrors", "mirrors"),
    ("qosPolicies", "qos_policies"),
    ("serviceContainers", "service_containers"),
    ("serviceContainerGroups", "service_container_groups"),
    ("traceRequestTemplate", "traces"),
    ("bgpNetworkTemplate", "bgp_networks"),
    ("bgpPeerTemplate", "bgp_peers"),
    ("l2InsertionTemplate", "l2insertions"),
    ("mirrorTemplate", "mirrors"),
    ("qosPolicyTemplate", "qos_policies"),
    ("qosBwLimitRuleTemplate", "qos_bw_limit_rules"),
    ("qosDscpRuleTemplate", "qos_dscp_rules"),
    ("serviceContainerTemplate", "service_containers"),
    ("serviceContainerGroupTemplate", "service_container_groups"),
];

pub(crate) fn show(call: &mut Call<'_>) -> ReplyResult {
    let view = &call.view;
    let family = if view.is_v5() { NEW } else { OLD };
    // The first version of 1.9's document does not name the list of all ports.
    let hidden = |key: &str| !view.is_v5() && view.version < 5 && matches!(key, "ports" | "portTemplate");
    let mut root: Map<String, Value> = LINKS
        .iter()
        .chain(family)
        .filter(|(key, _)| !hidden(key))
        .map(|(key, path)| {
            let id = if key.ends_with("Template") { "/{id}" } else { "" };
            ((*key).to_owned(), view.uri(&format!("/{path}{id}")))
        })
        .collect();
    root.insert("uri".to_owned(), view.uri("/"));
    root.insert("version".to_owned(), view.dialect.version().into());
    Ok(Reply::Show(Value::Object(root)))
}
