//! A database on one server, or on the members of a cluster.
//!
//! # Guarantees
//! - A transaction that a server may have received is never sent to another one: its outcome is [`DatabaseError::NoAnswer`].
//!   One that only reads is.
//! - The member that worked is used until it fails; the next process begins with it ([`EndpointOrder`]). Without such a
//!   memory the first member is random, so that the nodes of a cluster are spread over its members.
//! - [`Freshness::Current`] reads are answered by a member that describes itself, after the reading and on the same
//!   connection, as the leader, or as a server of its own. A member that was cut off from the others answers from its own
//!   copy, and absence in an old copy means nothing.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use atoll_node::endpoints::EndpointOrder;
use serde_json::{Value as Json, json};
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

use super::connection::{Connection, RpcError};
use super::endpoint::DatabaseEndpoint;
use super::error::{DatabaseError, RefusedOperation, refusal};
use super::monitor::Monitor;
use super::operation::{Outcome, Row, RowCondition, RowOperation};
use super::stream::{NoConnection, Tls, TlsFiles, connect};
use super::value::Value;
use super::{Database, Freshness, RowWatch};

/// Where a database is, and how long to wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemoteSettings {
    /// Its name, for instance `OVN_Northbound`.
    pub database: &'static str,
    /// The servers.
    pub endpoints: Vec<DatabaseEndpoint>,
    /// Certificates, for `ssl:`.
    pub tls: Option<TlsFiles>,
    /// Limit for a connection, with its TLS handshake.
    pub connect: Duration,
    /// Limit for an answer.
    pub request: Duration,
    /// The file that keeps the server that worked last, when there are several.
    pub memory: Option<PathBuf>,
}

/// A database on servers.
pub struct Remote {
    database: &'static str,
    members: Vec<DatabaseEndpoint>,
    order: EndpointOrder,
    tls: Option<Tls>,
    connect: Duration,
    request: Duration,
    /// The connection between two requests. One request at a time: the server, too, executes one at a time.
    idle: Mutex<Option<Open>>,
}

/// How often all members are asked while one of them accepts no connection in time, each time with twice the limit. A server
/// has one thread for everything: many calls at once wait for each other's TLS handshake.
const ROUNDS: u32 = 3;

/// A connection and its member.
struct Open {
    member: usize,
    connection: Connection,
}

/// Why a member did not answer.
struct Failure {
    /// The member may have executed the request.
    sent: bool,
    /// Another member can be asked.
    elsewhere: bool,
    error: DatabaseError,
}

impl Remote {
    /// Checks the settings and reads the certificates. Connects to nothing yet.
    ///
    /// # Errors
    /// [`DatabaseError::Settings`].
    pub fn new(settings: RemoteSettings) -> Result<Self, DatabaseError> {
        let RemoteSettings { database, mut endpoints, tls, connect, request, memory } = settings;
        if endpoints.is_empty() {
            return Err(DatabaseError::Settings(format!("no server of {database} is configured")));
        }
        let encrypted = |endpoint: &DatabaseEndpoint| matches!(endpoint, DatabaseEndpoint::Ssl(_));
        match (&tls, endpoints.iter().find(|endpoint| encrypted(endpoint) != tls.is_some())) {
            (None, Some(endpoint)) => {
                return Err(DatabaseError::Settings(format!("{endpoint}: ssl: needs `ca`, `cert` and `key`")));
            }
            (Some(_), Some(endpoint)) if matches!(endpoint, DatabaseEndpoint::Tcp(_)) => {
                return Err(DatabaseError::Settings(format!("{endpoint}: with certificates, ssl: is expected")));
            }
            _ => {}
        }
        let tls = tls.as_ref().map(Tls::new).transpose().map_err(DatabaseError::Settings)?;
        let first = Uuid::new_v4().as_u128() % endpoints.len().max(1) as u128;
        endpoints.rotate_left(usize::try_from(first).unwrap_or_default());
        let order = EndpointOrder::new(endpoints.iter().map(ToString::to_string).collect());
        if let Some(memory) = memory {
            order.remember_in(memory);
        }
        Ok(Self { database, members: endpoints, order, tls, connect, request, idle: Mutex::new(None) })
    }

