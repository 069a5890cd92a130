//! Settings of an instance.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use atoll_model::secret::Secret;
use uuid::Uuid;

use atoll_sdn_client::Dialect;

/// MockSettings of a [`crate::MockController`].
#[derive(Clone, Debug)]
pub struct MockSettings {
    /// The dialect of the API.
    pub dialect: Dialect,
    /// The initial host.
    pub host: Uuid,
    /// That host's name.
    pub host_name: String,
    /// That host's address, in the tunnel zone.
    pub host_address: Ipv4Addr,
    /// The interface that the provider router's uplink port is bound to.
    pub uplink_interface: String,
    /// The base of `Location` and links; `None` takes it from the request. The real 1.9 has a fixed one, which often names
    /// the wrong host.
    pub base: Option<String>,
    /// The users that may log in.
    pub users: BTreeMap<String, User>,
    /// Whether a request without a token is refused. The real server's mock authentication takes it for the admin's.
    pub strict_tokens: bool,
    /// When a bound port becomes active.
    pub activation: Activation,
    /// Whether ports and rules show the key `type` twice, as the real server very probably does.
    pub duplicate_type: bool,
    /// The pool of the addresses by which a machine with a data plane reaches its pods; `None`: it does not reach them.
    pub host_to_pod: Option<atoll_dataplane::HostToPodPool>,
    /// Addresses of services. With a data plane no packet for them leaves by an uplink. `None`: they are not known.
    pub services: Option<ipnetwork::Ipv4Network>,
    /// The seed of the ids that the server generates. Equal seeds and equal requests give equal states.
    pub seed: Uuid,
}

/// A user.
#[derive(Clone, Debug)]
pub struct User {
    /// The password.
    pub password: Secret,
    /// Whether this user may use the API. 5.x knows administrators only.
    pub admin: bool,
}

/// When a bound port becomes active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Activation {
    /// With the binding.
    AtOnce,
    /// That long after the binding.
    After(Duration),
    /// When a data plane or a test reports it.
    Explicit,
}

/// The namespace of ids that are the same in every instance.
const FIXED: Uuid = Uuid::from_u128(0x3d9f_6a1e_0c57_4b8a_8e21_5a70_11d0_c0de);

impl Default for MockSettings {
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
            host_to_pod: Some(atoll_dataplane::HostToPodPool::DEFAULT),
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

/// Another id that is the same in every instance.
pub(crate) fn fixed(name: &str) -> Uuid {
    Uuid::new_v5(&FIXED, name.as_bytes())
}
