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
struct Persisted {
    fixture: Fixture,
    directory: tempfile::TempDir,
    path: PathBuf,
}

fn keep(fixture: &Fixture, path: &Path) {
    let file = StateFile::create(path, fixture.dialect, &fixture.mock.dump()).expect("created");
    fixture.mock.controller().persist_with(Box::new(file));
}

impl Persisted {
    fn new(dialect: Dialect) -> Self {
        let (fixture, directory) = (Fixture::new(dialect), tempfile::tempdir().expect("a directory"));
        let path = directory.path().join("state.json");
        keep(&fixture, &path);
        Self { fixture, directory, path }
    }

    fn load(&self) -> Result<Tables, StateFileError> {
        StateFile::load(&self.path, self.fixture.dialect).map(|tables| tables.expect("it is there"))
    }

    /// The file has the controller's objects.
    fn check(&self, what: &str) {
        assert_eq!(self.load().unwrap_or_else(|error| panic!("{what}: {error}")), self.fixture.mock.dump(), "{what}");
    }

    /// Makes a change, which is in the file or not made; returns its status.
    fn change(&self, n: u128) -> u16 {
        let before = self.fixture.mock.dump();
        let length = || fs::metadata(&self.path).map_or(0, |there| there.len());
        let written = length();
        let answer = self.fixture.post("/routers", &json!({ "id": id(n), "tenantId": "t", "name": "n" }));
        let made = self.fixture.mock.dump().routers.contains_key(&id(n));
        assert_eq!(made, answer.status == 201, "{answer:?}");
        if !made {
            assert_eq!(self.fixture.mock.dump(), before, "nothing has changed");
            assert_eq!(length(), written, "and nothing of it is in the file");
            assert!(self.fixture.ids("/routers?tenant_id=t").iter().all(|one| *one != id(n)), "in no index either");
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
        let persisted = Persisted::new(dialect);
        let fixture = &persisted.fixture;
        let none = persisted.directory.path().join("none");
        assert!(StateFile::load(&none, dialect).expect("absent").is_none(), "no file is a first start");
        persisted.check("the beginning");
        let tenant = fixture.tenant(0x10, "t");
        persisted.check("a tenant");
        for path in [format!("/bridges/{}", tenant.bridge), format!("/chains/{}", tenant.outbound)] {
            assert_eq!(fixture.delete(&path), 204);
            persisted.check(&path);
        }
        fixture.admin(Method::POST, "/hosts", &json!({ "id": id(0x500), "name": "other", "address": "10.9.9.9" }));
        persisted.check("a host");
        if dialect == Dialect::V1 {
            fixture.put("/system_state", &json!({ "availability": "READONLY" }));
            persisted.check("read-only");
        }

        // After a restart the file continues, and generated keys differ from the earlier ones.
        let tables = persisted.load().expect("readable");
        let highest = tables.ports.values().map(|port| port.tunnel_key).max().expect("ports");
        let settings = MockSettings { dialect, ..MockSettings::default() };
        let again = Fixture::new(dialect);
        *again.mock.controller() = MockController::with_tables(settings, tables);
        assert_eq!(again.mock.dump(), fixture.mock.dump());
        if dialect == Dialect::V5 {
            let bridge = again.bridge(0x300, "t");
            let port = again.bridge_port(0x301, bridge);
            assert!(again.port(port)["tunnelKey"].as_u64().is_some_and(|key| key > u64::from(highest)));
        }
        fixture.admin(Method::POST, "/reset", &Value::Null);
        persisted.check("a reset");
    }
}

#[test]
fn a_long_history_is_rewritten() {
    let persisted = Persisted::new(Dialect::V5);
    let router = persisted.fixture.router(1, "t");
    let mut most = 0;
    for n in 0..25_000 {
        assert_eq!(
            persisted.fixture.put(&format!("/routers/{router}"), &json!({ "name": format!("{n}") })).status,
            204
        );
        if n % 999 == 0 {
            let lines = fs::read_to_string(&persisted.path).expect("readable").lines().count();
            most = most.max(lines);
        }
    }
    assert!((5_000..=10_002).contains(&most), "{most} lines for one router");
    persisted.check("in the end");
}

#[test]
fn damage_is_an_error_and_never_an_empty_start() {
    let persisted = Persisted::new(Dialect::V5);
    for n in 0..4 {
        persisted.fixture.router(n, "t");
    }
    let whole = fs::read(&persisted.path).expect("readable");
    let lines: Vec<&[u8]> = whole.split_inclusive(|byte| *byte == b'\n').collect();
    assert_eq!(lines.len(), 6, "a header, the tables and four changes");
    let damaged = |bytes: &[u8], what: &str| {
        fs::write(&persisted.path, bytes).expect("written");
        match persisted.load() {
            Err(StateFileError::Damaged { path, line, .. }) => {
                assert_eq!(path, persisted.path);
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
    fs::write(&persisted.path, &whole[..whole.len() - 1]).expect("written");
    persisted.check("without the end of the last line");
    // A further line, of a change that was never answered.
    let truncated = [&whole[..], &lines[5][..20]].concat();
    fs::write(&persisted.path, &truncated).expect("written");
    persisted.check("with a truncated line");

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
    let mut tables = json!(persisted.fixture.mock.dump());
    fs::write(&persisted.path, old(tables.clone())).expect("written");
    persisted.check("a file of the version before");
    tables.as_object_mut().expect("an object").remove("chains");
    damaged(old(tables.clone()).as_bytes(), "a missing table");
    tables["chain"] = json!({});
    damaged(old(tables).as_bytes(), "an unknown table");

    fs::write(&persisted.path, b"").expect("written");
    let error = persisted.load().expect_err("an empty file is no first start");
    let words = error.to_string();
    for part in [persisted.path.to_str().expect("a path"), "is damaged in line 1", "restore the file", "move it away"] {
        assert!(words.contains(part), "{part}: {words}");
    }
    fs::write(&persisted.path, &whole).expect("written");
    let error = StateFile::load(&persisted.path, Dialect::V1).expect_err("another dialect");
    assert!(error.to_string().contains("is of dialect 5, not 1.9"), "{error}");
    let unwritable = persisted.directory.path().join("no/such/directory");
    let error = StateFile::create(&unwritable, Dialect::V5, &persisted.fixture.mock.dump()).expect_err("no directory");
    assert!(matches!(error, StateFileError::Io { .. }));
}

#[test]
fn an_orderly_end_is_in_the_file() {
    let persisted = Persisted::new(Dialect::V5);
    let ended = || {
        fs::read_to_string(&persisted.path)
            .expect("readable")
            .lines()
            .next()
            .map(|one| one.contains(r#""ended": true"#))
    };
    persisted.fixture.router(1, "t");
    assert_eq!(ended(), Some(false));
    persisted.fixture.mock.controller().close().expect("closed");
    assert_eq!(ended(), Some(true));
    persisted.check("after the end");
}

#[test]
fn a_file_that_is_gone_is_written_anew() {
    let persisted = Persisted::new(Dialect::V5);
    assert_eq!(persisted.change(1), 201);
    fs::remove_file(&persisted.path).expect("removed");
    assert_eq!(persisted.change(2), 201);
    persisted.check("removed");
    // Truncated in place.
    fs::File::options().write(true).open(&persisted.path).expect("opened").set_len(10).expect("shortened");
    assert_eq!(persisted.change(3), 201);
    persisted.check("shortened");
    // Also by a deletion, and by what only `/mock/` can do.
    fs::remove_file(&persisted.path).expect("removed");
    assert_eq!(persisted.fixture.delete(&format!("/routers/{}", id(3))), 204);
    persisted.check("a deletion");
    fs::remove_file(&persisted.path).expect("removed");
    assert_eq!(persisted.fixture.admin(Method::POST, "/reset", &Value::Null).status, 204);
    persisted.check("a reset");
}

#[test]
fn a_change_that_cannot_be_kept_is_not_made() {
    let persisted = Persisted::new(Dialect::V5);
    let fixture = &persisted.fixture;
    let bridge = fixture.bridge(0x20, "t");
    let (port, peer) =
        (fixture.bridge_port(0x21, bridge), fixture.router_port(0x23, fixture.router(0x22, "t"), "10.0.0.1"));
    let before = fixture.mock.dump();
    let follower = fixture.mock.controller().follow();

    // The directory is deleted with its file.
    let away = persisted.directory.path().with_extension("away");
    fs::rename(persisted.directory.path(), &away).expect("moved");
    assert_eq!(persisted.change(1), 503);
    let refused = |what: &str, status: u16| {
        assert_eq!(status, 503, "{what}");
        assert_eq!(fixture.mock.dump(), before, "{what}");
        assert_eq!(fixture.port(port)["active"], false, "{what}");
    };
    refused("a binding", fixture.bind(fixture.host(), port, "v0").status);
    refused("a link", fixture.link(port, peer).status);
    refused("a deletion", fixture.delete(&format!("/bridges/{bridge}")));
    refused("a PUT", fixture.put(&format!("/bridges/{bridge}"), &json!({ "name": "other" })).status);
    refused("a host", fixture.admin(Method::POST, "/hosts", &json!({ "id": id(0x500) })).status);
    let interface = format!("/hosts/{}/interfaces/eth9", fixture.host());
    refused("an interface", fixture.admin(Method::PUT, &interface, &json!({})).status);
    // A reset takes effect completely or not at all.
    fixture.admin(Method::POST, "/faults", &json!({ "path": "/chains", "fault": { "kind": "cut" } }));
    refused("a reset", fixture.admin(Method::POST, "/reset", &Value::Null).status);
    assert_eq!(
        fixture.admin(Method::GET, "/faults", &Value::Null).body.as_array().map(Vec::len),
        Some(1),
        "faults stay"
    );
    assert!(fixture.mock.controller().take_changes().is_empty(), "no change is published");
    assert_eq!(fixture.list("/routers").len(), 2, "reading goes on");
    let refused = fixture.post("/chains", &json!({ "id": "x" }));
    assert_eq!(refused.status, 400, "a fault of the request is reported first");
    let last = fixture.admin(Method::GET, "/requests", &Value::Null).body;
    let statuses: Vec<_> = last["last"].as_array().expect("a list").iter().map(|one| one["status"].clone()).collect();
    assert!(statuses.contains(&json!(503)) && !statuses[statuses.len() - 6..].contains(&json!(201)), "{statuses:?}");

    // The directory is back: the same file continues.
    fs::rename(&away, persisted.directory.path()).expect("moved");
    persisted.check("before the next change");
    assert_eq!(persisted.change(2), 201);
    persisted.check("after it");
    assert_eq!(fixture.bind(fixture.host(), port, "v0").status, 201);
    assert_eq!(fixture.port(port)["active"], true);
    persisted.check("a binding");
    let mut follower = follower;
    for change in fixture.mock.controller().take_changes() {
        follower.apply(change);
    }
    assert_eq!(follower, fixture.mock.controller().follow());
}

#[test]
fn a_file_that_was_replaced_is_not_written_over() {
    let persisted = Persisted::new(Dialect::V5);
    assert_eq!(persisted.change(1), 201);
    let aside = persisted.directory.path().join("aside");
    fs::rename(&persisted.path, &aside).expect("moved");
    fs::write(&persisted.path, "another program's").expect("written");
    for _ in 0..2 {
        assert_eq!(persisted.change(2), 503);
    }
    assert_eq!(fs::read_to_string(&persisted.path).expect("readable"), "another program's");
    // A directory is no better.
    fs::remove_file(&persisted.path).expect("removed");
    fs::create_dir(&persisted.path).expect("made");
    assert_eq!(persisted.change(2), 503);
    fs::remove_dir(&persisted.path).expect("removed");
    fs::rename(&aside, &persisted.path).expect("moved back");
    persisted.check("put back: what was refused is not in it");
    assert_eq!(persisted.change(3), 201);
    persisted.check("and it goes on");
}

/// Only root may mount; without root the test uses a deleted directory.
#[test]
fn a_full_or_read_only_file_system_is_a_503() {
    let directory = tempfile::tempdir().expect("a directory");
    let mount = Mount::tmpfs(directory.path());
    let fixture = Fixture::new(Dialect::V5);
    let path = directory.path().join("state.json");
    keep(&fixture, &path);
    let persisted = Persisted { fixture, directory, path };
    assert_eq!(persisted.change(1), 201);

    let fill = persisted.directory.path().join("fill");
    let mut file = fs::File::create(&fill).expect("made");
    while std::io::Write::write_all(&mut file, &[0; 4096]).is_ok() {}
    // Some changes may still fit into the last page.
    let mut made = 1;
    let full = (2..4000).find(|n| {
        let status = persisted.change(*n);
        made += u128::from(status == 201);
        status == 503
    });
    assert!(full.is_some(), "{made} changes fit into a full file system");
    persisted.check("full");
    assert!(!persisted.directory.path().join("state.json.new").exists());
    drop(file);
    fs::remove_file(&fill).expect("removed");
    assert_eq!(persisted.change(5001), 201, "there is room again");
    persisted.check("room again");

    // The kernel refuses to remount a file system read-only while a file is open for writing.
    let dump = persisted.fixture.mock.dump();
    persisted.fixture.mock.controller().close().expect("closed");
    mount.remount("ro");
    let error = StateFile::create(&persisted.path, Dialect::V5, &dump).expect_err("it cannot be written");
    assert!(error.to_string().contains("Read-only") && error.to_string().contains("state.json"), "{error}");
    assert_eq!(persisted.load().expect("it can be read"), dump);
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
    let fixture = Fixture::new(Dialect::V5);
    assert!(StateFile::load(&link, Dialect::V5).expect("absent").is_none(), "a link to nothing yet");
    keep(&fixture, &link);
    fixture.router(1, "t");
    for path in [&link, &middle] {
        assert!(fs::symlink_metadata(path).expect("there").is_symlink(), "{}", path.display());
    }
    assert!(fs::symlink_metadata(&target).expect("there").is_file());
    assert_eq!(StateFile::load(&target, Dialect::V5).expect("readable"), Some(fixture.mock.dump()));
    assert_eq!(StateFile::load(&link, Dialect::V5).expect("readable"), Some(fixture.mock.dump()));
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
    let fixture = Fixture::new(Dialect::V5);
    for path in [Path::new("/dev/null"), &pipe, directory.path()] {
        let before = fs::symlink_metadata(path).expect("there").ino();
        for error in [
            StateFile::load(path, Dialect::V5).map(drop),
            StateFile::lock(path).map(drop),
            StateFile::create(path, Dialect::V5, &fixture.mock.dump()).map(drop),
        ] {
            assert!(error.expect_err("refused").to_string().contains("not a regular file"), "{}", path.display());
        }
        assert_eq!(fs::symlink_metadata(path).expect("there").ino(), before, "{}", path.display());
    }
}

#[test]
fn the_mode_is_its_owners_whatever_the_umask_and_stays_what_it_is_made() {
    let persisted = Persisted::new(Dialect::V5);
    let mode = || fs::metadata(&persisted.path).expect("there").permissions().mode() & 0o7777;
    assert_eq!(mode(), 0o600);
    fs::set_permissions(&persisted.path, fs::Permissions::from_mode(0o640)).expect("set");
    // A start rewrites it.
    keep(&persisted.fixture, &persisted.path);
    assert_eq!(mode(), 0o640);
}

#[test]
fn ids_of_an_earlier_run_are_not_reused() {
    // The seed is the same, so the server generates the same ids again, here for the LOCAL routes.
    let fixture = Fixture::new(Dialect::V5);
    let router = fixture.router(1, "t");
    for n in 0..5 {
        fixture.router_port(0x10 + n, router, &format!("10.0.{n}.1"));
    }
    let tables = fixture.mock.dump();
    let again = Fixture::new(Dialect::V5);
    *again.mock.controller() = MockController::with_tables(MockSettings::default(), tables.clone());
    for n in 0..5 {
        again.router_port(0x20 + n, router, &format!("10.1.{n}.1"));
    }
    assert_eq!(again.mock.dump().routes.len(), tables.routes.len() + 5);
}
