//! rtnetlink: one blocking socket for every program of this project.
//!
//! | module | what |
//! |---|---|
//! | [`socket`] | a request and all its answers |
//! | [`answer`] | reading a datagram |
//! | [`refused`] | why the kernel did not do it |

pub mod answer;
pub mod refused;
pub mod socket;

pub use refused::{Refused, errno_of};
pub use socket::Socket;
