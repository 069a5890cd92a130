//! The kernel refused a request: its error number and its own words.

use std::io;

use nix::errno::Errno;

/// A request that the kernel refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// The error number.
    pub errno: Errno,
    /// The kernel's explanation (`NLMSGERR_ATTR_MSG`); empty if it gave none.
    pub words: String,
}

impl Refused {
    /// The kernel gave an error number and nothing else.
    pub fn silent(errno: Errno) -> Self {
        Self { errno, words: String::new() }
    }

    /// An answer that cannot be read.
    pub(crate) fn damaged(error: impl std::fmt::Display) -> Self {
        Self { errno: Errno::EBADMSG, words: format!("an answer of the kernel is not understood: {error}") }
    }
}

impl std::fmt::Display for Refused {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.words.is_empty() { self.errno.fmt(f) } else { write!(f, "{} ({})", self.words, self.errno) }
    }
}

impl std::error::Error for Refused {}

impl From<io::Error> for Refused {
    fn from(error: io::Error) -> Self {
        match error.raw_os_error() {
            Some(number) => Self { errno: Errno::from_raw(number), words: "netlink socket".to_owned() },
            None => Self { errno: Errno::EIO, words: error.to_string() },
        }
    }
}

/// With the kernel's explanation, if it gave one. [`errno_of`] reads the error number from either.
impl From<Refused> for io::Error {
    fn from(refused: Refused) -> Self {
        let plain = Self::from(refused.errno);
        if refused.words.is_empty() { plain } else { Self::new(plain.kind(), refused) }
    }
}

/// The error number of a system call, or of a request that the kernel refused.
pub fn errno_of(error: &io::Error) -> Option<Errno> {
    let refused = || error.get_ref()?.downcast_ref::<Refused>().map(|refused| refused.errno);
    error.raw_os_error().map(Errno::from_raw).or_else(refused)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_number_is_found_with_and_without_an_explanation() {
        for words in ["", "no such device"] {
            let error = io::Error::from(Refused { errno: Errno::ENODEV, words: words.to_owned() });
            assert_eq!(errno_of(&error), Some(Errno::ENODEV));
            assert!(error.to_string().contains(words), "{error}");
        }
        assert_eq!(errno_of(&io::Error::other("no system call")), None);
    }
}
