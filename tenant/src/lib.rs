//! Tenants: from a record to a desired graph, and the engine that makes a controller match it.
//!
//! | module | what |
//! |---|---|
//! | [`graph`] | the pure function from (cluster, tenant record) to the desired graph |
//! | [`controller`] | the seam above REST |

pub mod controller;
pub mod graph;
