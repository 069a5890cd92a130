//! One file for each attachment on this node, `<runDir>/attachments/<hash>`: its lock, and how far its ADD is.
//!
//! Promises: whoever holds a [`Journal`] is alone with the attachment; the lock goes with the process. The file may be
//! lost (a reboot empties `/run`): what it says saves look-ups, and what only it knows, that an ADD died half way, is
//! of no interest after a reboot, because the requests of that ADD are answered or dead by then. A file that cannot be
//! read counts as one left by an ADD that died.
//!
//! **Where no file can be made** (no space, no inode, a read-only mount, a file in the directory's place) DEL and CHECK
//! still get a lock: a file that is there is locked as it is, and else the nearest directory that is there is locked in
//! its place, for all attachments together. Only ADD needs to write, so only ADD fails.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use atoll_model::attachment::Attachment;
use atoll_node::files::trouble::named;
use atoll_node::files::{RECORD, make, read};
use atoll_node::paths;
use atoll_records::{ClaimRecord, Versioned};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

use crate::wire::Netns;

/// The file of [`Journals::probe`], and how much is written into it: more than any progress file has, bytes.
const PROBE: &str = ".probe";
const LONGEST: usize = 4096;

/// How far an ADD is, and what it knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Progress {
    /// How far.
    pub state: State,
    /// Whose this is: the name of the file does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attachment: Option<Attachment>,
    /// The prefix of etcd below which its claim is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// Until then, seconds since 1970, a late request of an ADD that died may still take effect; 0: none can.
    #[serde(default)]
    pub unsettled_until: u64,
    /// A deletion of the port may be on its way: this was written before it was sent.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub closing: bool,
    /// The claim, as soon as there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<Versioned<ClaimRecord>>,
    /// Where the host end is, as soon as that is decided.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub host_netns: Option<Netns>,
}

/// How far an ADD is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It has begun. Found by somebody else: it died.
    Adding,
    /// It was finished, and its result printed or about to be.
    Done,
}

impl Progress {
    /// An ADD wrote it. A DEL writes one too where there was none, and that says nothing of what there is.
    pub fn is_of_an_add(&self) -> bool {
        self.state == State::Adding || self.claim.is_some()
    }

    /// Nothing is known but that an ADD has begun.
    pub fn begun() -> Self {
        Self {
            state: State::Adding,
            attachment: None,
            prefix: None,
            unsettled_until: 0,
            closing: false,
            claim: None,
            host_netns: None,
        }
    }
}

/// Whose a progress file is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Noted {
    /// The attachment.
    pub attachment: Attachment,
    /// The prefix of etcd below which its claim is, if the file says so.
    pub prefix: Option<String>,
    /// When the file was last written, seconds since 1970.
    pub written: u64,
}

/// The files of this node.
#[derive(Clone, Debug)]
pub struct Journals {
    run_dir: PathBuf,
    directory: PathBuf,
}

/// The lock of one attachment, held.
#[derive(Debug)]
pub struct Journal {
    file: File,
    path: PathBuf,
    before: Option<Progress>,
    /// Why nothing can be written or removed here; none: it can.
    unwritable: Option<io::Error>,
}

impl Journals {
    /// Touches nothing yet.
    pub fn new(run_dir: &Path) -> Self {
        Self { run_dir: run_dir.to_owned(), directory: paths::attachments(run_dir) }
    }

    /// Waits for the lock of an attachment; none: it was not free until `until`.
    pub async fn lock(&self, attachment: &Attachment, until: Instant) -> io::Result<Option<Journal>> {
        self.wait(until, || self.try_lock(attachment)).await
    }

    /// The same for a call that writes nothing: it gets the lock also where no file can be made for it.
    pub async fn lock_anyhow(&self, attachment: &Attachment, until: Instant) -> io::Result<Option<Journal>> {
        let attempt = || self.try_lock(attachment).or_else(|problem| self.try_lock_directory(attachment, problem));
        self.wait(until, attempt).await
    }

