//! Looking at this machine: the plugin's binary, the network configurations, what the kernel can do.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use atoll_model::cni::capability;
use atoll_model::config::{Config, ConfigError};
use serde_json::Value;

use super::seen::{Conflist, Conflists, Content, Kernel, Look, Plane, Plugin, Problem};
use crate::settings::{self, PLUGIN};
use crate::{links, plugin};

pub(super) async fn plugin(bin_dirs: &[PathBuf]) -> Plugin {
    let directories = plugin::directories(bin_dirs);
    let found = match plugin::find(&directories) {
        Some(path) => {
            let version = plugin::version(&path).await.map_err(Problem::new);
            Some((path, version))
        }
        None => None,
    };
    Plugin { directories, found }
}

pub(super) fn conflists(directory: &Path) -> Conflists {
    let files = settings::conflists(directory)
        .map_err(|error| Problem::new(error.to_string()))
        .map(|files| files.into_iter().map(|path| Conflist { content: content(&path), path }).collect());
    Conflists { directory: directory.to_owned(), files }
}

fn content(path: &Path) -> Look<Content> {
    let text = fs::read(path).map_err(|error| Problem::new(error.to_string()))?;
    let value: Value = serde_json::from_slice(&text).map_err(|error| Problem::new(format!("not JSON: {error}")))?;
    let plugins = value.get("plugins").and_then(Value::as_array);
    let text_of = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let entries: Vec<&Value> = plugins.map_or_else(|| vec![&value], |list| list.iter().collect());
    let ours = entries.iter().find(|entry| text_of(entry, "type").as_deref() == Some(PLUGIN));
    let more = value.get("cniVersions").and_then(Value::as_array).into_iter().flatten();
    let more = more.filter_map(Value::as_str).map(str::to_owned);
    Ok(Content {
        is_list: plugins.is_some(),
        name: text_of(&value, "name"),
        versions: text_of(&value, "cniVersion").into_iter().chain(more).collect(),
        plugins: entries.iter().map(|entry| text_of(entry, "type").unwrap_or_default()).collect(),
        refused: ours.and_then(|entry| refused(entry).err()).map(|error| error.to_string()),
        unserved: ours.copied().map(capability::unserved).unwrap_or_default(),
    })
}

/// What the plugin would say to a configuration before it makes anything.
fn refused(entry: &Value) -> Result<(), ConfigError> {
    Config::parse(entry)?.refuse_impossible()
}

/// `plane`: the local data plane is in use.
pub(super) fn kernel(plane: bool) -> Kernel {
    let (netns, veth, plane) = links::try_kernel(|| plane.then(try_plane));
    let problem = |error: std::io::Error| Problem::new(error.to_string());
    Kernel { netns: netns.map_err(problem), veth: veth.map_err(problem), plane: plane.flatten() }
}

/// Runs inside a network namespace of its own.
fn try_plane() -> Plane {
    Plane {
        nftables: run("nft", &["add", "table", "inet", "at-doctor"]),
        bridge: run("ip", &["link", "add", "at-doctor-c", "type", "bridge"]),
    }
}

fn run(program: &str, arguments: &[&str]) -> Look<()> {
    let out = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let out = out.map_err(|error| Problem::new(format!("{program}: {error}")))?;
    if out.status.success() {
        return Ok(());
    }
    Err(Problem::new(format!("{program}: {}", String::from_utf8_lossy(&out.stderr).trim())))
}
