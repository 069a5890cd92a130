//! The table of paths: the resource of each, its media types, and what is answered with 405 or 501.
//!
//! Written by hand: this one table also decides which requests a fault could match; a router crate has no such query.

use percent_encoding::percent_decode_str;

use crate::call::{Call, ReplyResult};
use crate::media::{Media, Policy};
use crate::resources::{
    application, arp_table, binding, bridge, chain, host, interface, ip_addr_group, link, login, mac_table, port,
    port_group, route, router, rule, system_state, tenant, tunnel_zone, unbuilt,
};

/// A method of a resource.
pub(crate) type Verb = fn(&mut Call<'_>) -> ReplyResult;

/// A path with its methods.
#[derive(Clone, Copy)]
pub(crate) struct Endpoint {
    /// The path; `{}` is a variable segment.
    pub path: &'static str,
    /// The media type of a POST or PUT.
    pub media: Media,
    /// How a GET negotiates.
    pub read_policy: Policy,
    /// Whether a GET answers a list.
    pub collection: bool,
    /// Only its list exists, which is empty; every other request is answered with 501.
    pub unbuilt: bool,
    pub get: Option<Verb>,
    pub post: Option<Verb>,
    pub put: Option<Verb>,
    pub delete: Option<Verb>,
}

const fn at(path: &'static str, name: &'static str, policy: Policy) -> Endpoint {
    Endpoint {
        path,
        media: Media { name, old_name: None, policy },
        read_policy: policy,
        collection: false,
        unbuilt: false,
        get: None,
        post: None,
        put: None,
        delete: None,
    }
}

impl Endpoint {
    const fn list(mut self, verb: Verb) -> Self {
        self.collection = true;
        self.get = Some(verb);
        self
    }

    const fn get(mut self, verb: Verb) -> Self {
        self.get = Some(verb);
        self
    }

    const fn post(mut self, verb: Verb) -> Self {
        self.post = Some(verb);
        self
    }

    const fn put(mut self, verb: Verb) -> Self {
        self.put = Some(verb);
        self
    }

    const fn delete(mut self, verb: Verb) -> Self {
        self.delete = Some(verb);
        self
    }

    /// The list of a family of resources that is not built: there are none.
    const fn empty(mut self, verb: Verb) -> Self {
        self.unbuilt = true;
        self.list(verb)
    }

    /// 1.9 also knows it under this name.
    const fn also(mut self, name: &'static str) -> Self {
        self.media.old_name = Some(name);
        self
    }

    const fn reads(mut self, policy: Policy) -> Self {
        self.read_policy = policy;
        self
    }
}

use Policy::{Generic, Own, Vendor};

static TABLE: &[Endpoint] = &[
    at("/", "Application", Generic).get(application::show),
    at("/login", "Token", Own).get(login::login).post(login::login).put(login::login).delete(login::login),
    at("/system_state", "SystemState", Own).get(system_state::show).put(system_state::replace),
    at("/tenants", "Tenant", Vendor).list(tenant::list),
    at("/tenants/{}", "Tenant", Vendor).get(tenant::show),
    // Devices.
    at("/routers", "Router", Generic).list(router::list).post(router::create),
    at("/routers/{}", "Router", Generic).get(router::show).put(router::replace).delete(router::delete),
    at("/routers/{}/ports", "Port", Generic).list(port::list_of_router).post(port::create_on_router),
    at("/routers/{}/peer_ports", "Port", Generic).list(port::peers_of_router),
    at("/routers/{}/routes", "Route", Generic).list(route::list).post(route::create),
    at("/bridges", "Bridge", Generic).list(bridge::list).post(bridge::create),
    at("/bridges/{}", "Bridge", Generic).get(bridge::show).put(bridge::replace).delete(bridge::delete),
    at("/bridges/{}/ports", "Port", Generic).list(port::list_of_bridge).post(port::create_on_bridge),
    at("/bridges/{}/peer_ports", "Port", Generic).list(port::peers_of_bridge),
    at("/bridges/{}/mac_table", "MacPort", Own).list(mac_table::list).post(mac_table::create),
    at("/bridges/{}/mac_table/{}", "MacPort", Own).get(mac_table::show).delete(mac_table::delete),
    at("/bridges/{}/vlans/{}/mac_table", "MacPort", Own).list(mac_table::list_vlan).post(mac_table::create_vlan),
    at("/bridges/{}/vlans/{}/mac_table/{}", "MacPort", Own).get(mac_table::show_vlan).delete(mac_table::delete_vlan),
    at("/bridges/{}/arp_table", "IP4Mac", Own).list(arp_table::list).post(arp_table::create),
    at("/bridges/{}/arp_table/{}", "IP4Mac", Own).get(arp_table::show).delete(arp_table::delete),
    // Ports, links, bindings and routes.
    at("/ports", "Port", Generic).list(port::list),
    at("/ports/{}", "Port", Generic).get(port::show).put(port::replace).delete(port::delete),
    at("/ports/{}/link", "PortLink", Own).post(link::create).delete(link::delete),
    at("/ports/{}/port_groups", "PortGroupPort", Vendor).also("PortGroup").list(port_group::list_of_port),
    at("/routes/{}", "Route", Generic).get(route::show).delete(route::delete),
    // Chains.
    at("/chains", "Chain", Generic).list(chain::list).post(chain::create),
    at("/chains/{}", "Chain", Generic).get(chain::show).delete(chain::delete),
    at("/chains/{}/rules", "Rule", Generic).list(rule::list).post(rule::create),
    at("/rules/{}", "Rule", Generic).get(rule::show).delete(rule::delete),
    // Groups.
    at("/port_groups", "PortGroup", Generic).list(port_group::list).post(port_group::create),
    at("/port_groups/{}", "PortGroup", Generic)
        .reads(Vendor)
        .get(port_group::show)
        .put(port_group::replace)
        .delete(port_group::delete),
    at("/port_groups/{}/ports", "PortGroupPort", Own).list(port_group::members).post(port_group::add),
    at("/port_groups/{}/ports/{}", "PortGroupPort", Own).get(port_group::member).delete(port_group::remove),
    at("/ip_addr_groups", "IpAddrGroup", Vendor).list(ip_addr_group::list).post(ip_addr_group::create),
    at("/ip_addr_groups/{}", "IpAddrGroup", Vendor).get(ip_addr_group::show).delete(ip_addr_group::delete),
    at("/ip_addr_groups/{}/ip_addrs", "IpAddrGroupAddr", Vendor).list(ip_addr_group::members).post(ip_addr_group::add),
    at("/ip_addr_groups/{}/versions/{}/ip_addrs", "IpAddrGroupAddr", Vendor).list(ip_addr_group::members_of_version),
    at("/ip_addr_groups/{}/versions/{}/ip_addrs/{}", "IpAddrGroupAddr", Vendor)
        .get(ip_addr_group::member)
        .delete(ip_addr_group::remove),
    // Hosts.
    at("/hosts", "Host", Generic).list(host::list).post(host::create),
    at("/hosts/{}", "Host", Generic).get(host::show).put(host::replace).delete(host::delete),
    at("/hosts/{}/interfaces", "Interface", Generic).list(interface::list),
    at("/hosts/{}/interfaces/{}", "Interface", Generic).get(interface::show),
    at("/hosts/{}/ports", "HostInterfacePort", Own).reads(Vendor).list(binding::list).post(binding::create),
    at("/hosts/{}/ports/{}", "HostInterfacePort", Own).get(binding::show).delete(binding::delete),
    at("/tunnel_zones", "TunnelZone", Generic).list(tunnel_zone::list).post(tunnel_zone::create),
    at("/tunnel_zones/{}", "TunnelZone", Generic)
        .get(tunnel_zone::show)
        .put(tunnel_zone::replace)
        .delete(tunnel_zone::delete),
    at("/tunnel_zones/{}/hosts", "TunnelZoneHost", Vendor).list(tunnel_zone::members).post(tunnel_zone::add),
    at("/tunnel_zones/{}/hosts/{}", "TunnelZoneHost", Vendor).get(tunnel_zone::member).delete(tunnel_zone::remove),
    // Families that are not built: there are none of them, and none can be made.
    at("/load_balancers", "LoadBalancer", Generic).empty(unbuilt::list),
    at("/load_balancers/{}/pools", "Pool", Generic).empty(unbuilt::list_below_unbuilt),
    at("/load_balancers/{}/vips", "VIP", Generic).empty(unbuilt::list_below_unbuilt),
    at("/pools", "Pool", Generic).empty(unbuilt::list),
    at("/pool_members", "PoolMember", Generic).empty(unbuilt::list),
    at("/vips", "VIP", Generic).empty(unbuilt::list),
    at("/health_monitors", "HealthMonitor", Generic).empty(unbuilt::list),
    at("/vteps", "VTEP", Generic).empty(unbuilt::list),
    at("/traces", "TraceRequest", Generic).empty(unbuilt::list),
    at("/qos_policies", "QOSPolicy", Generic).empty(unbuilt::list_of_5),
    at("/mirrors", "Mirror", Generic).empty(unbuilt::list_of_5),
    at("/l2insertions", "L2Insertion", Generic).empty(unbuilt::list_of_5),
    at("/service_containers", "ServiceContainer", Generic).empty(unbuilt::list_of_5),
    at("/service_container_groups", "ServiceContainerGroup", Generic).empty(unbuilt::list_of_5),
    at("/routers/{}/bgp_networks", "BgpNetwork", Generic).empty(unbuilt::list_of_router_of_5),
    at("/routers/{}/bgp_peers", "BgpPeer", Generic).empty(unbuilt::list_of_router_of_5),
    at("/routers/{}/ports/{}/peering_table", "MacIp", Own).empty(unbuilt::list_of_router_port),
    at("/ports/{}/bgps", "Bgp", Generic).empty(unbuilt::list_of_port_of_1_9),
    at("/bridges/{}/dhcp", "DhcpSubnet", Vendor).empty(unbuilt::list_of_bridge),
    at("/bridges/{}/dhcpV6", "DhcpV6Subnet", Vendor).empty(unbuilt::list_of_bridge),
    at("/bridges/{}/vxlan_ports", "Port", Generic).empty(unbuilt::list_of_bridge),
];

/// Families of the real API that this server does not have. They are refused by name; there is no fake success.
static ABSENT: &[&str] = &[
    "/load_balancers",
    "/pools",
    "/pool_members",
    "/vips",
    "/health_monitors",
    "/vteps",
    "/traces",
    "/neutron",
    "/bgp_networks",
    "/bgp_peers",
    "/bgps",
    "/ad_routes",
    "/qos_policies",
    "/qos_bw_limit_rules",
    "/qos_dscp_rules",
    "/mirrors",
    "/l2insertions",
    "/service_containers",
    "/service_container_groups",
    "/conf",
    "/write_version",
    "/versions",
    "/licenses",
    "/routers/{}/bgp_networks",
    "/routers/{}/bgp_peers",
    "/ports/{}/bgps",
    "/bridges/{}/dhcp",
    "/bridges/{}/dhcpV6",
    "/bridges/{}/vxlan_ports",
    "/routers/{}/ports/{}/peering_table",
];

/// What a path leads to.
pub(crate) enum RouteMatch {
    /// A resource and the variable segments.
    Endpoint(&'static Endpoint, Vec<String>),
    /// A part of the real API that is not built here.
    Absent,
    /// Nothing.
    Nowhere,
}

/// Looks a path up. Segments are decoded after the split, so that an encoded `/` stays inside its segment, and `.` and
/// `..` are names like any other, which no resource has.
pub(crate) fn find(path: &str) -> RouteMatch {
    let Some(below) = path.strip_prefix('/').or(path.is_empty().then_some("")) else { return RouteMatch::Nowhere };
    let below = below.strip_suffix('/').unwrap_or(below);
    let segments: Vec<&str> = if below.is_empty() { Vec::new() } else { below.split('/').collect() };
    for endpoint in TABLE {
        if let Some(args) = matches(endpoint.path, &segments) {
            let decoded: Option<Vec<String>> = args.into_iter().map(decode).collect();
            return decoded.map_or(RouteMatch::Nowhere, |args| RouteMatch::Endpoint(endpoint, args));
        }
    }
    if ABSENT.iter().any(|absent| starts_with(absent, &segments)) { RouteMatch::Absent } else { RouteMatch::Nowhere }
}

fn pattern(path: &'static str) -> impl Iterator<Item = &'static str> {
    path.split('/').skip(1).filter(|segment| !segment.is_empty())
}

fn matches<'a>(path: &'static str, segments: &[&'a str]) -> Option<Vec<&'a str>> {
    let mut args = Vec::new();
    let mut given = segments.iter();
    for expected in pattern(path) {
        match (expected, *given.next()?) {
            ("{}", "") => return None,
            ("{}", segment) => args.push(segment),
            (expected, segment) if expected == segment => {}
            _ => return None,
        }
    }
    given.next().is_none().then_some(args)
}

fn starts_with(path: &'static str, segments: &[&str]) -> bool {
    let length = pattern(path).count();
    segments.len() >= length && matches(path, &segments[..length]).is_some()
}

/// Whether a request of this method whose path fits a pattern could ever reach a resource. `fits` returns whether the
/// pattern fits a path of the table, whose variable segments are `{}`, or something below it.
pub(crate) fn could_come(method: Option<&str>, fits: impl Fn(&'static str, bool) -> bool) -> bool {
    let answers = |endpoint: &Endpoint| {
        let has = |verb: Option<Verb>| verb.is_some() || endpoint.unbuilt;
        match method.map(str::to_ascii_uppercase).as_deref() {
            None | Some("OPTIONS") => true,
            Some("GET" | "HEAD") => has(endpoint.get),
            Some("POST") => has(endpoint.post),
            Some("PUT") => has(endpoint.put),
            Some("DELETE") => has(endpoint.delete),
            Some(_) => false,
        }
    };
    let known = |method: &str| {
        ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"].iter().any(|one| method.eq_ignore_ascii_case(one))
    };
    TABLE.iter().any(|endpoint| fits(endpoint.path, false) && answers(endpoint))
        || method.is_none_or(known) && ABSENT.iter().any(|path| fits(path, true))
}

/// As [`decode`]. Invalid encoding stays as it is, and invalid UTF-8 is replaced.
pub(crate) fn decode_lossy(text: &str) -> String {
    percent_decode_str(text).decode_utf8_lossy().into_owned()
}

/// Percent-decodes one segment; `None` when the encoding is not valid or the result is not UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    // The crate keeps an invalid escape as it is; here it is an error.
    let is_escape = |part: &str| part.as_bytes().get(..2).is_some_and(|code| code.iter().all(u8::is_ascii_hexdigit));
    text.split('%').skip(1).all(is_escape).then_some(())?;
    percent_decode_str(text).decode_utf8().ok().map(Into::into)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_of_the_table_finds_itself() {
        for endpoint in TABLE {
            let path = endpoint.path.replace("{}", "x");
            let RouteMatch::Endpoint(found, _) = find(&path) else { panic!("{path} leads nowhere") };
            assert_eq!(found.path, endpoint.path);
        }
        for absent in ABSENT {
            assert!(
                matches!(
                    find(&absent.replace("{}", "x")),
                    RouteMatch::Absent | RouteMatch::Endpoint(Endpoint { unbuilt: true, .. }, _)
                ),
                "{absent}"
            );
            assert!(matches!(find(&(absent.replace("{}", "x") + "/below/it")), RouteMatch::Absent), "{absent}");
        }
    }

    #[test]
    fn unknown_paths_are_not_found() {
        for path in ["///", "/routers//ports", "/routers/%zz", "/routers/%ff", "/nonsense", "routers", "/../routers"] {
            assert!(matches!(find(path), RouteMatch::Nowhere), "{path}");
        }
        for path in ["", "/", "//"] {
            assert!(matches!(find(path), RouteMatch::Endpoint(endpoint, _) if endpoint.path == "/"), "{path:?}");
        }
    }

    #[test]
    fn a_segment_is_decoded_after_the_split() {
        for (path, arg) in [("/routers/..", ".."), ("/routers/a%2Fports", "a/ports"), ("/routers/%2e%2e/", "..")] {
            let RouteMatch::Endpoint(found, args) = find(path) else { panic!("{path} leads nowhere") };
            assert_eq!((found.path, args), ("/routers/{}", vec![arg.to_owned()]), "{path}");
        }
    }
}
