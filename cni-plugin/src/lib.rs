//! The CNI plugin `atoll`: attaches containers to tenants' networks and detaches them.
//!
//! | module | what |
//! |---|---|
//! | [`wire`] | the seam to the kernel |
//!
//! The order of effects, and why a crash between any two of them leaks nothing, is in `docs/design/attachment.md`.

pub mod wire;
