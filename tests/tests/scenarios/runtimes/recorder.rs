//! Records what a runtime sends to a plugin.
//!
//! A script with the plugin's name records its environment and its standard input, and returns an answer that any
//! runtime accepts. Values that differ between runs are then replaced, so that two recordings of the same runtime are
//! the same text.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use atoll_testkit::lab::scratch::Scratch;
use serde_json::{Value, json};

/// The script. It creates no network: a runtime only checks the answer.
const STAND_IN: &str = r#"#!/bin/sh
set -eu
call=$(mktemp "@/$(date +%s%N).XXXXXX")
cat /proc/$$/environ >"$call.env"
cat >"$call.stdin"
case $CNI_COMMAND in
VERSION) echo '{"cniVersion":"1.1.0","supportedVersions":["0.1.0","0.2.0","0.3.0","0.3.1","0.4.0","1.0.0","1.1.0"]}' ;;
ADD)
    if [ -e "@/fail" ]; then echo '{"cniVersion":"1.0.0","code":11,"msg":"recorded failure"}'; exit 1; fi
    jq --arg netns "$CNI_NETNS" --arg name "$CNI_IFNAME" '{cniVersion, interfaces: [
        {name: "at0123456789ab", mac: "02:00:00:00:00:01"}, {name: $name, mac: "02:00:00:00:00:02", sandbox: $netns}],
        ips: [{address: "10.128.0.5/24", gateway: "10.128.0.1", interface: 1}],
        routes: [{dst: "0.0.0.0/0", gw: "10.128.0.1"}], dns: {}}' "$call.stdin" ;;
esac
"#;

/// Records the calls of a runtime.
pub(crate) struct Recorder {
    directory: PathBuf,
    scratch: PathBuf,
}

/// One call, as stored in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Recorded {
    /// The verb, in lower case.
    pub(crate) verb: String,
    /// The name of the interface.
    ifname: String,
    /// The text of the file.
    pub(crate) text: String,
}

impl Recorder {
    /// A recorder with its files in `scratch`.
    pub(crate) fn new(scratch: &Scratch) -> Result<Self> {
        Ok(Self { directory: scratch.dir("recorder")?, scratch: scratch.path().to_owned() })
    }

    /// Writes the script that runtimes start as the plugin.
    pub(crate) fn stand_in(&self) -> Result<PathBuf> {
        let path = self.scratch.join("stand-in");
        fs::write(&path, STAND_IN.replace('@', &self.directory.display().to_string()))?;
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755))?;
        Ok(path)
    }

    /// Makes every later ADD fail, or none.
    pub(crate) fn fail(&self, fail: bool) -> Result<()> {
        let path = self.directory.join("fail");
        let done = if fail { fs::write(path, "") } else { fs::remove_file(path) };
        done.context("tell the stand-in")
    }

    /// Returns the calls since the last time, in their order. A repeated call is omitted: podman calls VERSION twice
    /// each time. The calls for the networks of one pod are sorted by interface, because runtimes send them in any
    /// order.
    pub(crate) fn take(&self) -> Result<Vec<Recorded>> {
        let mut calls = Vec::new();
        let mut files: Vec<PathBuf> = fs::read_dir(&self.directory)?.map(|e| Ok(e?.path())).collect::<Result<_>>()?;
        files.sort();
        let mut seen = Cleaner::new(&self.scratch);
        for env in files.iter().filter(|path| path.extension().is_some_and(|end| end == "env")) {
            let stdin = fs::read(env.with_extension("stdin"))?;
            calls.push(seen.clean(&fs::read(env)?, &stdin).with_context(|| format!("{}", env.display()))?);
        }
        for file in files.iter().filter(|path| !path.ends_with("fail")) {
            fs::remove_file(file)?;
        }
        calls.dedup();
        for same in calls.chunk_by_mut(|one, other| one.verb == other.verb) {
            same.sort_by(|one, other| one.ifname.cmp(&other.ifname));
        }
        Ok(calls)
    }
}

/// Replaces values that differ between runs, each always with the same text.
struct Cleaner {
    scratch: String,
    known: BTreeMap<String, String>,
}

impl Cleaner {
    fn new(scratch: &Path) -> Self {
        Self { scratch: scratch.display().to_string(), known: BTreeMap::new() }
    }

    fn clean(&mut self, env: &[u8], stdin: &[u8]) -> Result<Recorded> {
        let mut variables = BTreeMap::new();
        for pair in env.split(|byte| *byte == 0).filter(|pair| !pair.is_empty()) {
            let pair = std::str::from_utf8(pair).context("the environment is not UTF-8")?;
            let (name, value) = pair.split_once('=').context("a variable without a value")?;
            // The other variables are inherited from the runtime's parent.
            if name.starts_with("CNI_") || ["TRACEPARENT", "TRACESTATE", "BAGGAGE"].contains(&name) {
                variables.insert(name.to_owned(), value.to_owned());
            }
        }
        if let Some(args) = variables.get_mut("CNI_ARGS") {
            // Runtimes send them in a different order in every call.
            let mut pairs: Vec<&str> = args.split(';').collect();
            pairs.sort_unstable();
            *args = pairs.join(";");
        }
        for value in variables.values_mut() {
            *value = self.text(value);
        }
        let verb = variables.get("CNI_COMMAND").context("no CNI_COMMAND")?.to_lowercase();
        let ifname = variables.get("CNI_IFNAME").cloned().unwrap_or_default();
        let stdin: Value = serde_json::from_slice(stdin).context("standard input")?;
        let stdin: Value = serde_json::from_str(&self.text(&stdin.to_string()))?;
        let call = json!({ "env": variables, "stdin": stdin });
        Ok(Recorded { verb, ifname, text: format!("{}\n", serde_json::to_string_pretty(&call)?) })
    }

    fn text(&mut self, text: &str) -> String {
        let mut clean = text.replace(&self.scratch, "/recording");
        let word = |c: char| c.is_ascii_hexdigit() || c == '-';
        let words: Vec<String> = clean.split(|c| !word(c)).map(str::to_owned).collect();
        for found in words {
            // A namespace is named `cni-<uuid>` or `netns-<uuid>`: the dash before the uuid is not part of it.
            let found = found.trim_matches('-').trim_start_matches("c-");
            let next = self.known.keys().filter(|known| known.len() == found.len()).count() + 1;
            let stand_in = match found.len() {
                64 if !found.contains('-') => format!("{next:x}").repeat(64)[..64].to_owned(),
                36 if uuid::Uuid::try_parse(found).is_ok() => format!("00000000-0000-4000-8000-{next:012x}"),
                _ => continue,
            };
            let stand_in = self.known.entry(found.to_owned()).or_insert(stand_in).clone();
            clean = clean.replace(found, &stand_in);
        }
        // Podman gives a container the beginning of its id as a second name.
        for (found, stand_in) in self.known.iter().filter(|(found, _)| found.len() == 64) {
            clean = clean.replace(&found[..12], &stand_in[..12]);
        }
        clean
    }
}
