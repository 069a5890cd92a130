//! The login: Basic credentials for a token. It runs before any check of a token, with any method.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use http::header::AUTHORIZATION;
use serde_json::{Value, json};

use crate::access::same;
use crate::call::{Call, Reply, ReplyResult};
use crate::refusal::Refusal;

pub(crate) fn login(call: &mut Call<'_>) -> ReplyResult {
    let refuse = |message: &str| Refusal::error(401, message);
    let header = call.headers.get(AUTHORIZATION).ok_or_else(|| refuse("Authorization header is not set."))?;
    let header = header.to_str().map_err(|_| refuse("Authorization header is not valid"))?;
    let encoded =
        header.strip_prefix("Basic ").ok_or_else(|| refuse("Authorization header does not contain Basic."))?;
    let decoded = STANDARD.decode(encoded.trim()).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    let decoded = decoded.ok_or_else(|| refuse("Authorization header is not valid"))?;
    // The real server splits at every colon: a password with one in it can never log in.
    let parts: Vec<&str> = decoded.split(':').collect();
    let [name, password] = parts[..] else { return Err(refuse("Authorization header is not valid")) };
    let user =
        call.settings.users.get(name).filter(|user| same(user.password.reveal().as_bytes(), password.as_bytes()));
    let admin = user.ok_or_else(|| refuse("Authentication error"))?.admin;
    let token = call.ids.uuid();
    let token = call.tokens.issue(token, admin);
    let cookie = format!("sessionId={token}");
    Ok(Reply::Token { value: json!({ "key": token, "expires": Value::Null }), cookie })
}
