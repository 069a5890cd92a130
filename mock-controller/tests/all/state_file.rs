//! The file that keeps the objects: written before the answer, completely or not at all, never silently empty; a change that
//! cannot be written is not made.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use atoll_mock_controller::{Dialect, MockController, MockSettings, StateFile, StateFileError, Tables};
use http::Method;
use serde_json::{Value, json};

use crate::fixture::{BOTH, Fixture, id};

/// A controller whose changes are persisted in a file.
struct Kept {
    world: Fixture,
    directory: tempfile::TempDir,
    path: PathBuf,
}

fn keep(world: &Fixture, path: &Path) {
    let file = StateFile::create(path, world.dialect, &world.mock.dump()).expect("created");
    world.mock.controller_mut().persist_with(Box::new(file));
}

impl Kept {
    fn new(dialect: Dialect) -> Self {
        let (world, directory) = (Fixture::new(dialect), tempfile::tempdir().expect("a directory"));
        let path = directory.path().join("state.json");
        keep(&world, &path);
        Self { world, directory, path }
    }

    fn load(&self) -> Result<Tables, StateFileError> {
        StateFile::load(&self.path, self.world.dialect).map(|tables| tables.expect("it is there"))
    }

    /// The file has the controller's objects.
    fn check(&self, what: &str) {
        assert_eq!(self.load().unwrap_or_else(|error| panic!("{what}: {error}")), self.world.mock.dump(), "{what}");
    }

    /// Makes a change, which is in the file or not made; returns its status.
    fn change(&self, n: u128) -> u16 {
        let before = self.world.mock.dump();
        let length = || fs::metadata(&self.path).map_or(0, |there| there.len());
        let written = length();
        let answer = self.world.post("/routers", &json!({ "id": id(n), "tenantId": "t", "name": "n" }));
        let made = self.world.mock.dump().routers.contains_key(&id(n));
        assert_eq!(made, answer.status == 201, "{answer:?}");
        if !made {
            assert_eq!(self.world.mock.dump(), before, "nothing has changed");
            assert_eq!(length(), written, "and nothing of it is in the file");
            assert!(self.world.ids("/routers?tenant_id=t").iter().all(|one| *one != id(n)), "in no index either");
            assert!(
                answer.message().contains("Nothing was changed") && answer.message().contains("state.json"),
                "{answer:?}"
            );
        }
        answer.status
    }
}

#[test]
fn what_was_written_is_read_back_after_every_request() {
    for dialect in BOTH {
        let kept = Kept::new(dialect);
        let world = &kept.world;
        let none = kept.directory.path().join("none");
        assert!(StateFile::load(&none, dialect).expect("absent").is_none(), "no file is a first start");
        kept.check("the beginning");
        let tenant = world.tenant(0x10, "t");
        kept.check("a tenant");
        for path in [format!("/bridges/{}", tenant.bridge), format!("/chains/{}", tenant.outbound)] {
            assert_eq!(world.delete(&path), 204);
            kept.check(&path);
        }
        world.admin(Method::POST, "/hosts", &json!({ "id": id(0x500), "name": "other", "address": "10.9.9.9" }));
        kept.check("a host");
        if dialect == Dialect::V1 {
            world.put("/system_state", &json!({ "availability": "READONLY" }));
            kept.check("read-only");
        }

        // After a restart the file continues, and generated keys differ from the earlier ones.
        let tables = kept.load().expect("readable");
        let highest = tables.ports.values().map(|port| port.tunnel_key).max().expect("ports");
        let settings = MockSettings { dialect, ..MockSettings::default() };
        let again = Fixture::new(dialect);
        *again.mock.controller_mut() = MockController::with_tables(settings, tables);
        assert_eq!(again.mock.dump(), world.mock.dump());
        if dialect == Dialect::V5 {
            let bridge = again.bridge(0x300, "t");
            let port = again.bridge_port(0x301, bridge);
            assert!(again.port(port)["tunnelKey"].as_u64().is_some_and(|key| key > u64::from(highest)));
        }
        world.admin(Method::POST, "/reset", &Value::Null);
        kept.check("a reset");
    }
}

