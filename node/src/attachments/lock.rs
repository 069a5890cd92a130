//! The attachment lock: a file for each attachment on this node, `<runDir>/attachments/<hash>`, which also holds the
//! [`AttachmentState`].
//!
//! # Guarantees
//! * The holder of an [`AttachmentLock`] is the only process that works on the attachment. The kernel frees the lock when the
//!   process ends.
//! * A file that cannot be read counts as one of an ADD that died.
//!
//! **If no file can be created** (no space, no inode, a read-only mount, a file in the directory's place) DEL and CHECK still get
//! a lock: an existing file is locked as it is; otherwise the nearest existing directory is locked in its place, for all
//! attachments together. Only ADD needs to write, so only ADD fails.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_model::attachment::Attachment;
use tokio::time::Instant;

use super::state::AttachmentState;
use crate::files::trouble::named;
use crate::files::{RECORD, lock, make, read};
use crate::paths;

/// The file of [`AttachmentStates::probe`].
const PROBE: &str = ".probe";
/// What is written into it: more than any attachment state has, bytes.
const LONGEST: usize = 4096;

/// An attachment that has a state here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordedAttachment {
    /// The attachment.
    pub attachment: Attachment,
    /// The prefix of etcd under which its claim is, if the file has it.
    pub prefix: Option<String>,
    /// When the file was last written, seconds since 1970.
    pub written: u64,
}

/// The attachment states of this node.
#[derive(Clone, Debug)]
pub struct AttachmentStates {
    run_dir: PathBuf,
    directory: PathBuf,
}

/// The lock of one attachment, held.
#[derive(Debug)]
pub struct AttachmentLock {
    file: File,
    path: PathBuf,
    before: Option<AttachmentState>,
    /// Why nothing can be written or removed here; none: it can.
    unwritable: Option<io::Error>,
}

impl AttachmentStates {
    /// Touches nothing yet.
    pub fn new(run_dir: &Path) -> Self {
        Self { run_dir: run_dir.to_owned(), directory: paths::attachments(run_dir) }
    }

    /// Waits for the lock of an attachment. None: it was not free before `until`.
    ///
    /// # Errors
    /// No file can be created or locked.
    ///
    /// # Cancel safety
    /// Dropping the future leaves the lock as it is, and perhaps an empty file.
    pub async fn lock(&self, attachment: &Attachment, until: Instant) -> io::Result<Option<AttachmentLock>> {
        self.wait(until, || self.try_lock(attachment)).await
    }

    /// The same for a call that needs not write: it gets a lock also if no file can be created.
    ///
    /// # Errors
    /// Neither a file nor a directory can be locked.
    pub async fn lock_even_read_only(
        &self,
        attachment: &Attachment,
        until: Instant,
    ) -> io::Result<Option<AttachmentLock>> {
        let attempt = || self.try_lock(attachment).or_else(|problem| self.try_lock_directory(attachment, problem));
        self.wait(until, attempt).await
    }

    async fn wait(
        &self,
        until: Instant,
        attempt: impl Fn() -> io::Result<Option<AttachmentLock>>,
    ) -> io::Result<Option<AttachmentLock>> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(lock) = attempt()? {
                return Ok(Some(lock));
            }
            if Instant::now() + pause > until {
                return Ok(None);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Takes the lock of an attachment if it is free.
    ///
    /// # Errors
    /// No file can be created or locked.
    pub fn try_lock(&self, attachment: &Attachment) -> io::Result<Option<AttachmentLock>> {
        let path = self.directory.join(attachment.hash());
        let open = || self.open(&path).map_err(named(&path));
        let Some((file, unwritable)) = lock::lock_at(&path, open)? else { return Ok(None) };
        let text = read::contents(&file, RECORD).map_err(named(&path))?;
        let before = (!text.is_empty()).then(|| {
            serde_json::from_slice(&text).unwrap_or_else(|error| {
                tracing::warn!(%error, path = %path.display(), "an attachment state is damaged");
                AttachmentState::begun()
            })
        });
        Ok(Some(AttachmentLock { file, path, before, unwritable }))
    }

    /// No file can be made for the lock, because of `problem`: the nearest directory that is there is locked instead.
    fn try_lock_directory(&self, attachment: &Attachment, problem: io::Error) -> io::Result<Option<AttachmentLock>> {
        let directory = |path: &Path| File::open(path).ok().filter(|file| file.metadata().is_ok_and(|is| is.is_dir()));
        let Some(file) = self.directory.ancestors().find_map(directory) else { return Err(problem) };
        if !lock::try_lock(&file)? {
            return Ok(None);
        }
        tracing::warn!(error = %problem, "no lock file can be made: a directory is locked instead");
        let path = self.directory.join(attachment.hash());
        Ok(Some(AttachmentLock { file, path, before: None, unwritable: Some(problem) }))
    }

    /// Creates a file of the size that an ADD needs, and removes it.
    ///
    /// # Errors
    /// No ADD can lock its attachment or write its state.
    pub fn probe(&self) -> io::Result<()> {
        let path = self.directory.join(PROBE);
        let probed = self.open_or_create(&path).and_then(|file| file.write_all_at(&[b' '; LONGEST], 0));
        match fs::remove_file(&path) {
            // A STATUS that runs beside this one has removed it.
            Err(error) if error.kind() != io::ErrorKind::NotFound => probed.and(Err(error)),
            _ => probed,
        }
        .map_err(named(&path))
    }

    /// Sets the time at which the state of an attachment was written.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn touch(&self, attachment: &Attachment, now: u64) -> io::Result<()> {
        let path = self.directory.join(attachment.hash());
        let time = std::time::UNIX_EPOCH + Duration::from_secs(now);
        let file = read::open_own(&path, OpenOptions::new().write(true));
        let touched = file.and_then(|file| file.set_modified(time));
        touched.map_err(named(&path))
    }

