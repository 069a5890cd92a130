//! A defect that panics is told as an error object, too: CNI SPEC 1.1.0, section "Error", with our code 199.

use std::io::{self, Write};

use atoll_model::cni::fail::Failure;

/// From now on a panic anywhere prints the one document and ends the process with code 1.
pub fn tell() {
    std::panic::set_hook(Box::new(|panic| {
        let payload = panic.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("panic");
        let place = panic.location().map_or_else(|| "an unknown place".to_owned(), ToString::to_string);
        tracing::error!(message, place, "a defect");
        print(&Failure::of_panic(message, &place).to_json());
        #[expect(clippy::disallowed_methods, reason = "aborting would leave a core and no exit code")]
        #[expect(clippy::exit, reason = "the document is printed")]
        std::process::exit(1);
    }));
}

/// Prints a document, or nothing if it is empty. False: nobody reads it.
pub fn print(text: &str) -> bool {
    let mut stdout = io::stdout().lock();
    let line = if text.is_empty() { String::new() } else { format!("{text}\n") };
    stdout.write_all(line.as_bytes()).and_then(|()| stdout.flush()).is_ok()
}
