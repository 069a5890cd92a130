//! The error object: CNI SPEC 1.1.0, section "Error".
