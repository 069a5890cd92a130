//! Where log lines go: to standard error, by a thread of their own.
//!
//! A parent process often reads only the line with the address. Logging therefore never waits for a reader of standard
//! error and does not fail without one: lines that do not fit into the buffer are dropped.
//!
//! Written by hand: this is a bounded channel and a thread; `tracing-appender` would be a dependency for the same.

use std::io::{self, Write};
use std::sync::mpsc::{SyncSender, sync_channel};

use tracing_subscriber::fmt::MakeWriter;

/// How many lines may wait.
const WAITING: usize = 1024;

/// Hands lines to the thread that writes them.
#[derive(Clone)]
pub(crate) struct Lines(SyncSender<Vec<u8>>);

impl Lines {
    /// Starts the thread, which lasts as long as the program.
    pub(crate) fn to(mut target: impl Write + Send + 'static) -> io::Result<Self> {
        let (lines, waiting) = sync_channel::<Vec<u8>>(WAITING);
        let write = move || {
            for line in waiting {
                let _ = target.write_all(&line);
            }
        };
        std::thread::Builder::new().name("log".to_owned()).spawn(write)?;
        Ok(Self(lines))
    }
}

impl Write for Lines {
    /// Takes one line whole, and never fails.
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let _ = self.0.try_send(line.to_vec());
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Lines {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Passes on written data only when the reader is released.
    struct Slow(SyncSender<Vec<u8>>);

    impl Write for Slow {
        fn write(&mut self, line: &[u8]) -> io::Result<usize> {
            self.0.send(line.to_vec()).map_err(io::Error::other)?;
            Ok(line.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_slow_or_absent_reader_blocks_no_writer() {
        let (slow, read) = sync_channel(0);
        let mut lines = Lines::to(Slow(slow)).expect("a thread");
        for _ in 0..3 * WAITING {
            lines.write_all(b"line\n").expect("taken");
        }
        assert_eq!(read.recv().expect("the first"), b"line\n");
        drop(read);
        lines.write_all(b"line\n").expect("taken");
    }
}
