//! The container runtimes of this node: the directories that they search for plugins and network configurations, and whether they have loaded ours.
//!
//! | module | what |
//! |---|---|
//! | [`cri`] | what a runtime reports over its CRI socket |
//! | [`mod@configured`] | its configuration files, for a runtime that is stopped or does not report |
//! | [`root`] | the node's root, seen from a container |
//!
//! The answer of a runtime has precedence over its files: it may have been started with others, and reads them only then.

pub(crate) mod configured;
pub(crate) mod cri;
pub(crate) mod root;

use std::path::{Path, PathBuf};

use serde_json::Value;

use self::configured::Configured;
pub(crate) use self::configured::Places;
use self::cri::CriStatus;
pub(crate) use self::cri::NoAnswer;
use self::root::Root;

/// The type of our plugin in a network configuration.
pub(crate) const PLUGIN: &str = "atoll";

/// A kind of runtime with its usual paths.
struct Kind {
    name: &'static str,
    socket: &'static str,
    /// Its main configuration file.
    file: &'static str,
    read: fn(&Root, &Path) -> Configured,
}

/// The known kinds of runtimes.
const KINDS: [Kind; 3] = [
    Kind {
        name: "containerd",
        socket: "/run/containerd/containerd.sock",
        file: "/etc/containerd/config.toml",
        read: configured::containerd,
    },
    Kind { name: "CRI-O", socket: "/run/crio/crio.sock", file: "/etc/crio/crio.conf", read: configured::crio },
    Kind {
        name: "containerd of k3s",
        socket: "/run/k3s/containerd/containerd.sock",
        file: "/var/lib/rancher/k3s/agent/etc/containerd/config.toml",
        read: configured::containerd,
    },
];

impl Kind {
    /// Whether its configuration is on this node; an unreadable one counts.
    fn is_configured(&self, root: &Root) -> bool {
        let file = Path::new(self.file);
        [file, &file.with_extension("conf.d")].iter().any(|path| is_there(root, path))
    }
}

fn is_there(root: &Root, path: &Path) -> bool {
    root.below(path).try_exists().unwrap_or(true)
}

/// Where runtimes listen.
pub(crate) fn sockets() -> impl Iterator<Item = PathBuf> {
    KINDS.iter().map(|kind| PathBuf::from(kind.socket))
}

/// A runtime of this node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Runtime {
    /// `containerd 1.6.20`; without the version while it does not answer.
    pub(crate) name: String,
    pub(crate) socket: PathBuf,
    pub(crate) places: Places,
    /// Files of its configuration that could not be used.
    pub(crate) problems: Vec<String>,
    /// What it reports.
    pub(crate) status: Result<Status, NoAnswer>,
}

/// What a runtime reports of its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Status {
    /// Pods get a network, or why they get none.
    pub(crate) network: Result<(), String>,
    /// The networks that it has loaded, but for the loopback; none: it does not report them.
    pub(crate) loaded: Option<Vec<Loaded>>,
    /// The types of all plugins that it starts, the loopback's too.
    pub(crate) plugins: Vec<String>,
}

/// A network that a runtime has loaded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Loaded {
    pub(crate) name: String,
    /// The types of its plugins, in their order.
    pub(crate) plugins: Vec<String>,
    /// The document that it was loaded from; none: not reported, or not JSON.
    pub(crate) document: Option<Value>,
}

/// Whether a runtime has loaded a network configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum LoadState {
    /// It runs with the content of the file.
    Current,
    /// It runs with an older text of it.
    Older,
    /// It runs with other networks than Atoll's.
    Others(Vec<String>),
    /// It has loaded none.
    Nothing,
    /// It does not report it.
    Unknown,
}

impl Runtime {
    /// Whether it serves the CRI, or would serve it if it ran.
    pub(crate) fn starts_pods(&self) -> bool {
        self.status != Err(NoAnswer::NoCri)
    }
}

