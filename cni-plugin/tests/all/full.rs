//! A `runDir` in which no file can be made: STATUS reports it, ADD fails before any effect, and DEL and CHECK work as
//! elsewhere. Each test has a mount namespace of its own, which ends with its thread.

use std::fs;
use std::path::Path;

use atoll_model::cni::version::Version;
use atoll_model::error::Classify;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::check;
use crate::lab::{Lab, ServerState};

/// What is wrong with the directory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wrong {
    NoSpace,
    NoInode,
    ReadOnly,
    /// A file is where the directory should be.
    File,
}

const ALL: [Wrong; 4] = [Wrong::NoSpace, Wrong::NoInode, Wrong::ReadOnly, Wrong::File];

fn remount(path: &Path, flags: MsFlags, options: &str) {
    mount(None::<&str>, path, None::<&str>, MsFlags::MS_REMOUNT | flags, Some(options)).expect("root may");
}

/// Everything about the directory of this file system is wrong from now on.
fn spoil(path: &Path, wrong: Wrong) {
    let run = path.join("run");
    match wrong {
        Wrong::NoSpace => drop(fs::write(path.join("filler"), vec![0; 1 << 20]).expect_err("it is full")),
        Wrong::NoInode => {
            for n in 0.. {
                if fs::write(path.join(format!("filler{n}")), "").is_err() {
                    break;
                }
            }
        }
        Wrong::ReadOnly => remount(path, MsFlags::MS_RDONLY, ""),
        Wrong::File => {
            let _ = fs::remove_dir_all(&run);
            fs::write(&run, "").expect("there is room");
        }
    }
}

/// Runs `test` with a lab whose `runDir` is on a small file system of its own.
fn on_a_small_file_system(test: impl AsyncFnOnce(Lab, &Path) + Send) {
    let mounted = || {
        unshare(CloneFlags::CLONE_NEWNS).expect("root may");
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).expect("root may");
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path();
        let options = Some("size=64k,nr_inodes=24");
        mount(Some("tmpfs"), path, Some("tmpfs"), MsFlags::empty(), options).expect("root may");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build();
        runtime.expect("a runtime").block_on(async {
            let lab = Lab::warm_at(path.join("run")).await;
            test(lab, path).await;
        });
        // The mount goes with the namespace, the directory below it by itself.
        nix::mount::umount2(path, nix::mount::MntFlags::MNT_DETACH).expect("root may");
    };
    std::thread::scope(|scope| scope.spawn(mounted).join().expect("the test itself"));
}

#[test]
fn a_del_does_what_there_is_to_do_and_succeeds() {
    for wrong in ALL {
        for (is_added, is_down) in [(false, false), (true, false), (true, true), (false, true)] {
            on_a_small_file_system(async |lab, path| {
                let when = format!("{wrong:?}, added {is_added}, servers down {is_down}");
                if is_added {
                    lab.add().await.unwrap_or_else(|error| panic!("{when}: {error:?}"));
                }
                spoil(path, wrong);
                if is_down {
                    lab.etcd_state.set(ServerState::Refusing);
                    lab.controller_state.set(ServerState::Refusing);
                }
                for _ in 0..2 {
                    lab.del().await.unwrap_or_else(|error| panic!("{when}: {error:?}"));
                    assert_eq!(lab.links(), vec![], "{when}");
                }
                lab.etcd_state.set(ServerState::Fine);
                lab.controller_state.set(ServerState::Fine);
                if is_down {
                    assert_eq!(lab.local_tombstones().len(), 1, "{when}: it is written down");
                } else {
                    assert_eq!((lab.claims().len(), lab.pod_ports().len()), (0, 0), "{when}");
                    assert_eq!((lab.tombstones().len(), lab.local_tombstones().len()), (0, 0), "{when}");
                }
            });
        }
    }
}

#[test]
fn status_reports_that_no_add_can_work_and_none_has_an_effect() {
    for wrong in ALL {
        on_a_small_file_system(async |lab, path| {
            let mut plugin = lab.plugin();
            plugin.config.host_id = Some(lab.call().node.host_id);
            plugin.status().await.expect("all is well");
            assert_eq!(lab.lock_files(), 0, "nothing is left of the check");
            spoil(path, wrong);
            let error = plugin.status().await.expect_err("no ADD can work");
            assert_eq!(error.class().cni_code(), 50, "{error}");
            assert!(error.to_string().contains(&*path.to_string_lossy()), "{wrong:?}: it names the directory: {error}");
            let before = lab.etcd.dump();
            lab.add().await.expect_err("no lock, no ADD");
            assert_eq!((lab.etcd.dump(), lab.links()), (before, vec![]), "{wrong:?}");
        });
    }
}

#[test]
fn a_check_compares_what_exists() {
    for wrong in ALL {
        on_a_small_file_system(async |lab, path| {
            let attached = lab.add().await.expect("works");
            let call = check::call(&lab, &attached, Version::NEWEST);
            spoil(path, wrong);
            // Its file is lost, or can only be read.
            lab.forget();
            check::check(&lab, &call).await.unwrap_or_else(|error| panic!("{wrong:?}: {error:?}"));
        });
    }
}

/// Two DELs of one attachment exclude each other also where neither can make a lock file.
#[test]
fn there_is_a_lock_where_no_file_can_be_made() {
    for wrong in ALL {
        on_a_small_file_system(async |lab, path| {
            spoil(path, wrong);
            let (attachment_states, attachment) = (lab.plugin().attachment_states, lab.call().attachment);
            let now = tokio::time::Instant::now();
            let held = attachment_states.lock_even_read_only(&attachment, now).await.expect("works").expect("free");
            assert!(
                attachment_states.lock_even_read_only(&attachment, now).await.expect("works").is_none(),
                "{wrong:?}: held"
            );
            drop(held);
            assert!(
                attachment_states.lock_even_read_only(&attachment, now).await.expect("works").is_some(),
                "{wrong:?}: free"
            );
        });
    }
}

/// A read-only mount keeps the file of a pod that is gone: it holds nothing up once it can be written again.
#[test]
fn what_a_read_only_run_dir_kept_has_no_effect() {
    on_a_small_file_system(async |lab, path| {
        let first = lab.add().await.expect("works");
        spoil(path, Wrong::ReadOnly);
        let (attachment_states, now) = (lab.plugin().attachment_states, tokio::time::Instant::now());
        let held =
            attachment_states.lock_even_read_only(&lab.call().attachment, now).await.expect("works").expect("free");
        assert!(held.before().is_some(), "the file is locked as it is, and read");
        drop(held);
        lab.del().await.expect("works");
        remount(path, MsFlags::empty(), "");
        assert_eq!(lab.lock_files(), 1, "it could not be removed");
        let again = lab.add().await.expect("works");
        assert_ne!(again.addresses, first.addresses, "the old one is in cool-down");
        lab.del().await.expect("works");
        lab.assert_empty("after all");
    });
}
