//! What stands in the place of a file of ours and is none: a pipe, a link, a device, a directory that cannot be listed.
//! Nothing waits, nothing is followed, and nothing is concluded from what cannot be seen.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use atoll_cni_plugin::kernel::{Kernel, Veth};
use atoll_model::attachment::Mac;
use atoll_model::error::Classify as _;

use crate::lab::{Lab, ServerState, attachment};

fn pipe(path: &Path) {
    nix::unistd::mkfifo(path, nix::sys::stat::Mode::S_IRWXU).expect("made");
}

/// Puts a pipe in the place of each file. How many.
fn replace(directory: &Path) -> usize {
    let entries: Vec<_> = fs::read_dir(directory).into_iter().flatten().flatten().collect();
    entries
        .iter()
        .map(|entry| {
            if entry.file_type().expect("known").is_dir() {
                return replace(&entry.path());
            }
            fs::remove_file(entry.path()).expect("there");
            pipe(&entry.path());
            1
        })
        .sum()
}

/// A claim may be missing in etcd (a backup was restored), and a file is then all that names a pod's host end.
#[tokio::test(start_paused = true)]
async fn progress_files_that_cannot_be_listed_are_not_taken_for_none() {
    let lab = Lab::warm().await;
    lab.make_routers();
    lab.add().await.expect("works");
    let router = lab.links().into_iter().find(|(_, name)| name.starts_with("at")).expect("there").0;
    lab.kernel.add_netns("/netns/unclaimed");
    let unclaimed = attachment("unclaimed", "eth0");
    let veth = Veth {
        host_netns: router,
        host_interface: unclaimed.host_interface(),
        pod_netns: "/netns/unclaimed".into(),
        pod_interface: "eth0".parse().expect("valid"),
        mac: Mac([2, 0, 0, 0, 0, 1]),
        mtu: 1450,
    };
    lab.kernel.create(&veth).await.expect("works");
    let before = lab.links();
    let directory = lab.config().run_dir.join("attachments");
    fs::rename(&directory, directory.with_extension("away")).expect("moved");
    fs::write(&directory, "no directory").expect("written");
    let error = lab.collect().await.expect_err("the files cannot be seen");
    assert_eq!(error.class().cni_code(), 5, "{error}");
    assert_eq!(lab.links(), before, "nothing was touched");
    fs::remove_file(&directory).expect("there");
    fs::rename(directory.with_extension("away"), &directory).expect("moved back");
    lab.collect().await.expect("works");
    assert!(!lab.links().iter().any(|(_, name)| *name == unclaimed.host_interface().to_string()));
}

#[tokio::test(start_paused = true)]
async fn a_lock_file_that_is_none_is_an_error_that_names_it() {
    type Make = fn(&Path);
    let makers: [(&str, Make); 3] = [
        ("pipe", pipe),
        ("symbolic link", |path| symlink("/dev/zero", path).expect("linked")),
        ("directory", |path| fs::create_dir(path).expect("made")),
    ];
    for (what, make) in makers {
        let lab = Lab::warm().await;
        let directory = lab.config().run_dir.join("attachments");
        fs::create_dir_all(&directory).expect("made");
        let path = directory.join(lab.call().attachment.hash());
        make(&path);
        let error = lab.add().await.expect_err("no lock, no ADD");
        let words = format!("{error}: {}", atoll_model::error::causes(&error).join(": "));
        assert!(words.contains(&path.display().to_string()) && words.contains(what), "{words}");
        assert_eq!(lab.claims(), [], "nothing was begun");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_no_tombstone_keeps_no_other_from_being_resolved() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    lab.etcd_state.set(ServerState::Refusing);
    lab.del().await.expect("it is written down here");
    assert_eq!(lab.local_tombstones().len(), 1);
    let directory = lab.config().state_dir.join("tombstones");
    // Before and behind it by name.
    for first in ["0", "f"] {
        let at = |what: &str| directory.join(format!("{first}{what}"));
        pipe(&at("pipe"));
        fs::write(at("damaged"), "{").expect("written");
        symlink("/dev/zero", at("link")).expect("linked");
        fs::create_dir(at("directory")).expect("made");
        fs::File::create(at("large")).and_then(|file| file.set_len(1 << 40)).expect("made");
    }
    lab.etcd_state.set(ServerState::Fine);
    assert_eq!(lab.local_tombstones().len(), 1, "the others are none");
    lab.pass_request_lifetime().await;
    lab.retry_pending_cleanup().await;
    assert_eq!((lab.local_tombstones(), lab.claims()), (vec![], vec![]));
    assert!(directory.join("0pipe").exists(), "what is not ours stays");
}

/// A cache file may have any content; a call works without it.
#[tokio::test(start_paused = true)]
async fn a_cache_that_is_none_is_no_cache() {
    let lab = Lab::warm().await;
    lab.add().await.expect("works");
    assert!(replace(&lab.config().state_dir.join("cache")) >= 2, "there is a cache");
    lab.del().await.expect("works");
    lab.add().await.expect("works");
}