    /// The members, as they are configured.
    pub fn members(&self) -> &[DatabaseEndpoint] {
        &self.members
    }

    /// What a member says of its copy of the database, each by itself: for people who look for a member that is behind.
    pub async fn states(&self) -> Vec<(String, Result<MemberState, DatabaseError>)> {
        let mut states = Vec::new();
        for member in 0..self.members.len() {
            let state = async {
                let mut open = self.open(member, self.connect).await?;
                self.limited(&open.endpoint(self), state(&mut open.connection, self.database)).await
            };
            states.push((self.order.url(member).to_owned(), state.await.map_err(|failure| failure.error)));
        }
        states
    }

    /// Asks members until one answers. `writes`: a member that may have received the request is the last one.
    async fn asked<T>(
        &self,
        idle: &mut Option<Open>,
        writes: bool,
        request: &impl Request<Answer = T>,
    ) -> Result<(T, Open), DatabaseError> {
        let mut last = None;
        if let Some(mut open) = idle.take()
            && open.connection.is_open().await
        {
            match self.ask(&mut open, request).await {
                Ok(answer) => return Ok((answer, open)),
                Err(failure) if !failure.elsewhere || (failure.sent && writes) => return Err(failure.error),
                Err(failure) => last = Some(failure.error),
            }
        }
        for round in 0..ROUNDS {
            let limit = self.connect * 2_u32.pow(round);
            let mut is_slow = false;
            for member in self.order.order() {
                let given_up = || {};
                let waiting = self.order.wait_for(member, &given_up);
                let begun = Instant::now();
                let answer = async {
                    let opened = self.open(member, limit).await;
                    is_slow |= opened.is_err() && begun.elapsed() >= limit;
                    let mut open = opened?;
                    let answer = self.ask(&mut open, request).await?;
                    Ok((answer, open))
                }
                .await;
                waiting.over();
                match answer {
                    Ok(answer) => {
                        self.order.keep(member);
                        return Ok(answer);
                    }
                    Err(Failure { sent, elsewhere, error }) => {
                        if elsewhere {
                            self.order.leave(member);
                        }
                        if !elsewhere || (sent && writes) {
                            self.order.abandon(member);
                            return Err(error);
                        }
                        tracing::debug!(%error, "another member is asked");
                        last = Some(error);
                    }
                }
            }
            if !is_slow {
                break;
            }
        }
        Err(last.unwrap_or_else(|| DatabaseError::Settings(format!("no server of {} is configured", self.database))))
    }

    async fn open(&self, member: usize, limit: Duration) -> Result<Open, Failure> {
        let Some(endpoint) = self.members.get(member) else {
            let error = DatabaseError::Settings(format!("member {member} is not configured"));
            return Err(Failure { sent: false, elsewhere: false, error });
        };
        let shown = || endpoint.to_string();
        let failed = |elsewhere, error| Failure { sent: false, elsewhere, error };
        match timeout(limit, connect(endpoint, self.tls.as_ref())).await {
            Ok(Ok(stream)) => Ok(Open { member, connection: Connection::new(stream) }),
            Ok(Err(NoConnection::Unreachable(reason))) => {
                Err(failed(true, DatabaseError::NotSent { endpoint: shown(), reason }))
            }
            Ok(Err(NoConnection::Denied(reason))) => {
                Err(failed(true, DatabaseError::Denied { endpoint: shown(), reason }))
            }
            Ok(Err(NoConnection::Settings(reason))) => Err(failed(false, DatabaseError::Settings(reason))),
            Err(_) => {
                let reason = format!("no connection within {limit:?}");
                Err(failed(true, DatabaseError::NotSent { endpoint: shown(), reason }))
            }
        }
    }

