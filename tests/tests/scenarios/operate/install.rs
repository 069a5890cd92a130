//! `atollctl install` and `uninstall`: with real files, a real plugin, a real SIGKILL.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::cni::Cni;
use atoll_testkit::lab::ctl::{Ctl, private_file};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::programs;
use atoll_testkit::lab::scratch::{Scratch, unique_name};
use serde_json::{Value, json};

/// The directories of a machine, and the files to install.
struct Site {
    scratch: Scratch,
    host: PathBuf,
    sources: PathBuf,
}

impl Site {
    fn new() -> Result<Self> {
        let scratch = Scratch::new(&unique_name())?;
        let (host, sources) = (scratch.path().join("host"), scratch.dir("sources")?);
        Ok(Self { scratch, host, sources })
    }

    /// Sources of one version: the same plugin with other bytes at its end, which the loader ignores.
    fn version(&self, version: &str) -> Result<Vec<String>> {
        let plugin = self.sources.join(format!("atoll-{version}"));
        if !plugin.exists() {
            fs::copy(programs::path("atoll")?, &plugin)?;
            fs::OpenOptions::new().append(true).open(&plugin)?.write_all(version.as_bytes())?;
        }
        let conflist = self.sources.join(format!("{version}.conflist"));
        let entry = json!({
            "type": "atoll", "etcd": { "endpoints": ["http://127.0.0.1:1"] },
            "controller": { "endpoints": ["http://127.0.0.1:1/api"] }, "version": version,
            "runDir": self.host.join("run"), "stateDir": self.host.join("state"),
        });
        let list = json!({ "cniVersion": "1.0.0", "name": "atoll", "plugins": [entry, { "type": "portmap" }] });
        fs::write(&conflist, serde_json::to_string_pretty(&list)?)?;
        let secret = self.sources.join(format!("password-{version}"));
        private_file(&secret, version)?;
        Ok(vec![
            "install".to_owned(),
            format!("--plugin={}", plugin.display()),
            format!("--conflist={}", conflist.display()),
            format!("--secret={}:{}", secret.display(), self.password().display()),
        ])
    }

    fn plugin(&self) -> PathBuf {
        self.host.join("bin/atoll")
    }

    fn conflist(&self) -> PathBuf {
        self.host.join("net.d/10-atoll.conflist")
    }

    fn password(&self) -> PathBuf {
        self.host.join("etc/password")
    }

    fn command(&self, arguments: &[String]) -> Result<Command> {
        let mut command = Command::new(programs::path("atollctl")?);
        command.env_clear().args(arguments);
        command.arg(format!("--bin-dir={}", self.host.join("bin").display()));
        command.arg(format!("--conf-dir={}", self.host.join("net.d").display()));
        command.stdin(Stdio::null());
        Ok(command)
    }

    fn run(&self, arguments: &[String]) -> Result<(i32, String)> {
        let out = self.command(arguments)?.output()?;
        let text = [out.stdout, out.stderr].concat();
        Ok((out.status.code().context("a signal ended it")?, String::from_utf8_lossy(&text).into_owned()))
    }

    /// The installed version: old, new, or none; anything else is an incomplete file.
    fn state(&self) -> Result<[Option<&'static str>; 3]> {
        let one = |path: &Path, source: &dyn Fn(&str) -> PathBuf| -> Result<Option<&'static str>> {
            let Ok(found) = fs::read(path) else { return Ok(None) };
            let is = |version: &&&str| fs::read(source(version)).is_ok_and(|source| source == found);
            let version = ["old", "new"].iter().find(is).copied();
            version.map(Some).with_context(|| format!("{} is neither old nor new", path.display()))
        };
        Ok([
            one(&self.plugin(), &|version| self.sources.join(format!("atoll-{version}")))?,
            one(&self.password(), &|version| self.sources.join(format!("password-{version}")))?,
            one(&self.conflist(), &|version| self.sources.join(format!("{version}.conflist")))?,
        ])
    }

    fn mode(path: &Path) -> Result<u32> {
        Ok(fs::metadata(path)?.permissions().mode() & 0o7777)
    }
}

fn words(arguments: &[&str]) -> Vec<String> {
    arguments.iter().map(|argument| (*argument).to_owned()).collect()
}

