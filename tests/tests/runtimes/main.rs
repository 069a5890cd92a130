//! Real container runtimes with our plugin, without a registry: Debian's containerd through its CRI socket, and podman
//! with its CNI backend. Each has a node of its own, so that its side of the network is that node's namespace.

mod containerd;
mod cri;
mod image;
mod podman;