    async fn wait(
        &self,
        until: Instant,
        attempt: impl Fn() -> io::Result<Option<Journal>>,
    ) -> io::Result<Option<Journal>> {
        let mut pause = Duration::from_millis(1);
        loop {
            if let Some(journal) = attempt()? {
                return Ok(Some(journal));
            }
            if Instant::now() + pause > until {
                return Ok(None);
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }

    /// Takes the lock of an attachment if it is free.
    pub fn try_lock(&self, attachment: &Attachment) -> io::Result<Option<Journal>> {
        let path = self.directory.join(attachment.hash());
        loop {
            let (file, unwritable) = self.open(&path).map_err(named(&path))?;
            match file.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
            // Whoever removes the file holds the lock of the one he removes: ours may be that one.
            match fs::symlink_metadata(&path) {
                Ok(there) if there.ino() == file.metadata()?.ino() => {}
                Ok(_) => continue,
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            }
            let text = read::contents(&file, RECORD).map_err(named(&path))?;
            let before = (!text.is_empty()).then(|| {
                serde_json::from_slice(&text).unwrap_or_else(|error| {
                    tracing::warn!(%error, path = %path.display(), "a progress file is damaged");
                    Progress::begun()
                })
            });
            return Ok(Some(Journal { file, path, before, unwritable }));
        }
    }

    /// No file can be made for the lock, because of `problem`: the nearest directory that is there is locked instead.
    fn try_lock_directory(&self, attachment: &Attachment, problem: io::Error) -> io::Result<Option<Journal>> {
        let directory = |path: &Path| File::open(path).ok().filter(|file| file.metadata().is_ok_and(|is| is.is_dir()));
        let Some(file) = self.directory.ancestors().find_map(directory) else { return Err(problem) };
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        tracing::warn!(error = %problem, "no lock file can be made: a directory is locked instead");
        let path = self.directory.join(attachment.hash());
        Ok(Some(Journal { file, path, before: None, unwritable: Some(problem) }))
    }

    /// Makes a file as an ADD would, with as much in it, and removes it again.
    ///
    /// # Errors
    /// No ADD can lock its attachment or note its progress.
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

    /// The file of an attachment counts as written now.
    pub fn touch(&self, attachment: &Attachment, now: u64) -> io::Result<()> {
        let path = self.directory.join(attachment.hash());
        let time = std::time::UNIX_EPOCH + Duration::from_secs(now);
        let file = read::open_own(&path, OpenOptions::new().write(true));
        let touched = file.and_then(|file| file.set_modified(time));
        touched.map_err(named(&path))
    }

    /// Every attachment that has a file here which says whose it is. No call is kept from working on any of them. An error:
    /// nothing may be concluded from a file's absence.
    pub fn known(&self) -> io::Result<Vec<Noted>> {
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
            let Ok(Progress { attachment, prefix, .. }) = serde_json::from_slice(&text) else { continue };
            known.extend(attachment.map(|attachment| Noted { attachment, prefix, written }));
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

impl Journal {
    /// What it said when the lock was taken; none: nothing.
    pub fn before(&self) -> Option<&Progress> {
        self.before.as_ref()
    }

    /// Writes how far we are. The new text goes over the old one, which is then cut: if we die in between, the file
    /// cannot be read, which counts as an ADD that died.
    pub fn write(&self, progress: &Progress) -> io::Result<()> {
        if let Some(error) = &self.unwritable {
            return Err(io::Error::new(error.kind(), error.to_string()));
        }
        let text = serde_json::to_vec(progress).map_err(io::Error::other)?;
        let written = self.file.write_all_at(&text, 0).and_then(|()| self.file.set_len(text.len() as u64));
        written.map_err(named(&self.path))
    }

    /// Nothing was done: what was there stays, and a file that only served as a lock goes.
    pub fn release(self) -> io::Result<()> {
        if self.before.is_some() { Ok(()) } else { self.remove() }
    }

    /// Puts back what was there when the lock was taken.
    pub fn restore(mut self) -> io::Result<()> {
        match self.before.take() {
            Some(before) => self.write(&before),
            None => self.remove(),
        }
    }

    /// Nothing is known of the attachment any more. Where nothing can be removed the file stays, which is reported: the
    /// claim that it names is gone, and releasing a claim twice is releasing it once.
    pub fn remove(self) -> io::Result<()> {
        let Err(error) = fs::remove_file(&self.path) else { return Ok(()) };
        // A read-only file system refuses before it looks.
        if fs::symlink_metadata(&self.path).is_err() {
            return Ok(());
        }
        match self.unwritable {
            Some(_) => {
                tracing::warn!(%error, path = %self.path.display(), "the progress file stays");
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
        let journals = Journals::new(directory.path());
        let first = journals.try_lock(&attachment()).expect("works").expect("free");
        assert!(journals.try_lock(&attachment()).expect("works").is_none(), "held");
        let progress = Progress { unsettled_until: 7, host_netns: Some(Netns::Own), ..Progress::begun() };
        first.write(&progress).expect("works");
        drop(first);
        let second = journals.try_lock(&attachment()).expect("works").expect("free");
        assert_eq!(second.before(), Some(&progress));
        second.write(&Progress::begun()).expect("works");
        second.restore().expect("works");
        let third = journals.try_lock(&attachment()).expect("works").expect("free");
        assert_eq!(third.before(), Some(&progress), "a shorter text leaves nothing of the longer one, and back");
        third.remove().expect("works");
        let fourth = journals.try_lock(&attachment()).expect("works").expect("free");
        assert_eq!(fourth.before(), None);
        fourth.restore().expect("works");
        assert_eq!(fs::read_dir(directory.path().join("attachments")).expect("there").count(), 0);
    }

    #[test]
    fn a_torn_file_counts_as_an_add_that_died() {
        let directory = tempfile::tempdir().expect("a directory");
        let journals = Journals::new(directory.path());
        drop(journals.try_lock(&attachment()).expect("works"));
        let path = directory.path().join("attachments").join(attachment().hash());
        fs::write(&path, r#"{"state":"done"}"}"#).expect("works");
        let journal = journals.try_lock(&attachment()).expect("works").expect("free");
        assert_eq!(journal.before(), Some(&Progress::begun()));
    }

    #[tokio::test]
    async fn who_waits_for_a_removed_file_gets_the_new_one() {
        let directory = tempfile::tempdir().expect("a directory");
        let journals = Journals::new(directory.path());
        let first = journals.try_lock(&attachment()).expect("works").expect("free");
        let later = Instant::now() + Duration::from_secs(10);
        let at = attachment();
        let (second, ()) = tokio::join!(journals.lock(&at, later), async {
            tokio::time::sleep(Duration::from_millis(5)).await;
            first.remove().expect("works");
        });
        let second = second.expect("works").expect("free in time");
        assert!(journals.try_lock(&attachment()).expect("works").is_none(), "the second holds the file that is there");
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(journals.lock(&attachment(), soon).await.expect("works").is_none(), "waiting ends");
        drop(second);
    }

    /// A file that its holder removes between being opened and being locked must not be taken for the lock.
    #[test]
    fn of_many_that_lock_and_remove_one_alone_is_inside() {
        use std::sync::atomic::{AtomicBool, Ordering};
        let directory = tempfile::tempdir().expect("a directory");
        let (journals, inside) = (Journals::new(directory.path()), AtomicBool::new(false));
        let work = || {
            let mut held = 0;
            while held < 100 {
                let Some(journal) = journals.try_lock(&attachment()).expect("works") else { continue };
                assert!(!inside.swap(true, Ordering::SeqCst), "two have the lock");
                std::thread::yield_now();
                inside.store(false, Ordering::SeqCst);
                journal.remove().expect("works");
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
        let journals = Journals::new(directory.path());
        let journal = journals.try_lock(&attachment()).expect("works").expect("free");
        let progress = Progress { attachment: Some(attachment()), ..Progress::begun() };
        journal.write(&progress).expect("works");
        for first in ["0", "z"] {
            let at = |what: &str| directory.path().join("attachments").join(format!("{first}{what}"));
            nix::unistd::mkfifo(&at("pipe"), nix::sys::stat::Mode::S_IRWXU).expect("made");
            std::os::unix::fs::symlink("/dev/zero", at("link")).expect("linked");
            fs::create_dir(at("directory")).expect("made");
            File::create(at("large")).and_then(|file| file.set_len(1 << 40)).expect("made");
            fs::write(at("damaged"), "{").expect("written");
        }
        let known: Vec<_> = journals.known().expect("readable").into_iter().map(|known| known.attachment).collect();
        assert_eq!(known, [attachment()]);
    }

    #[test]
    fn a_file_that_cannot_be_removed_is_told() {
        let directory = tempfile::tempdir().expect("a directory");
        let journals = Journals::new(directory.path());
        let journal = journals.try_lock(&attachment()).expect("works").expect("free");
        let path = directory.path().join("attachments").join(attachment().hash());
        fs::remove_file(&path).and_then(|()| fs::create_dir(&path)).expect("works");
        let error = journal.remove().expect_err("it is a directory").to_string();
        assert!(error.contains(&*path.to_string_lossy()), "{error}");
    }
}
