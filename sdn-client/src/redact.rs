//! Texts of a server, made fit for an error message: without secrets, in one line, of bounded length.

use atoll_model::secret::Secret;

/// The longest text of a server that an error repeats, in characters.
const LONGEST_MESSAGE: usize = 400;

/// Replaces these secrets in `text`. To be called before the text is shortened: half a secret would not be found.
pub(crate) fn hide(secrets: &[&Secret], text: &str) -> String {
    let secrets = secrets.iter().map(|secret| secret.reveal()).filter(|secret| !secret.is_empty());
    secrets.fold(text.to_owned(), |text, secret| text.replace(secret, "[secret]"))
}

/// One line of bounded length.
pub(crate) fn tidy(text: &str) -> String {
    text.chars().take(LONGEST_MESSAGE).map(|c| if c.is_control() { ' ' } else { c }).collect()
}
