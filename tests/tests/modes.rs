//! Every directory and file that a program creates has the mode of the table in `docs/operations.md`, whatever the
//! umask of its parent. The test reads the table from there; a file that is not in it is a failure.
//!
//! A binary of its own: the tests set the umask of their process.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use atoll_testkit::lab::ctl::{Ctl, private_file};
use atoll_testkit::lab::node::LabNode;
use atoll_testkit::lab::pod::LabPod;
use atoll_testkit::lab::programs;
use nix::sys::stat::{Mode, umask};
use serde_json::json;

/// The modes of the documentation, by file.
fn documented() -> Result<Vec<(String, u32)>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?;
    let text = fs::read_to_string(root.join("docs/operations.md"))?;
    let (_, section) = text.split_once("\n## Files and their modes\n").context("the section")?;
    let (section, _) = section.split_once("\n## ").context("its end")?;
    let rows = section.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| file"));
    rows.map(|row| {
        let mut cells = row.split('|').skip(1).map(str::trim);
        let (file, mode) = (cells.next().context("a file")?, cells.next().context("a mode")?);
        Ok((file.to_owned(), u32::from_str_radix(mode, 8).with_context(|| row.to_owned())?))
    })
    .collect()
}

/// The row of the table for a file or directory.
fn row(path: &Path, below: &[(PathBuf, &str)]) -> Option<String> {
    let (base, name) = below.iter().find(|(base, _)| path.starts_with(base))?;
    let rest: Vec<_> = path.strip_prefix(base).ok()?.iter().map(|part| part.to_string_lossy().into_owned()).collect();
    let is_id = |text: &str| text.len() == 32;
    Some(match rest.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => format!("`{name}`"),
        ["attachments" | "tombstones" | "dataplane", _] => format!("`{name}/{}/*`", rest[0]),
        ["cache", id] if is_id(id) => format!("`{name}/cache/<installation>`"),
        ["cache", id, _] if is_id(id) => format!("`{name}/cache/<installation>/*`"),
        ["cache", endpoint] if endpoint.ends_with("-endpoint") => format!("`{name}/cache/*-endpoint`"),
        parts => format!("`{name}/{}`", parts.join("/")),
    })
}

fn walk(path: &Path, found: &mut Vec<PathBuf>) -> Result<()> {
    found.push(path.to_owned());
    if fs::symlink_metadata(path)?.is_dir() {
        for entry in fs::read_dir(path)? {
            walk(&entry?.path(), found)?;
        }
    }
    Ok(())
}

fn mode(path: &Path) -> Result<u32> {
    let metadata = fs::symlink_metadata(path).with_context(|| path.display().to_string())?;
    Ok(metadata.permissions().mode() & 0o7777)
}