impl Status {
    /// Whether it has loaded `document`, a network configuration of Atoll.
    pub(crate) fn load_state(&self, document: &Value) -> LoadState {
        let Some(loaded) = &self.loaded else { return LoadState::Unknown };
        let name = document.get("name").and_then(Value::as_str).unwrap_or_default();
        let ours = |network: &&Loaded| network.plugins.iter().any(|plugin| plugin == PLUGIN);
        let mut candidates = loaded.iter().filter(ours);
        let Some(network) = candidates.clone().find(|network| network.name == name).or_else(|| candidates.next())
        else {
            return match loaded.as_slice() {
                [] => LoadState::Nothing,
                others => LoadState::Others(others.iter().map(|network| network.name.clone()).collect()),
            };
        };
        match &network.document {
            None => LoadState::Unknown,
            Some(loaded) if loaded == document => LoadState::Current,
            Some(_) => LoadState::Older,
        }
    }
}

/// The runtimes of the node whose root this is: those that listen at `endpoints`, else those of the usual kinds that exist.
pub(crate) async fn find(root: &Root, endpoints: &[PathBuf]) -> Vec<Runtime> {
    let mut runtimes = Vec::new();
    if endpoints.is_empty() {
        for kind in KINDS {
            if is_there(root, Path::new(kind.socket)) || kind.is_configured(root) {
                runtimes.push(inspect(root, Some(&kind), Path::new(kind.socket)).await);
            }
        }
        return runtimes;
    }
    for socket in endpoints {
        let text = socket.display().to_string();
        let socket = text.strip_prefix("unix://").map_or_else(|| socket.clone(), PathBuf::from);
        let kind = KINDS.iter().find(|kind| Path::new(kind.socket) == socket);
        runtimes.push(inspect(root, kind, &socket).await);
    }
    runtimes
}

async fn inspect(root: &Root, kind: Option<&Kind>, socket: &Path) -> Runtime {
    let reported = cri::status(&root.below(socket)).await;
    // CRI-O does not report its directories, and a socket may be anywhere.
    let by_name = |name: &str| KINDS.iter().find(|kind| name.to_lowercase().starts_with(&kind.name.to_lowercase()));
    let named = reported.as_ref().ok().and_then(|status| by_name(&status.runtime.replace("cri-o", "CRI-O")));
    let Configured { mut places, is_cri_off, problems } =
        kind.or(named).map(|kind| (kind.read)(root, Path::new(kind.file))).unwrap_or_default();
    let mut name = kind.map_or_else(|| format!("the runtime at {}", socket.display()), |kind| kind.name.to_owned());
    let status = match reported {
        Ok(reported) => {
            name.clone_from(&reported.runtime);
            let (directories, status) = parse_status(&reported);
            if let Some((bin, conf)) = directories {
                places = Places { bin, conf, source: "its CRI status".to_owned() };
            }
            Ok(status)
        }
        Err(_) if is_cri_off => Err(NoAnswer::NoCri),
        Err(why) => Err(why),
    };
    Runtime { name, socket: socket.to_owned(), places, problems, status }
}

/// The directories that a runtime searches.
type Directories = (Vec<PathBuf>, PathBuf);

/// What containerd reports in a verbose status: its directories and the networks that it has loaded. Other runtimes have
/// other keys, or none.
fn parse_status(status: &CriStatus) -> (Option<Directories>, Status) {
    let document = |key: &str| status.info.get(key).and_then(|text| serde_json::from_str::<Value>(text).ok());
    let (loaded, configured) = (document("cniconfig").unwrap_or_default(), document("config").unwrap_or_default());
    let paths = |value: &Value| match value {
        Value::String(path) if !path.is_empty() => vec![PathBuf::from(path)],
        Value::Array(paths) => paths.iter().filter_map(Value::as_str).map(PathBuf::from).collect(),
        _ => Vec::new(),
    };
    let cni = &configured["cni"];
    let first = |all: [&Value; 3]| all.into_iter().map(paths).find(|paths| !paths.is_empty());
    let bin = first([&loaded["PluginDirs"], &cni["binDirs"], &cni["binDir"]]);
    let conf = first([&loaded["PluginConfDir"], &cni["confDir"], &Value::Null]).and_then(|mut paths| paths.pop());
    let networks = loaded["Networks"].as_array().map(|networks| networks.iter().map(network).collect::<Vec<_>>());
    let plugins = networks.iter().flatten().flat_map(|network| network.plugins.iter().cloned()).collect();
    // Every pod has a loopback in addition to its network.
    let loaded = networks.map(|mut networks| {
        networks.retain(|network| network.plugins.iter().any(|plugin| plugin != "loopback"));
        networks
    });
    (bin.zip(conf), Status { network: status.network.clone(), loaded, plugins })
}