#[test]
fn installing_twice_is_installing_once_and_nothing_of_others_is_touched() -> Result<()> {
    let site = Site::new()?;
    let (old, new) = (site.version("old")?, site.version("new")?);
    let plan = [old.clone(), words(&["--dry-run", "-o", "json"])].concat();
    let (code, text) = site.run(&plan)?;
    let plan: Value = serde_json::from_str(&text)?;
    ensure!(code == 0 && plan["changes"].as_array().is_some_and(|changes| changes.len() == 3), "{plan:#}");
    ensure!(!site.host.exists(), "a plan changes nothing");

    let (code, text) = site.run(&old)?;
    assert_eq!((code, site.state()?), (0, [Some("old"); 3]), "{text}");
    let modes = [Site::mode(&site.plugin())?, Site::mode(&site.password())?, Site::mode(&site.conflist())?];
    assert_eq!(modes, [0o755, 0o600, 0o600]);
    let (code, text) = site.run(&old)?;
    ensure!(code == 0 && text.contains("nothing to change"), "{text}");

    // A process that executes the old plugin continues.
    let mut running = Command::new(site.plugin());
    running.env_clear().env("CNI_COMMAND", "ADD").env("CNI_CONTAINERID", "c").env("CNI_IFNAME", "eth0");
    running.env("CNI_NETNS", "/nowhere").env("CNI_PATH", "/nowhere");
    let mut running = running.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
    let (code, text) = site.run(&new)?;
    assert_eq!((code, site.state()?), (0, [Some("new"); 3]), "{text}");
    running.stdin.take().context("a pipe")?.write_all(b"{}")?;
    let answer = running.wait_with_output()?;
    ensure!(serde_json::from_slice::<Value>(&answer.stdout)?["code"].is_number(), "the old plugin answers to its end");

    // Invalid sources change nothing.
    let broken = site.sources.join("broken");
    for (text, why) in [
        ("{", "not JSON"),
        (r#"{"type":"atoll"}"#, "no list"),
        (r#"{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"bridge"}]}"#, "no plugin of type"),
        (r#"{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"tuning"},{"type":"atoll"}]}"#, "the first"),
        (r#"{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"atoll","mtu":1}]}"#, "etcd"),
        (r#"{"cniVersion":"7","name":"x","plugins":[{"type":"atoll"}]}"#, "cniVersion"),
    ] {
        fs::write(&broken, text)?;
        let (code, printed) =
            site.run(&[new[..2].to_vec(), vec![format!("--conflist={}", broken.display())]].concat())?;
        ensure!(code == 3 && printed.contains(why) && site.state()? == [Some("new"); 3], "{why}: {printed}");
    }
    // Neither do configurations that the plugin can read and with which every ADD would fail.
    let sound: Value = serde_json::from_slice(&fs::read(site.sources.join("new.conflist"))?)?;
    for (key, value, why) in [
        ("routes", json!([{ "dst": "127.0.0.0/8" }]), "routes[0].dst"),
        ("dns", json!({ "nameservers": ["dns.example"] }), "dns.nameservers"),
        ("cluster", json!({ "podCidr": "10.0.0.0/8", "transitCidr": "10.0.0.0/24" }), "overlap"),
    ] {
        let mut list = sound.clone();
        list["plugins"][0][key] = value;
        fs::write(&broken, serde_json::to_string(&list)?)?;
        let (code, printed) =
            site.run(&[new[..2].to_vec(), vec![format!("--conflist={}", broken.display())]].concat())?;
        ensure!(code == 3 && printed.contains(why) && site.state()? == [Some("new"); 3], "{why}: {printed}");
        // One that is already installed is reported, and the new plugin is installed.
        let kept = fs::read(site.conflist())?;
        fs::write(site.conflist(), fs::read(&broken)?)?;
        let (code, printed) = site.run(&new[..2])?;
        ensure!(code == 0 && printed.contains(why) && printed.contains("every ADD will fail"), "{why}: {printed}");
        fs::write(site.conflist(), kept)?;
    }
    let (code, printed) = site.run(&words(&["install", "--plugin=/bin/true"]))?;
    ensure!(code == 3 && printed.contains("does not identify itself"), "{printed}");

    // A configuration of another product.
    let foreign = r#"{"cniVersion":"1.0.0","name":"x","plugins":[{"type":"bridge"}]}"#;
    fs::write(site.conflist(), foreign)?;
    for arguments in [&old, &words(&["uninstall"])] {
        let (code, printed) = site.run(arguments)?;
        ensure!(code == 6 && printed.contains("belongs to another product"), "{printed}");
        assert_eq!(fs::read_to_string(site.conflist())?, foreign);
    }
    fs::write(site.host.join("net.d/05-first.conflist"), foreign)?;
    let (code, printed) = site.run(&[old, words(&["--force"])].concat())?;
    ensure!(code == 0 && printed.contains("05-first.conflist"), "the runtime would take another: {printed}");
    assert_eq!(site.state()?, [Some("old"); 3]);

    // Whether pods use it cannot be determined: this does not count as unused.
    fs::create_dir_all(site.host.join("run"))?;
    fs::write(site.host.join("run/attachments"), "")?;
    let (code, printed) = site.run(&words(&["uninstall"]))?;
    ensure!(
        code == 6 && printed.contains("cannot check whether pods use it") && site.state()? == [Some("old"); 3],
        "{printed}"
    );
    fs::remove_dir_all(site.host.join("run"))?;

    let (code, printed) = site.run(&words(&["uninstall"]))?;
    assert_eq!((code, site.state()?), (0, [None, Some("old"), None]), "{printed}");
    let (code, printed) = site.run(&words(&["uninstall"]))?;
    ensure!(code == 0 && printed.contains("nothing to change"), "{printed}");
    site.scratch.passed();
    Ok(())
}

/// An effect that another process can observe while a command runs.
type Sight = fn(&Site, inodes: [Option<u64>; 3]) -> bool;

fn inode(path: &Path) -> Option<u64> {
    fs::metadata(path).ok().map(|metadata| metadata.ino())
}

fn inodes(site: &Site) -> [Option<u64>; 3] {
    [site.plugin(), site.password(), site.conflist()].map(|path| inode(&path))
}

#[test]
fn killed_anywhere_every_file_is_whole() -> Result<()> {
    let site = Site::new()?;
    let (old, new, uninstall) = (site.version("old")?, site.version("new")?, words(&["uninstall"]));
    ensure!(site.run(&new)?.0 == 0 && site.run(&old)?.0 == 0);
    // The stages of each command, as seen in the directories.
    let points: [(&[String], Sight); 11] = [
        (&new, |_, _| true),
        (&new, |site, _| site.host.join("bin/.atoll.atoll-new").exists()),
        (&new, |site, _| fs::metadata(site.host.join("bin/.atoll.atoll-new")).is_ok_and(|half| half.len() > 1 << 20)),
        (&new, |site, before| inodes(site)[0] != before[0]),
        (&new, |site, _| site.host.join("etc/.password.atoll-new").exists()),
        (&new, |site, before| inodes(site)[1] != before[1]),
        (&new, |site, _| site.host.join("net.d/.10-atoll.conflist.atoll-new").exists()),
        (&new, |site, before| inodes(site)[2] != before[2]),
        (&uninstall, |_, _| true),
        (&uninstall, |site, before| inodes(site)[2] != before[2]),
        (&uninstall, |site, before| inodes(site)[0] != before[0]),
    ];
    let mut killed = 0;
    for (number, (arguments, is_there)) in points.into_iter().enumerate() {
        ensure!(site.run(&old)?.0 == 0);
        let before = inodes(&site);
        let mut running = site.command(arguments)?.stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
        while !is_there(&site, before) && running.try_wait()?.is_none() {}
        killed += u32::from(running.try_wait()?.is_none());
        running.kill()?;
        running.wait()?;
        let [plugin, password, conflist] = site.state()?;
        ensure!(conflist.is_none() || plugin.is_some(), "a configuration without its plugin, at {number}");
        let whole = (plugin, password) == (Some("new"), Some("new"));
        ensure!(conflist != Some("new") || whole, "the configuration came too early, at {number}");
    }
    println!("{killed} of 11 were killed before their end");
    ensure!(killed >= 3, "only {killed} were still running when they were killed: nothing was seen");
    ensure!(site.run(&new)?.0 == 0 && site.state()? == [Some("new"); 3]);
    let left: Vec<_> = fs::read_dir(site.host.join("net.d"))?.collect::<Result<_, _>>()?;
    assert_eq!(left.len(), 1, "no temporary file is left: {left:?}");
    site.scratch.passed();
    Ok(())
}

#[test]
fn a_node_with_pods_is_not_taken_the_plugin_away_from() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let ctl = Ctl::new(&node, json!({}))?;
    let host = node.scratch().dir("host")?;
    let (bin, conf) = (host.join("bin"), host.join("net.d"));
    let directories = [format!("--bin-dir={}", bin.display()), format!("--conf-dir={}", conf.display())];
    let run = |arguments: &[&str]| {
        let all: Vec<&str> = arguments.iter().copied().chain(directories.iter().map(String::as_str)).collect();
        ctl.run(&all)
    };
    let (plugin, conflist) = (programs::path("atoll")?.display().to_string(), ctl.config().display().to_string());
    let installed = run(&["install", "--plugin", &plugin, "--conflist", &conflist])?;
    ensure!(installed.code == 0, "{}", installed.stderr);

    let cni = Cni::new(node.netns(), bin.join("atoll"), node.cni("1.0.0")?.config);
    let pod = LabPod::new("red", "pod")?;
    cni.add(&pod)?;
    let refused = run(&["uninstall"])?;
    ensure!(refused.code == 6 && refused.stderr.contains("1 attachment"), "{}{}", refused.stdout, refused.stderr);
    ensure!(bin.join("atoll").exists() && conf.join("10-atoll.conflist").exists());
    cni.del(&pod)?;
    let done = run(&["uninstall"])?;
    ensure!(done.code == 0 && !bin.join("atoll").exists(), "{}{}", done.stdout, done.stderr);

    // Concurrent installations run one after the other or are refused, and the result is complete.
    let arguments = ["install", "--plugin", &plugin, "--conflist", &conflist];
    let all: Vec<&str> = arguments.into_iter().chain(directories.iter().map(String::as_str)).collect();
    let start = |_| ctl.command(&all).stdout(Stdio::null()).stderr(Stdio::null()).spawn();
    let running = (0..4).map(start).collect::<std::io::Result<Vec<_>>>()?;
    let end = |mut child: std::process::Child| child.wait()?.code().context("a signal ended it");
    let codes = running.into_iter().map(end).collect::<Result<Vec<i32>>>()?;
    ensure!(codes.contains(&0) && codes.iter().all(|code| matches!(code, 0 | 5)), "{codes:?}");
    assert_eq!(fs::read(bin.join("atoll"))?, fs::read(programs::path("atoll")?)?);
    drop(ctl);
    node.finish()
}

#[test]
fn from_a_container_everything_goes_where_the_nodes_runtimes_look() -> Result<()> {
    let site = Site::new()?;
    let host = &site.host;
    let write = |path: &str, text: &str| -> Result<()> {
        let path = host.join(path);
        fs::create_dir_all(path.parent().context("a directory")?)?;
        Ok(fs::write(path, text)?)
    };
    // As Debian 12 ships it, with an import; and CRI-O, which uses other directories.
    write(
        "etc/containerd/config.toml",
        "version = 2\nimports = [\"conf.d/*.toml\"]\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/x\"\n",
    )?;
    let cni = "version = 2\n[plugins.\"io.containerd.grpc.v1.cri\".cni]\nbin_dir = \"/usr/lib/cni\"\nconf_dir = \"/etc/cni/net.d\"";
    write("etc/containerd/conf.d/10-cni.toml", cni)?;
    write("etc/crio/crio.conf.d/10-crio.conf", "[crio.network]\nnetwork_dir = \"/etc/crio/net.d\"\n")?;
    // An absolute symbolic link of the node is resolved below the node's root.
    fs::create_dir_all(host.join("var/opt/cni"))?;
    std::os::unix::fs::symlink("/var/opt", host.join("opt"))?;
    // A Secret as Kubernetes mounts it: symbolic links to a hidden directory.
    let secret = site.scratch.dir("secret/..data")?.parent().context("a directory")?.to_owned();
    private_file(&secret.join("..data/password"), "p")?;
    std::os::unix::fs::symlink("..data/password", secret.join("password"))?;

    let old = site.version("old")?;
    let arguments = |more: &[String]| -> Result<(i32, String)> {
        let mut command = Command::new(programs::path("atollctl")?);
        command.env_clear().args(&old[..3]).arg("--cli-dir=/usr/local/bin").args(more).stdin(Stdio::null());
        let out = command.arg(format!("--host-root={}", host.display())).output()?;
        let text = [out.stdout, out.stderr].concat();
        Ok((out.status.code().context("a signal ended it")?, String::from_utf8_lossy(&text).into_owned()))
    };
    let secrets = [format!("--secret={}:/etc/atoll", secret.display())];
    let (code, printed) = arguments(&secrets)?;
    ensure!(code == 0, "{printed}");
    let paths = [
        "usr/lib/cni/atoll",
        "var/opt/cni/bin/atoll",
        "usr/local/bin/atollctl",
        "etc/atoll/password",
        "etc/cni/net.d/10-atoll.conflist",
        "etc/crio/net.d/10-atoll.conflist",
    ];
    for path in paths {
        ensure!(host.join(path).is_file(), "{path} is not there: {printed}");
    }
    ensure!(!host.join("x").exists() && !host.join("etc/atoll/..data").exists(), "{printed}");
    assert_eq!(Site::mode(&host.join("etc/atoll/password"))?, 0o600);
    ensure!(
        printed.contains("containerd takes plugins from /usr/lib/cni")
            && printed.contains("according to /etc/containerd/conf.d/10-cni.toml"),
        "{printed}"
    );
    let (code, printed) = arguments(&secrets)?;
    ensure!(code == 0 && printed.contains("nothing to change"), "{printed}");

    // An empty Secret is no failure: etcd may have no TLS.
    fs::remove_file(secret.join("password"))?;
    let (code, printed) = arguments(&secrets)?;
    ensure!(code == 0, "{printed}");

    let mut command = Command::new(programs::path("atollctl")?);
    command.env_clear().args(["uninstall", "--cli-dir=/usr/local/bin"]).arg(format!("--host-root={}", host.display()));
    let out = command.output()?;
    ensure!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
    let left: Vec<_> = paths.iter().filter(|path| host.join(path).exists()).collect();
    assert_eq!(left, [&"etc/atoll/password"], "secrets stay, nothing else of it does");
    site.scratch.passed();
    Ok(())
}
