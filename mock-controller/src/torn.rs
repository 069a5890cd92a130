//! The body of an answer, whole or torn: a torn one stops in the middle and takes the connection with it.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, SizeHint};

/// A body.
#[derive(Debug)]
pub(crate) struct Torn {
    rest: Option<Bytes>,
    /// The body ends here, though its head has promised more.
    torn: Option<Flush>,
}

/// What arrived is to reach the client before the connection breaks: hyper writes it out when the body is not ready.
#[derive(Debug)]
enum Flush {
    Owed,
    Done,
}

/// The connection was cut on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the connection was cut by a fault")]
pub(crate) struct CutOnPurpose;

impl Torn {
    pub(crate) fn whole(body: Bytes) -> Self {
        Self { rest: Some(body), torn: None }
    }

    pub(crate) fn after(mut body: Bytes, bytes: usize) -> Self {
        body.truncate(bytes);
        Self { rest: Some(body), torn: Some(Flush::Owed) }
    }
}

impl Body for Torn {
    type Data = Bytes;
    type Error = CutOnPurpose;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, CutOnPurpose>>> {
        if let Some(rest) = self.rest.take().filter(|rest| !rest.is_empty()) {
            return Poll::Ready(Some(Ok(Frame::data(rest))));
        }
        match self.torn {
            None => Poll::Ready(None),
            Some(Flush::Owed) => {
                self.torn = Some(Flush::Done);
                context.waker().wake_by_ref();
                Poll::Pending
            }
            Some(Flush::Done) => Poll::Ready(Some(Err(CutOnPurpose))),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.torn.is_none() && self.rest.as_ref().is_none_or(Bytes::is_empty)
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.torn, &self.rest) {
            (None, rest) => SizeHint::with_exact(rest.as_ref().map_or(0, |rest| rest.len() as u64)),
            (Some(_), _) => SizeHint::new(),
        }
    }
}
