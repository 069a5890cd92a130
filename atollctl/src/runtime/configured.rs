//! What the configuration files of containerd and CRI-O contain: where they look for plugins and network configurations.
//!
//! Read as the runtimes read them: containerd's three layouts with their imports, CRI-O's drop-ins. A file that cannot be
//! read, or has an unexpected value, is reported and not used; nothing here panics.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

use super::root::Root;
use crate::nodefiles;

/// What runtimes take when nothing is configured.
const BIN: &str = "/opt/cni/bin";
/// What runtimes take when nothing is configured.
const CONF: &str = "/etc/cni/net.d";
/// The most files that are read for one runtime; it usually has a few.
const FILES: usize = 64;

/// The directories that a runtime searches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Places {
    /// Directories of plugins; the first that has a plugin is the one.
    pub(crate) bin: Vec<PathBuf>,
    /// The directory of network configurations.
    pub(crate) conf: PathBuf,
    /// The source: the runtime itself, a file, or nothing but the runtime's defaults.
    pub(crate) source: String,
}

impl Default for Places {
    fn default() -> Self {
        Self { bin: vec![BIN.into()], conf: CONF.into(), source: "its defaults".to_owned() }
    }
}

/// What a runtime's files contain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Configured {
    pub(crate) places: Places,
    /// Kubernetes' interface is switched off: this runtime starts no pods.
    pub(crate) is_cri_off: bool,
    /// Files that could not be used.
    pub(crate) problems: Vec<String>,
}

/// Reads a runtime's files, one after the other; a later file wins.
struct Reader<'a> {
    root: &'a Root,
    read: BTreeSet<PathBuf>,
    found: Configured,
}

impl<'a> Reader<'a> {
    fn new(root: &'a Root) -> Self {
        Self { root, read: BTreeSet::new(), found: Configured::default() }
    }

    /// A file of TOML; none: it is not there, cannot be used, or was read before.
    fn table(&mut self, path: &Path) -> Option<Table> {
        if !self.read.insert(path.to_owned()) {
            return None;
        }
        if self.read.len() > FILES {
            self.problem(path, &format!("more than {FILES} files are not read"));
            return None;
        }
        let text = match atoll_node::files::read::given(&self.root.below(path), atoll_node::files::CONFIG) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => {
                self.problem(path, &error.to_string());
                return None;
            }
        };
        let parsed = String::from_utf8(text).map_err(|_| "it is not UTF-8".to_owned());
        // Only the message: the whole error shows a line of the file, which may hold a registry's password.
        match parsed.and_then(|text| text.parse::<Table>().map_err(|error| error.message().to_owned())) {
            Ok(table) => Some(table),
            Err(error) => {
                self.problem(path, &error);
                None
            }
        }
    }

    fn problem(&mut self, path: &Path, why: &str) {
        self.found.problems.push(format!("{}: {}", path.display(), why.trim_end()));
    }

    fn take(&mut self, path: &Path, bin: Vec<PathBuf>, conf: Option<PathBuf>) {
        if !bin.is_empty() || conf.is_some() {
            self.found.places.source = path.display().to_string();
        }
        if !bin.is_empty() {
            self.found.places.bin = bin;
        }
        if let Some(conf) = conf {
            self.found.places.conf = conf;
        }
    }

    /// The files of a directory whose names match a pattern, sorted by name.
    fn glob(&self, pattern: &Path) -> Vec<PathBuf> {
        let (Some(directory), Some(name)) = (pattern.parent(), pattern.file_name().and_then(|name| name.to_str()))
        else {
            return Vec::new();
        };
        if !name.contains(['*', '?']) {
            return vec![pattern.to_owned()];
        }
        let here = nodefiles::entries(&self.root.below(directory)).unwrap_or_default();
        let names = here.iter().filter_map(|path| path.file_name()?.to_str());
        names.filter(|found| is_met(name.as_bytes(), found.as_bytes())).map(|found| directory.join(found)).collect()
    }

    /// containerd's main file, or one that another imports.
    fn containerd(&mut self, path: &Path) {
        let Some(table) = self.table(path) else { return };
        // Without a version it is the first; since the second, plugins have their whole names.
        let version = table.get("version").and_then(Value::as_integer).unwrap_or(1);
        let plugin = match version {
            ..=1 => "cri",
            2 => "io.containerd.grpc.v1.cri",
            _ => "io.containerd.cri.v1.runtime",
        };
        let cni = ["plugins", plugin, "cni"].iter().try_fold(&table, |table, key| table.get(*key)?.as_table());
        if let Some(cni) = cni {
            let mut bin = texts(cni, "bin_dirs");
            bin.extend(texts(cni, "bin_dir"));
            self.take(path, bin, texts(cni, "conf_dir").pop());
        }
        let off = texts(&table, "disabled_plugins");
        self.found.is_cri_off |= off.iter().any(|off| [Path::new("cri"), Path::new(plugin)].contains(&off.as_path()));
        let mut imports = texts(&table, "imports");
        if !table.contains_key("imports") && version > 2 {
            // The default of containerd 2.2.
            imports.push("/etc/containerd/conf.d/*.toml".into());
        }
        for import in imports {
            let pattern = path.parent().unwrap_or(Path::new("/")).join(import);
            for file in self.glob(&pattern) {
                self.containerd(&file);
            }
        }
    }

    fn crio(&mut self, path: &Path) {
        let Some(table) = self.table(path) else { return };
        let network = ["crio", "network"].iter().try_fold(&table, |table, key| table.get(*key)?.as_table());
        if let Some(network) = network {
            let mut bin = texts(network, "plugin_dirs");
            bin.extend(texts(network, "plugin_dir"));
            self.take(path, bin, texts(network, "network_dir").pop());
        }
    }
}

