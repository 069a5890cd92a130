//! Watching a prefix, across broken connections and compactions: no event is missed, and if etcd has compacted some, the
//! caller gets the current state.

use std::collections::VecDeque;
use std::time::Duration;

use atoll_records::{Key, Query, Revision};
use etcd_client as wire;
use tokio::time::sleep;

use super::client::Etcd;
use super::endpoints::Repeat;
use super::failure::Stopped;
use crate::{StoreError, Watch, WatchEvent};

/// Between a watch that ended and the next: an endpoint that accepts and hangs up, or cancels, must not keep us busy.
const PAUSE: Duration = Duration::from_millis(200);

/// A watch of [`Etcd`].
pub struct EtcdWatch {
    etcd: Etcd,
    prefix: Key,
    /// Everything up to this revision was delivered, or is in `ready`.
    after: Revision,
    stream: Option<wire::WatchStream>,
    ready: VecDeque<WatchEvent>,
}

impl EtcdWatch {
    pub(super) async fn open(etcd: Etcd, prefix: Key, after: Revision) -> Result<Self, StoreError> {
        let mut watch = Self { etcd, prefix, after, stream: None, ready: VecDeque::new() };
        watch.stream = Some(watch.start().await?);
        Ok(watch)
    }

    async fn start(&self) -> Result<wire::WatchStream, Stopped> {
        let first = self.etcd.key(&self.prefix);
        let limit = self.etcd.0.endpoints.limits().answer;
        let send = |client: wire::Client| {
            let first = first.clone();
            let options = wire::WatchOptions::new().with_prefix().with_start_revision(self.after + 1);
            async move { client.watch_client().max_decoding_message_size(limit).watch(first, Some(options)).await }
        };
        self.etcd.0.endpoints.call(Repeat::Always, send).await
    }

    /// etcd has forgotten events: what is there now takes their place.
    async fn resync(&mut self) -> Result<(), StoreError> {
        let snapshot = self.etcd.answer(vec![Query::all(self.prefix.clone())]).await?;
        self.after = snapshot.revision;
        self.ready.push_back(WatchEvent::Resync(snapshot));
        Ok(())
    }

    /// Takes in one message; false when the stream is of no use any more.
    async fn take(&mut self, message: &wire::WatchResponse) -> Result<bool, StoreError> {
        if message.canceled() {
            if message.compact_revision() > 0 {
                self.resync().await?;
            } else if denies(message.cancel_reason()) {
                return Err(StoreError::Denied(message.cancel_reason().to_owned()));
            }
            return Ok(false);
        }
        for event in message.events() {
            let Some(kv) = event.kv() else { continue };
            let entry = self.etcd.entry(kv)?;
            self.after = self.after.max(entry.mod_revision);
            self.ready.push_back(match event.event_type() {
                wire::EventType::Put => WatchEvent::Put(entry),
                wire::EventType::Delete => WatchEvent::Delete(entry.key, entry.mod_revision),
            });
        }
        Ok(true)
    }
}

/// Whether a watch ended for lack of permission. Since 3.5 a member also answers so when the user's name is missing.
fn denies(reason: &str) -> bool {
    reason.contains("permission denied") || reason.contains("user name is empty")
}

impl Watch for EtcdWatch {
    async fn next(&mut self) -> Result<WatchEvent, StoreError> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Ok(event);
            }
            let Some(stream) = &mut self.stream else {
                self.stream = Some(self.start().await?);
                continue;
            };
            match stream.message().await {
                Ok(Some(message)) => {
                    if !self.take(&message).await? {
                        self.stream = None;
                        if self.ready.is_empty() {
                            sleep(PAUSE).await;
                        }
                    }
                }
                end => {
                    tracing::debug!(?end, prefix = %self.prefix, "the watch broke");
                    self.stream = None;
                    self.etcd.0.endpoints.blame_preferred();
                    sleep(PAUSE).await;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::denies;

    #[test]
    fn only_a_refusal_ends_a_watch_for_good() {
        assert!(denies("rpc error: code = PermissionDenied desc = etcdserver: permission denied"));
        assert!(denies("rpc error: code = InvalidArgument desc = etcdserver: user name is empty"));
        assert!(!denies("") && !denies("rpc error: code = Unavailable desc = etcdserver: no leader"));
    }
}
