//! The plugin's seam to the kernel, for tests.
//!
//! | module | what |
//! |---|---|
//! | [`fake`] | a kernel in memory |
//! | [`faulty`] | a kernel that fails by a fault plan |

pub mod fake;
pub mod faulty;

pub use fake::{FakeKernel, FakeLink};
pub use faulty::FaultyKernel;
