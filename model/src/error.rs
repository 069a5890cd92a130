//! The kind of failure of an error. Every error type of the workspace has a [`Class`]; the class alone decides the CNI error
//! code, whether a retry makes sense, and the finding of `doctor`.

use std::error::Error;

/// The kinds of failure, by what the caller can do about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The runtime uses a CNI version that is not supported.
    Version,
    /// A field has a value that we do not support; the message names both.
    Unsupported,
    /// The container is unknown: nothing was done, and no DEL is needed.
    NoContainer,
    /// An environment variable is missing or malformed; the message names it.
    Environment,
    /// Reading standard input or writing standard output failed.
    Io,
    /// The input is not JSON, or not of the expected shape.
    Decode,
    /// The configuration is wrong; the message names the key.
    Config,
    /// The network namespace is not one we may touch.
    Netns,
    /// A server or lock did not answer in time or is busy; the same request may work later.
    Unavailable,
    /// No ADD can work on this node now: for STATUS.
    NotReady,
    /// No ADD can work on this node now, and running pods may be cut off: for STATUS.
    Limited,
    /// This machine has run out of descriptors, memory, processes or space; the same request may work later.
    Resources,
    /// No free address, subnet or transit link; the message has the figures.
    Exhausted,
    /// The caller may not do this: a foreign tenant, wrong credentials.
    Denied,
    /// The other side refused the request as invalid.
    Rejected,
    /// The kernel refused an operation.
    Kernel,
    /// An existing object differs from the wanted one.
    Drift,
    /// A defect of ours, or a damaged record.
    Bug,
}

impl Class {
    /// The CNI error code of this class: CNI SPEC 1.1.0 "Error", with our own codes from 100 up. 8 is the code
    /// that the reference implementation uses for an invalid network namespace.
    pub const fn cni_code(self) -> u32 {
        match self {
            Self::Version => 1,
            Self::Unsupported => 2,
            Self::NoContainer => 3,
            Self::Environment => 4,
            Self::Io => 5,
            Self::Decode => 6,
            Self::Config => 7,
            Self::Netns => 8,
            Self::Unavailable | Self::Resources => 11,
            Self::NotReady => 50,
            Self::Limited => 51,
            Self::Exhausted => 100,
            Self::Denied => 101,
            Self::Rejected => 102,
            Self::Kernel => 103,
            Self::Drift => 104,
            Self::Bug => 199,
        }
    }
}

/// An error that has a class, and a remedy if there is one.
pub trait Classify: Error {
    /// The kind of this failure.
    fn class(&self) -> Class;

    /// The remedy, as one imperative sentence, if there is one.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// A resource of a machine that can be exhausted, by the kernel's error numbers (errno(3)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExhaustedResource {
    /// `EMFILE`, `ENFILE`.
    Descriptors,
    /// `ENOMEM`, `ENOBUFS`.
    Memory,
    /// `EAGAIN` where a thread or process was to be started.
    Processes,
    /// `ENOSPC`, `EDQUOT`.
    Space,
}

impl ExhaustedResource {
    /// The exhausted resource that an error or one of its causes names. Libraries pass causes on as text, and all of them
    /// preserve the kernel's message: `(os error 24)` or `Os { code: 24,` as the standard library writes it, `EMFILE: ` as `nix`
    /// does.
    pub fn lacking(error: &dyn Error) -> Option<Self> {
        std::iter::once(error.to_string()).chain(causes(error)).find_map(|text| Self::named_in(&text))
    }

    /// The exhausted resource that a text names.
    pub fn named_in(text: &str) -> Option<Self> {
        let names = |number: u32, name: &str| {
            let forms = [format!("(os error {number})"), format!("Os {{ code: {number},"), format!("{name}: ")];
            forms.iter().any(|form| text.contains(form))
        };
        let starts = text.contains("thread") || text.contains("process");
        if names(24, "EMFILE") || names(23, "ENFILE") {
            Some(Self::Descriptors)
        } else if names(12, "ENOMEM") || names(105, "ENOBUFS") || text.contains("out of memory") {
            Some(Self::Memory)
        } else if names(28, "ENOSPC") || names(122, "EDQUOT") {
            Some(Self::Space)
        } else if names(11, "EAGAIN") && starts {
            Some(Self::Processes)
        } else {
            None
        }
    }

