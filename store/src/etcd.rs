//! The real etcd.