    async fn ask<T>(&self, open: &mut Open, request: &impl Request<Answer = T>) -> Result<T, Failure> {
        let endpoint = open.endpoint(self);
        self.limited(&endpoint, request.send(&mut open.connection)).await
    }

    async fn limited<T>(&self, endpoint: &str, answer: impl Future<Output = Result<T, Asked>>) -> Result<T, Failure> {
        let endpoint = || endpoint.to_owned();
        let Ok(answer) = timeout(self.request, answer).await else {
            // A member without a quorum keeps a request and does not answer.
            let reason = format!("no answer within {:?}; has its cluster a leader?", self.request);
            let error = DatabaseError::NoAnswer { endpoint: endpoint(), reason };
            return Err(Failure { sent: true, elsewhere: true, error });
        };
        answer.map_err(|asked| match asked {
            Asked::Call(RpcError::Broken { sent: false, reason }) => {
                let error = DatabaseError::NotSent { endpoint: endpoint(), reason };
                Failure { sent: false, elsewhere: true, error }
            }
            Asked::Call(RpcError::Broken { sent: true, reason }) => {
                let error = denied(&endpoint(), &reason)
                    .unwrap_or_else(|| DatabaseError::NoAnswer { endpoint: endpoint(), reason });
                let sent = matches!(error, DatabaseError::NoAnswer { .. });
                Failure { sent, elsewhere: true, error }
            }
            Asked::Call(RpcError::Garbage(reason)) => Failure {
                sent: true,
                elsewhere: true,
                error: DatabaseError::NotDatabase { endpoint: endpoint(), reason },
            },
            Asked::Call(RpcError::Method(error)) => {
                let reason = format!("{} of {}", describe(&error), self.database);
                let error = DatabaseError::NotDatabase { endpoint: endpoint(), reason };
                Failure { sent: false, elsewhere: true, error }
            }
            // Of the question about the member's own state.
            Asked::Refused(refused) => {
                let error = DatabaseError::Refused { endpoint: endpoint(), refused };
                Failure { sent: false, elsewhere: true, error }
            }
            Asked::Unreadable(reason) => {
                let error = DatabaseError::Unreadable { endpoint: endpoint(), reason };
                Failure { sent: true, elsewhere: false, error }
            }
            Asked::Behind(reason) => {
                Failure { sent: false, elsewhere: true, error: DatabaseError::Behind { endpoint: endpoint(), reason } }
            }
        })
    }
}

impl Open {
    fn endpoint(&self, remote: &Remote) -> String {
        remote.order.url(self.member).to_owned()
    }
}

impl Database for Remote {
    type Watch = RemoteWatch;

    async fn transact(
        &self,
        operations: Vec<RowOperation>,
        freshness: Freshness,
    ) -> Result<Vec<Outcome>, DatabaseError> {
        let writes = operations.iter().any(|operation| !operation.reads());
        let transaction = Transaction { database: self.database, operations, freshness };
        let mut idle = self.idle.lock().await;
        let (outcomes, open) = self.asked(&mut idle, writes, &transaction).await?;
        let endpoint = open.endpoint(self);
        *idle = Some(open);
        outcomes.map_err(|refused| DatabaseError::Refused { endpoint, refused })
    }

    async fn watch(&self, monitor: Monitor) -> Result<RemoteWatch, DatabaseError> {
        let request = Watching { database: self.database, monitor };
        let mut idle = self.idle.lock().await;
        let (rows, open) = self.asked(&mut idle, false, &request).await?;
        let endpoint = open.endpoint(self);
        Ok(RemoteWatch { monitor: request.monitor, rows, connection: open.connection, endpoint })
    }
}

/// What is sent to a member, and how its answer is read.
trait Request: Sync {
    type Answer: Send;

    fn send(&self, connection: &mut Connection) -> impl Future<Output = Result<Self::Answer, Asked>> + Send;
}

struct Transaction {
    database: &'static str,
    operations: Vec<RowOperation>,
    freshness: Freshness,
}

