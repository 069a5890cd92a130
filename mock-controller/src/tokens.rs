//! Who is calling: tokens, and what they open.

use std::collections::BTreeMap;

use uuid::Uuid;

use crate::dialect::Dialect;
use crate::failure::Failure;
use crate::settings::Settings;

/// The tokens that are valid. The values are never printed.
#[derive(Default)]
pub(crate) struct Tokens {
    /// Token and whether it is an administrator's.
    valid: BTreeMap<String, bool>,
}

impl Tokens {
    /// Issues a token.
    pub(crate) fn issue(&mut self, token: Uuid, admin: bool) -> String {
        let token = token.simple().to_string();
        self.valid.insert(token.clone(), admin);
        token
    }

    /// Forgets every token, as when they expire.
    pub(crate) fn expire(&mut self) {
        self.valid.clear();
    }

    /// Whether a request with this token may go on.
    pub(crate) fn check(&self, token: Option<&str>, settings: &Settings) -> Result<(), Failure> {
        let Some(token) = token else {
            return match (settings.strict_tokens, settings.dialect) {
                (false, _) => Ok(()),
                (true, Dialect::V1) => Err(Failure::error(401, "No token was passed in.")),
                (true, Dialect::V5) => Err(Failure::error(401, "Authentication error")),
            };
        };
        match self.valid.get(token) {
            Some(true) => Ok(()),
            // 5.x has one door for everybody and does not say why it is shut.
            Some(false) if settings.dialect == Dialect::V5 => Err(Failure::Error { status: 401, message: None }),
            Some(false) => Err(Failure::error(403, "Not authorized to access this resource.")),
            // 1.9's mock authentication takes any token for the admin's.
            None if settings.dialect == Dialect::V1 && !settings.strict_tokens => Ok(()),
            None => Err(Failure::error(401, "Authentication error")),
        }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("valid", &self.valid.len()).finish_non_exhaustive()
    }
}
