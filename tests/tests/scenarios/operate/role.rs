//! The role of a node, as documented in `docs/operations.md`: the commands run against a real etcd with certificates
//! and roles, then pods are added and deleted with only a node's certificate, and operations that it must not permit
//! are tried.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use atoll_testkit::lab::cni::Cni;
use atoll_testkit::lab::ctl::{Ctl, private_file};
use atoll_testkit::lab::daemon::{Daemon, Lifetime};
use atoll_testkit::lab::netns::output;
use atoll_testkit::lab::node::{LabNode, merge};
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::{programs, wait};
use serde_json::json;

const URL: &str = "https://127.0.0.1:2479";
const PREFIX: &str = "/atoll/roles";

/// The commands below a heading of the documentation.
fn documented(heading: &str) -> Result<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?.join("docs/operations.md");
    let text = fs::read_to_string(page)?;
    let (_, below) = text.split_once(&format!("### {heading}\n")).with_context(|| format!("no heading {heading:?}"))?;
    let (_, block) = below.split_once("```sh\n").context("no block of commands")?;
    Ok(block.split_once("```").context("no end of the block")?.0.to_owned())
}

/// An etcd that requires client certificates, and the certificates.
struct Secured<'a> {
    node: &'a LabNode,
    directory: PathBuf,
    _etcd: Daemon,
}

impl<'a> Secured<'a> {
    fn start(node: &'a LabNode) -> Result<Self> {
        let directory = node.scratch().dir("secured")?;
        let key = "-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes";
        openssl(&directory, &format!("req -x509 {key} -keyout ca.key -out ca.pem -days 2 -subj /CN=ca"))?;
        for name in ["server", "root", "operator", "node-1", "node-2"] {
            openssl(&directory, &format!("req -new {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"))?;
            let usage = "extendedKeyUsage=clientAuth,serverAuth\nsubjectAltName=IP:127.0.0.1\n";
            fs::write(directory.join("extensions"), usage)?;
            let signed =
                format!("x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -out {name}.pem");
            openssl(&directory, &format!("{signed} -extfile extensions"))?;
            private_file(
                &directory.join(format!("{name}.key")),
                &fs::read_to_string(directory.join(format!("{name}.key")))?,
            )?;
        }
        let file = |name: &str| directory.join(name).display().to_string();
        let args = [
            format!("--data-dir={}", file("data")),
            format!("--listen-client-urls={URL}"),
            format!("--advertise-client-urls={URL}"),
            "--listen-peer-urls=http://127.0.0.1:2480".to_owned(),
            "--initial-advertise-peer-urls=http://127.0.0.1:2480".to_owned(),
            "--initial-cluster=default=http://127.0.0.1:2480".to_owned(),
            "--client-cert-auth".to_owned(),
            format!("--trusted-ca-file={}", file("ca.pem")),
            format!("--cert-file={}", file("server.pem")),
            format!("--key-file={}", file("server.key")),
            "--logger=zap".to_owned(),
            "--log-level=warn".to_owned(),
        ];
        let log = directory.join("log");
        let mut etcd = Daemon::start(node.netns(), Lifetime::Scoped, Path::new("etcd"), &args, &log)?;
        let ready = || Self::etcdctl_of(node, &directory, "root", &["endpoint", "health"]);
        etcd.wait_until(Duration::from_secs(30), || run(ready()).map(drop))?;
        Ok(Self { node, directory, _etcd: etcd })
    }

    /// A command with the environment of the owner of this certificate.
    fn environment(command: &mut Command, directory: &Path, who: &str) {
        command.env("ETCDCTL_API", "3").env("ETCDCTL_ENDPOINTS", URL).env("ETCDCTL_CACERT", directory.join("ca.pem"));
        command.env("ETCDCTL_CERT", directory.join(format!("{who}.pem")));
        command.env("ETCDCTL_KEY", directory.join(format!("{who}.key"))).stdin(Stdio::null());
    }

    fn etcdctl_of(node: &LabNode, directory: &Path, who: &str, arguments: &[&str]) -> Command {
        let mut command = node.netns().command("etcdctl");
        Self::environment(&mut command, directory, who);
        command.args(arguments);
        command
    }

    fn etcdctl(&self, who: &str, arguments: &[&str]) -> Result<String> {
        run(Self::etcdctl_of(self.node, &self.directory, who, arguments))
    }

    /// Runs the documented commands as root.
    fn script(&self, heading: &str, variables: &[(&str, &str)]) -> Result<()> {
        let mut command = self.node.netns().command("bash");
        Self::environment(&mut command, &self.directory, "root");
        command.envs(variables.iter().copied()).args(["-euc", &documented(heading)?]);
        run(command).map(drop)
    }

    /// The section `etcd` of a configuration with this certificate.
    fn settings(&self, who: &str) -> serde_json::Value {
        json!({ "etcd": {
            "endpoints": [URL], "prefix": PREFIX, "ca": self.directory.join("ca.pem"),
            "cert": self.directory.join(format!("{who}.pem")), "key": self.directory.join(format!("{who}.key")),
        } })
    }
}

fn run(mut command: Command) -> Result<String> {
    output(&mut command)
}

