//! The conformance suite itself: it fails for engines and networks that do nothing, or everything.

mod packets;
mod recorder;
mod stateless;
