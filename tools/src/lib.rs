//! Code that the programs in `src/bin/` share.
//!
//! | module | what |
//! |---|---|
//! | [`signals`] | Ctrl-C |

pub mod signals;