fn network(network: &Value) -> Loaded {
    let config = &network["Config"];
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let plugins = config["Plugins"].as_array().into_iter().flatten();
    Loaded {
        name: text(&config["Name"]),
        plugins: plugins.map(|plugin| text(&plugin["Network"]["type"])).collect(),
        document: config["Source"].as_str().and_then(|source| serde_json::from_str(source).ok()),
    }
}

/// The directories that the files of this machine's runtimes configure, for commands that query no runtime.
pub(crate) fn configured(root: &Root) -> Vec<Places> {
    KINDS
        .iter()
        .filter(|kind| kind.is_configured(root))
        .map(|kind| (kind.read)(root, Path::new(kind.file)).places)
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn reported(info: &[(&str, Value)]) -> CriStatus {
        let info = info.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())).collect();
        CriStatus { runtime: "containerd 1.6.20".to_owned(), network: Ok(()), info }
    }

    fn ours() -> Value {
        json!({"cniVersion": "1.0.0", "name": "atoll", "plugins": [{"type": "atoll"}, {"type": "portmap"}]})
    }

    fn loaded(name: &str, plugins: &[&str], source: &str) -> Value {
        let plugins: Vec<_> = plugins.iter().map(|kind| json!({"Network": {"type": kind}})).collect();
        json!({"Config": {"Name": name, "Plugins": plugins, "Source": source}, "IFName": "eth0"})
    }

    #[test]
    fn directories_are_read_from_a_status_as_versions_of_containerd_report_them() {
        let cni = json!({"PluginDirs": ["/a", "/b"], "PluginConfDir": "/n", "Networks": []});
        let one = json!({"cni": {"binDir": "/usr/lib/cni", "confDir": "/etc/cni/net.d", "maxConfNum": 1}});
        let several = json!({"cni": {"binDir": "", "binDirs": ["/c", "/d"], "confDir": "/m"}});
        let places = |bin: &[&str], conf: &str| Some((bin.iter().map(PathBuf::from).collect(), PathBuf::from(conf)));
        for (info, wanted) in [
            (vec![("cniconfig", cni), ("config", one.clone())], places(&["/a", "/b"], "/n")),
            (vec![("config", one)], places(&["/usr/lib/cni"], "/etc/cni/net.d")),
            (vec![("config", several)], places(&["/c", "/d"], "/m")),
            (vec![("config", json!({"sandboxImage": "pause"}))], None),
            (vec![("config", json!([1])), ("cniconfig", json!("x"))], None),
            (vec![], None),
        ] {
            assert_eq!(parse_status(&reported(&info)).0, wanted, "{info:?}");
        }
    }

    #[test]
    fn what_a_runtime_loaded_of_a_file_is_known() {
        let lo = loaded("cni-loopback", &["loopback"], "{}");
        let with = |networks: &[Value]| {
            parse_status(&reported(&[("cniconfig", json!({"Networks": networks}))])).1.load_state(&ours())
        };
        assert_eq!(
            with(&[lo.clone(), loaded("atoll", &["atoll", "portmap"], &ours().to_string())]),
            LoadState::Current
        );
        assert_eq!(with(&[loaded("atoll", &["atoll"], r#"{"name": "atoll"}"#)]), LoadState::Older);
        assert_eq!(with(&[loaded("atoll", &["atoll"], "")]), LoadState::Unknown);
        assert_eq!(with(&[lo.clone(), loaded("x", &["bridge"], "{}")]), LoadState::Others(vec!["x".to_owned()]));
        assert_eq!(with(&[lo]), LoadState::Nothing);
        assert_eq!(parse_status(&reported(&[])).1.load_state(&ours()), LoadState::Unknown);
    }
}
