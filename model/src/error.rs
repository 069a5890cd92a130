//! What kind of failure an error is. Every error type of the workspace has a [`Class`]; the class, and nothing else,
//! decides the CNI error code, whether a retry makes sense and what `doctor` says about it.

use std::error::Error;

/// The kinds of failure, by what the caller can do about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// The runtime speaks a CNI version that we do not.
    Version,
    /// A field has a value that we do not support; the message names both.
    Unsupported,
    /// The container is unknown: nothing was done, no DEL is owed.
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
    /// Something we need did not answer in time or is busy; the same request may work later.
    Unavailable,
    /// No ADD can work on this node now: what STATUS says.
    NotReady,
    /// No ADD can work on this node now, and pods that run may be cut off: what STATUS says.
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
    /// What is there differs from what should be there.
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

/// An error that knows its class and can say what to do.
pub trait Classify: Error {
    /// Which kind of failure this is.
    fn class(&self) -> Class;

    /// What the reader can do about it, as one imperative sentence, where there is something to do.
    fn hint(&self) -> Option<String> {
        None
    }
}

/// Something of which a machine can run out, by the kernel's error numbers (errno(3)).
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
    /// The resource whose lack an error tells of. Causes pass through libraries as text, and what all of them keep is what
    /// the kernel said: `(os error 24)` or `Os { code: 24,` as the standard library writes it, `EMFILE: ` as `nix` does.
    pub fn lacking(error: &dyn Error) -> Option<Self> {
        std::iter::once(error.to_string()).chain(causes(error)).find_map(|text| Self::told(&text))
    }

    /// The resource whose lack a text tells of.
    pub fn told(text: &str) -> Option<Self> {
        let says = |number: u32, name: &str| {
            let forms = [format!("(os error {number})"), format!("Os {{ code: {number},"), format!("{name}: ")];
            forms.iter().any(|form| text.contains(form))
        };
        let starts = text.contains("thread") || text.contains("process");
        if says(24, "EMFILE") || says(23, "ENFILE") {
            Some(Self::Descriptors)
        } else if says(12, "ENOMEM") || says(105, "ENOBUFS") || text.contains("out of memory") {
            Some(Self::Memory)
        } else if says(28, "ENOSPC") || says(122, "EDQUOT") {
            Some(Self::Space)
        } else if says(11, "EAGAIN") && starts {
            Some(Self::Processes)
        } else {
            None
        }
    }

    /// What has run out and what to do, as one sentence.
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

/// The class of an error as a caller is to see it: an error on the way of which this machine ran out of something is
/// [`Class::Resources`], whatever was being done. What STATUS says stays: the node is not ready.
pub fn class_of(error: &dyn Classify) -> Class {
    match error.class() {
        class @ (Class::NotReady | Class::Limited | Class::Exhausted) => class,
        class => ExhaustedResource::lacking(as_error(error)).map_or(class, |_| Class::Resources),
    }
}

/// What the reader can do about an error: make room, where something has run out; else as the error says.
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
    fn a_full_machine_is_no_defect_wherever_the_kernel_said_so() {
        let classes = |text, class, number| {
            let error = Outer(text, class, std::io::Error::from_raw_os_error(number));
            (class_of(&error), hint_of(&error).expect("there is something to do"))
        };
        for number in [24, 23, 12, 105, 28, 122] {
            let (class, hint) = classes("open it", Class::Io, number);
            assert_eq!((class, class.cni_code()), (Class::Resources, 11), "{number}");
            assert!(hint.contains("try again") && !hint.contains("report"), "{hint}");
        }
        // Only where something was to be started does "try again" mean that there are too many.
        assert_eq!(classes("receive", Class::Kernel, 11).0, Class::Kernel);
        let thread = std::io::Error::other("start a thread: Resource temporarily unavailable (os error 11)");
        assert_eq!(class_of(&Outer("enter", Class::Kernel, thread)), Class::Resources);
        let panic =
            "failed to create UnixStream: Os { code: 24, kind: Uncategorized, message: \"Too many open files\" }";
        assert_eq!(ExhaustedResource::told(panic), Some(ExhaustedResource::Descriptors));
        let told = Outer("EMFILE: Too many open files", Class::Bug, std::io::Error::other("x"));
        assert_eq!(class_of(&told), Class::Resources);
        // An address pool that is full, and a node that is not ready, are told as such.
        for class in [Class::Exhausted, Class::NotReady, Class::Limited] {
            assert_eq!(classes("x", class, 28).0, class);
        }
        assert_eq!(classes("x", Class::Io, 2), (Class::Io, "report it".to_owned()));
    }
}