    /// Every attachment whose state names it. No lock is taken.
    ///
    /// # Errors
    /// The error of the file system. The absence of a file then proves nothing.
    pub fn known(&self) -> io::Result<Vec<RecordedAttachment>> {
        let mut known = Vec::new();
        for name in read::names(&self.directory, |name| !name.starts_with('.')).map_err(named(&self.directory))? {
            let path = self.directory.join(name);
            let file = match read::open_own(&path, OpenOptions::new().read(true)) {
                // It went meanwhile, or no file of ours is there.
                Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::InvalidInput) => continue,
                other => other.map_err(named(&path))?,
            };
            let written = u64::try_from(file.metadata().map_err(named(&path))?.mtime()).unwrap_or(0);
            let text = match read::contents(&file, RECORD) {
                Err(error) if error.kind() == io::ErrorKind::FileTooLarge => continue,
                other => other.map_err(named(&path))?,
            };
            let Ok(AttachmentState { attachment, prefix, .. }) = serde_json::from_slice(&text) else { continue };
            known.extend(attachment.map(|attachment| RecordedAttachment { attachment, prefix, written }));
        }
        Ok(known)
    }

    /// The lock file, and why it can only be read, if so.
    fn open(&self, path: &Path) -> io::Result<(File, Option<io::Error>)> {
        match self.open_or_create(path) {
            Ok(file) => Ok((file, None)),
            Err(error) => match read::open_own(path, OpenOptions::new().read(true)) {
                Ok(file) => Ok((file, Some(error))),
                Err(_) => Err(error),
            },
        }
    }

    fn open_or_create(&self, path: &Path) -> io::Result<File> {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(make::PRIVATE);
        match read::open_own(path, &mut options) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make::private(&self.run_dir, paths::ATTACHMENTS)?;
                read::open_own(path, &mut options)
            }
            other => other,
        }
    }
}

impl AttachmentLock {
    /// The state when the lock was taken; none: there was none.
    pub fn before(&self) -> Option<&AttachmentState> {
        self.before.as_ref()
    }