    /// The exhausted resource and the remedy, as one sentence.
    pub const fn advice(self) -> &'static str {
        match self {
            Self::Descriptors => {
                "this machine, or the process that calls, has no file descriptor left: raise its limit (LimitNOFILE), or \
                 end what holds them, and try again"
            }
            Self::Memory => {
                "this machine, or the limit of the process that calls, has no memory left: free some or raise the limit, \
                 and try again"
            }
            Self::Processes => {
                "this machine, or the limit of the process that calls (TasksMax, RLIMIT_NPROC), lets no thread or process \
                 start: raise the limit and try again"
            }
            Self::Space => "the file system or its quota is full: make room and try again",
        }
    }
}

/// The class of an error for the caller: an error that was caused by an exhausted resource of this machine is
/// [`Class::Resources`], whatever the operation was. The classes of STATUS stay: the node is not ready.
pub fn class_of(error: &dyn Classify) -> Class {
    match error.class() {
        class @ (Class::NotReady | Class::Limited | Class::Exhausted) => class,
        class => ExhaustedResource::lacking(as_error(error)).map_or(class, |_| Class::Resources),
    }
}

/// The remedy for an error: free the exhausted resource, if there is one; otherwise the error's own hint.
pub fn hint_of(error: &dyn Classify) -> Option<String> {
    ExhaustedResource::lacking(as_error(error)).map(|resource| resource.advice().to_owned()).or_else(|| error.hint())
}

fn as_error(error: &dyn Classify) -> &dyn Error {
    error
}

/// The chain of causes below `error`, outermost first, without repeating the error itself.
pub fn causes(error: &dyn Error) -> Vec<String> {
    let mut causes = Vec::new();
    let mut cause = error.source();
    while let Some(error) = cause {
        causes.push(error.to_string());
        cause = error.source();
    }
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("{0}")]
    struct Outer(&'static str, Class, #[source] std::io::Error);

    impl Classify for Outer {
        fn class(&self) -> Class {
            self.1
        }

        fn hint(&self) -> Option<String> {
            Some("report it".to_owned())
        }
    }

    #[test]
    fn a_full_machine_is_no_defect_at_any_kernel_error() {
        let classes = |text, class, number| {
            let error = Outer(text, class, std::io::Error::from_raw_os_error(number));
            (class_of(&error), hint_of(&error).expect("there is something to do"))
        };
        for number in [24, 23, 12, 105, 28, 122] {
            let (class, hint) = classes("open it", Class::Io, number);
            assert_eq!((class, class.cni_code()), (Class::Resources, 11), "{number}");
            assert!(hint.contains("try again") && !hint.contains("report"), "{hint}");
        }
        // "Try again" means that there are too many processes only if a process or thread was to be started.
        assert_eq!(classes("receive", Class::Kernel, 11).0, Class::Kernel);
        let thread = std::io::Error::other("start a thread: Resource temporarily unavailable (os error 11)");
        assert_eq!(class_of(&Outer("enter", Class::Kernel, thread)), Class::Resources);
        let panic =
            "failed to create UnixStream: Os { code: 24, kind: Uncategorized, message: \"Too many open files\" }";
        assert_eq!(ExhaustedResource::named_in(panic), Some(ExhaustedResource::Descriptors));
        let outer = Outer("EMFILE: Too many open files", Class::Bug, std::io::Error::other("x"));
        assert_eq!(class_of(&outer), Class::Resources);
        // The classes of a full address pool and of a node that is not ready stay.
        for class in [Class::Exhausted, Class::NotReady, Class::Limited] {
            assert_eq!(classes("x", class, 28).0, class);
        }
        assert_eq!(classes("x", Class::Io, 2), (Class::Io, "report it".to_owned()));
    }
}
