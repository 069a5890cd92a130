//! The engine against a MidoNet controller in memory.

mod capabilities;
mod conformance;
