//! What an instance of the server is to be like.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use atoll_model::secret::Secret;
use uuid::Uuid;

use crate::dialect::Dialect;

/// Settings of a [`crate::Controller`].
#[derive(Clone, Debug)]
pub struct Settings {
    /// The family of MidoNet that is spoken.
    pub dialect: Dialect,
    /// The one host it starts with.
    pub host: Uuid,
    /// That host's name.
    pub host_name: String,
    /// That host's address, in the tunnel zone.
    pub host_address: Ipv4Addr,
    /// The interface that the provider router's uplink port is bound to.
    pub uplink_interface: String,
    /// What `Location` and links begin with; none takes it from the request. The real 1.9 has a fixed one, which often
    /// names the wrong host.
    pub base: Option<String>,
    /// Who may log in.
    pub users: BTreeMap<String, User>,
    /// Whether a request without a token is refused. The real server's mock authentication takes it for the admin's.
    pub strict_tokens: bool,
    /// When a bound port becomes active.
    pub activation: Activation,
    /// Whether ports and rules show the key `type` twice, as the real server very probably does.
    pub duplicate_type: bool,
    /// Where the addresses come from by which a machine with a data plane reaches its pods; none: it does not reach them.
    pub node_side: Option<atoll_dataplane::NodePool>,
    /// Addresses of services: with a data plane nothing for them leaves by an uplink; none: they are not known.
    pub services: Option<ipnetwork::Ipv4Network>,
    /// Where the ids come from that the server makes up. Equal seeds and equal requests give equal states.
    pub seed: Uuid,
}

/// A user that may log in.
#[derive(Clone, Debug)]
pub struct User {
    /// The password.
    pub password: Secret,
    /// Whether the API is open to this user. 5.x knows administrators only.
    pub admin: bool,
}

/// When a bound port becomes active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// With the binding.
    AtOnce,
    /// That long after the binding.
    After(Duration),
    /// When a data plane or a test sets it.
    Told,
}

/// The namespace of ids that are the same in every instance.
const FIXED: Uuid = Uuid::from_u128(0x3d9f_6a1e_0c57_4b8a_8e21_5a70_11d0_c0de);

impl Default for Settings {
    fn default() -> Self {
        let admin = User { password: Secret::new("admin"), admin: true };
        Self {
            dialect: Dialect::V5,
            host: Uuid::new_v5(&FIXED, b"host"),
            host_name: "localhost".to_owned(),
            host_address: Ipv4Addr::LOCALHOST,
            uplink_interface: "uplink0".to_owned(),
            base: None,
            users: [("admin".to_owned(), admin)].into(),
            strict_tokens: false,
            activation: Activation::AtOnce,
            duplicate_type: false,
            node_side: Some(atoll_dataplane::NodePool::DEFAULT),
            services: None,
            seed: Uuid::nil(),
        }
    }
}

/// The provider router, in every instance.
pub fn provider_router() -> Uuid {
    Uuid::new_v5(&FIXED, b"provider-router")
}

/// The provider router's uplink port, in every instance.
pub fn uplink_port() -> Uuid {
    Uuid::new_v5(&FIXED, b"uplink-port")
}

/// The tunnel zone, in every instance.
pub fn tunnel_zone() -> Uuid {
    Uuid::new_v5(&FIXED, b"tunnel-zone")
}

/// Any other id that is the same in every instance.
pub(crate) fn fixed(name: &str) -> Uuid {
    Uuid::new_v5(&FIXED, name.as_bytes())
}
