//! Host ends of pods in a network namespace: listing ours, deleting one of ours.
//!
//! # Guarantees
//! Nothing is deleted that is not a veth of our link group, read just before.

use std::io;
use std::path::Path;

use atoll_node::netlink::link::{self, Link, LinkKind, VethEnd};
use atoll_node::netlink::{Socket, errno_of};
use atoll_node::netns::{self, Netns};
use atoll_node::paths;
use atoll_node::veth::GROUP;
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};

/// A host end of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub(crate) struct HostEnd {
    /// Where it is: in the namespace of this process, or in that of a router of the local data plane. In JSON: `node`, or
    /// the path where the namespace is pinned.
    #[serde(serialize_with = "location")]
    pub(crate) place: Netns,
    pub(crate) name: String,
    /// The kernel's number of it: another link of this name has another.
    pub(crate) index: u32,
    /// It is up and so is its other end.
    pub(crate) carrier: bool,
}

fn location<S: serde::Serializer>(place: &Netns, serializer: S) -> Result<S::Ok, S::Error> {
    match place {
        Netns::Own => serializer.serialize_str("node"),
        Netns::At(path) => serializer.collect_str(&path.display()),
    }
}

/// Every host end of ours on this node: in our own namespace and in those of the local data plane.
pub(crate) fn host_ends(run_dir: &Path) -> io::Result<Vec<HostEnd>> {
    let routers = crate::nodefiles::entries(&paths::router_namespaces(run_dir))?.into_iter().map(Netns::At);
    let mut all = Vec::new();
    for place in std::iter::once(Netns::Own).chain(routers) {
        // None: a router that was deleted meanwhile, or a file that is no namespace (yet).
        let Some(socket) = Socket::within(&place)? else { continue };
        all.extend(list(&socket, &place)?);
    }
    all.sort();
    Ok(all)
}

/// Deletes a host end, and with it the pod's. Gone already is fine; another link of this name is not deleted.
pub(crate) fn delete(end: &HostEnd) -> io::Result<()> {
    let Some(socket) = Socket::within(&end.place)? else { return Ok(()) };
    if !list(&socket, &end.place)?.iter().any(|link| link.name == end.name && link.index == end.index) {
        return Ok(());
    }
    match link::delete(&socket, end.index).map_err(io::Error::from) {
        Err(error) if errno_of(&error) == Some(Errno::ENODEV) => Ok(()),
        other => other,
    }
}

/// Can this kernel make network namespaces and veth pairs, and are we allowed to? Tried in a namespace of its own, which
/// is gone at the end. The other work is done in the same namespace.
pub(crate) fn try_kernel<T: Send>(more: impl FnOnce() -> T + Send) -> (io::Result<()>, io::Result<()>, Option<T>) {
    netns::on_thread(|| {
        if let Err(errno) = unshare(CloneFlags::CLONE_NEWNET) {
            return Ok((Err(errno.into()), Err(io::Error::other("not tried")), None));
        }
        let veth = Socket::here().and_then(|socket| create_veth(&socket));
        Ok((Ok(()), veth, Some(more())))
    })
    .unwrap_or_else(|error| (Err(error), Err(io::Error::other("not tried")), None))
}

fn create_veth(socket: &Socket) -> io::Result<()> {
    let [end, peer] = ["at-doctor-a", "at-doctor-b"].map(|name| VethEnd { name, ..VethEnd::default() });
    Ok(link::create_veth(socket, &end, &peer)?)
}

/// The host ends of ours in `place`.
fn list(socket: &Socket, place: &Netns) -> io::Result<Vec<HostEnd>> {
    let ours = link::list(socket)?.into_iter().filter(|link| link.kind == LinkKind::Veth && link.group == GROUP);
    Ok(ours.map(|link| host_end(link, place)).collect())
}

fn host_end(link: Link, place: &Netns) -> HostEnd {
    HostEnd { place: place.clone(), carrier: link.has_carrier(), name: link.name, index: link.index }
}
