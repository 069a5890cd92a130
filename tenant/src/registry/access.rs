//! Admission of callers to tenants. Pure.
//!
//! A namespace is not admitted because of its name: a tenant is created for one namespace, for the default of the nodes, or
//! by an operator. Every other namespace has to be admitted with `atollctl tenant join`.

use crate::binding::Who;
use crate::error::TenantError;
use atoll_model::ids::{Namespace, TenantName};
use atoll_records::{NamespaceRecord, Origin, Phase, Query, ReadError, Snapshot, TenantRecord, Versioned};

/// The records of a caller's access to a tenant, all at one revision.
#[derive(Clone, Debug)]
pub(crate) struct TenantAccess {
    /// The tenant that was read.
    pub(crate) name: TenantName,
    /// The record of the caller's namespace.
    pub(crate) namespace: Option<Versioned<NamespaceRecord>>,
    /// The tenant's record.
    pub(crate) tenant: Option<Versioned<TenantRecord>>,
}

/// Whether a caller may enter, or what has to be done before.
#[derive(Debug)]
pub(super) enum Decision {
    /// The caller may enter.
    Allowed,
    /// The caller belongs to another tenant.
    Redirect(TenantName),
    /// The tenant was created for this namespace: write the namespace's record.
    Register(Namespace),
    /// There is no such tenant: create it.
    Create(Origin),
}

/// The tenant of a caller whose namespace has no record.
pub(super) fn wanted(who: &Who) -> Result<TenantName, TenantError> {
    match (&who.namespace, &who.default_tenant) {
        (Some(namespace), _) => Ok(own(namespace)),
        (None, Some(tenant)) => Ok(tenant.clone()),
        (None, None) => Err(TenantError::NoTenant),
    }
}

/// The tenant that is created for a namespace has its name.
fn own(namespace: &Namespace) -> TenantName {
    TenantName::new(namespace.as_str()).expect("namespaces and tenants are named by one rule")
}

impl TenantAccess {
    /// The queries.
    pub(super) fn queries(who: &Who, name: &TenantName) -> Vec<Query> {
        let mut queries = vec![Query::key(TenantRecord::at(name))];
        queries.extend(who.namespace.iter().map(|namespace| Query::key(NamespaceRecord::at(namespace))));
        queries
    }

    /// Reads the answers to [`TenantAccess::queries`]; the snapshot may have others.
    pub(super) fn read(who: &Who, name: TenantName, snapshot: &Snapshot) -> Result<Self, ReadError> {
        let tenant = snapshot.get(&TenantRecord::at(&name))?;
        let namespace = who.namespace.as_ref().map(|namespace| snapshot.get(&NamespaceRecord::at(namespace)));
        Ok(Self { name, namespace: namespace.transpose()?.flatten(), tenant })
    }

    /// The next step for `who`, or why it is not admitted.
    pub(super) fn decide(&self, who: &Who) -> Result<Decision, TenantError> {
        let belongs = match (&who.namespace, &self.namespace) {
            (Some(_), Some(record)) => record.record.tenant.clone(),
            _ => wanted(who)?,
        };
        if belongs != self.name {
            return Ok(Decision::Redirect(belongs));
        }
        let Some(tenant) = self.tenant.as_ref().map(|tenant| &tenant.record) else {
            return match (&who.namespace, &self.namespace) {
                (Some(namespace), Some(_)) => Err(self.orphan(namespace)),
                (Some(namespace), None) => Ok(Decision::Create(Origin::Namespace(namespace.clone()))),
                (None, _) => Ok(Decision::Create(Origin::Default)),
            };
        };
        if let (Some(namespace), Some(record)) = (&who.namespace, &self.namespace)
            && record.record.incarnation != tenant.incarnation
        {
            return Err(self.orphan(namespace));
        }
        let step = match (&who.namespace, &self.namespace, &tenant.origin) {
            (Some(_), Some(_), _) | (None, _, Origin::Default | Origin::Operator) => Decision::Allowed,
            (Some(namespace), None, Origin::Namespace(origin)) if namespace == origin => {
                Decision::Register(namespace.clone())
            }
            (_, _, origin) => return Err(denied(who, &self.name, origin)),
        };
        if tenant.phase == Phase::Deleting {
            return Err(TenantError::Deleting { tenant: self.name.clone() });
        }
        Ok(step)
    }

    fn orphan(&self, namespace: &Namespace) -> TenantError {
        TenantError::Orphan { namespace: namespace.clone(), tenant: self.name.clone() }
    }
}

fn denied(who: &Who, tenant: &TenantName, origin: &Origin) -> TenantError {
    TenantError::Denied {
        who: who.namespace.as_ref().map_or_else(|| "`tenant.default`".to_owned(), |name| format!("namespace {name}")),
        namespace: who.namespace.clone(),
        tenant: tenant.clone(),
        origin: match origin {
            Origin::Namespace(namespace) => format!("namespace {namespace}"),
            Origin::Default => "runtimes that name no namespace".to_owned(),
            Origin::Operator => "those whom an operator lets in".to_owned(),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seen<T: serde::de::DeserializeOwned>(record: serde_json::Value) -> Versioned<T> {
        Versioned { record: serde_json::from_value(record).expect("a record"), create_revision: 1, mod_revision: 1 }
    }

    /// The way of a caller from `caller` to tenant `red`, of which nothing else is known.
    fn step(caller: Option<&str>, is_registered: bool, origin: &serde_json::Value, phase: &str) -> String {
        let incarnation = "3f5e1b9a-0c5b-4f1e-9d2a-6a1f5e0c7b11";
        let access = TenantAccess {
            name: "red".parse().expect("valid"),
            namespace: is_registered
                .then(|| seen(serde_json::json!({ "v": 1, "tenant": "red", "incarnation": incarnation }))),
            tenant: Some(seen(serde_json::json!({
                "v": 1, "name": "red", "incarnation": incarnation, "origin": origin, "phase": phase,
                "transit": "100.64.0.0/30", "subnets": [],
            }))),
        };
        let namespace = caller.map(|name| name.parse().expect("valid"));
        let who = Who { namespace, default_tenant: Some("red".parse().expect("valid")) };
        match access.decide(&who) {
            Ok(decision) => format!("{decision:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
            Err(error) => format!("{error:?}").split(['(', ' ']).next().unwrap_or_default().to_owned(),
        }
    }

    #[test]
    fn a_name_alone_admits_no_namespace_and_a_tenant_that_is_deleted_admits_none() {
        let of = |namespace: &str| serde_json::json!({ "namespace": namespace });
        let (default, operator) = (serde_json::json!("default"), serde_json::json!("operator"));
        for (caller, is_registered, origin, expected) in [
            (Some("red"), true, of("red"), "Allowed"),
            (Some("blue"), true, of("red"), "Allowed"),
            (Some("red"), false, of("red"), "Register"),
            (Some("red"), false, of("blue"), "Denied"),
            (Some("red"), false, default.clone(), "Denied"),
            (Some("red"), false, operator.clone(), "Denied"),
            (None, false, default, "Allowed"),
            (None, false, operator, "Allowed"),
            (None, false, of("red"), "Denied"),
        ] {
            let when = format!("{caller:?}, registered {is_registered}, {origin}");
            assert_eq!(step(caller, is_registered, &origin, "active"), expected, "{when}");
            let going = if expected == "Denied" { "Denied" } else { "Deleting" };
            assert_eq!(step(caller, is_registered, &origin, "deleting"), going, "{when}");
        }
    }
}
