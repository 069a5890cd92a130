//! Who we are towards the controller.

use std::fs;
use std::io::Read as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use atoll_model::secret::Secret;

/// A user of the controller. The password stays in its file and is read anew for every login, so that a changed
/// password needs no restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// File with the password, mode 0600.
    pub password_file: PathBuf,
    /// Project of the login.
    pub project: String,
}

/// The password file cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("password file {}: {problem}", path.display())]
pub struct PasswordError {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub problem: String,
}

impl Credentials {
    /// Reads the password: the file's first line.
    pub fn password(&self) -> Result<Secret, PasswordError> {
        let wrong = |problem: String| PasswordError { path: self.password_file.clone(), problem };
        let text = read_private(&self.password_file).map_err(wrong)?;
        let password = text.lines().next().unwrap_or_default();
        if password.is_empty() {
            return Err(wrong("it is empty; its first line must be the password".to_owned()));
        }
        if self.username.contains(':') || password.contains(':') {
            // MidoNet REST API, section "Login": the pair must yield exactly two parts.
            return Err(wrong("neither user name nor password may contain ':', the controller refuses it".to_owned()));
        }
        Ok(Secret::new(password))
    }
}

/// Reads a small file that nobody else may read.
fn read_private(path: &Path) -> Result<String, String> {
    let file = fs::File::open(path).map_err(|error| error.to_string())?;
    let mode = file.metadata().map_err(|error| error.to_string())?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(format!("mode {mode:04o} lets others read it; chmod 0600"));
    }
    let mut text = String::new();
    file.take(64 * 1024).read_to_string(&mut text).map_err(|error| error.to_string())?;
    Ok(text)
}
