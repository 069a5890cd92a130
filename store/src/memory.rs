//! An etcd in memory.
