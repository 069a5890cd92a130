//! The Container Network Interface, SPEC 1.1.0: what a runtime sends, what it gets back. Pure.
//!
//! | module | what |
//! |---|---|
//! | [`version`] | the supported versions of the specification |
//! | [`request`] | the environment and standard input, checked in the order that runtimes expect |
//! | [`capability`] | what an entry declares and a runtime asks by it, and whether we serve it |
//! | [`address_request`] | what a caller requests for its interface, from four sources |
//! | [`result`] | a result in our own shape, and its JSON in each version's shape |
//! | [`previous`] | a previous result, from each version's shape |
//! | [`valid`] | which attachments a GC must leave |
//! | [`trace`] | the trace that a call belongs to |
//! | [`fail`] | the error object |

pub mod address_request;
pub mod capability;
pub mod fail;
pub mod previous;
pub mod request;
pub mod result;
pub mod trace;
pub mod valid;
pub mod version;