    /// Writes the state. The new text goes over the old one, which is then cut: if the process dies in between, the file cannot
    /// be read, which counts as an ADD that died.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn write(&self, state: &AttachmentState) -> io::Result<()> {
        if let Some(error) = &self.unwritable {
            return Err(io::Error::new(error.kind(), error.to_string()));
        }
        let text = serde_json::to_vec(state).map_err(io::Error::other)?;
        let written = self.file.write_all_at(&text, 0).and_then(|()| self.file.set_len(text.len() as u64));
        written.map_err(named(&self.path))
    }

    /// Frees the lock of a call that did nothing: the state stays, and a file that was only a lock is removed.
    ///
    /// # Errors
    /// The file cannot be removed.
    pub fn release(self) -> io::Result<()> {
        if self.before.is_some() { Ok(()) } else { self.remove() }
    }

    /// Writes the state that was there when the lock was taken.
    ///
    /// # Errors
    /// The error of the file system.
    pub fn restore(mut self) -> io::Result<()> {
        match self.before.take() {
            Some(before) => self.write(&before),
            None => self.remove(),
        }
    }

    /// Removes the state. On a file system where nothing can be removed the file stays, which is logged: the claim that it names
    /// is gone, and releasing a claim is idempotent.
    ///
    /// # Errors
    /// The file cannot be removed although it can be written.
    pub fn remove(self) -> io::Result<()> {
        let Err(error) = fs::remove_file(&self.path) else { return Ok(()) };
        // A read-only file system refuses also if there is no file.
        if fs::symlink_metadata(&self.path).is_err() {
            return Ok(());
        }
        match self.unwritable {
            Some(_) => {
                tracing::warn!(%error, path = %self.path.display(), "the attachment state stays");
                Ok(())
            }
            None => Err(named(&self.path)(error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use atoll_model::ids::{ContainerId, IfName, NetworkName, NodeName};

    use super::*;
    use crate::attachments::AddPhase;
    use crate::netns::Netns;

    fn attachment() -> Attachment {
        Attachment {
            node: NodeName::new("n").expect("valid"),
            network: NetworkName::new("net").expect("valid"),
            container: ContainerId::new("c").expect("valid"),
            interface: IfName::new("eth0").expect("valid"),
        }
    }

    #[test]
    fn the_lock_excludes_and_goes_with_its_holder() {
        let directory = tempfile::tempdir().expect("a directory");
        let attachment_states = AttachmentStates::new(directory.path());
        let first = attachment_states.try_lock(&attachment()).expect("works").expect("free");
        assert!(attachment_states.try_lock(&attachment()).expect("works").is_none(), "held");
        let state =
            AttachmentState { late_requests_until: 7, host_netns: Some(Netns::Own), ..AttachmentState::begun() };
        first.write(&state).expect("works");
        drop(first);
        let second = attachment_states.try_lock(&attachment()).expect("works").expect("free");
        assert_eq!(second.before(), Some(&state));
        second.write(&AttachmentState::begun()).expect("works");
        second.restore().expect("works");
        let third = attachment_states.try_lock(&attachment()).expect("works").expect("free");
        assert_eq!(third.before(), Some(&state), "what was there is written again");
        let shorter = AttachmentState { phase: AddPhase::Done, ..AttachmentState::begun() };
        third.write(&shorter).expect("works");
        drop(third);
        let fourth = attachment_states.try_lock(&attachment()).expect("works").expect("free");
        assert_eq!(fourth.before(), Some(&shorter), "a shorter text leaves nothing of the longer one");
        fourth.remove().expect("works");
        let fifth = attachment_states.try_lock(&attachment()).expect("works").expect("free");
        assert_eq!(fifth.before(), None);
        fifth.restore().expect("works");
        assert_eq!(fs::read_dir(directory.path().join("attachments")).expect("there").count(), 0);
    }

    #[test]
    fn a_torn_file_counts_as_an_add_that_died() {
        let directory = tempfile::tempdir().expect("a directory");
        let attachment_states = AttachmentStates::new(directory.path());
        drop(attachment_states.try_lock(&attachment()).expect("works"));
        let path = directory.path().join("attachments").join(attachment().hash());
        fs::write(&path, r#"{"phase":"done"}"}"#).expect("works");
        let lock = attachment_states.try_lock(&attachment()).expect("works").expect("free");
        assert_eq!(lock.before(), Some(&AttachmentState::begun()));
    }

    #[tokio::test]
    async fn who_waits_for_a_removed_file_gets_the_new_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let attachment_states = AttachmentStates::new(directory.path());
        let first = attachment_states.try_lock(&attachment()).expect("works").expect("free");
        let later = Instant::now() + Duration::from_secs(10);
        let at = attachment();
        let (second, ()) = tokio::join!(attachment_states.lock(&at, later), async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            first.remove().expect("works");
        });
        let second = second.expect("works").expect("free in time");
        assert!(
            attachment_states.try_lock(&attachment()).expect("works").is_none(),
            "the second holds the file that is there"
        );
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(attachment_states.lock(&attachment(), soon).await.expect("works").is_none(), "waiting ends");
        drop(second);
    }

    /// A file that its holder removes between being opened and being locked must not be taken for the lock.
    #[test]
    fn of_many_that_lock_and_remove_one_alone_is_inside() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let directory = tempfile::tempdir().expect("a directory");
        let (attachment_states, inside) = (AttachmentStates::new(directory.path()), AtomicBool::new(false));
        let work = || {
            let mut held = 0;
            while held < 100 {
                let Some(lock) = attachment_states.try_lock(&attachment()).expect("works") else { continue };
                assert!(!inside.swap(true, Ordering::SeqCst), "two have the lock");
                std::thread::yield_now();
                inside.store(false, Ordering::SeqCst);
                lock.remove().expect("works");
                held += 1;
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(work);
            }
        });
    }

    #[test]
    fn what_is_no_progress_file_hides_no_other() {
        let directory = tempfile::tempdir().expect("a directory");
        let attachment_states = AttachmentStates::new(directory.path());
        let lock = attachment_states.try_lock(&attachment()).expect("works").expect("free");
        let state = AttachmentState { attachment: Some(attachment()), ..AttachmentState::begun() };
        lock.write(&state).expect("works");
        for first in ["0", "z"] {
            let at = |what: &str| directory.path().join("attachments").join(format!("{first}{what}"));
            nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
            std::os::unix::fs::symlink("/dev/zero", at("link")).expect("linked");
            fs::create_dir(at("directory")).expect("made");
            File::create(at("large")).and_then(|file| file.set_len(1 << 40)).expect("made");
            fs::write(at("damaged"), "{").expect("written");
        }
        let known: Vec<_> =
            attachment_states.known().expect("readable").into_iter().map(|known| known.attachment).collect();
        assert_eq!(known, [attachment()]);
    }

    #[test]
    fn a_file_that_cannot_be_removed_is_reported() {
        let directory = tempfile::tempdir().expect("a directory");
        let attachment_states = AttachmentStates::new(directory.path());
        let lock = attachment_states.try_lock(&attachment()).expect("works").expect("free");
        let path = directory.path().join("attachments").join(attachment().hash());
        fs::remove_file(&path).and_then(|()| fs::create_dir(&path)).expect("works");
        let error = lock.remove().expect_err("it is a directory").to_string();
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
    }
}