#[test]
fn a_long_history_is_rewritten() {
    let kept = Kept::new(Dialect::V5);
    let router = kept.world.router(1, "t");
    let mut most = 0;
    for n in 0..25_000 {
        assert_eq!(kept.world.put(&format!("/routers/{router}"), &json!({ "name": format!("{n}") })).status, 204);
        if n % 999 == 0 {
            let lines = fs::read_to_string(&kept.path).expect("readable").lines().count();
            most = most.max(lines);
        }
    }
    assert!((5_000..=10_002).contains(&most), "{most} lines for one router");
    kept.check("in the end");
}

#[test]
fn damage_is_an_error_and_never_an_empty_start() {
    let kept = Kept::new(Dialect::V5);
    for n in 0..4 {
        kept.world.router(n, "t");
    }
    let whole = fs::read(&kept.path).expect("readable");
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), 6, "a header, the tables and four changes");
    let damaged = |bytes: &[u8], what: &str| {
        fs::write(&kept.path, bytes).expect("written");
        match kept.load() {
            Err(StateFileError::Damaged { path, line, .. }) => {
                assert_eq!(path, kept.path);
                line
            }
            other => panic!("{what}: {other:?}"),
        }
    };

    // Truncated anywhere: an answered change is missing, and the check shows it.
    let ends = lines.iter().scan(0, |end, line| {
        *end += line.len();
        Some(*end)
    });
    for cut in (0..whole.len() - 1).step_by(7).chain(ends.take(lines.len() - 1)) {
        damaged(&whole[..cut], &format!("cut at {cut}"));
    }
    // The last byte is only the end of a line.
    fs::write(&kept.path, &whole[..whole.len() - 1]).expect("written");
    kept.check("without the end of the last line");
    // A further line, of a change that was never answered.
    let truncated = [&whole[..], &lines[5][..20]].concat();
    fs::write(&kept.path, &truncated).expect("written");
    kept.check("with a truncated line");

    for place in 0..lines.len() {
        let but = |lines: &mut Vec<&[u8]>, act: &dyn Fn(&mut Vec<&[u8]>)| {
            act(lines);
            lines.concat()
        };
        let removed = but(&mut lines.clone(), &|lines| {
            lines.remove(place);
        });
        assert!(damaged(&removed, &format!("without line {}", place + 1)) <= place + 1);
        let doubled = but(&mut lines.clone(), &|lines| lines.insert(place, lines[place]));
        assert_eq!(damaged(&doubled, &format!("line {} twice", place + 1)), place + 2);
        if place > 0 {
            let swapped = but(&mut lines.clone(), &|lines| lines.swap(place, place - 1));
            assert!(damaged(&swapped, &format!("lines {place} and {} swapped", place + 1)) <= place + 1);
        }
        // Any byte of a line, in its text and in its check.
        for at in (0..lines[place].len() - 1).step_by(7) {
            let mut bent = lines.clone();
            let mut line = lines[place].to_vec();
            line[at] ^= 1;
            bent[place] = &line;
            let reported = damaged(&bent.concat(), &format!("line {} bent at {at}", place + 1));
            assert!(
                (1..=place + 1).contains(&reported),
                "line {} bent at {at}: line {reported} was reported",
                place + 1
            );
        }
    }
    // A missing table with a correct check: the file of version 1 had no checks.
    let old = |tables: Value| format!("{{\"mock_controller_state\":1,\"dialect\":\"5\",\"tables\":{tables}}}\n");
    let mut tables = json!(kept.world.mock.dump());
    fs::write(&kept.path, old(tables.clone())).expect("written");
    kept.check("a file of the version before");
    tables.as_object_mut().expect("an object").remove("chains");
    damaged(old(tables.clone()).as_bytes(), "a missing table");
    tables["chain"] = json!({});
    damaged(old(tables).as_bytes(), "an unknown table");

    fs::write(&kept.path, b"").expect("written");
    let error = kept.load().expect_err("an empty file is no first start");
    let words = error.to_string();
    for part in [kept.path.to_str().expect("a path"), "is damaged in line 1", "restore the file", "move it away"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    fs::write(&kept.path, &whole).expect("written");
    let error = StateFile::load(&kept.path, Dialect::V1).expect_err("another dialect");
    assert!(error.to_string().contains("is of dialect 5, not 1.9"), "{error}");
    let unwritable = kept.directory.path().join("no/such/directory");
    let error = StateFile::create(&unwritable, Dialect::V5, &kept.world.mock.dump()).expect_err("no directory");
    assert!(matches!(error, StateFileError::Io { .. }));
}

