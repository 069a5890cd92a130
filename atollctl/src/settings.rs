//! The configuration. It is the plugin's own file, so that there is no second one to keep consistent.

use std::path::{Path, PathBuf};

use atoll_engines::AnyEngine;
use atoll_midonet::MidoNet;
use atoll_model::config::{Config, ControllerConfig, EtcdConfig, OvnConfig};
use atoll_model::ids::HostId;
use atoll_node::files::{CONFIG, read};
use atoll_ovn::ovsdb::Remote;
use atoll_sdn_client::{Http, configured};
use atoll_store::Etcd;
use atoll_tenant::{Node, admin, machine};
use serde_json::Value;

use crate::failure::Failure;
use crate::runtime::root::Root;
use crate::runtime::{self, PLUGIN};

/// Where runtimes look for network configurations, if nothing else is configured.
pub(crate) const DIRECTORY: &str = "/etc/cni/net.d";

/// The configuration.
pub(crate) struct Settings {
    pub(crate) config: Config,
    /// The file that it was read from.
    pub(crate) file: PathBuf,
    /// What the plugin gets on standard input, as a runtime would write it: the entry, with name and version of its list.
    pub(crate) stdin: Value,
}

impl Settings {
    /// Reads `file`, or the first with our plugin where the runtimes of this machine look.
    pub(crate) fn load(file: Option<&Path>) -> Result<Self, Failure> {
        let (file, stdin) = match file {
            Some(file) => (file.to_owned(), read(file)?),
            None => search(&directories())?,
        };
        Ok(Self { config: Config::parse(&stdin)?, file, stdin })
    }

    /// Connects to nothing yet.
    pub(crate) fn store(&self) -> Result<Etcd, Failure> {
        Ok(Etcd::connect(&self.config.etcd)?)
    }

    /// The store of the configuration, and then those below every earlier `etcd.prefix` of this machine: its records there
    /// still exist. Connects to nothing yet.
    pub(crate) fn stores(&self) -> Result<Vec<(String, Etcd)>, Failure> {
        let earlier = machine::earlier_prefixes(&self.config);
        let prefixes = std::iter::once(self.config.etcd.prefix.clone()).chain(earlier);
        let connect = |prefix: String| {
            let config = EtcdConfig { prefix: prefix.clone(), ..self.config.etcd.clone() };
            Ok((prefix, Etcd::connect(&config)?))
        };
        prefixes.map(connect).collect()
    }

    /// Connects to nothing yet.
    pub(crate) fn controller(&self) -> Result<ConfiguredEngine, Failure> {
        engine(&self.config)
    }
}

/// The engine that the configuration names.
pub(crate) type ConfiguredEngine = AnyEngine<Http, Remote>;

fn engine(config: &Config) -> Result<ConfiguredEngine, Failure> {
    if let Some(ovn) = &config.ovn {
        let engine = atoll_engines::ovn(ovn, None, |remote| remote).map_err(|error| Failure::classified(&error))?;
        return Ok(AnyEngine::Ovn(engine));
    }
    Ok(AnyEngine::MidoNet(MidoNet::new(configured::client(&config.controller, None, |http| http)?)))
}

/// The name of the engine that the configuration names.
pub(crate) fn engine_name(config: &Config) -> &'static str {
    if config.ovn.is_some() { atoll_ovn::NAME } else { atoll_midonet::NAME }
}

/// This machine, as the engine identifies it.
pub(crate) async fn identify(config: &Config) -> Result<Node, Failure> {
    machine::identify(config, &local_engine(config)?).await.map_err(|error| Failure::classified(&error))
}

/// The id of this machine's host in the engine; none: it is not known, which `doctor` reports.
pub(crate) async fn host_id(config: &Config) -> Option<HostId> {
    machine::host_id(config, &local_engine(config).ok()?).await.ok()
}

/// The engine for what it answers without its server: none of the files for a connection is needed.
fn local_engine(config: &Config) -> Result<ConfiguredEngine, Failure> {
    let controller = ControllerConfig { ca: None, cert: None, key: None, keystone: None, ..config.controller.clone() };
    let ovn = config.ovn.clone().map(|ovn| OvnConfig {
        ca: None,
        cert: None,
        key: None,
        northbound: vec![ovn.local.clone()],
        southbound: Vec::new(),
        ..ovn
    });
    engine(&Config { controller, ovn, ..config.clone() })
}

/// Why a configuration can never work: no pod could be attached with it, or no cluster created.
pub(crate) fn refuse_impossible(config: &Config) -> Result<(), String> {
    config.refuse_impossible().map_err(|error| error.to_string())?;
    admin::possible(&config.cluster).map_err(|error| error.to_string())
}

