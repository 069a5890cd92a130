//! The node's own root, seen from a container: `install --host-root /host` in a DaemonSet.

use std::collections::VecDeque;
use std::ffi::OsString;
use std::path::{Component, Path, PathBuf};

/// The most links that are followed in one path, the kernel's limit.
const LINKS: usize = 40;

/// Where the node's root directory is, `/` on the node itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Root(PathBuf);

impl Root {
    /// The root at this path.
    pub(crate) fn at(path: &Path) -> Self {
        Self(path.to_owned())
    }

    /// The machine that this program runs on.
    pub(crate) fn own() -> Self {
        Self(PathBuf::from("/"))
    }

    /// A path of the node as this program can open it. Links on the way are resolved below the node's root: a link
    /// from `/opt` to `/var/opt` leads to the node's `/var/opt`. Components that do not exist are kept.
    pub(crate) fn below(&self, path: &Path) -> PathBuf {
        if self.0 == Path::new("/") {
            return path.to_owned();
        }
        let mut ahead: VecDeque<OsString> = names(path);
        let mut below = PathBuf::new();
        let mut links = 0;
        while let Some(name) = ahead.pop_front() {
            if name == ".." {
                below.pop();
                continue;
            }
            let here = below.join(&name);
            match std::fs::read_link(self.0.join(&here)) {
                Ok(target) if links < LINKS => {
                    links += 1;
                    if target.is_absolute() {
                        below = PathBuf::new();
                    }
                    let mut further = names(&target);
                    further.append(&mut ahead);
                    ahead = further;
                }
                _ => below = here,
            }
        }
        self.0.join(below)
    }
}

/// The components of a path without `/` and `.`; `..` is kept.
fn names(path: &Path) -> VecDeque<OsString> {
    let name = |component| match component {
        Component::Normal(name) => Some(name.to_owned()),
        Component::ParentDir => Some(OsString::from("..")),
        _ => None,
    };
    path.components().filter_map(name).collect()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn links_lead_where_they_lead_on_the_node() {
        let host = tempfile::tempdir().expect("a directory");
        std::fs::create_dir_all(host.path().join("var/opt/cni")).expect("made");
        for (target, link) in [
            ("/var/opt", "opt"),
            ("../var", "var/up"),
            ("/loop", "loop"),
            ("../../../x", "out"),
            ("/usr/lib", "var/lib"),
        ] {
            symlink(target, host.path().join(link)).expect("made");
        }
        let root = Root::at(host.path());
        for (path, wanted) in [
            ("/opt/cni/bin", "var/opt/cni/bin"),
            ("/var/up/opt", "var/opt"),
            ("/var/lib/cni", "usr/lib/cni"),
            ("/usr/lib/cni", "usr/lib/cni"),
            ("/out/y", "x/y"),
            ("/../etc", "etc"),
        ] {
            assert_eq!(root.below(Path::new(path)), host.path().join(wanted), "{path}");
        }
        assert!(root.below(Path::new("/loop")).starts_with(host.path()), "it ends");
        assert_eq!(Root::own().below(Path::new("/opt/cni")), Path::new("/opt/cni"));
    }
}
