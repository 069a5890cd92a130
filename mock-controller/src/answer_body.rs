//! The body of an answer: whole, in pieces, or truncated on purpose, which closes the connection.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// A body.
pub(crate) enum AnswerBody {
    /// The whole body, until hyper has taken it.
    Whole(Option<Bytes>),
    /// Piece by piece. Between two pieces other tasks run, also those that read requests.
    Pieces { pieces: Box<dyn Iterator<Item = Bytes>>, pause: Option<Pin<Box<dyn Future<Output = ()>>>> },
    /// The beginning of a body whose head has announced more.
    Truncated { rest: Option<Bytes>, flush: Flush },
}

/// Whether the bytes so far have been flushed: the client shall receive them before the connection breaks. hyper flushes
/// when the body is not ready.
#[derive(Debug)]
pub(crate) enum Flush {
    Pending,
    Done,
}

/// The connection was cut on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the connection was cut by a fault")]
pub(crate) struct ConnectionCut;

impl AnswerBody {
    pub(crate) fn whole(body: Bytes) -> Self {
        Self::Whole(Some(body).filter(|body| !body.is_empty()))
    }

    pub(crate) fn pieces(pieces: Box<dyn Iterator<Item = Bytes>>) -> Self {
        Self::Pieces { pieces, pause: None }
    }

    pub(crate) fn truncated(mut body: Bytes, bytes: usize) -> Self {
        body.truncate(bytes);
        Self::Truncated { rest: Some(body).filter(|body| !body.is_empty()), flush: Flush::Pending }
    }
}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = ConnectionCut;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, ConnectionCut>>> {
        match self.get_mut() {
            Self::Whole(rest) => Poll::Ready(rest.take().map(|rest| Ok(Frame::data(rest)))),
            Self::Pieces { pieces, pause } => {
                if let Some(pause) = pause {
                    ready!(pause.as_mut().poll(context));
                }
                *pause = Some(Box::pin(tokio::task::yield_now()));
                Poll::Ready(pieces.next().map(|piece| Ok(Frame::data(piece))))
            }
            Self::Truncated { rest, flush } => match (rest.take(), &flush) {
                (Some(rest), _) => Poll::Ready(Some(Ok(Frame::data(rest)))),
                (None, Flush::Pending) => {
                    *flush = Flush::Done;
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                (None, Flush::Done) => Poll::Ready(Some(Err(ConnectionCut))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(rest) => SizeHint::with_exact(rest.as_ref().map_or(0, |rest| rest.len() as u64)),
            Self::Pieces { .. } | Self::Truncated { .. } => SizeHint::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn other_tasks_run_between_two_chunks() {
        let pieces = (0..5_u8).map(|n| Bytes::from(vec![n]));
        let (mut body, mut context) = (AnswerBody::pieces(Box::new(pieces)), Context::from_waker(Waker::noop()));
        let (mut pauses, mut seen) = (0, Vec::new());
        loop {
            match Pin::new(&mut body).poll_frame(&mut context) {
                Poll::Pending => pauses += 1,
                Poll::Ready(Some(frame)) => seen.extend(frame.expect("a frame").into_data().expect("data")),
                Poll::Ready(None) => break,
            }
        }
        assert_eq!((seen, pauses), (vec![0, 1, 2, 3, 4], 5));
    }
}