/// The plugin's entry in a file.
fn read(file: &Path) -> Result<Value, Failure> {
    let wrong = |problem: String| Failure::config(format!("{}: {problem}", file.display()));
    let value = document(file).map_err(wrong)?;
    let ours = entry(&value).ok_or_else(|| wrong(format!("no plugin of type \"{PLUGIN}\" is in it")))?;
    Ok(with_list(ours, &value))
}

/// The entry with what a runtime takes from the list around it (CNI SPEC 1.1.0, section 3, "Deriving execution
/// configuration").
fn with_list(entry: &Value, list: &Value) -> Value {
    let mut whole = entry.clone();
    if let (Some(whole), Some(_)) = (whole.as_object_mut(), list.get("plugins")) {
        for key in ["name", "cniVersion"] {
            if let Some(value) = list.get(key) {
                whole.insert(key.to_owned(), value.clone());
            }
        }
    }
    whole
}

/// A conflist has a list of plugins; anything else is the entry itself.
pub(crate) fn entry(value: &Value) -> Option<&Value> {
    let ours = |plugin: &&Value| plugin.get("type").and_then(Value::as_str) == Some(PLUGIN);
    match value.get("plugins").and_then(Value::as_array) {
        Some(plugins) => plugins.iter().find(ours),
        None => Some(value).filter(ours),
    }
}

/// A document of JSON; the error has the reason if there is none.
pub(crate) fn document(file: &Path) -> Result<Value, String> {
    read::given(file, CONFIG).map_err(|error| error.to_string()).and_then(|text| json(&text))
}

/// JSON as every runtime reads it: without a byte order mark and comments.
pub(crate) fn json(text: &[u8]) -> Result<Value, String> {
    if text.starts_with(b"\xef\xbb\xbf") {
        return Err("not JSON: it begins with a byte order mark; save it as UTF-8 without one".to_owned());
    }
    serde_json::from_slice(text).map_err(|error| {
        let line = String::from_utf8_lossy(text).lines().nth(error.line().saturating_sub(1)).map(str::to_owned);
        let rest = line.as_deref().and_then(|line| line.get(error.column().saturating_sub(1)..)).unwrap_or_default();
        let is_comment = ["//", "/*", "#"].iter().any(|begin| rest.starts_with(begin));
        let comment = if is_comment { " (JSON has no comments)" } else { "" };
        format!("not JSON: {error}{comment}")
    })
}

/// The directories that the runtimes of this machine search, and the usual ones.
fn directories() -> Vec<PathBuf> {
    let mut directories: Vec<_> = runtime::configured(&Root::own()).into_iter().map(|places| places.conf).collect();
    directories.push(DIRECTORY.into());
    distinct(directories)
}

/// Each once, in their order.
pub(crate) fn distinct(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut once: Vec<PathBuf> = Vec::new();
    for path in paths {
        if !once.contains(&path) {
            once.push(path);
        }
    }
    once
}

/// The first file of these directories that has an entry of ours.
fn search(directories: &[PathBuf]) -> Result<(PathBuf, Value), Failure> {
    let mut problems = Vec::new();
    for directory in directories {
        let files = match conflists(directory) {
            Ok(files) => files,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            Err(error) => {
                problems.push(format!("{}: {error}", directory.display()));
                continue;
            }
        };
        for file in files {
            match document(&file) {
                Ok(value) => {
                    if let Some(ours) = entry(&value) {
                        return Ok((file, with_list(ours, &value)));
                    }
                }
                // It may be the wanted file.
                Err(problem) => problems.push(format!("{}: {problem}", file.display())),
            }
        }
    }
    let places: Vec<_> = directories.iter().map(|directory| directory.display().to_string()).collect();
    let found = format!("{} has none with a plugin of type \"{PLUGIN}\"", places.join(" or "));
    let unread = if problems.is_empty() { String::new() } else { format!("; not read: {}", problems.join("; ")) };
    Err(Failure::config(format!("no configuration: name one with --config or ATOLL_CONFIG; {found}{unread}")))
}

/// The network configurations in a directory, in the order in which runtimes take them.
pub(crate) fn conflists(directory: &Path) -> std::io::Result<Vec<PathBuf>> {
    // Without this check, a missing directory would have none.
    std::fs::metadata(directory)?;
    let is_configuration = |name: &str| [".conflist", ".conf", ".json"].iter().any(|end| name.ends_with(end));
    let names = read::names(directory, is_configuration)?;
    Ok(names.into_iter().map(|name| directory.join(name)).filter(|file| !file.is_dir()).collect())
}

