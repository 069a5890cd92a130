//! This machine's files and streams, as every program of the project treats them.
//!
//! | module | what |
//! |---|---|
//! | [`read`] | a whole file, a whole directory, both up to the size that they can have |
//! | [`make`] | directories, and modes as the table in `docs/operations.md` has them, whatever the caller's umask |
//! | [`atomic`] | replacing a file |
//! | [`lock`] | advisory locks |
//! | [`print`](mod@print) | standard output: output that did not arrive is an error |
//! | [`trouble`] | an error of a file, with its path and what can be done |
//!
//! Nothing here knows what a file contains, and nothing here waits for another process.

pub mod atomic;
pub mod lock;
pub mod make;
pub mod print;
pub mod read;
pub mod trouble;

/// The largest record of ours in a file, in bytes: etcd accepts no larger one (its `--max-request-bytes` is 1.5 MiB).
pub const RECORD: u64 = 1 << 20;
/// The largest network configuration, in bytes: a ConfigMap of Kubernetes holds no more.
pub const CONFIG: u64 = 1 << 20;
/// The largest file of certificates, in bytes: all authorities of a Linux distribution take a quarter of a megabyte.
pub const CERTIFICATES: u64 = 4 << 20;
/// The largest secret, in bytes.
pub const SECRET: u64 = 64 << 10;
/// The largest small text (an id, a URL, a table of `/proc` that has a few lines), in bytes.
pub const TEXT: u64 = 64 << 10;
/// The largest table of routes, list of containers or list of network namespaces, in bytes.
pub const LIST: u64 = 64 << 20;
/// The largest program, in bytes.
pub const PROGRAM: u64 = 256 << 20;
/// The most entries that a directory of ours can have: a file for each attachment that a node ever has at a time, a
/// hundred times over.
pub const ENTRIES: usize = 100_000;