#[test]
fn an_orderly_end_is_in_the_file() {
    let kept = Kept::new(Dialect::V5);
    let ended =
        || fs::read_to_string(&kept.path).expect("readable").lines().next().map(|one| one.contains(r#""ended": true"#));
    kept.world.router(1, "t");
    assert_eq!(ended(), Some(false));
    kept.world.mock.controller_mut().close().expect("closed");
    assert_eq!(ended(), Some(true));
    kept.check("after the end");
}

#[test]
fn a_file_that_is_gone_is_written_anew() {
    let kept = Kept::new(Dialect::V5);
    assert_eq!(kept.change(1), 201);
    fs::remove_file(&kept.path).expect("removed");
    assert_eq!(kept.change(2), 201);
    kept.check("removed");
    // Truncated in place.
    fs::File::options().write(true).open(&kept.path).expect("opened").set_len(10).expect("shortened");
    assert_eq!(kept.change(3), 201);
    kept.check("shortened");
    // Also by a deletion, and by what only `/mock/` can do.
    fs::remove_file(&kept.path).expect("removed");
    assert_eq!(kept.world.delete(&format!("/routers/{}", id(3))), 204);
    kept.check("a deletion");
    fs::remove_file(&kept.path).expect("removed");
    assert_eq!(kept.world.admin(Method::POST, "/reset", &Value::Null).status, 204);
    kept.check("a reset");
}

#[test]
fn a_change_that_cannot_be_kept_is_not_made() {
    let kept = Kept::new(Dialect::V5);
    let world = &kept.world;
    let bridge = world.bridge(0x20, "t");
    let (port, peer) = (world.bridge_port(0x21, bridge), world.router_port(0x23, world.router(0x22, "t"), "10.0.0.1"));
    let before = world.mock.dump();
    let follower = world.mock.controller_mut().follow();

    // The directory is deleted with its file.
    let away = kept.directory.path().with_extension("away");
    fs::rename(kept.directory.path(), &away).expect("moved");
    assert_eq!(kept.change(1), 503);
    let refused = |what: &str, status: u16| {
        assert_eq!(status, 503, "{what}");
        assert_eq!(world.mock.dump(), before, "{what}");
        assert_eq!(world.port(port)["active"], false, "{what}");
    };
    refused("a binding", world.bind(world.host(), port, "v0").status);
    refused("a link", world.link(port, peer).status);
    refused("a deletion", world.delete(&format!("/bridges/{bridge}")));
    refused("a PUT", world.put(&format!("/bridges/{bridge}"), &json!({ "name": "other" })).status);
    refused("a host", world.admin(Method::POST, "/hosts", &json!({ "id": id(0x500) })).status);
    let interface = format!("/hosts/{}/interfaces/eth9", world.host());
    refused("an interface", world.admin(Method::PUT, &interface, &json!({})).status);
    // A reset takes effect completely or not at all.
    world.admin(Method::POST, "/faults", &json!({ "path": "/chains", "fault": { "kind": "cut" } }));
    refused("a reset", world.admin(Method::POST, "/reset", &Value::Null).status);
    assert_eq!(world.admin(Method::GET, "/faults", &Value::Null).body.as_array().map(Vec::len), Some(1), "faults stay");
    assert!(world.mock.controller_mut().take_changes().is_empty(), "no change is published");
    assert_eq!(world.list("/routers").len(), 2, "reading goes on");
    let refused = world.post("/chains", &json!({ "id": "x" }));
    assert_eq!(refused.status, 400, "a fault of the request is reported first");
    let last = world.admin(Method::GET, "/requests", &Value::Null).body;
    let statuses: Vec<_> = last["last"].as_array().expect("a list").iter().map(|one| one["status"].clone()).collect();
    assert!(statuses.contains(&json!(503)) && !statuses[statuses.len() - 6..].contains(&json!(201)), "{statuses:?}");

    // The directory is back: the same file continues.
    fs::rename(&away, kept.directory.path()).expect("moved");
    kept.check("before the next change");
    assert_eq!(kept.change(2), 201);
    kept.check("after it");
    assert_eq!(world.bind(world.host(), port, "v0").status, 201);
    assert_eq!(world.port(port)["active"], true);
    kept.check("a binding");
    let mut follower = follower;
    for change in world.mock.controller_mut().take_changes() {
        follower.apply(change);
    }
    assert_eq!(follower, world.mock.controller_mut().follow());
}

#[test]
fn a_file_that_was_replaced_is_not_written_over() {
    let kept = Kept::new(Dialect::V5);
    assert_eq!(kept.change(1), 201);
    let aside = kept.directory.path().join("aside");
    fs::rename(&kept.path, &aside).expect("moved");
    fs::write(&kept.path, "another program's").expect("written");
    for _ in 0..2 {
        assert_eq!(kept.change(2), 503);
    }
    assert_eq!(fs::read_to_string(&kept.path).expect("readable"), "another program's");
    // A directory is no better.
    fs::remove_file(&kept.path).expect("removed");
    fs::create_dir(&kept.path).expect("made");
    assert_eq!(kept.change(2), 503);
    fs::remove_dir(&kept.path).expect("removed");
    fs::rename(&aside, &kept.path).expect("moved back");
    kept.check("put back: what was refused is not in it");
    assert_eq!(kept.change(3), 201);
    kept.check("and it goes on");
}

/// Only root may mount; without root the test uses a deleted directory.
#[test]
fn a_full_or_read_only_file_system_is_a_503() {
    let directory = tempfile::tempdir().expect("a directory");
    let mount = Mount::tmpfs(directory.path());
    let world = Fixture::new(Dialect::V5);
    let path = directory.path().join("state.json");
    keep(&world, &path);
    let kept = Kept { world, directory, path };
    assert_eq!(kept.change(1), 201);

    let fill = kept.directory.path().join("fill");
    let mut file = fs::File::create(&fill).expect("made");
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    // Some changes may still fit into the last page.
    let mut made = 1;
    let full = (2..4000).find(|n| {
        let status = kept.change(*n);
        made += u128::from(status == 201);
        status == 503
    });
    assert!(full.is_some(), "{made} changes fit into a full file system");
    kept.check("full");
    assert!(!kept.directory.path().join("state.json.new").exists());
    drop(file);
    fs::remove_file(&fill).expect("removed");
    assert_eq!(kept.change(5001), 201, "there is room again");
    kept.check("room again");

    // The kernel refuses to remount a file system read-only while a file is open for writing.
    let dump = kept.world.mock.dump();
    kept.world.mock.controller_mut().close().expect("closed");
    mount.remount("ro");
    let error = StateFile::create(&kept.path, Dialect::V5, &dump).expect_err("it cannot be written");
    assert!(error.to_string().contains("Read-only") && error.to_string().contains("state.json"), "{error}");
    assert_eq!(kept.load().expect("it can be read"), dump);
}

/// A small file system of its own.
struct Mount(PathBuf);

impl Mount {
    fn tmpfs(path: &Path) -> Self {
        nix::mount::mount(Some("at-mock"), path, Some("tmpfs"), nix::mount::MsFlags::empty(), Some("size=256k"))
            .expect("root may mount");
        Self(path.to_owned())
    }

    fn remount(&self, how: &str) {
        let status =
            atoll_testkit::program::command("mount").args(["-o", &format!("remount,{how}")]).arg(&self.0).status();
        assert!(status.expect("mount runs").success());
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = nix::mount::umount2(&self.0, nix::mount::MntFlags::MNT_DETACH);
    }
}

#[test]
fn a_link_stays_and_its_target_is_written() {
    let directory = tempfile::tempdir().expect("a directory");
    let elsewhere = directory.path().join("elsewhere");
    fs::create_dir(&elsewhere).expect("made");
    let (link, middle, target) = (directory.path().join("link"), elsewhere.join("middle"), elsewhere.join("state"));
    symlink("elsewhere/middle", &link).expect("linked");
    symlink("state", &middle).expect("linked");
    let world = Fixture::new(Dialect::V5);
    assert!(StateFile::load(&link, Dialect::V5).expect("absent").is_none(), "a link to nothing yet");
    keep(&world, &link);
    world.router(1, "t");
    for path in [&link, &middle] {
        assert!(fs::symlink_metadata(path).expect("there").is_symlink(), "{}", path.display());
    }
    assert!(fs::symlink_metadata(&target).expect("there").is_file());
    assert_eq!(StateFile::load(&target, Dialect::V5).expect("readable"), Some(world.mock.dump()));
    assert_eq!(StateFile::load(&link, Dialect::V5).expect("readable"), Some(world.mock.dump()));
    // One file has one lock under all its names.
    let lock = StateFile::lock(&link).expect("free");
    assert!(matches!(StateFile::lock(&target), Err(StateFileError::InUse { .. })));
    drop(lock);
    symlink("loop", directory.path().join("loop")).expect("linked");
    assert!(StateFile::load(&directory.path().join("loop"), Dialect::V5).is_err());
}

#[test]
fn what_is_no_file_is_not_replaced_by_one() {
    let directory = tempfile::tempdir().expect("a directory");
    let pipe = directory.path().join("pipe");
    nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRUSR).expect("made");
    let world = Fixture::new(Dialect::V5);
    for path in [Path::new("/dev/null"), &pipe, directory.path()] {
        let before = fs::symlink_metadata(path).expect("there").ino();
        for error in [
            StateFile::load(path, Dialect::V5).map(drop),
            StateFile::lock(path).map(drop),
            StateFile::create(path, Dialect::V5, &world.mock.dump()).map(drop),
        ] {
            assert!(error.expect_err("refused").to_string().contains("not a regular file"), "{}", path.display());
        }
        assert_eq!(fs::symlink_metadata(path).expect("there").ino(), before, "{}", path.display());
    }
}

#[test]
fn the_mode_is_its_owners_whatever_the_umask_and_stays_what_it_is_made() {
    let kept = Kept::new(Dialect::V5);
    let mode = || fs::metadata(&kept.path).expect("there").permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&kept.path, fs::Permissions::from_mode(0o640)).expect("set");
    // A start rewrites it.
    keep(&kept.world, &kept.path);
    assert_eq!(mode(), 0o640);
}

#[test]
fn ids_of_an_earlier_run_are_not_reused() {
    // The seed is the same, so the server generates the same ids again, here for the LOCAL routes.
    let world = Fixture::new(Dialect::V5);
    let router = world.router(1, "t");
    for n in 0..5 {
        world.router_port(0x10 + n, router, &format!("10.0.{n}.1"));
    }
    let tables = world.mock.dump();
    let again = Fixture::new(Dialect::V5);
    *again.mock.controller_mut() = MockController::with_tables(MockSettings::default(), tables.clone());
    for n in 0..5 {
        again.router_port(0x20 + n, router, &format!("10.1.{n}.1"));
    }
    assert_eq!(again.mock.dump().routes.len(), tables.routes.len() + 5);
}
