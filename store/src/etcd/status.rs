//! The status that a member of etcd reports of itself: for commands of an operator, never for the path of a pod.

use super::client::Etcd;
use super::endpoints::Repeat;
use crate::StoreError;

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberStatus {
    /// Its version.
    pub version: String,
    /// It knows a leader.
    pub has_leader: bool,
    /// It is the leader.
    pub is_leader: bool,
    /// It is a learner: it answers no reads.
    pub is_learner: bool,
    /// Alarms and other trouble, in its own words (`NOSPACE`, `CORRUPT`).
    pub troubles: Vec<String>,
    /// Size of its data on disk, bytes.
    pub size: u64,
    /// How much of that is in use, bytes; 0 if it is not reported.
    pub used: u64,
}

impl Etcd {
    /// Asks the first endpoint that answers (`Maintenance.Status`, which needs no permission). With several endpoints it
    /// is of little use: make a store for each.
    pub async fn status(&self) -> Result<MemberStatus, StoreError> {
        let send = |mut client: etcd_client::Client| async move { client.status().await };
        let status = self.0.endpoints.call(Repeat::Always, send).await?;
        let own = status.header().map(etcd_client::ResponseHeader::member_id);
        let size = |bytes: i64| u64::try_from(bytes).unwrap_or(0);
        Ok(MemberStatus {
            version: status.version().to_owned(),
            has_leader: status.leader() != 0,
            is_leader: status.leader() != 0 && own == Some(status.leader()),
            is_learner: status.is_learner(),
            troubles: status.errors().to_vec(),
            size: size(status.db_size()),
            used: size(status.raft_used_db_size()),
        })
    }
}
