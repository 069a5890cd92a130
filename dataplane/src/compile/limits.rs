//! Bounds of what the pods of one router can use up of what all namespaces share.

/// How many MACs, and how many addresses in ARP, the open ports of a router namespace may show within five minutes. Each becomes an
/// entry of a table that the kernel shares among all namespaces, or keeps without a bound.
pub(super) const UNKNOWN_HOSTS: u32 = 256;

/// How many flows of one link a router tracks that others share. The kernel's bound is for the whole namespace, and
/// counting costs the more the higher the bound is (70 microseconds for a new flow at this one).
pub(super) const FLOWS: u32 = 8192;
