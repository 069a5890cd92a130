//! The user of the controller, and files with secrets.

use std::path::{Path, PathBuf};

use atoll_model::secret::Secret;
use atoll_node::files::read;

/// A user of the controller. The password stays in its file and is read again for every login, so that a new password
/// needs no restart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credentials {
    /// User name.
    pub username: String,
    /// File with the password, mode 0600.
    pub password_file: PathBuf,
    /// Project of the login.
    pub project: String,
}

/// A file with a password or another secret that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("secret file {}: {problem}", path.display())]
pub struct PasswordError {
    /// The file.
    pub path: PathBuf,
    /// Why it cannot be used.
    pub problem: String,
}

impl Credentials {
    /// Reads the password: the file's first line.
    pub fn password(&self) -> Result<Secret, PasswordError> {
        let password = read_secret(&self.password_file)?;
        if self.username.contains(':') || password.reveal().contains(':') {
            // MidoNet REST API, section "Login": the pair must yield exactly two parts.
            let problem = "neither user name nor password may contain ':', the controller refuses it".to_owned();
            return Err(PasswordError { path: self.password_file.clone(), problem });
        }
        Ok(password)
    }
}

/// Reads a secret: the first line of a file that only its owner may read.
pub fn read_secret(path: &Path) -> Result<Secret, PasswordError> {
    let wrong = |problem: String| PasswordError { path: path.to_owned(), problem };
    let text = read::private(path).map_err(wrong)?;
    match text.lines().next().filter(|line| !line.is_empty()) {
        Some(line) => Ok(Secret::new(line)),
        None => Err(wrong("it is empty; its first line must be the secret".to_owned())),
    }
}
