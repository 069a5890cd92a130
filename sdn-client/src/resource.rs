//! The resources of the API and their media types in both dialects.

use std::fmt;

use uuid::Uuid;

use crate::dialect::Dialect;

/// A resource of the API, as far as this project uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "they are the API's own names, see `api`")]
pub enum Resource {
    Application,
    SystemState,
    Tenant,
    Token,
    Error,
    Router,
    Bridge,
    Port,
    PortLink,
    Route,
    Chain,
    Rule,
    PortGroup,
    PortGroupPort,
    IpAddrGroup,
    IpAddrGroupAddr,
    Host,
    Interface,
    HostInterfacePort,
    TunnelZone,
    TunnelZoneHost,
    MacPort,
    Ip4Mac,
}

/// The versions of one resource's object: what a server of each dialect accepts, and what this client asks for.
struct Versions {
    name: &'static str,
    v1: &'static [u8],
    ask_v1: u8,
    v5: &'static [u8],
    ask_v5: u8,
}

impl Resource {
    /// Every resource.
    pub const ALL: [Self; 23] = [
        Self::Application,
        Self::SystemState,
        Self::Tenant,
        Self::Token,
        Self::Error,
        Self::Router,
        Self::Bridge,
        Self::Port,
        Self::PortLink,
        Self::Route,
        Self::Chain,
        Self::Rule,
        Self::PortGroup,
        Self::PortGroupPort,
        Self::IpAddrGroup,
        Self::IpAddrGroupAddr,
        Self::Host,
        Self::Interface,
        Self::HostInterfacePort,
        Self::TunnelZone,
        Self::TunnelZoneHost,
        Self::MacPort,
        Self::Ip4Mac,
    ];

    /// MidoNet REST API, section "Media types and negotiation".
    const fn versions(self) -> Versions {
        const fn v(name: &'static str, v1: &'static [u8], ask_v1: u8, v5: &'static [u8], ask_v5: u8) -> Versions {
            Versions { name, v1, ask_v1, v5, ask_v5 }
        }
        match self {
            Self::Application => v("Application", &[4, 5], 5, &[5], 5),
            Self::SystemState => v("SystemState", &[1, 2], 2, &[2], 2),
            Self::Tenant => v("Tenant", &[1], 1, &[2], 2),
            Self::Token => v("Token", &[1], 1, &[1], 1),
            Self::Error => v("Error", &[1], 1, &[1], 1),
            Self::Router => v("Router", &[1, 2], 2, &[3], 3),
            // Version 4 on 1.9 came with 1.9.14; version 5 on 5.x with 5.4. The ones asked for are understood by all.
            Self::Bridge => v("Bridge", &[1, 2, 3, 4], 3, &[4, 5], 4),
            Self::Port => v("Port", &[1, 2], 2, &[3, 4], 3),
            Self::PortLink => v("PortLink", &[1], 1, &[1], 1),
            Self::Route => v("Route", &[1], 1, &[1], 1),
            Self::Chain => v("Chain", &[1], 1, &[1], 1),
            Self::Rule => v("Rule", &[1, 2], 2, &[2], 2),
            Self::PortGroup => v("PortGroup", &[1], 1, &[1], 1),
            Self::PortGroupPort => v("PortGroupPort", &[1], 1, &[1], 1),
            Self::IpAddrGroup => v("IpAddrGroup", &[1], 1, &[1], 1),
            Self::IpAddrGroupAddr => v("IpAddrGroupAddr", &[1], 1, &[1], 1),
            Self::Host => v("Host", &[2, 3], 3, &[3], 3),
            Self::Interface => v("Interface", &[1], 1, &[1], 1),
            Self::HostInterfacePort => v("HostInterfacePort", &[1], 1, &[1], 1),
            Self::TunnelZone => v("TunnelZone", &[1], 1, &[1], 1),
            Self::TunnelZoneHost => v("TunnelZoneHost", &[1], 1, &[1], 1),
            Self::MacPort => v("MacPort", &[1, 2], 2, &[2], 2),
            Self::Ip4Mac => v("IP4Mac", &[1], 1, &[1], 1),
        }
    }

