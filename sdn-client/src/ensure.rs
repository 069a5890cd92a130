//! Ensures that objects exist: creates an object, and reads it when it exists already.
//!
//! # Guarantees
//!
//! MidoNet REST API, sections "Duplicates and absences", "PortLink", "HostInterfacePort":
//! - Ensuring is idempotent, also when an answer was lost.
//! - An object that differs is neither changed nor taken over; its differences are reported field by field.

use uuid::Uuid;

use crate::api::{ApiObject, HostInterfacePort, Port, Route};
use crate::client::Client;
use crate::compare::{self, FieldDifference};
use crate::dialect::Dialect;
use crate::error::{AttemptedOperation, ClientError, ErrorClass};
use crate::request::{self, Scope};
use crate::resource::Resource;
use crate::transport::Transport;

/// The result of ensuring an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ensured {
    /// The object, or a part of it, was missing and was created.
    Created,
    /// It existed as wanted.
    Kept,
    /// It exists and differs; nothing was changed.
    Differs(Vec<FieldDifference>),
}

impl<T: Transport> Client<T> {
    /// Makes an object exist as described: a router, bridge, chain, rule, group, zone, a member of one or an entry of a
    /// bridge's tables. For ports and routes see [`Client::ensure_port`] and [`Client::ensure_route`].
    pub async fn ensure<O: ApiObject>(&self, wanted: &O) -> Result<Ensured, ClientError> {
        self.ensure_found(wanted).await.map(|(ensured, _)| ensured)
    }

    /// As [`Client::ensure`], with the object that was found.
    async fn ensure_found<O: ApiObject>(&self, wanted: &O) -> Result<(Ensured, Option<O>), ClientError> {
        let dialect = self.dialect().await?;
        let Err(refusal) = self.create(wanted).await else { return Ok((Ensured::Created, None)) };
        let may_exist = refusal.status.is_some_and(|status| O::RESOURCE.may_exist_already(dialect, status));
        if !may_exist || refusal.class == ErrorClass::Busy {
            return Err(refusal);
        }
        // It does not exist: the refusal was about something else.
        let Some(found) = self.find(wanted).await? else { return Err(refusal) };
        let differences = compare::differences(dialect, wanted, &found);
        let ensured = if differences.is_empty() { Ensured::Kept } else { Ensured::Differs(differences) };
        Ok((ensured, Some(found)))
    }

    /// Makes a route exist. Where the server chooses its id, its fields identify it: MidoNet REST API, section
    /// "Client-chosen ids".
    pub async fn ensure_route(&self, wanted: &Route) -> Result<Ensured, ClientError> {
        let dialect = self.dialect().await?;
        if !Resource::Route.has_server_id(dialect) {
            return self.ensure(wanted).await;
        }
        if !self.routes_like(dialect, wanted).await?.is_empty() {
            return Ok(Ensured::Kept);
        }
        match self.create(wanted).await {
            Ok(_) => Ok(Ensured::Created),
            // It may exist now; creating it again could make two routes.
            Err(error) if error.is_uncertain() => match self.routes_like(dialect, wanted).await?[..] {
                [] => Err(error),
                _ => Ok(Ensured::Created),
            },
            Err(error) => Err(error),
        }
    }

    /// Deletes a route, by its id or, where the server chooses that, every route that has the same fields.
    pub async fn delete_route(&self, route: &Route) -> Result<(), ClientError> {
        let dialect = self.dialect().await?;
        if Resource::Route.has_server_id(dialect) {
            for id in self.routes_like(dialect, route).await? {
                self.delete(Resource::Route, id).await?;
            }
        } else if let Some(id) = route.id {
            self.delete(Resource::Route, id).await?;
        }
        Ok(())
    }

    async fn routes_like(&self, dialect: Dialect, wanted: &Route) -> Result<Vec<Uuid>, ClientError> {
        let attempt = AttemptedOperation::new("list", "routes");
        let Some(router) = wanted.router_id else {
            return Err(attempt.failed(ErrorClass::Invalid, "a route needs its router"));
        };
        let there = match self.list::<Route>(&Scope::Of(Resource::Router, router)).await {
            Err(error) if error.class == ErrorClass::Absent => Vec::new(),
            there => there?,
        };
        let same = there.iter().filter(|found| compare::differences(dialect, wanted, found).is_empty());
        Ok(same.filter_map(|found| found.id).collect())
    }

    /// Makes a port exist, linked and bound as described: one request on 5.x, two or three on 1.9.
    pub async fn ensure_port(&self, wanted: &Port) -> Result<Ensured, ClientError> {
        let dialect = self.dialect().await?;
        let (mut ensured, found) = self.ensure_found(wanted).await?;
        // The present link and binding; a port just created has those of the request.
        let (peer, binding) = match (&found, dialect.binds_on_create()) {
            (Some(found), _) => (found.peer_id, found.host_id),
            (None, true) => (wanted.peer_id, wanted.host_id),
            (None, false) => (None, None),
        };
        if let Ensured::Differs(differences) = &mut ensured {
            // A missing link or binding can still be created.
            differences.retain(|difference| match difference.field.as_str() {
                "peerId" => peer.is_some(),
                "hostId" | "interfaceName" => binding.is_some(),
                _ => true,
            });
            if !differences.is_empty() {
                return Ok(ensured);
            }
            ensured = Ensured::Kept;
        }
        let Some(id) = wanted.id else { return Ok(ensured) };
        if let (Some(wanted), None) = (wanted.peer_id, peer) {
            ensured = combined(ensured, self.link(id, wanted).await?);
        }
        if let (Some(host), Some(interface), None) = (wanted.host_id, &wanted.interface_name, binding) {
            ensured = combined(ensured, self.bind_free(id, host, interface).await?);
        }
        Ok(ensured)
    }

