//! The unix socket of `/mock/`: only the user that the controller runs as, and root, can use it.
//!
//! # Guarantees
//! - The socket has mode 0600 whatever the umask; in addition a peer of another user gets no answer.
//! - Only a socket that a killed controller has left is replaced: neither one that is in use, nor another kind of file.

use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Its mode.
const MODE: u32 = 0o600;

/// Why there is no socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// It could not be made.
    #[error("socket {}: {source}", path.display())]
    Io {
        /// The socket.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// Another process listens on it.
    #[error("socket {} is in use: end the other controller, or name another socket", .0.display())]
    InUse(PathBuf),
    /// Another kind of file is there.
    #[error("socket {}: there is a file that is no socket; move it away, or name another socket", .0.display())]
    Occupied(PathBuf),
}

/// A socket that is listened on. It is removed with this.
#[derive(Debug)]
pub struct MockSocket {
    pub(crate) listener: UnixListener,
    path: PathBuf,
    /// Device and inode.
    own: (u64, u64),
}

impl MockSocket {
    /// Listens on `path`. Needs a runtime around it.
    pub fn bind(path: &Path) -> Result<Self, SocketError> {
        let io = |source| SocketError::Io { path: path.to_owned(), source };
        match std::fs::symlink_metadata(path) {
            Ok(there) if !there.file_type().is_socket() => return Err(SocketError::Occupied(path.to_owned())),
            Ok(_) if UnixStream::connect(path).is_ok() => return Err(SocketError::InUse(path.to_owned())),
            // What a killed controller left.
            Ok(_) => std::fs::remove_file(path).map_err(io)?,
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(io(error)),
        }
        let listener = UnixListener::bind(path).map_err(io)?;
        // Until here the umask has decided; who came in before is refused by its credentials.
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(MODE)).map_err(io)?;
        let there = std::fs::symlink_metadata(path).map_err(io)?;
        Ok(Self { listener, path: path.to_owned(), own: (there.dev(), there.ino()) })
    }
}

impl Drop for MockSocket {
    fn drop(&mut self) {
        let ours = |there: std::fs::Metadata| (there.dev(), there.ino()) == self.own;
        if std::fs::symlink_metadata(&self.path).is_ok_and(ours) {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Whether a peer is root or our own user.
pub(crate) fn may_ask(stream: &tokio::net::UnixStream) -> bool {
    let own = std::fs::metadata("/proc/self").map_or(0, |own| own.uid());
    stream.peer_cred().is_ok_and(|peer| peer.uid() == 0 || peer.uid() == own)
}
