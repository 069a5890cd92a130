//! The panic hook: a panic prints an error object, too (CNI SPEC 1.1.0, section "Error"), with code 199.

use std::sync::OnceLock;

use atoll_model::cni::fail::CniFailure;
use atoll_model::cni::version::Version;
use atoll_node::files::print;

/// The caller's version, as soon as it is known.
static VERSION: OnceLock<Version> = OnceLock::new();

/// From now on a panic prints its error object in the caller's version.
pub fn set_version(version: Version) {
    let _ = VERSION.set(version);
}

/// Installs the hook: from now on a panic anywhere prints the one document and ends the process with code 1.
pub fn install() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic");
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        tracing::error!(message, place, "panic");
        let version = VERSION.get().copied().unwrap_or(Version::NEWEST);
        // The exit code reports the same if this output is lost.
        let _ = print(&CniFailure::of_panic(message, &place, version).to_json());
        #[expect(clippy::disallowed_methods, reason = "aborting would leave a core and no exit code")]
        #[expect(clippy::exit, reason = "the document is printed")]
        std::process::exit(1);
    }));
}

/// Prints a document, or nothing if it is empty. An error: it did not arrive, at least not whole.
pub fn print(text: &str) -> std::io::Result<()> {
    if text.is_empty() { Ok(()) } else { print::print(&format!("{text}\n")) }
}
