//! One connection to a server: requests and answers of JSON-RPC 1.0 (RFC 7047, section 4), and the server's probes.
//!
//! # Guarantees
//! - The server's probes are answered while a request waits, so that a slow answer does not cost the connection.
//! - After an error, and after a request whose caller gave up, the connection is not used again: an answer that comes late
//!   would be taken for another's.

use std::collections::VecDeque;
use std::future::{Future as _, poll_fn};
use std::pin::pin;
use std::task::Poll;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::task::yield_now;

use super::frame::{Frames, LARGEST};
use super::stream::Stream;

/// Notifications that are kept while a request waits. Only a monitor has any, and it reads them.
const KEPT: usize = 1024;

/// A connection that works, or worked until now.
pub(super) struct Connection {
    stream: Box<dyn Stream>,
    frames: Frames,
    requests: u64,
    notifications: VecDeque<Notification>,
    /// The length of what is kept, bytes. All of it is at most as large as one message.
    kept: usize,
}

/// What the server sends without being asked.
#[derive(Debug)]
pub(super) struct Notification {
    /// Its kind.
    pub(super) method: String,
    /// Its content.
    pub(super) params: Json,
    length: usize,
}

/// How a request failed. The connection is of no use any more, but for `Method`.
#[derive(Debug)]
pub(super) enum RpcError {
    /// The connection broke. `sent`: the server may have the request.
    Broken {
        /// The server may have received the request.
        sent: bool,
        /// What happened.
        reason: String,
    },
    /// What came is not OVSDB.
    Garbage(String),
    /// The server refuses the method or its parameters.
    Method(Json),
}

impl Connection {
    pub(super) fn new(stream: Box<dyn Stream>) -> Self {
        Self { stream, frames: Frames::default(), requests: 0, notifications: VecDeque::new(), kept: 0 }
    }

    /// Sends a request and waits for its answer.
    pub(super) async fn call(&mut self, method: &str, params: Json) -> Result<Json, RpcError> {
        self.requests += 1;
        let id = self.requests;
        // A part of a request is no request: the server executes nothing of it.
        self.send(&json!({"method": method, "params": params, "id": id}), false).await?;
        loop {
            let mut message = self.receive().await?;
            let Some(object) = message.as_object_mut() else { return Err(unexpected(&message)) };
            if object.get("method").is_some_and(Json::is_string) {
                self.asked(message).await?;
            } else if object.get("id").and_then(Json::as_u64) == Some(id) {
                let mut part = |name| object.remove(name).unwrap_or(Json::Null);
                let (error, result) = (part("error"), part("result"));
                return if error.is_null() { Ok(result) } else { Err(RpcError::Method(error)) };
            } else {
                return Err(unexpected(&message));
            }
        }
    }

    /// Waits for the next notification.
    pub(super) async fn notification(&mut self) -> Result<Notification, RpcError> {
        loop {
            if let Some(notification) = self.notifications.pop_front() {
                self.kept -= notification.length;
                return Ok(notification);
            }
            let message = self.receive().await?;
            if !message.get("method").is_some_and(Json::is_string) {
                return Err(unexpected(&message));
            }
            self.asked(message).await?;
        }
    }

    /// Reads what has arrived since the last request, without waiting, and answers probes. False: the server has closed the
    /// connection, or sent what is no OVSDB.
    pub(super) async fn is_open(&mut self) -> bool {
        // The runtime learns here what has happened on its sockets since it last waited for one.
        yield_now().await;
        loop {
            let message = {
                let mut receive = pin!(self.receive());
                // To stop here loses nothing: what was received stays in the buffer.
                poll_fn(|context| Poll::Ready(receive.as_mut().poll(context))).await
            };
            match message {
                Poll::Pending => return true,
                Poll::Ready(Ok(message)) if message.get("method").is_some_and(Json::is_string) => {
                    if self.asked(message).await.is_err() {
                        return false;
                    }
                }
                Poll::Ready(_) => return false,
            }
        }
    }

    /// The server's own request: a probe is answered, a notification is kept.
    async fn asked(&mut self, mut message: Json) -> Result<(), RpcError> {
        let mut part = |name: &str| message.get_mut(name).map(Json::take).unwrap_or_default();
        let (method, params, id) = (part("method"), part("params"), part("id"));
        let method = method.as_str().unwrap_or_default();
        if !id.is_null() {
            // RFC 7047, section 4.1.11: the parameters are the answer. We offer nothing else.
            let known = method == "echo";
            let (result, error) = if known { (params, Json::Null) } else { (Json::Null, json!("unknown method")) };
            return self.send(&json!({"result": result, "error": error, "id": id}), true).await;
        }
        if self.notifications.len() == KEPT {
            return Err(RpcError::Garbage(format!("more than {KEPT} notifications before an answer")));
        }
        let length = self.frames.length();
        self.kept += length;
        if self.kept > LARGEST {
            return Err(RpcError::Garbage(format!("notifications of more than {LARGEST} bytes before an answer")));
        }
        self.notifications.push_back(Notification { method: method.to_owned(), params, length });
        Ok(())
    }

    async fn send(&mut self, message: &Json, sent: bool) -> Result<(), RpcError> {
        let broken = |error: std::io::Error| RpcError::Broken { sent, reason: error.to_string() };
        self.stream.write_all(message.to_string().as_bytes()).await.map_err(broken)?;
        // With TLS, what is written may still be here.
        self.stream.flush().await.map_err(broken)
    }

    async fn receive(&mut self) -> Result<Json, RpcError> {
        let broken = |reason: String| RpcError::Broken { sent: true, reason };
        loop {
            if let Some(message) = self.frames.next().map_err(RpcError::Garbage)? {
                return Ok(message);
            }
            let read = self.stream.read_buf(self.frames.buffer()).await;
            if read.map_err(|error| broken(error.to_string()))? == 0 {
                return Err(broken("the server closed the connection".to_owned()));
            }
        }
    }
}

fn unexpected(message: &Json) -> RpcError {
    let begin: String = message.to_string().chars().take(80).collect();
    RpcError::Garbage(format!("an answer that was not asked for: {begin}"))
}
