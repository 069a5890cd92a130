//! Code that the programs in `src/bin/` share.
//!
//! | module | what |
//! |---|---|
//! | [`engine`] | what makes the tenants' networks |
//! | [`signals`] | Ctrl-C |

pub mod engine;
pub mod signals;
