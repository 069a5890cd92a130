//! What operators do: each verb one file, each a function over the two seams, so that `atollctl` only reads arguments
//! and prints.

mod init;

pub use crate::registry::possible;
pub use init::{Initialised, init};