/// The paths at a key: one text, or a list of them. Values that are not text are left out.
fn texts(table: &Table, key: &str) -> Vec<PathBuf> {
    let values = match table.get(key) {
        Some(Value::Array(values)) => values.as_slice(),
        Some(value) => std::slice::from_ref(value),
        None => &[],
    };
    let texts = values.iter().filter_map(Value::as_str).filter(|text| !text.is_empty());
    // Without a trailing slash.
    texts.map(|text| Path::new(text).components().collect()).collect()
}

/// `*` is any number of characters, `?` is one.
fn is_met(pattern: &[u8], name: &[u8]) -> bool {
    match (pattern.split_first(), name.split_first()) {
        (None, None) => true,
        (Some((b'*', rest)), _) => {
            is_met(rest, name) || name.split_first().is_some_and(|(_, name)| is_met(pattern, name))
        }
        (Some((wanted, rest)), Some((found, name))) => (*wanted == b'?' || wanted == found) && is_met(rest, name),
        _ => false,
    }
}

/// containerd, with this main file.
pub(super) fn containerd(root: &Root, file: &Path) -> Configured {
    let mut reader = Reader::new(root);
    reader.containerd(file);
    reader.found
}

/// CRI-O: its main file, then the drop-ins by name.
pub(super) fn crio(root: &Root, file: &Path) -> Configured {
    let mut reader = Reader::new(root);
    reader.crio(file);
    for drop_in in reader.glob(&file.with_extension("conf.d").join("*")) {
        reader.crio(&drop_in);
    }
    reader.found
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new(files: &[(&str, &str)]) -> Self {
            let host = tempfile::tempdir().expect("a directory");
            for (path, text) in files {
                let path = host.path().join(path);
                fs::create_dir_all(path.parent().expect("a directory")).expect("made");
                fs::write(path, text).expect("written");
            }
            Self(host)
        }

        fn containerd(&self) -> Configured {
            containerd(&Root::at(self.0.path()), Path::new("/etc/containerd/config.toml"))
        }

        fn crio(&self) -> Configured {
            crio(&Root::at(self.0.path()), Path::new("/etc/crio/crio.conf"))
        }
    }

    fn places(bin: &[&str], conf: &str, source: &str) -> Places {
        Places { bin: bin.iter().map(PathBuf::from).collect(), conf: conf.into(), source: source.to_owned() }
    }

    const MAIN: &str = "etc/containerd/config.toml";
    const BY: &str = "/etc/containerd/config.toml";

    #[test]
    fn every_layout_of_containerd_is_read() {
        for (text, wanted) in [
            // As Debian 12 ships it.
            (
                "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = \"/n\"",
                places(&["/usr/lib/cni"], "/n", BY),
            ),
            ("[plugins.cri.cni]\nbin_dir = \"/old/\"", places(&["/old"], CONF, BY)),
            (
                "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nbin_dirs = [\"/a\", \"/b\"]\nconf_dir = '/n'",
                places(&["/a", "/b"], "/n", BY),
            ),
            // The layout of another version is ignored.
            ("version = 3\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/a\"", Places::default()),
            ("", Places::default()),
            ("version = 2\n[plugins]\n", Places::default()),
            // Values of an unexpected type.
            ("version = \"2\"\nplugins = 1", Places::default()),
            (
                "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = 7\nconf_dir = [\"\", 3]",
                Places::default(),
            ),
        ] {
            let found = Host::new(&[(MAIN, text)]).containerd();
            assert_eq!((found.places, found.problems), (wanted, vec![]), "{text}");
        }
        assert_eq!(Host::new(&[]).containerd(), Configured::default());
    }

    #[test]
    fn imports_are_followed_and_end() {
        let bin =
            |dir: &str| format!("version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"{dir}\"\n");
        let main = format!("imports = [\"more/*.toml\", \"/etc/x.toml\", \"/nowhere/*\"]\n{}", bin("/main"));
        let again = format!("imports = [\"config.toml\", \"more/*\"]\n{}", bin("/x"));
        let host = Host::new(&[
            (MAIN, &main),
            ("etc/containerd/more/10-a.toml", &bin("/a")),
            ("etc/containerd/more/20-b.toml", &bin("/b")),
            ("etc/containerd/more/30-c.txt", &bin("/c")),
            ("etc/x.toml", &again),
        ]);
        let found = host.containerd();
        assert_eq!((found.places, found.problems), (places(&["/x"], CONF, "/etc/x.toml"), vec![]));
        let drop_in = "version = 3\n[plugins.'io.containerd.cri.v1.runtime'.cni]\nconf_dir = \"/n\"";
        let host = Host::new(&[(MAIN, "version = 3"), ("etc/containerd/conf.d/a.toml", drop_in)]);
        assert_eq!(host.containerd().places, places(&[BIN], "/n", "/etc/containerd/conf.d/a.toml"));
    }

    #[test]
    fn a_file_that_cannot_be_used_is_reported_without_its_content() {
        for text in ["version = 2\npassword = \"s3cret", "auth = s3cret", "\u{feff}x = s3cret = 1"] {
            let found = Host::new(&[(MAIN, text)]).containerd();
            assert_eq!((found.places, found.problems.len()), (Places::default(), 1), "{text}");
            assert!(!found.problems[0].contains("s3cret") && found.problems[0].starts_with(BY), "{:?}", found.problems);
        }
        let host = Host::new(&[("etc/containerd/config.toml/x", "")]);
        assert_eq!(host.containerd().problems.len(), 1, "a directory");
    }

    #[test]
    fn a_containerd_without_kubernetes_is_known() {
        for (text, off) in [
            ("disabled_plugins = [\"cri\"]", true),
            ("version = 2\ndisabled_plugins = [\"io.containerd.grpc.v1.cri\"]", true),
            ("version = 2\ndisabled_plugins = [\"io.containerd.nri.v1.nri\"]", false),
        ] {
            assert_eq!(Host::new(&[(MAIN, text)]).containerd().is_cri_off, off, "{text}");
        }
    }

    #[test]
    fn drop_ins_of_crio_count_in_the_order_of_their_names() {
        let host = Host::new(&[
            ("etc/crio/crio.conf", "[crio.network]\nnetwork_dir = \"/n/\"\nplugin_dirs = [\"/a\", \"/b\"]"),
            ("etc/crio/crio.conf.d/10-crio.conf", "[crio.image]\nsignature_policy = \"/p\""),
            ("etc/crio/crio.conf.d/20-mine.conf", "[crio.network]\nplugin_dirs = [\"/usr/libexec/cni\"]"),
        ]);
        assert_eq!(host.crio().places, places(&["/usr/libexec/cni"], "/n", "/etc/crio/crio.conf.d/20-mine.conf"));
        assert_eq!(Host::new(&[]).crio(), Configured::default());
    }
}
