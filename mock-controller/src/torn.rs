//! The body of an answer: whole, in pieces, or torn, which stops in the middle and takes the connection with it.

use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// A body.
pub(crate) enum Torn {
    /// All of it, until it was taken.
    Whole(Option<Bytes>),
    /// Piece by piece, with a turn for others between two of them: also for those whose requests are still to be read.
    Pieces { pieces: Box<dyn Iterator<Item = Bytes>>, turn: Option<Pin<Box<dyn Future<Output = ()>>>> },
    /// So much, and no more, though its head has promised it.
    Cut { rest: Option<Bytes>, flush: Flush },
}

/// What arrived is to reach the client before the connection breaks: hyper writes it out when the body is not ready.
#[derive(Debug)]
pub(crate) enum Flush {
    Owed,
    Done,
}

/// The connection was cut on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the connection was cut by a fault")]
pub(crate) struct CutOnPurpose;

impl Torn {
    pub(crate) fn whole(body: Bytes) -> Self {
        Self::Whole(Some(body).filter(|body| !body.is_empty()))
    }

    pub(crate) fn pieces(pieces: Box<dyn Iterator<Item = Bytes>>) -> Self {
        Self::Pieces { pieces, turn: None }
    }

    pub(crate) fn after(mut body: Bytes, bytes: usize) -> Self {
        body.truncate(bytes);
        Self::Cut { rest: Some(body).filter(|body| !body.is_empty()), flush: Flush::Owed }
    }
}

impl Body for Torn {
    type Data = Bytes;
    type Error = CutOnPurpose;

    fn poll_frame(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, CutOnPurpose>>> {
        match self.get_mut() {
            Self::Whole(rest) => Poll::Ready(rest.take().map(|rest| Ok(Frame::data(rest)))),
            Self::Pieces { pieces, turn } => {
                if let Some(turn) = turn {
                    ready!(turn.as_mut().poll(context));
                }
                *turn = Some(Box::pin(tokio::task::yield_now()));
                Poll::Ready(pieces.next().map(|piece| Ok(Frame::data(piece))))
            }
            Self::Cut { rest, flush } => match (rest.take(), &flush) {
                (Some(rest), _) => Poll::Ready(Some(Ok(Frame::data(rest)))),
                (None, Flush::Owed) => {
                    *flush = Flush::Done;
                    context.waker().wake_by_ref();
                    Poll::Pending
                }
                (None, Flush::Done) => Poll::Ready(Some(Err(CutOnPurpose))),
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, Self::Whole(None))
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Whole(rest) => SizeHint::with_exact(rest.as_ref().map_or(0, |rest| rest.len() as u64)),
            Self::Pieces { .. } | Self::Cut { .. } => SizeHint::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::task::Waker;

    use super::*;

    #[test]
    fn others_have_their_turn_between_two_pieces() {
        let pieces = (0..5_u8).map(|n| Bytes::from(vec![n]));
        let (mut body, mut context) = (Torn::pieces(Box::new(pieces)), Context::from_waker(Waker::noop()));
        let (mut turns, mut seen) = (0, Vec::new());
        loop {
            match Pin::new(&mut body).poll_frame(&mut context) {
                Poll::Pending => turns += 1,
                Poll::Ready(Some(frame)) => seen.extend(frame.expect("a frame").into_data().expect("data")),
                Poll::Ready(None) => break,
            }
        }
        assert_eq!((seen, turns), (vec![0, 1, 2, 3, 4], 5));
    }
}
