//! OVN on several machines: real databases, real chassis, real packets.

mod pods;