/// Checks the modes of everything that programs with this umask create.
fn modes(bits: u32) -> Result<()> {
    umask(Mode::from_bits_truncate(bits));
    let documented = documented()?;
    let wanted = |row: &str| -> Result<u32> {
        let of_row = documented.iter().find(|(file, _)| file == row);
        Ok(of_row.with_context(|| format!("{row} is not in the table of docs/operations.md"))?.1)
    };
    let log = "log/atoll/cni.log";
    let mut node = LabNode::start(json!({}))?;
    let base = node.scratch().path().to_owned();
    let extra = json!({
        "log": { "file": base.join(log), "maxMegabytes": 1 }, "status": "strict",
        "etcd": { "endpoints": ["http://127.0.0.1:1", format!("http://{}", atoll_testkit::lab::servers::ETCD)] },
        "controller": { "endpoints": ["http://127.0.0.1:1/api", format!("http://{}{}", atoll_testkit::lab::servers::CONTROLLER, atoll_testkit::lab::servers::API)] },
    });
    let mut cni = node.cni("1.1.0")?;
    atoll_testkit::lab::node::merge(&mut cni.config, &extra);
    let config = cni.config.clone();
    let (pod, other) = (LabPod::new("red", "pod")?, LabPod::new("red", "other")?);
    cni.add(&pod)?;
    cni.add(&other)?;
    cni.call("STATUS", &pod).run()?.done()?;
    // At its maximum size: the next call rotates it.
    fs::OpenOptions::new().write(true).open(base.join(log))?.set_len(1 << 20)?;
    drop(cni);
    // A DEL that cannot reach etcd records its pending cleanup here.
    node.kill_controller()?;
    node.kill_etcd()?;
    let mut cni = node.cni("1.1.0")?;
    cni.config = config;
    cni.del(&other)?;
    drop(cni);
    node.start_controller()?;

    let places = [(node.run_dir(), "<runDir>"), (node.state_dir(), "<stateDir>")];
    let (mut wrong, mut seen) = (Vec::new(), BTreeSet::new());
    for (place, _) in &places {
        let mut found = Vec::new();
        walk(place, &mut found)?;
        for path in found {
            let row = row(&path, &places).context("below one of them")?;
            let (is, should) = (mode(&path)?, wanted(&row)?);
            if is != should {
                wrong.push(format!("{} has {is:04o}, {row} is {should:04o}", path.display()));
            }
            seen.insert(row);
        }
    }
    let one_by_one = [
        ("log/atoll", "directory of `log.file`"),
        (log, "`log.file`, `log.file.*`"),
        ("log/atoll/cni.log.1", "`log.file`, `log.file.*`"),
        ("controller.json", "`--state` of the mock controller, its `.lock`"),
        ("controller.json.lock", "`--state` of the mock controller, its `.lock`"),
    ];
    let mut look = |path: &Path, row: &str| -> Result<()> {
        let (is, should) = (mode(path)?, wanted(row)?);
        if is != should {
            wrong.push(format!("{} has {is:04o}, {row} is {should:04o}", path.display()));
        }
        seen.insert(row.to_owned());
        Ok(())
    };
    for (path, row) in one_by_one {
        look(&base.join(path), row)?;
    }

    // Files of `atollctl install`.
    let secret = base.join("password");
    private_file(&secret, "secret")?;
    let ctl = Ctl::new(&node, json!({}))?;
    let (bin, conf, cli, keys) = (base.join("i/bin"), base.join("i/net.d"), base.join("i/cli"), base.join("i/keys"));
    let plugin = programs::path("atoll")?;
    let options = [
        "install".to_owned(),
        format!("--plugin={}", plugin.display()),
        format!("--conflist={}", ctl.config().display()),
        format!("--bin-dir={}", bin.display()),
        format!("--conf-dir={}", conf.display()),
        format!("--cli-dir={}", cli.display()),
        format!("--secret={}:{}", secret.display(), keys.join("password").display()),
    ];
    let installed = ctl.run(&options.each_ref().map(String::as_str))?;
    ensure!(installed.code == 0, "{}", installed.stderr);
    let directories = "`--bin-dir`, `--cli-dir`, `--conf-dir`, directories of `--secret`";
    for directory in [&bin, &conf, &cli, &keys] {
        look(directory, directories)?;
    }
    look(&bin.join("atoll"), "`atoll`, `atollctl`")?;
    look(&cli.join("atollctl"), "`atoll`, `atollctl`")?;
    let private = "the network configuration, targets of `--secret`";
    look(&conf.join("10-atoll.conflist"), private)?;
    look(&keys.join("password"), private)?;
    ensure!(wrong.is_empty(), "umask {bits:04o}:\n{}", wrong.join("\n"));

    // Every row was used; the rows of the quickstart are used by its own test.
    let all: BTreeSet<_> =
        documented.into_iter().map(|(row, _)| row).filter(|row| !row.contains("quickstart")).collect();
    let missed: Vec<_> = all.difference(&seen).collect();
    ensure!(missed.is_empty(), "nothing was found for {missed:?}");
    drop(ctl);

    node.start_etcd()?;
    node.cni("1.1.0")?.del(&pod)?;
    atoll_testkit::lab::wait::until("later calls finish what is left", std::time::Duration::from_secs(30), || {
        node.cni("1.1.0")?.del(&LabPod::new("red", "missing")?)?;
        atoll_testkit::lab::leftovers::assert_none(&node)
    })?;
    node.finish()
}

#[test]
fn modes_with_umask_000() -> Result<()> {
    modes(0)
}

#[test]
fn modes_with_umask_027() -> Result<()> {
    modes(0o027)
}

#[test]
fn modes_with_umask_077() -> Result<()> {
    modes(0o077)
}

#[test]
fn modes_with_umask_777() -> Result<()> {
    modes(0o777)
}