    /// Links two ports.
    pub async fn link(&self, port: Uuid, peer: Uuid) -> Result<Ensured, ClientError> {
        let dialect = self.dialect().await?;
        let attempt = AttemptedOperation::new("create", format!("{} of port {port} to {peer}", Resource::PortLink));
        let request = request::link(dialect, port, peer);
        let Err(refusal) = self.call(attempt, Resource::PortLink, request).await else { return Ok(Ensured::Created) };
        let wanted = Port { peer_id: Some(peer), ..Port::default() };
        self.resolve_refusal(
            dialect,
            Resource::PortLink,
            port,
            refusal,
            |found| found.peer_id.is_some(),
            &wanted,
            &["peerId"],
        )
        .await
    }

    /// Binds a port to an interface of a host. A port that is bound elsewhere is not changed, also on 1.9, where the server
    /// would rebind it without an error.
    pub async fn bind(&self, port: Uuid, host: Uuid, interface: &str) -> Result<Ensured, ClientError> {
        let dialect = self.dialect().await?;
        if !dialect.binds_on_create() {
            let Some(found) = self.get::<Port>(port).await? else {
                let attempt = AttemptedOperation::new("bind", Resource::Port.with_id(Some(port)));
                return Err(attempt.failed(ErrorClass::Absent, "the port does not exist"));
            };
            if found.host_id.is_some() {
                let wanted = bound(host, interface);
                return Ok(verdict(dialect, &wanted, &found, &["hostId", "interfaceName"]));
            }
        }
        self.bind_free(port, host, interface).await
    }

    /// Binds a port that is not bound.
    async fn bind_free(&self, port: Uuid, host: Uuid, interface: &str) -> Result<Ensured, ClientError> {
        let dialect = self.dialect().await?;
        let attempt = AttemptedOperation::new(
            "create",
            format!("{} of port {port} to {interface:?}", Resource::HostInterfacePort),
        );
        let binding = HostInterfacePort {
            host_id: Some(host),
            port_id: Some(port),
            interface_name: Some(interface.to_owned()),
            ..HostInterfacePort::default()
        };
        let request = request::create(dialect, &binding)
            .map_err(|error| attempt.failed(ErrorClass::Invalid, error.to_string()))?;
        let Err(refusal) = self.call(attempt, Resource::HostInterfacePort, request).await else {
            return Ok(Ensured::Created);
        };
        let (resource, wanted) = (Resource::HostInterfacePort, bound(host, interface));
        self.resolve_refusal(
            dialect,
            resource,
            port,
            refusal,
            |found| found.host_id.is_some(),
            &wanted,
            &["hostId", "interfaceName"],
        )
        .await
    }

    /// Reads the port after a refusal that may mean that it is linked or bound as wanted.
    #[expect(clippy::too_many_arguments, reason = "link and binding differ in all of these and in nothing else")]
    async fn resolve_refusal(
        &self,
        dialect: Dialect,
        resource: Resource,
        port: Uuid,
        refusal: ClientError,
        taken: impl FnOnce(&Port) -> bool,
        wanted: &Port,
        fields: &[&str],
    ) -> Result<Ensured, ClientError> {
        if !refusal.status.is_some_and(|status| resource.may_exist_already(dialect, status)) {
            return Err(refusal);
        }
        match self.get::<Port>(port).await? {
            Some(found) if taken(&found) => Ok(verdict(dialect, wanted, &found, fields)),
            // The port is free, so the peer or the interface is taken.
            _ => Err(refusal),
        }
    }

    /// Removes a binding if the port is bound on this host. A 5.x server would remove the binding to any host.
    pub async fn unbind(&self, port: Uuid, host: Uuid) -> Result<(), ClientError> {
        match self.get::<Port>(port).await? {
            Some(found) if found.host_id == Some(host) => self.unbind_unchecked(host, port).await,
            _ => Ok(()),
        }
    }
}

fn bound(host: Uuid, interface: &str) -> Port {
    Port { host_id: Some(host), interface_name: Some(interface.to_owned()), ..Port::default() }
}

fn verdict(dialect: Dialect, wanted: &Port, found: &Port, fields: &[&str]) -> Ensured {
    let mut differences = compare::differences(dialect, wanted, found);
    differences.retain(|difference| fields.contains(&difference.field.as_str()));
    if differences.is_empty() { Ensured::Kept } else { Ensured::Differs(differences) }
}

/// The result of two steps of one operation.
fn combined(first: Ensured, second: Ensured) -> Ensured {
    match (first, second) {
        (Ensured::Kept, second) => second,
        (_, Ensured::Differs(differences)) => Ensured::Differs(differences),
        (first, _) => first,
    }
}
