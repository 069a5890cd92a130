//! The destination of plugin and network configuration: the directories that the runtimes of the node search. Pure, except
//! for the reader that the caller passes.

use std::path::{Path, PathBuf};

use crate::runtime::{Places, Runtime};
use crate::settings::distinct;

/// The directories of an installation, as paths of the node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Destination {
    /// Every runtime searches one of them.
    pub(super) bin: Vec<PathBuf>,
    /// Every runtime reads one of them.
    pub(super) conf: Vec<PathBuf>,
    /// The runtimes that search it.
    pub(super) notes: Vec<String>,
}

/// The directories of the command line; otherwise as few directories as serve all runtimes, and of those that a runtime
/// searches the first that exists.
pub(super) fn destination(
    runtimes: &[Runtime],
    bin: Option<&Path>,
    conf: Option<&Path>,
    is_there: impl Fn(&Path) -> bool,
) -> Destination {
    let runtimes: Vec<_> = runtimes.iter().filter(|runtime| runtime.starts_pods()).collect();
    let mut notes = Vec::new();
    let usual = Places::default();
    let all: Vec<&Places> =
        if runtimes.is_empty() { vec![&usual] } else { runtimes.iter().map(|runtime| &runtime.places).collect() };
    if bin.is_none() || conf.is_none() {
        notes.extend(runtimes.iter().map(|Runtime { name, places, .. }| {
            let bins: Vec<_> = places.bin.iter().map(|path| path.display().to_string()).collect();
            let (bins, conf) = (bins.join(", "), places.conf.display());
            format!("{name} takes plugins from {bins} and configurations from {conf}, according to {}", places.source)
        }));
        if runtimes.is_empty() {
            notes.push(
                "no container runtime is known here: name --bin-dir and --conf-dir if yours looks elsewhere".to_owned(),
            );
        }
    }
    // A runtime that does not report its directories: they are the defaults.
    notes.extend(runtimes.iter().flat_map(|runtime| {
        runtime.problems.iter().map(|problem| format!("{}: its configuration cannot be read: {problem}", runtime.name))
    }));
    let bin = bin.map_or_else(
        || {
            let mut chosen: Vec<PathBuf> = Vec::new();
            for places in &all {
                if !places.bin.iter().any(|path| chosen.contains(path)) {
                    chosen
                        .extend(places.bin.iter().find(|path| is_there(path)).or_else(|| places.bin.first()).cloned());
                }
            }
            chosen
        },
        |path| vec![path.to_owned()],
    );
    let conf = conf
        .map_or_else(|| distinct(all.iter().map(|places| places.conf.clone()).collect()), |path| vec![path.to_owned()]);
    Destination { bin, conf, notes }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::{NoAnswer, Status};

    fn runtime(name: &str, bin: &[&str], conf: &str) -> Runtime {
        Runtime {
            name: name.to_owned(),
            socket: "/run/sock".into(),
            places: Places {
                bin: bin.iter().map(PathBuf::from).collect(),
                conf: conf.into(),
                source: "a file".to_owned(),
            },
            problems: vec![],
            status: Ok(Status { network: Ok(()), loaded: None, plugins: vec![] }),
        }
    }

    fn chosen(runtimes: &[Runtime], there: &[&str]) -> (Vec<PathBuf>, Vec<PathBuf>) {
        let found = destination(runtimes, None, None, |path| there.iter().any(|there| Path::new(there) == path));
        (found.bin, found.conf)
    }

    fn paths(all: &[&str]) -> Vec<PathBuf> {
        all.iter().map(PathBuf::from).collect()
    }

    #[test]
    fn every_runtime_finds_the_installation() {
        let debian = runtime("containerd", &["/usr/lib/cni"], "/etc/cni/net.d");
        let newer = runtime("containerd", &["/opt/cni/bin", "/usr/lib/cni"], "/etc/cni/net.d");
        let crio = runtime("CRI-O", &["/opt/cni/bin", "/usr/libexec/cni"], "/etc/crio/net.d");
        let net = paths(&["/etc/cni/net.d"]);
        let one = std::slice::from_ref;
        assert_eq!(chosen(one(&debian), &[]), (paths(&["/usr/lib/cni"]), net.clone()));
        assert_eq!(chosen(one(&newer), &[]), (paths(&["/opt/cni/bin"]), net.clone()));
        assert_eq!(chosen(one(&newer), &["/usr/lib/cni"]), (paths(&["/usr/lib/cni"]), net.clone()));
        assert_eq!(chosen(&[debian.clone(), newer], &["/opt/cni/bin"]), (paths(&["/usr/lib/cni"]), net.clone()));
        let both = (paths(&["/usr/lib/cni", "/opt/cni/bin"]), paths(&["/etc/cni/net.d", "/etc/crio/net.d"]));
        assert_eq!(chosen(&[debian.clone(), crio], &[]), both);
        assert_eq!(chosen(&[], &[]), (paths(&["/opt/cni/bin"]), net.clone()));
        // A containerd for Docker only: its configuration is ignored.
        let docker = Runtime { status: Err(NoAnswer::NoCri), ..runtime("containerd", &["/x"], "/y") };
        assert_eq!(chosen(&[docker], &[]), (paths(&["/opt/cni/bin"]), net));
        let found = destination(&[debian], Some(Path::new("/b")), Some(Path::new("/c")), |_| true);
        assert_eq!(found, Destination { bin: paths(&["/b"]), conf: paths(&["/c"]), notes: vec![] });
    }
}
