//! The resources as they travel.
