//! Tokens: who the caller is, and what a token allows.

use std::collections::{BTreeMap, VecDeque};

use uuid::Uuid;

use crate::refusal::Refusal;
use crate::settings::MockSettings;
use atoll_sdn_client::Dialect;

/// How many tokens are valid at once. A client that logs in without end makes its oldest tokens expire; the process does not grow.
const KEPT: usize = 10_000;

/// The tokens that are valid. The values are never printed.
#[derive(Default)]
pub(crate) struct Tokens {
    /// Token and whether it is an administrator's.
    valid: BTreeMap<String, bool>,
    /// The same in the order in which they were issued.
    issued: VecDeque<String>,
}

impl Tokens {
    /// Issues a token.
    pub(crate) fn issue(&mut self, token: Uuid, admin: bool) -> String {
        let token = token.simple().to_string();
        if self.issued.len() == KEPT
            && let Some(oldest) = self.issued.pop_front()
        {
            self.valid.remove(&oldest);
        }
        self.valid.insert(token.clone(), admin);
        self.issued.push_back(token.clone());
        token
    }

    /// Forgets every token, as when they expire.
    pub(crate) fn expire(&mut self) {
        self.valid.clear();
        self.issued.clear();
    }

    /// Whether a request with this token may go on.
    pub(crate) fn check(&self, token: Option<&str>, settings: &MockSettings) -> Result<(), Refusal> {
        let Some(token) = token else {
            return match (settings.strict_tokens, settings.dialect) {
                (false, _) => Ok(()),
                (true, Dialect::V1) => Err(Refusal::error(401, "No token was passed in.")),
                (true, Dialect::V5) => Err(Refusal::error(401, "Authentication error")),
            };
        };
        match self.valid.get(token) {
            Some(true) => Ok(()),
            // 5.x has one answer for every refused login and gives no reason.
            Some(false) if settings.dialect == Dialect::V5 => Err(Refusal::Error { status: 401, message: None }),
            Some(false) => Err(Refusal::error(403, "Not authorized to access this resource.")),
            // 1.9's mock authentication takes any token for the admin's.
            None if settings.dialect == Dialect::V1 && !settings.strict_tokens => Ok(()),
            None => Err(Refusal::error(401, "Authentication error")),
        }
    }
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokens").field("valid", &self.valid.len()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logging_in_without_end_makes_the_oldest_expire() {
        let (mut tokens, settings) =
            (Tokens::default(), MockSettings { strict_tokens: true, ..MockSettings::default() });
        let issued: Vec<String> = (0..KEPT as u128 + 5).map(|n| tokens.issue(Uuid::from_u128(n), true)).collect();
        let valid = |token: &String| tokens.check(Some(token), &settings).is_ok();
        assert_eq!(issued.iter().filter(|token| valid(token)).count(), KEPT);
        assert!(!valid(&issued[4]) && valid(&issued[5]));
        assert_eq!(tokens.valid.len(), tokens.issued.len());
    }
}
