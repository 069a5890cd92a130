//! The file of the log: shared by every call on this node, now and earlier.
//!
//! # Guarantees
//! * Only root can read it.
//! * It is never the file of standard output, under any name (`/dev/stdout`, a link, the terminal), nor that of standard input.
//! * Nothing here waits for a reader or a device.
//! * When the file exceeds its limit, the next call that begins rotates it (`.1`, `.2`, …). Of calls that begin at once, one does.
//!   A line that another call is just writing goes into the rotated file and is not lost.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use atoll_model::config::LogConfig;
use atoll_node::files::make;
use nix::fcntl::OFlag;

/// Opens the log, after putting aside what is too large.
pub(super) fn open(path: &Path, config: &LogConfig) -> io::Result<File> {
    let file = append(path)?;
    let ours = file.metadata()?;
    // The file behind standard error belongs to another program.
    if !ours.is_file() || ours.len() < config.max_bytes || is_stream(&file, &io::stderr()) {
        return Ok(file);
    }
    // A call that does not get the lock writes into the old file once more.
    if file.try_lock().is_err() {
        return Ok(file);
    }
    // Another call may have put it aside since we opened it: then the lock is of an old file.
    if fs::metadata(path).is_ok_and(|there| is_same(&there, &ours)) && put_aside(path, config.keep).is_err() {
        return Ok(file);
    }
    append(path)
}

/// Standard error and standard output are the same file: a message must not be written there.
pub(super) fn is_error_the_output() -> bool {
    let error = io::stderr().as_fd().try_clone_to_owned().map(File::from);
    error.is_ok_and(|error| is_stream(&error, &io::stdout()))
}

/// The file is what a stream of this process leads to.
fn is_stream(file: &File, stream: &(impl AsFd + IsTerminal)) -> bool {
    // One terminal has several names (`/dev/tty`, `/dev/pts/3`), which cannot be compared.
    if file.is_terminal() && stream.is_terminal() {
        return true;
    }
    let stream = stream.as_fd().try_clone_to_owned().and_then(|stream| File::from(stream).metadata());
    stream.is_ok_and(|stream| file.metadata().is_ok_and(|file| is_same(&file, &stream)))
}

fn is_same(one: &Metadata, other: &Metadata) -> bool {
    let is_device = |it: &Metadata| it.file_type().is_char_device();
    (one.dev(), one.ino()) == (other.dev(), other.ino())
        || is_device(one) && is_device(other) && one.rdev() == other.rdev()
}

fn append(path: &Path) -> io::Result<File> {
    let options = || {
        let mut options = OpenOptions::new();
        // A pipe without a reader, or a device, must not keep a pod waiting; a terminal must not become ours.
        let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        options.append(true).create(true).mode(make::PRIVATE).custom_flags(flags.bits());
        options
    };
    let file = match options().open(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            if let Some(directory) = path.parent() {
                make::directory(directory, make::DIRECTORY)?;
            }
            options().open(path)?
        }
        other => other?,
    };
    let metadata = file.metadata()?;
    // Nothing was written or changed yet.
    if is_stream(&file, &io::stdout()) {
        return Err(io::Error::other("standard output is there, which belongs to the answer alone"));
    }
    if !metadata.file_type().is_char_device() && is_stream(&file, &io::stdin()) {
        return Err(io::Error::other("standard input is read from there"));
    }
    if metadata.is_file() && metadata.permissions().mode() & 0o077 != 0 {
        file.set_permissions(Permissions::from_mode(make::PRIVATE))?;
    }
    Ok(file)
}

fn put_aside(path: &Path, keep: u32) -> io::Result<()> {
    let aside = |n: u32| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".{n}"));
        PathBuf::from(name)
    };
    let missing_is_fine = |done: io::Result<()>| match done {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    };
    if keep == 0 {
        return missing_is_fine(fs::remove_file(path));
    }
    for n in (1..keep).rev() {
        missing_is_fine(fs::rename(aside(n), aside(n + 1)))?;
    }
    fs::rename(path, aside(1))
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    fn config(max_bytes: u64, keep: u32) -> LogConfig {
        LogConfig { file: None, level: "info".to_owned(), max_bytes, keep }
    }

    #[test]
    fn a_pipe_without_a_reader_keeps_no_call_waiting() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("pipe");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).expect("works");
        let (sender, receiver) = std::sync::mpsc::channel();
        std::thread::spawn(move || sender.send(open(&path, &config(10, 2)).is_err()));
        assert_eq!(receiver.recv_timeout(std::time::Duration::from_secs(20)), Ok(true), "no log, and at once");
    }

    #[test]
    fn a_file_that_is_full_is_put_aside_and_few_are_kept() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("a/b/cni.log");
        for n in 0..5 {
            let mut file = open(&path, &config(10, 2)).expect("works");
            writeln!(file, "line number {n}").expect("works");
        }
        let read = |name: &str| fs::read_to_string(directory.path().join("a/b").join(name)).ok();
        assert_eq!(read("cni.log").as_deref(), Some("line number 4\n"));
        assert_eq!(read("cni.log.1").as_deref(), Some("line number 3\n"));
        assert_eq!(read("cni.log.2").as_deref(), Some("line number 2\n"));
        assert_eq!(read("cni.log.3"), None);
        drop(open(&path, &config(10, 0)).expect("works"));
        assert_eq!(read("cni.log").as_deref(), Some(""), "none is kept");
    }

    #[test]
    fn a_file_that_others_could_read_is_closed_to_them() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cni.log");
        fs::write(&path, "").expect("works");
        fs::set_permissions(&path, Permissions::from_mode(0o644)).expect("works");
        drop(open(&path, &config(10, 1)).expect("works"));
        assert_eq!(fs::metadata(&path).expect("there").permissions().mode() & 0o777, 0o600);
    }

    /// Many calls at once, each with a line, around the moment when the file is full: no line is lost, doubled or torn.
    #[test]
    fn calls_at_once_lose_no_line() {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("cni.log");
        let threads: Vec<_> = (0..8)
            .map(|thread| {
                let path = path.clone();
                std::thread::spawn(move || {
                    for n in 0..50 {
                        // Every file is kept: what is counted is what was written.
                        let mut file = open(&path, &config(200, 1000)).expect("works");
                        file.write_all(format!("{thread} {n} {}\n", "x".repeat(20)).as_bytes()).expect("works");
                    }
                })
            })
            .collect();
        for thread in threads {
            thread.join().expect("it ends");
        }
        let mut lines = Vec::new();
        for entry in fs::read_dir(directory.path()).expect("there").flatten() {
            let text = fs::read_to_string(entry.path()).expect("text");
            lines.extend(text.lines().map(str::to_owned));
        }
        lines.sort();
        let whole = lines.iter().filter(|line| line.ends_with(&"x".repeat(20))).count();
        lines.dedup();
        assert_eq!((whole, lines.len()), (400, 400));
        assert!(fs::read_dir(directory.path()).expect("there").count() > 2, "it was put aside");
    }
}
