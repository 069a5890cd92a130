//! Errors of files: which file, why, and what an operator can do.

use std::error::Error;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use nix::errno::Errno;

/// An error of the system with its file, which the system's own error does not name.
#[derive(Debug)]
struct Named {
    path: PathBuf,
    source: io::Error,
}

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.path.display(), self.source)
    }
}

impl Error for Named {
    // The text of the cause is in ours already; its source leads to the error number.
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.source()
    }
}

/// Names the file in an error.
pub fn named(path: &Path) -> impl FnOnce(io::Error) -> io::Error + '_ {
    move |source| io::Error::new(source.kind(), Named { path: path.to_owned(), source })
}

/// The system's error number, also of an error that was [`named`].
pub fn errno(error: &io::Error) -> Option<Errno> {
    match error.raw_os_error() {
        Some(code) => Some(Errno::from_raw(code)),
        None => errno(&error.get_ref()?.downcast_ref::<Named>()?.source),
    }
}

/// What an operator can do about an error of a file; none for a cause that an operator cannot remove.
pub fn advice(error: &io::Error) -> Option<&'static str> {
    Some(match errno(error)? {
        Errno::ENOSPC => "make room on that file system (`df` and `df -i` show which)",
        Errno::EDQUOT => "make room in the quota of that file system",
        Errno::EROFS => "mount that file system for writing; the kernel's log shows why it is read-only (`dmesg`)",
        Errno::EMFILE => "raise the limit of open files of this process (`ulimit -n`, `LimitNOFILE=`)",
        Errno::ENFILE => "raise the limit of open files of this machine (`sysctl fs.file-max`)",
        Errno::ENOMEM => "free memory on this machine, or raise the limit of its control group",
        Errno::EIO => "check the disk: the kernel's log has the failure (`dmesg`)",
        Errno::EACCES | Errno::EPERM => "run it as root; the path, or a directory above it, forbids this",
        Errno::EPIPE => "let the reader of the pipe read to the end",
        _ => return None,
    })
}

/// [`advice`] for the first error of a file in a chain of causes.
pub fn advice_in(error: &(dyn Error + 'static)) -> Option<&'static str> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(advice) = error.downcast_ref::<io::Error>().and_then(advice) {
            return Some(advice);
        }
        next = error.source();
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_error_keeps_kind_and_number() {
        let full = || io::Error::from(Errno::ENOSPC);
        let error = named(Path::new("/outer"))(named(Path::new("/run/x"))(full()));
        assert_eq!((error.kind(), errno(&error)), (io::ErrorKind::StorageFull, Some(Errno::ENOSPC)));
        let text = error.to_string();
        assert!(text.starts_with("/outer: /run/x: No space left on device"), "{text}");
        assert_eq!(advice(&error), advice(&full()));
        assert!(advice(&full()).is_some_and(|advice| advice.contains("room")));
        assert_eq!(advice(&io::ErrorKind::InvalidData.into()), None);
        assert_eq!(advice(&Errno::ENOENT.into()), None);
    }

    #[derive(Debug)]
    struct Outer(io::Error);

    impl fmt::Display for Outer {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("outer")
        }
    }

    impl Error for Outer {
        fn source(&self) -> Option<&(dyn Error + 'static)> {
            Some(&self.0)
        }
    }

    #[test]
    fn advice_is_found_below_other_causes() {
        let error = Outer(named(Path::new("/run/x"))(Errno::EROFS.into()));
        assert!(advice_in(&error).is_some_and(|advice| advice.contains("read-only")));
        assert_eq!(advice_in(&Outer(io::ErrorKind::InvalidData.into())), None);
    }
}
