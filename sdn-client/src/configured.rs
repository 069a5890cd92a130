//! Makes a client from the configuration, for the plugin and `atollctl`.
//!
//! It reads no secret and opens no connection; the first request does both. With a cache directory the client keeps dialect,
//! token and the endpoint that answered last, so that a short-lived process asks for none of them.

use std::path::Path;

use atoll_model::config::{ApiVersion, ControllerConfig, KeystoneConfig, KeystoneDomain};
use atoll_node::paths;

use crate::client::{Client, ClientSettings};
use crate::credentials::{Credentials, PasswordError};
use crate::dialect::Dialect;
use crate::http::{Http, HttpSettings};
use crate::keystone::{self, KeystoneCredentials};
use crate::session::SessionFile;
use crate::transport::{Transport, TransportError};

/// Makes a client. `wrap` wraps each of its transports.
pub fn client<T: Transport>(
    config: &ControllerConfig,
    cache: Option<&Path>,
    wrap: impl Fn(Http) -> T,
) -> Result<Client<T>, TransportError> {
    let http = Http::new(&HttpSettings {
        endpoints: config.endpoints.clone(),
        ca: config.ca.clone(),
        identity: config.cert.clone().zip(config.key.clone()),
        memory: cache.map(paths::controller_endpoint),
        ..HttpSettings::default()
    })?;
    let settings = ClientSettings {
        dialect: match config.version {
            ApiVersion::Auto => None,
            ApiVersion::V1 => Some(Dialect::V1),
            ApiVersion::V5 => Some(Dialect::V5),
        },
        credentials: credentials(config),
        session_file: cache.map(|cache| SessionFile::new(paths::controller_session(cache), &scope(config))),
    };
    let keystone = config.keystone.as_ref();
    let Some((server, user)) = keystone.and_then(|server| Some((server, keystone_credentials(config, server)?))) else {
        return Ok(Client::new(wrap(http), settings));
    };
    let tokens = Http::new(&HttpSettings {
        endpoints: server.endpoints.iter().map(|url| keystone::base_url(url)).collect(),
        ca: server.ca.clone(),
        memory: cache.map(paths::keystone_endpoint),
        ..HttpSettings::default()
    })?;
    Ok(Client::with_keystone(wrap(http), settings, wrap(tokens), user))
}

/// Checks that the secret for a login can be read: its file exists, is private and is not empty.
pub fn check_secret(config: &ControllerConfig) -> Result<(), PasswordError> {
    let secret = match (&config.keystone, credentials(config)) {
        (Some(keystone), _) => keystone_credentials(config, keystone).map(|user| user.secret()),
        (None, Some(credentials)) => Some(credentials.password()),
        (None, None) => None,
    };
    secret.transpose().map(drop)
}

fn credentials(config: &ControllerConfig) -> Option<Credentials> {
    let (username, password_file) = config.username.clone().zip(config.password_file.clone())?;
    Some(Credentials { username, password_file, project: config.project.clone() })
}

/// The credentials for Keystone. The parsed configuration always has some.
fn keystone_credentials(config: &ControllerConfig, keystone: &KeystoneConfig) -> Option<KeystoneCredentials> {
    if let Some((id, secret_file)) = keystone.application_credential.clone() {
        return Some(KeystoneCredentials::ApplicationCredential { id, secret_file });
    }
    let Credentials { username, password_file, project } = credentials(config)?;
    Some(KeystoneCredentials::Password {
        user: username,
        user_domain: keystone.user_domain.clone(),
        password_file,
        project,
        project_domain: keystone.project_domain.clone(),
    })
}

/// The controller and user that a session belongs to. The token of another one is worthless.
fn scope(config: &ControllerConfig) -> Vec<&str> {
    let mut scope: Vec<&str> = config.endpoints.iter().map(String::as_str).collect();
    scope.extend([config.username.as_deref().unwrap_or_default(), &config.project]);
    if let Some(keystone) = &config.keystone {
        scope.extend(keystone.endpoints.iter().map(String::as_str));
        for domain in [&keystone.user_domain, &keystone.project_domain] {
            let (KeystoneDomain::Id(text) | KeystoneDomain::Name(text)) = domain;
            scope.push(text);
        }
        scope.extend(keystone.application_credential.as_ref().map(|(id, _)| id.as_str()));
    }
    scope
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn config(controller: &Value) -> ControllerConfig {
        let entry = json!({ "etcd": { "endpoints": ["http://127.0.0.1:2379"] }, "controller": controller });
        atoll_model::config::Config::parse(&entry).expect("valid").controller
    }

    #[test]
    fn a_session_belongs_to_one_controller_and_one_user() {
        let base = json!({ "endpoints": ["http://127.0.0.1:1/api"], "username": "a", "passwordFile": "/p" });
        let mut scopes = vec![];
        let keystone = json!({ "endpoints": ["http://127.0.0.1:5/v3"] });
        for (key, value) in
            [("project", json!("b")), ("username", json!("c")), ("project", json!("admin")), ("keystone", keystone)]
        {
            let mut controller = base.clone();
            controller[key] = value;
            scopes.push(scope(&config(&controller)).join(" "));
        }
        scopes.sort();
        scopes.dedup();
        assert_eq!(scopes.len(), 4);
    }

    #[test]
    fn the_secret_that_would_be_used_is_the_one_that_is_checked() {
        let none = json!({ "endpoints": ["http://127.0.0.1:1/api"] });
        check_secret(&config(&none)).expect("no login, no secret");
        let user = json!({ "endpoints": ["http://127.0.0.1:1/api"], "username": "a", "passwordFile": "/nowhere/p" });
        assert!(check_secret(&config(&user)).is_err_and(|e| e.path == Path::new("/nowhere/p")));
        let credential = json!({ "endpoints": ["http://127.0.0.1:1/api"], "keystone": {
            "endpoints": ["http://127.0.0.1:5/v3"],
            "applicationCredential": { "id": "4f", "secretFile": "/nowhere/s" } } });
        assert!(check_secret(&config(&credential)).is_err_and(|e| e.path == Path::new("/nowhere/s")));
    }
}