/// A file that a configuration names.
pub(crate) struct Named<'a> {
    /// The key that names it.
    pub(crate) setting: &'static str,
    pub(crate) path: &'a Path,
    /// It is a key or a password: readable only by root.
    pub(crate) is_secret: bool,
}

/// The files that a configuration names: certificates, keys, passwords.
pub(crate) fn files(config: &Config) -> Vec<Named<'_>> {
    let (etcd, controller) = (&config.etcd, &config.controller);
    let (keystone, ovn) = (controller.keystone.as_ref(), config.ovn.as_ref());
    let credential = keystone.and_then(|keystone| keystone.application_credential.as_ref());
    let all = [
        ("etcd.key", etcd.key.as_ref(), true),
        ("controller.key", controller.key.as_ref(), true),
        ("controller.passwordFile", controller.password_file.as_ref(), true),
        ("controller.keystone.applicationCredential.secretFile", credential.map(|(_, file)| file), true),
        ("ovn.key", ovn.and_then(|ovn| ovn.key.as_ref()), true),
        ("etcd.ca", etcd.ca.as_ref(), false),
        ("etcd.cert", etcd.cert.as_ref(), false),
        ("controller.ca", controller.ca.as_ref(), false),
        ("controller.cert", controller.cert.as_ref(), false),
        ("ovn.ca", ovn.and_then(|ovn| ovn.ca.as_ref()), false),
        ("ovn.cert", ovn.and_then(|ovn| ovn.cert.as_ref()), false),
        ("controller.keystone.ca", keystone.and_then(|keystone| keystone.ca.as_ref()), false),
    ];
    all.into_iter()
        .filter_map(|(setting, path, is_secret)| Some(Named { setting, path: path?.as_path(), is_secret }))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;

    use super::*;

    #[test]
    fn a_conflist_or_the_entry_alone_is_fine() {
        let ours = json!({"type": "atoll", "mtu": 1400});
        assert_eq!(entry(&ours), Some(&ours));
        assert_eq!(entry(&json!({"plugins": [{"type": "portmap"}, ours]})), Some(&ours));
        assert_eq!(entry(&json!({"plugins": [{"type": "portmap"}]})), None);
        assert_eq!(entry(&json!({"type": "bridge"})), None);
        assert_eq!(entry(&json!("atoll")), None);
    }

    #[test]
    fn what_is_no_json_is_reported_with_its_cause() {
        assert_eq!(json(b"{}"), Ok(json!({})));
        let message = |text: &str| json(text.as_bytes()).expect_err("no JSON");
        assert!(message("\u{feff}{}").contains("byte order mark"), "{}", message("\u{feff}{}"));
        for text in ["{\n  // the name\n  \"name\": 1}", "# a list\n{}", "{\"a\": 1, /* b */ \"c\": 2}"] {
            assert!(message(text).contains("JSON has no comments"), "{}", message(text));
        }
        assert!(message("{\"a\": 1,}").contains("line 1 column") && !message("{\"a\": 1,}").contains("comments"));
        assert!(super::json(b"\xff\xfe{").is_err() && super::json(b"").is_err());
    }

    #[test]
    fn a_file_that_cannot_be_read_is_reported_and_hides_no_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("written");
        let search = || search(&["/nowhere/at-all".into(), directory.path().to_owned()]);
        write("05-x.conflist", "{\n// ours, once\n");
        fs::create_dir(directory.path().join("06-x.conf")).expect("made");
        let message = search().expect_err("none is ours").message();
        assert!(
            message.contains("05-x.conflist: not JSON") && !message.contains("06-x") && message.contains("/nowhere"),
            "{message}"
        );
        write("10-y.conflist", r#"{"name": "y", "plugins": [{"type": "bridge"}]}"#);
        write("20-z.conflist", r#"{"name": "z", "plugins": [{"type": "atoll"}]}"#);
        let (file, entry) = search().map_err(|failure| failure.message()).expect("there");
        assert!(file.ends_with("20-z.conflist") && entry["name"] == "z", "{entry}");
    }

    #[test]
    fn name_and_version_come_from_the_list_where_there_is_one() {
        let ours = json!({"type": "atoll", "name": "x"});
        let list = json!({"cniVersion": "1.0.0", "name": "atoll", "plugins": [ours]});
        assert_eq!(with_list(&ours, &list), json!({"type": "atoll", "name": "atoll", "cniVersion": "1.0.0"}));
        assert_eq!(with_list(&ours, &ours), ours);
    }
}
