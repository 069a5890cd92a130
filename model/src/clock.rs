//! The wall clock, for timestamps in records and files.

/// Seconds since 1970. For people and for this machine: nothing is decided by comparing the clocks of two machines.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the wall clock for records")]
pub fn now() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
