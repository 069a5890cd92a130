//! The file that keeps the objects: written before the answer, whole or not at all, never silently empty.

use std::fs;

use atoll_mock_controller::{Controller, Dialect, Settings, StateFile, StateFileError};
use serde_json::json;

use crate::world::{BOTH, World};

fn follow(world: &World) {
    drop(world.mock.controller_mut().follow());
}

fn save(world: &World, file: &mut StateFile) {
    let (_, patch) = world.mock.controller_mut().drain_with_patch();
    file.append(&patch, &world.mock.dump()).expect("written");
}

#[test]
fn what_was_written_is_read_back_after_every_request() {
    for dialect in BOTH {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("state.json");
        assert!(StateFile::load(&path, dialect).expect("absent").is_none(), "no file is a first start");
        let world = World::new(dialect);
        follow(&world);
        let mut file = StateFile::create(&path, dialect, &world.mock.dump()).expect("created");
        let check = |world: &World| {
            let read = StateFile::load(&path, dialect).expect("readable").expect("there");
            assert_eq!(read, world.mock.dump());
        };
        check(&world);
        let tenant = world.tenant(0x10, "t");
        save(&world, &mut file);
        check(&world);
        for path in [format!("/bridges/{}", tenant.bridge), format!("/chains/{}", tenant.outbound)] {
            assert_eq!(world.delete(&path), 204);
            save(&world, &mut file);
            check(&world);
        }
        if dialect == Dialect::V1 {
            world.put("/system_state", &json!({ "availability": "READONLY" }));
            save(&world, &mut file);
            check(&world);
        }

        // A new life goes on where the old one ended, with keys of its own.
        let tables = StateFile::load(&path, dialect).expect("readable").expect("there");
        let highest = tables.ports.values().map(|port| port.tunnel_key).max().expect("ports");
        let settings = Settings { dialect, ..Settings::default() };
        let again = World::new(dialect);
        *again.mock.controller_mut() = Controller::with_tables(settings, tables);
        assert_eq!(again.mock.dump(), world.mock.dump());
        if dialect == Dialect::V5 {
            let bridge = again.bridge(0x300, "t");
            let port = again.bridge_port(0x301, bridge);
            assert!(again.port(port)["tunnelKey"].as_u64().is_some_and(|key| key > u64::from(highest)));
        }
    }
}

#[test]
fn a_long_history_is_rewritten() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.json");
    let world = World::new(Dialect::V5);
    follow(&world);
    let mut file = StateFile::create(&path, Dialect::V5, &world.mock.dump()).expect("created");
    let router = world.router(1, "t");
    let mut most = 0;
    for n in 0..25_000 {
        assert_eq!(world.put(&format!("/routers/{router}"), &json!({ "name": format!("{n}") })).status, 204);
        save(&world, &mut file);
        if n % 999 == 0 {
            let lines = fs::read_to_string(&path).expect("readable").lines().count();
            most = most.max(lines);
        }
    }
    assert!((5_000..=10_001).contains(&most), "{most} lines for one router");
    assert_eq!(StateFile::load(&path, Dialect::V5).expect("readable"), Some(world.mock.dump()));
}

#[test]
fn damage_is_told_and_never_an_empty_start() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path().join("state.json");
    let world = World::new(Dialect::V5);
    follow(&world);
    let mut file = StateFile::create(&path, Dialect::V5, &world.mock.dump()).expect("created");
    for n in 0..3 {
        world.router(n, "t");
        save(&world, &mut file);
    }
    let whole = fs::read(&path).expect("readable");
    let lines: Vec<usize> =
        whole.iter().enumerate().filter(|(_, byte)| **byte == b'\n').map(|(place, _)| place).collect();
    assert_eq!(lines.len(), 4);

    // Cut anywhere: either the last line is missing as a whole, or it is an error.
    for cut in 0..whole.len() {
        fs::write(&path, &whole[..cut]).expect("written");
        match StateFile::load(&path, Dialect::V5) {
            Ok(Some(tables)) => {
                let complete = lines.iter().filter(|end| **end < cut).count();
                let first_line_only = complete == 0;
                assert!(!first_line_only || cut == lines[0], "cut at {cut}: a torn first line was taken");
                assert_eq!(tables.routers.len(), 1 + complete.saturating_sub(1), "cut at {cut}");
            }
            Ok(None) => panic!("cut at {cut}: taken for absent"),
            Err(StateFileError::Damaged { line: 1, .. }) => assert!(cut < lines[0], "cut at {cut}"),
            Err(other) => panic!("cut at {cut}: {other}"),
        }
    }
    // A flipped line in the middle.
    let mut bent = whole.clone();
    bent[lines[1] + 3] = b'#';
    fs::write(&path, &bent).expect("written");
    let error = StateFile::load(&path, Dialect::V5).expect_err("damaged");
    assert!(error.to_string().contains("is damaged in line 3"), "{error}");
    fs::write(&path, b"").expect("written");
    assert!(matches!(StateFile::load(&path, Dialect::V5), Err(StateFileError::Damaged { line: 1, .. })));
    fs::write(&path, &whole).expect("written");
    let error = StateFile::load(&path, Dialect::V1).expect_err("another dialect");
    assert!(error.to_string().contains("is of dialect 5, not 1.9"), "{error}");
    let unwritable = directory.path().join("no/such/directory");
    let error = StateFile::create(&unwritable, Dialect::V5, &world.mock.dump()).expect_err("no directory");
    assert!(matches!(error, StateFileError::Io { .. }));
}

#[test]
fn ids_of_a_former_life_are_not_given_again() {
    // The seed is the same, so the server makes up the same ids again; here for the LOCAL routes.
    let world = World::new(Dialect::V5);
    let router = world.router(1, "t");
    for n in 0..5 {
        world.router_port(0x10 + n, router, &format!("10.0.{n}.1"));
    }
    let tables = world.mock.dump();
    let again = World::new(Dialect::V5);
    *again.mock.controller_mut() = Controller::with_tables(Settings::default(), tables.clone());
    for n in 0..5 {
        again.router_port(0x20 + n, router, &format!("10.1.{n}.1"));
    }
    assert_eq!(again.mock.dump().routes.len(), tables.routes.len() + 5);
}
