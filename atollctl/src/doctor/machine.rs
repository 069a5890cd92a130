//! Reads this machine: the plugin's binary and the network configurations where runtimes look for them, what
//! containers there are, what the kernel can do.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use atoll_model::cni::capability;
use atoll_model::config::Config;
use serde_json::Value;

use super::seen::{
    ConfigurationContent, Conflist, Conflists, KernelSupport, PlaneSupport, PluginBinary, Probed, Problem,
};
use crate::gc::sandboxes::{Sandboxes, Source};
use crate::runtime::PLUGIN;
use crate::runtime::Runtime;
use crate::settings;
use crate::{links, plugin};

/// Directories that runtimes search for plugins and network configurations.
pub(super) struct Reader {
    /// The runtimes that search it.
    names: String,
    bin: Vec<PathBuf>,
    conf: PathBuf,
    /// Plugins of the networks that they have loaded.
    loaded: Vec<String>,
}

/// The directories that each runtime searches, or those that the command line names.
pub(super) fn readers(runtimes: &[Runtime], bin_dirs: &[PathBuf], conf_dir: Option<&Path>) -> Vec<Reader> {
    let given = plugin::given_directories(bin_dirs);
    let bin = |usual: &[PathBuf]| if given.is_empty() { usual.to_vec() } else { given.clone() };
    let conf = |usual: &Path| conf_dir.unwrap_or(usual).to_owned();
    let mut readers: Vec<Reader> = Vec::new();
    for runtime in runtimes.iter().filter(|runtime| runtime.starts_pods()) {
        let (bin, conf) = (bin(&runtime.places.bin), conf(&runtime.places.conf));
        let loaded = runtime.status.iter().flat_map(|status| status.plugins.iter().cloned());
        match readers.iter_mut().find(|reader| reader.bin == bin && reader.conf == conf) {
            Some(reader) => {
                reader.names = format!("{}, {}", reader.names, runtime.name);
                reader.loaded.extend(loaded);
            }
            None => readers.push(Reader { names: runtime.name.clone(), bin, conf, loaded: loaded.collect() }),
        }
    }
    if readers.is_empty() {
        let (bin, conf) = (bin(&plugin::directories(&[])), conf(Path::new(settings::DIRECTORY)));
        readers.push(Reader { names: String::new(), bin, conf, loaded: Vec::new() });
    }
    readers
}

/// The plugin where a reader looks for it, and the plugins that a network names behind it.
pub(super) async fn plugin(reader: &Reader, conflists: &Conflists) -> PluginBinary {
    let found = match plugin::find(&reader.bin) {
        Some(path) => {
            let version = plugin::version(&path).await.map_err(Problem::new);
            Some((path, version))
        }
        None => None,
    };
    let chain = conflists.ours().map(|(_, content)| content.plugins.as_slice()).unwrap_or_default();
    let mut missing: Vec<_> = chain.iter().chain(&reader.loaded).filter(|kind| *kind != PLUGIN).cloned().collect();
    missing.retain(|kind| !kind.is_empty() && plugin::find_named(&reader.bin, kind).is_none());
    missing.sort();
    missing.dedup();
    let elsewhere = if found.is_none() { plugin::find(&plugin::DIRECTORIES.map(PathBuf::from)) } else { None };
    PluginBinary { readers: reader.names.clone(), directories: reader.bin.clone(), found, elsewhere, missing }
}

pub(super) fn conflists(reader: &Reader) -> Conflists {
    let files = settings::conflists(&reader.conf)
        .map_err(|error| Problem::new(error.to_string()))
        .map(|files| files.into_iter().map(|path| Conflist { content: content(&path), path }).collect());
    Conflists { readers: reader.names.clone(), directory: reader.conf.clone(), files }
}

fn content(path: &Path) -> Probed<ConfigurationContent> {
    let value = settings::document(path).map_err(Problem::new)?;
    let plugins = value.get("plugins").and_then(Value::as_array);
    let text_of = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let entries: Vec<&Value> = plugins.map_or_else(|| vec![&value], |list| list.iter().collect());
    let ours = entries.iter().find(|entry| text_of(entry, "type").as_deref() == Some(PLUGIN));
    let more = value.get("cniVersions").and_then(Value::as_array).into_iter().flatten();
    let more = more.filter_map(Value::as_str).map(str::to_owned);
    Ok(ConfigurationContent {
        is_list: plugins.is_some(),
        name: text_of(&value, "name"),
        versions: text_of(&value, "cniVersion").into_iter().chain(more).collect(),
        plugins: entries.iter().map(|entry| text_of(entry, "type").unwrap_or_default()).collect(),
        refused: ours.and_then(|entry| refused(entry).err()),
        unserved: ours.copied().map(capability::unserved).unwrap_or_default(),
        document: value,
    })
}

/// The containers, by a list or by the runtimes themselves; a partial answer is not used.
pub(super) async fn sandboxes(list: Option<&Path>, runtimes: &[Runtime]) -> Probed<Option<Sandboxes>> {
    let asked: Vec<_> = runtimes.iter().filter(|runtime| runtime.starts_pods()).collect();
    let mut source = match list {
        Some(file) => Source::list(file),
        None if asked.is_empty() => return Ok(None),
        None => Source::Runtimes(asked.into_iter().map(|runtime| runtime.socket.clone()).collect()),
    };
    source.ask().await.map(Some).map_err(|failure| Problem::new(failure.message()))
}

/// The kubelet creates this directory when it starts.
pub(super) fn has_kubelet() -> bool {
    Path::new("/var/lib/kubelet/pods").is_dir()
}

/// The error that the plugin returns for a configuration before any effect.
fn refused(entry: &Value) -> Result<(), String> {
    let config = Config::parse(entry).map_err(|error| error.to_string())?;
    settings::refuse_impossible(&config)
}

/// `plane`: the local data plane is in use.
pub(super) fn kernel(plane: bool) -> KernelSupport {
    let (netns, veth, plane) = links::try_kernel(|| plane.then(try_plane));
    let problem = |error: std::io::Error| Problem::new(error.to_string());
    KernelSupport { netns: netns.map_err(problem), veth: veth.map_err(problem), plane: plane.flatten() }
}

/// Runs inside a network namespace of its own.
fn try_plane() -> PlaneSupport {
    PlaneSupport {
        nftables: run("nft", &["add", "table", "inet", "at-doctor"]),
        bridge: run("ip", &["link", "add", "at-doctor-c", "type", "bridge"]),
    }
}

fn run(program: &str, arguments: &[&str]) -> Probed<()> {
    let out = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let out = out.map_err(|error| Problem::new(format!("{program}: {error}")))?;
    if out.status.success() {
        return Ok(());
    }
    Err(Problem::new(format!("{program}: {}", String::from_utf8_lossy(&out.stderr).trim())))
}