impl Request for Transaction {
    /// A refusal is an answer: the member is fine.
    type Answer = Result<Vec<Outcome>, RefusedOperation>;

    async fn send(&self, connection: &mut Connection) -> Result<Self::Answer, Asked> {
        let mut params = vec![json!(self.database)];
        params.extend(self.operations.iter().map(RowOperation::to_json));
        let answer = connection.call("transact", params.into()).await.map_err(Asked::Call)?;
        let outcomes = match outcomes(&self.operations, &answer) {
            Err(Asked::Refused(refused)) => return Ok(Err(refused)),
            outcomes => outcomes?,
        };
        if self.freshness == Freshness::Any {
            return Ok(Ok(outcomes));
        }
        match state(connection, self.database).await? {
            MemberState { clustered: true, leader: false, .. } => {
                Err(Asked::Behind("it is not the leader of its cluster".to_owned()))
            }
            MemberState { connected: false, .. } => Err(Asked::Behind("it has lost its cluster".to_owned())),
            MemberState { .. } => Ok(Ok(outcomes)),
        }
    }
}

struct Watching {
    database: &'static str,
    monitor: Monitor,
}

impl Request for Watching {
    type Answer = BTreeMap<Uuid, Row>;

    async fn send(&self, connection: &mut Connection) -> Result<BTreeMap<Uuid, Row>, Asked> {
        let params = self.monitor.request(self.database);
        let answer = connection.call("monitor_cond_since", params).await.map_err(Asked::Call)?;
        self.monitor.begin(&answer).map_err(|problem| Asked::Unreadable(problem.to_string()))
    }
}

/// A watch on a connection of its own.
pub struct RemoteWatch {
    monitor: Monitor,
    rows: BTreeMap<Uuid, Row>,
    connection: Connection,
    endpoint: String,
}

impl RowWatch for RemoteWatch {
    fn rows(&self) -> &BTreeMap<Uuid, Row> {
        &self.rows
    }

    async fn changed(&mut self) -> Result<(), DatabaseError> {
        let endpoint = || self.endpoint.clone();
        loop {
            let notification = self.connection.notification().await.map_err(|error| match error {
                RpcError::Broken { reason, .. } => DatabaseError::NoAnswer { endpoint: endpoint(), reason },
                RpcError::Garbage(reason) => DatabaseError::NotDatabase { endpoint: endpoint(), reason },
                RpcError::Method(error) => {
                    DatabaseError::NotDatabase { endpoint: endpoint(), reason: describe(&error) }
                }
            })?;
            if notification.method == "update3" {
                let read = self.monitor.update(&mut self.rows, &notification.params);
                return read.map_err(|problem| DatabaseError::Unreadable {
                    endpoint: endpoint(),
                    reason: problem.to_string(),
                });
            }
        }
    }
}

/// Why a request has no usable answer.
enum Asked {
    Call(RpcError),
    Refused(RefusedOperation),
    Unreadable(String),
    Behind(String),
}

/// How a member describes its copy of a database (`ovsdb-server(7)`, database `_Server`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberState {
    /// It is a member of a cluster; otherwise a server of its own.
    pub clustered: bool,
    /// It is the leader.
    pub leader: bool,
    /// It is connected to its cluster.
    pub connected: bool,
    /// The index of its newest entry; none: it is a server of its own.
    pub index: Option<i64>,
}

async fn state(connection: &mut Connection, database: &str) -> Result<MemberState, Asked> {
    let columns = vec!["model", "leader", "connected", "index"];
    let condition = vec![RowCondition::equal("name", Value::one(database))];
    let select = [RowOperation::Select { table: "Database", condition, columns }];
    let params = json!(["_Server", select.first().map(RowOperation::to_json)]);
    let answer = connection.call("transact", params).await.map_err(Asked::Call)?;
    let row = outcomes(&select, &answer)?.into_iter().flat_map(Outcome::rows).next();
    let row = row.ok_or_else(|| Asked::Unreadable(format!("_Server does not know {database}")))?;
    let is = |column| row.get(column).and_then(Value::boolean) == Some(true);
    Ok(MemberState {
        clustered: row.get("model").and_then(Value::text) == Some("clustered"),
        leader: is("leader"),
        connected: is("connected"),
        index: row.get("index").and_then(Value::integer),
    })
}

