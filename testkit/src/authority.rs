//! An authority with certificates, made with openssl as an operator would.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::program::command;

const KEY: &str = "-newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes";

/// An authority: `ca.pem` and `ca.key` in a directory, beside what it has issued.
pub struct Authority {
    directory: PathBuf,
    /// Deleted with it, if the directory is its own.
    _own: Option<TempDir>,
}

impl Authority {
    /// One in a directory of its own, which is deleted with it.
    ///
    /// # Panics
    /// No directory can be made, or openssl fails.
    pub fn new() -> Self {
        let own = tempfile::Builder::new().prefix("at-tls-").tempdir().expect("a directory");
        let authority = Self::at(own.path());
        Self { _own: Some(own), ..authority }
    }

    /// One in this directory.
    ///
    /// # Panics
    /// openssl fails.
    pub fn at(directory: &Path) -> Self {
        let authority = Self { directory: directory.to_owned(), _own: None };
        authority.openssl(&format!("req -x509 {KEY} -keyout ca.key -out ca.pem -days 2 -subj /CN=at-ca"));
        authority
    }

    /// A file of the directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// Certificate and key for `name`, valid for `san`, for instance `DNS:central`. Only the owner may read the key.
    ///
    /// # Panics
    /// openssl fails.
    pub fn issue(&self, name: &str, san: &str) -> (PathBuf, PathBuf) {
        std::fs::write(self.path(&format!("{name}.ext")), format!("subjectAltName={san}")).expect("written");
        self.openssl(&format!("req {KEY} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        self.openssl(&format!(
            "x509 -req -in {name}.csr -CA ca.pem -CAkey ca.key -CAcreateserial -out {name}.pem -days 2 -extfile {name}.ext"
        ));
        let key = self.path(&format!("{name}.key"));
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("our own file");
        (self.path(&format!("{name}.pem")), key)
    }

    /// Runs openssl in the directory; its arguments contain no spaces.
    ///
    /// # Panics
    /// It fails.
    pub fn openssl(&self, arguments: &str) {
        let done = command("openssl").args(arguments.split(' ')).current_dir(&self.directory).output();
        let done = done.expect("openssl runs");
        assert!(done.status.success(), "openssl {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}