    /// The API's name of it, as in its media types.
    pub const fn name(self) -> &'static str {
        self.versions().name
    }

    /// The resource with the id of one object, as errors name it: `port 6f…`.
    pub fn with_id(self, id: Option<Uuid>) -> String {
        id.map_or_else(|| self.to_string(), |id| format!("{self} {id}"))
    }

    /// The path segment of a list of them: `routers` in `/routers` and in whatever they belong to.
    pub const fn segment(self) -> &'static str {
        match self {
            Self::Application | Self::Error => "",
            Self::SystemState => "system_state",
            Self::Tenant => "tenants",
            Self::Token => "login",
            Self::Router => "routers",
            Self::Bridge => "bridges",
            // A binding is a port of a host, a member a port of a group.
            Self::Port | Self::HostInterfacePort | Self::PortGroupPort => "ports",
            Self::PortLink => "link",
            Self::Route => "routes",
            Self::Chain => "chains",
            Self::Rule => "rules",
            Self::PortGroup => "port_groups",
            Self::IpAddrGroup => "ip_addr_groups",
            Self::IpAddrGroupAddr => "ip_addrs",
            Self::Host | Self::TunnelZoneHost => "hosts",
            Self::Interface => "interfaces",
            Self::TunnelZone => "tunnel_zones",
            Self::MacPort => "mac_table",
            Self::Ip4Mac => "arp_table",
        }
    }

    /// Whether the API lists all of them. Rules and routes are only listed by what they belong to.
    pub const fn has_list(self) -> bool {
        matches!(
            self,
            Self::Router
                | Self::Bridge
                | Self::Port
                | Self::Chain
                | Self::PortGroup
                | Self::IpAddrGroup
                | Self::Host
                | Self::TunnelZone
        )
    }

    /// Whether a server of this dialect chooses the id of a new object itself and ignores the one in the request.
    pub fn has_server_id(self, dialect: Dialect) -> bool {
        dialect == Dialect::V1 && self == Self::Route
    }

    /// Whether this status may mean that the object to be created exists already, so that the object must be read. 409 in
    /// both dialects; on 1.9 also 500 for an id that exists, and 400 for links, bindings and members.
    pub fn may_exist_already(self, dialect: Dialect, status: u16) -> bool {
        let is_known_by_fields =
            matches!(self, Self::PortLink | Self::HostInterfacePort | Self::PortGroupPort | Self::TunnelZoneHost);
        match status {
            409 => true,
            500 => dialect == Dialect::V1,
            400 => dialect == Dialect::V1 && is_known_by_fields,
            _ => false,
        }
    }

    /// The versions that a server of this dialect accepts.
    pub const fn accepted(self, dialect: Dialect) -> &'static [u8] {
        match dialect {
            Dialect::V1 => self.versions().v1,
            Dialect::V5 => self.versions().v5,
        }
    }

    /// The media type this client uses for one of them.
    pub fn media(self, dialect: Dialect) -> String {
        self.media_of("", self.asked(dialect))
    }

    /// The media type this client uses for a list of them.
    pub fn media_list(self, dialect: Dialect) -> String {
        self.media_of("collection.", self.asked(dialect))
    }

    /// Any media type of this resource; `infix` is empty or `collection.`.
    pub fn media_of(self, infix: &str, version: u8) -> String {
        format!("application/vnd.org.midonet.{infix}{}-v{version}+json", self.name())
    }

    const fn asked(self, dialect: Dialect) -> u8 {
        match dialect {
            Dialect::V1 => self.versions().ask_v1,
            Dialect::V5 => self.versions().ask_v5,
        }
    }

    /// Keys that only 5.x has; a 1.9 server neither shows nor reads them.
    pub const fn fields_since_5(self) -> &'static [&'static str] {
        match self {
            Self::Router => &["asNumber", "localRedirectChainId", "forwardChainId"],
            Self::Port => &["tunnelKey"],
            Self::Rule => &[
                "popVlan",
                "pushVlan",
                "targetPortId",
                "ingress",
                "failOpen",
                "inPortGroup",
                "invInPortGroup",
                "outPortGroup",
                "invOutPortGroup",
                "noVlan",
                "vlan",
                "matchNwDstRewritten",
                "icmpDataSrcIpAddress",
                "icmpDataSrcIpLength",
                "invIcmpDataSrcIp",
                "icmpDataDstIpAddress",
                "icmpDataDstIpLength",
                "invIcmpDataDstIp",
            ],
            Self::Host => &["containerWeight", "containerLimit", "enforceContainerLimit"],
            _ => &[],
        }
    }
}

impl fmt::Display for Resource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Application => "root document",
            Self::SystemState => "system state",
            Self::Tenant => "tenant",
            Self::Token => "login",
            Self::Error => "error",
            Self::Router => "router",
            Self::Bridge => "bridge",
            Self::Port => "port",
            Self::PortLink => "link",
            Self::Route => "route",
            Self::Chain => "chain",
            Self::Rule => "rule",
            Self::PortGroup => "port group",
            Self::PortGroupPort => "port group member",
            Self::IpAddrGroup => "address group",
            Self::IpAddrGroupAddr => "address group member",
            Self::Host => "host",
            Self::Interface => "interface",
            Self::HostInterfacePort => "binding",
            Self::TunnelZone => "tunnel zone",
            Self::TunnelZoneHost => "tunnel zone member",
            Self::MacPort => "MAC table entry",
            Self::Ip4Mac => "ARP table entry",
        })
    }
}