/// Reads the answer to a transaction: a result for each operation, and one more if the commit failed (RFC 7047, 4.1.3).
fn outcomes(operations: &[RowOperation], answer: &Json) -> Result<Vec<Outcome>, Asked> {
    let unreadable = |what: &str| Asked::Unreadable(what.to_owned());
    let results = answer.as_array().ok_or_else(|| unreadable("the answer to a transaction is no list"))?;
    for (place, result) in results.iter().enumerate() {
        let Some(error) = result.get("error").and_then(Json::as_str) else { continue };
        let details = result.get("details").and_then(Json::as_str).unwrap_or_default();
        let operation = operations.get(place);
        let message = if details.is_empty() { error.to_owned() } else { format!("{error}: {details}") };
        return Err(Asked::Refused(RefusedOperation {
            operation: operation.map(|_| place),
            table: operation.map(RowOperation::table),
            refusal: refusal(error),
            message,
        }));
    }
    if results.len() != operations.len() {
        return Err(unreadable("the results of a transaction do not fit its operations"));
    }
    let read = |(operation, result): (&RowOperation, &Json)| operation.outcome(result);
    let read: Result<_, _> = operations.iter().zip(results).map(read).collect();
    read.map_err(|problem| Asked::Unreadable(problem.to_string()))
}

/// Whether a connection broke because the server refuses our certificate: with TLS 1.3 its alert comes after the handshake.
fn denied(endpoint: &str, reason: &str) -> Option<DatabaseError> {
    let alert = atoll_model::certificate::refusal(reason)?;
    Some(DatabaseError::Denied {
        endpoint: endpoint.to_owned(),
        reason: format!("it refuses our certificate: {alert}"),
    })
}

/// An error of a method: a text, or an object with `error` and `details`.
fn describe(error: &Json) -> String {
    let text = error.as_str().or_else(|| error.get("error").and_then(Json::as_str));
    text.map_or_else(|| error.to_string().chars().take(80).collect(), str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::super::RefusalKind;
    use super::*;

    #[test]
    fn an_answer_is_read_with_its_error_wherever_it_stands() {
        let delete = |table| RowOperation::Delete { table, condition: Vec::new() };
        let operations = [delete("A"), delete("B")];
        let read = |answer: Json| match outcomes(&operations, &answer) {
            Ok(outcomes) => Ok(outcomes),
            Err(Asked::Refused(refused)) => Err(Some(refused)),
            Err(_) => Err(None),
        };
        assert_eq!(read(json!([{"count": 1}, {"count": 0}])), Ok(vec![Outcome::Count(1), Outcome::Count(0)]));
        let error = |error: &str| json!({"error": error, "details": "d"});
        let refused = |operation, table, refusal, message: &str| {
            Err(Some(RefusedOperation { operation, table, refusal, message: message.to_owned() }))
        };
        assert_eq!(
            read(json!([{"count": 1}, error("timed out")])),
            refused(Some(1), Some("B"), RefusalKind::Unmet, "timed out: d")
        );
        assert_eq!(
            read(json!([error("duplicate uuid"), null])),
            refused(Some(0), Some("A"), RefusalKind::Duplicate, "duplicate uuid: d")
        );
        assert_eq!(
            read(json!([{"count": 1}, {"count": 1}, error("constraint violation")])),
            refused(None, None, RefusalKind::Constraint, "constraint violation: d")
        );
        for wrong in [json!(null), json!([]), json!([{"count": 1}]), json!([{"count": 1}, null]), json!([{}, {}, {}])] {
            assert_eq!(read(wrong), Err(None));
        }
    }
}
