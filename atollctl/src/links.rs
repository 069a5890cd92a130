//! Host ends of pods in a network namespace: listing ours, deleting one of ours.
//!
//! # Guarantees
//! Nothing is deleted that is not a veth of our link group, read just before.

use std::io;
use std::path::{Path, PathBuf};

use atoll_node::files::read;
use atoll_node::netlink::{Socket, errno_of};
use atoll_node::veth::GROUP;
use atoll_node::{netns, paths};
use nix::errno::Errno;
use nix::sched::{CloneFlags, unshare};
use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo, LinkMessage};

/// Where a link is. In JSON: `node`, or the path where the namespace is pinned.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(into = "String")]
pub(crate) enum NetnsLocation {
    /// The namespace of this process.
    Own,
    /// The one pinned here: that of a router of the local data plane.
    At(PathBuf),
}

impl From<NetnsLocation> for String {
    fn from(place: NetnsLocation) -> Self {
        match place {
            NetnsLocation::Own => "node".to_owned(),
            NetnsLocation::At(path) => path.display().to_string(),
        }
    }
}

impl std::fmt::Display for NetnsLocation {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Own => f.write_str("the node's own network namespace"),
            Self::At(path) => write!(f, "network namespace {}", path.display()),
        }
    }
}

/// A host end of ours.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub(crate) struct HostEnd {
    pub(crate) place: NetnsLocation,
    pub(crate) name: String,
    /// The kernel's number of it: another link of this name has another.
    pub(crate) index: u32,
    /// It is up and so is its other end.
    pub(crate) carrier: bool,
}

/// Every host end of ours on this node: in our own namespace and in those of the local data plane.
pub(crate) fn host_ends(run_dir: &Path) -> io::Result<Vec<HostEnd>> {
    let routers = crate::nodefiles::entries(&paths::router_namespaces(run_dir))?.into_iter().map(NetnsLocation::At);
    let mut all = Vec::new();
    for place in std::iter::once(NetnsLocation::Own).chain(routers) {
        match inside(&place, list) {
            Ok(links) => all.extend(links.into_iter().map(|link| HostEnd { place: place.clone(), ..link })),
            // A router that was deleted meanwhile, or a file that is no namespace (yet).
            Err(error) if is_no_netns(&error) => {}
            Err(error) => return Err(error),
        }
    }
    all.sort();
    Ok(all)
}

/// Deletes a host end, and with it the pod's. Gone already is fine; another link of this name is not deleted.
pub(crate) fn delete(end: &HostEnd) -> io::Result<()> {
    let done = inside(&end.place, |socket| {
        if !list(socket)?.iter().any(|link| link.name == end.name && link.index == end.index) {
            return Ok(());
        }
        let mut message = LinkMessage::default();
        message.header.index = end.index;
        Ok(socket.change(RouteNetlinkMessage::DelLink(message), 0)?)
    });
    match done {
        Err(error) if is_no_netns(&error) || errno_of(&error) == Some(Errno::ENODEV) => Ok(()),
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
        let veth = Socket::here().and_then(|socket| make_veth(&socket));
        Ok((Ok(()), veth, Some(more())))
    })
    .unwrap_or_else(|error| (Err(error), Err(io::Error::other("not tried")), None))
}

fn make_veth(socket: &Socket) -> io::Result<()> {
    let mut peer = LinkMessage::default();
    peer.attributes = vec![LinkAttribute::IfName("at-doctor-b".to_owned())];
    let mut link = LinkMessage::default();
    link.attributes = vec![
        LinkAttribute::IfName("at-doctor-a".to_owned()),
        LinkAttribute::LinkInfo(vec![
            LinkInfo::Kind(InfoKind::Veth),
            LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
        ]),
    ];
    Ok(socket.change(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)?)
}

/// Works with a socket in `place`.
fn inside<T>(place: &NetnsLocation, work: impl FnOnce(&Socket) -> io::Result<T>) -> io::Result<T> {
    match place {
        NetnsLocation::Own => work(&Socket::here()?),
        NetnsLocation::At(path) => work(&Socket::inside(&read::open_given(path)?)?),
    }
}

fn is_no_netns(error: &io::Error) -> bool {
    // What is no namespace is refused when it is opened, or by the kernel.
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput)
}

fn list(socket: &Socket) -> io::Result<Vec<HostEnd>> {
    let answers = socket.list(RouteNetlinkMessage::GetLink(LinkMessage::default()))?;
    Ok(answers.iter().filter_map(host_end).collect())
}

/// A veth of our group; none: it is something else.
fn host_end(answer: &RouteNetlinkMessage) -> Option<HostEnd> {
    let RouteNetlinkMessage::NewLink(link) = answer else { return None };
    let has = |wanted: &dyn Fn(&LinkAttribute) -> bool| link.attributes.iter().any(wanted);
    let ours = has(&|attribute| matches!(attribute, LinkAttribute::Group(GROUP)));
    let veth = has(
        &|attribute| matches!(attribute, LinkAttribute::LinkInfo(infos) if infos.contains(&LinkInfo::Kind(InfoKind::Veth))),
    );
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.clone()),
        _ => None,
    })?;
    let carrier = link.header.flags.contains(LinkFlags::LowerUp);
    (ours && veth).then_some(HostEnd { place: NetnsLocation::Own, name, index: link.header.index, carrier })
}
