//! Futures that a runtime with several threads can move from one to another.

/// The future itself. A future that is not `Send` does not compile here.
pub fn sent<F: Future + Send>(future: F) -> F {
    future
}
