//! The session file, which saves a short-lived process its login.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use atoll_model::secret::Secret;
use atoll_sdn_client::dialect::Dialect;
use atoll_sdn_client::session::{Session, SessionFile};

fn known() -> Session {
    Session { dialect: Some(Dialect::V1), token: Some(Secret::new("t0ken")) }
}

#[test]
fn it_is_private_and_comes_back() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("session.json");
    let file = SessionFile::new(&path, &["http://a", "user"]);
    assert_eq!(file.load(), Session::default(), "nothing yet");
    file.store(&known());
    assert_eq!(file.load(), known());
    assert_eq!(fs::metadata(&path).expect("file").permissions().mode() & 0o777, 0o600);
    file.store(&Session::default());
    assert_eq!(file.load(), Session::default(), "replaced");
    let left: Vec<_> = fs::read_dir(folder.path()).expect("folder").collect();
    assert_eq!(left.len(), 1, "no temporary file is left: {left:?}");
}

#[test]
fn a_session_of_another_controller_or_user_counts_as_absent() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("session.json");
    SessionFile::new(&path, &["http://a", "user"]).store(&known());
    for scope in [["http://b", "user"], ["http://a", "other"], ["http://au", "ser"]] {
        assert_eq!(SessionFile::new(&path, &scope).load(), Session::default(), "{scope:?}");
    }
}

#[test]
fn a_readable_or_damaged_session_counts_as_absent() {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("session.json");
    let file = SessionFile::new(&path, &["a"]);
    file.store(&known());
    let text = fs::read(&path).expect("text");
    for length in 0..text.len() {
        fs::write(&path, &text[..length]).expect("write");
        assert_eq!(file.load(), Session::default(), "cut at {length}");
    }
    fs::write(&path, &text).expect("write");
    assert_eq!(file.load(), known());
    fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).expect("chmod");
    assert_eq!(file.load(), Session::default());
}

#[test]
fn a_folder_that_is_not_there_is_no_failure() {
    let file = SessionFile::new("/nonexistent/at-session/file", &["a"]);
    file.store(&known());
    assert_eq!(file.load(), Session::default());
}
