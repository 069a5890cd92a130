//! The Container Network Interface, SPEC 1.1.0: what a runtime sends, what it gets back. Pure.
//!
//! | module | what |
//! |---|---|
//! | [`version`] | the versions of the specification that we speak |
//! | [`result`] | a result in our own shape, and its JSON in each version's shape |
//! | [`fail`] | the error object |

pub mod fail;
pub mod result;
pub mod version;