fn openssl(directory: &Path, arguments: &str) -> Result<()> {
    let mut command = atoll_testkit::program::command("openssl");
    output(command.current_dir(directory).args(arguments.split_whitespace())).map(drop)
}

#[test]
fn a_node_can_do_its_work_with_the_documented_role_and_nothing_more() -> Result<()> {
    let node = LabNode::start_without_dataplane(json!({}))?;
    let secured = Secured::start(&node)?;
    secured.script("The roles of root and of operators", &[("prefix", PREFIX), ("operator", "operator")])?;
    for name in ["node-1", "node-2"] {
        secured.script("The role of a node", &[("prefix", PREFIX), ("node", name)])?;
    }

    // A node must not create the cluster's record.
    let mut config = node.cni("1.0.0")?.config;
    merge(&mut config, &secured.settings("node-1"));
    let cni = Cni::new(node.netns(), programs::path("atoll")?, config);
    let early = cni.call("ADD", &LabPod::new("red", "early")?).run()?;
    assert_eq!(early.error_code()?, 101, "the record is the operator's to write: {}", early.stdout);
    let operator = Ctl::new(&node, secured.settings("operator"))?;
    operator.json(&["init"])?;

    // The operations of a node: new tenants, pods that are added and deleted, pending cleanup while the controller is
    // down.
    let pods = [LabPod::new("red", "one")?, LabPod::new("red", "two")?, LabPod::new("blue", "one")?];
    for pod in &pods {
        cni.add(pod)?;
    }
    for verb in ["CHECK", "STATUS"] {
        let version = if verb == "STATUS" { "1.1.0" } else { "1.0.0" };
        let mut call = cni.call(verb, &pods[0]);
        let mut config = cni.config.clone();
        merge(&mut config, &json!({ "cniVersion": version }));
        if verb == "CHECK" {
            let added = cni.call("ADD", &pods[0]).run()?.result()?;
            merge(&mut config, &json!({ "prevResult": added }));
        }
        call.stdin = config.to_string();
        call.run()?.done().with_context(|| verb.to_owned())?;
    }
    let own = Ctl::new(&node, secured.settings("node-1"))?;
    let (code, report) = own.report(&["doctor", "--conf-dir", &own.conf_dir.display().to_string()])?;
    ensure!(code == 0, "{report:#}");
    let list = node.scratch().path().join("containers");
    fs::write(&list, format!("{}\n{}", pods[0].container, pods[1].container))?;
    merge_timeout(&own)?;
    std::thread::sleep(Duration::from_secs(2));
    let collected = own.json(&["gc", "--sandboxes", &list.display().to_string()])?;
    ensure!(collected["items"][0]["outcome"] == "done", "the pod of blue: {collected:#}");

    // What a stolen certificate of this node must not permit.
    let claim = format!("{PREFIX}/v2/claims/node-2/atoll/c/eth0");
    for arguments in [
        ["put", &format!("{PREFIX}/v2/cluster"), "{}"].as_slice(),
        &["put", &format!("{PREFIX}/v2/nodes/node-2"), "{}"],
        &["put", &claim, "{}"],
        &["get", &claim],
        &["del", "--prefix", &format!("{PREFIX}/v2/claims/")],
        &["put", &format!("{PREFIX}/v2/tombstones/node-2/atoll/c/eth0"), "{}"],
        &["put", &format!("{PREFIX}/v2/reservations/red/00000001/4/0a800005"), "{}"],
        &["get", "--prefix", &format!("{PREFIX}/")],
        &["put", "/other", "x"],
        &["get", "/other"],
        &["role", "add", "mine"],
        &["role", "grant-permission", "atoll-node-node-1", "readwrite", "--prefix=true", "/"],
        &["user", "list"],
        &["user", "grant-role", "node-1", "root"],
        &["auth", "disable"],
    ] {
        match secured.etcdctl("node-1", arguments) {
            Ok(printed) => bail!("node-1 may {arguments:?}: {printed}"),
            Err(error) => ensure!(format!("{error:#}").contains("permission denied"), "{arguments:?}: {error:#}"),
        }
    }
    // What the page says that it permits.
    secured.etcdctl("node-1", &["get", "--prefix", &format!("{PREFIX}/v2/tenants/")])?;
    secured.etcdctl("node-1", &["get", "--prefix", &format!("{PREFIX}/v2/addresses/")])?;

    for pod in &pods {
        cni.del(pod)?;
    }
    drop(own);
    let operator = Ctl::new(&node, secured.settings("operator"))?;
    wait::until("the tenants are empty", Duration::from_secs(10), || {
        let left = operator.json(&["attachment", "list"])?;
        ensure!(left.as_array().is_some_and(Vec::is_empty), "{left:#}");
        Ok(())
    })?;
    operator.json(&["tenant", "delete", "red", "--force", "--yes"])?;
    operator.json(&["address", "check", "--pause", "1"])?;
    drop((operator, cni, secured));
    node.finish()
}

/// A short deadline for `gc`, so that a claim is old enough soon.
fn merge_timeout(ctl: &Ctl<'_>) -> Result<()> {
    let mut list: serde_json::Value = serde_json::from_str(&fs::read_to_string(ctl.config())?)?;
    list["plugins"][0]["timeoutSeconds"] = 1.into();
    fs::write(ctl.config(), list.to_string())?;
    Ok(())
}
