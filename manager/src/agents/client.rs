//! One method per call of an agent, in the manager's types.

use std::time::Duration;

use binlog_core::{BinlogPosition, Manifest, StreamRange};
use bytes::Bytes;
use proto::channel::MESSAGE_BYTES;
use proto::status::CallError;
use proto::v1;
use serde::{Deserialize, Serialize};
use tonic::transport::Channel;
use tonic::{Response, Status, Streaming};

use super::AgentCallError;
use super::connect::ServerAtAgent;
use super::convert::{self, BadAnswer, to_wire};
use super::stream::{self, SegmentOutcome, Step};
use crate::config::AgentEndpoint;
use crate::facts::{Identity, LogSurvey, Replica, ServerFacts};

type Result<T> = std::result::Result<T, AgentCallError>;

/// Which logs of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Logs {
    /// Its own binary logs.
    Binary,
    /// Its relay logs.
    Relay,
}

/// A claim of a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// Cluster.
    pub cluster: String,
    /// Epoch, above 0.
    pub epoch: u64,
    /// Operation.
    pub operation: String,
    /// Manager.
    pub manager: String,
}

/// What every changing call carries besides its server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Cluster.
    pub cluster: String,
    /// Operation.
    pub operation: String,
    /// Epoch.
    pub epoch: u64,
}

/// A segment in an agent's store.
#[derive(Debug, Clone)]
pub struct SegmentRef {
    /// Id.
    pub id: String,
    /// Its manifest, checked against size and digest of the answer.
    pub manifest: Manifest,
    /// As the agent described it, to hand on unchanged.
    pub wire: v1::SegmentInfo,
}

/// How mysqld was held down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Held {
    /// mysqld ran when the call came.
    pub was_running: bool,
    /// No mysqld runs any more, or a SIGKILL is pending on it.
    pub confirmed: bool,
    /// How it was stopped.
    pub how: String,
}

/// An event's identity.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldEvent {
    /// Start.
    pub start: BinlogPosition,
    /// End.
    pub end: BinlogPosition,
    /// Type code.
    pub type_code: u32,
    /// sha256 in hex.
    pub sha256: String,
}

/// A stopped receiver.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoppedReceiver {
    /// Status afterwards; positions are final.
    pub status: Replica,
    /// It ran before this operation.
    pub was_running: bool,
}

/// Outcome of a drain or replay.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Applied {
    /// Executed when the call came.
    pub executed_before: Option<BinlogPosition>,
    /// Executed after the drain.
    pub executed_drained: Option<BinlogPosition>,
    /// Executed at the end.
    pub executed_after: BinlogPosition,
    /// GTID state at the end.
    pub gtid_executed: String,
    /// The received range ended inside a transaction.
    pub half_transaction: bool,
    /// The applier was killed because of it.
    pub applier_killed: bool,
    /// The applier was found stopped without an error and started.
    pub applier_started: bool,
    /// Tables whose changes may have come twice.
    pub maybe_twice: Vec<String>,
    /// Microseconds of drain, switch, replay.
    pub phases_us: [u64; 3],
    /// Connections to the local source.
    pub connections: u32,
}

/// A promoted server, still read-only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Promoted {
    /// End of its own binary log: the others start here.
    pub position: BinlogPosition,
    /// Own GTID state.
    pub gtid_executed: String,
    /// Executed position in the dead primary's coordinates, before the reset.
    pub executed: BinlogPosition,
    /// GTID state in the dead primary's terms, before the reset.
    pub gtid_before_reset: String,
}

/// A repointed replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Repointed {
    /// Status afterwards.
    pub status: Replica,
    /// Executed position in the dead primary's coordinates, before the CHANGE.
    pub executed_before: Option<BinlogPosition>,
    /// GTID state before the CHANGE.
    pub gtid_before: String,
}

/// A connected agent. Cheap to clone; clones share the connection.
#[derive(Debug, Clone)]
pub struct AgentClient {
    endpoint: AgentEndpoint,
    channel: Channel,
    servers: Vec<ServerAtAgent>,
}

/// Waits for a unary answer, at most `limit`.
pub(super) async fn unary<T>(
    agent: &str,
    call: &'static str,
    limit: Duration,
    answer: impl Future<Output = std::result::Result<Response<T>, Status>>,
) -> Result<T> {
    match tokio::time::timeout(limit, answer).await {
        Ok(Ok(response)) => Ok(response.into_inner()),
        Ok(Err(status)) => Err(CallError::from_status(agent, &status).into()),
        Err(_) => Err(AgentCallError::TimedOut {
            agent: agent.to_owned(),
            call,
            limit_ms: limit.as_millis(),
        }),
    }
}

impl AgentClient {
    pub(super) fn new(
        endpoint: AgentEndpoint,
        channel: Channel,
        servers: Vec<ServerAtAgent>,
    ) -> Self {
        Self {
            endpoint,
            channel,
            servers,
        }
    }

    /// The agent's address and names.
    pub fn endpoint(&self) -> &AgentEndpoint {
        &self.endpoint
    }

    /// The agent's servers, as of the first call.
    pub fn servers(&self) -> &[ServerAtAgent] {
        &self.servers
    }

    fn name(&self) -> &str {
        &self.endpoint.name
    }

    fn bad(&self, call: &'static str) -> impl FnOnce(BadAnswer) -> AgentCallError {
        let agent = self.endpoint.name.clone();
        move |source| AgentCallError::Answer {
            agent,
            call,
            source,
        }
    }

    fn logs(&self) -> v1::log_service_client::LogServiceClient<Channel> {
        v1::log_service_client::LogServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
            .max_encoding_message_size(MESSAGE_BYTES)
    }

    fn replication(&self) -> v1::replication_service_client::ReplicationServiceClient<Channel> {
        v1::replication_service_client::ReplicationServiceClient::new(self.channel.clone())
            .max_decoding_message_size(MESSAGE_BYTES)
    }

    fn epochs(&self) -> v1::epoch_service_client::EpochServiceClient<Channel> {
        v1::epoch_service_client::EpochServiceClient::new(self.channel.clone())
    }

    fn fences(&self) -> v1::fence_service_client::FenceServiceClient<Channel> {
        v1::fence_service_client::FenceServiceClient::new(self.channel.clone())
    }

    /// Everything about one server. Reads only.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn observe(
        &self,
        cluster: &str,
        server: &str,
        limit: Duration,
    ) -> Result<ServerFacts> {
        const CALL: &str = "ObserveServer";
        let mut client = v1::agent_service_client::AgentServiceClient::new(self.channel.clone());
        let request = v1::ObserveServerRequest {
            cluster: cluster.to_owned(),
            server: server.to_owned(),
        };
        let state = unary(self.name(), CALL, limit, client.observe_server(request)).await?;
        if state.server != server {
            return Err(self.bad(CALL)(BadAnswer::new(
                "server",
                "the server that was asked for",
                state.server,
            )));
        }
        convert::server_facts(state).map_err(self.bad(CALL))
    }

    /// Claims the cluster; durable before the answer.
    ///
    /// # Errors
    /// See [`AgentCallError`]; kinds HELD and STALE_EPOCH name the holder.
    pub async fn claim(&self, claim: &Claim, limit: Duration) -> Result<()> {
        const CALL: &str = "ClaimEpoch";
        let request = v1::ClaimEpochRequest {
            cluster: claim.cluster.clone(),
            epoch: claim.epoch,
            operation: claim.operation.clone(),
            manager: claim.manager.clone(),
        };
        let answer = unary(self.name(), CALL, limit, self.epochs().claim_epoch(request)).await?;
        if answer.stored_epoch != claim.epoch {
            return Err(self.bad(CALL)(BadAnswer::new(
                "stored_epoch",
                "the claimed epoch",
                answer.stored_epoch.to_string(),
            )));
        }
        Ok(())
    }

    /// Gives a claim back; true if this call did.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn release(&self, context: &Context, limit: Duration) -> Result<bool> {
        let request = v1::ReleaseEpochRequest {
            cluster: context.cluster.clone(),
            epoch: context.epoch,
            operation: context.operation.clone(),
        };
        let mut client = self.epochs();
        let answer = unary(
            self.name(),
            "ReleaseEpoch",
            limit,
            client.release_epoch(request),
        );
        Ok(answer.await?.released)
    }

    /// Holds mysqld down. Idempotent.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn hold_down(
        &self,
        context: &Context,
        server: &str,
        limit: Duration,
    ) -> Result<Held> {
        let request = v1::HoldDownRequest {
            context: Some(wire_context(context, server, limit)),
        };
        let answer = unary(
            self.name(),
            "HoldDown",
            limit,
            self.fences().hold_down(request),
        )
        .await?;
        Ok(Held {
            was_running: answer.was_running,
            confirmed: answer.confirmed,
            how: answer.how,
        })
    }

    /// Ends a hold; true if there was one.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn release_hold(
        &self,
        context: &Context,
        server: &str,
        limit: Duration,
    ) -> Result<bool> {
        let request = v1::ReleaseHoldRequest {
            context: Some(wire_context(context, server, limit)),
        };
        let mut client = self.fences();
        let answer = unary(
            self.name(),
            "ReleaseHold",
            limit,
            client.release_hold(request),
        );
        Ok(answer.await?.released)
    }

    /// What a provider holds. Reads only.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn survey(
        &self,
        cluster: &str,
        server: &str,
        logs: Logs,
        from: Option<&BinlogPosition>,
        latest: Option<&BinlogPosition>,
        limit: Duration,
    ) -> Result<LogSurvey> {
        const CALL: &str = "SurveyLogs";
        let request = v1::SurveyLogsRequest {
            cluster: cluster.to_owned(),
            server: server.to_owned(),
            kind: wire_logs(logs).into(),
            from: from.map(to_wire),
            latest: latest.map(to_wire),
        };
        let answer = unary(self.name(), CALL, limit, self.logs().survey_logs(request)).await?;
        convert::survey(answer).map_err(self.bad(CALL))
    }

    /// The event nearest before a position, if the provider holds one in that file. Reads only.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn describe_event(
        &self,
        cluster: &str,
        server: &str,
        logs: Logs,
        before: &BinlogPosition,
        latest: Option<&BinlogPosition>,
        limit: Duration,
    ) -> Result<Option<HeldEvent>> {
        const CALL: &str = "DescribeEvent";
        let request = v1::DescribeEventRequest {
            cluster: cluster.to_owned(),
            server: server.to_owned(),
            kind: wire_logs(logs).into(),
            before: Some(to_wire(before)),
            latest: latest.map(to_wire),
        };
        let answer = unary(
            self.name(),
            CALL,
            limit,
            self.logs().describe_event(request),
        )
        .await?;
        let Some(event) = answer.event else {
            return Ok(None);
        };
        let convert = || {
            Ok(HeldEvent {
                start: convert::required("event.start", event.start)?,
                end: convert::required("event.end", event.end)?,
                type_code: event.type_code,
                sha256: hex::encode(&event.sha256),
            })
        };
        convert().map(Some).map_err(self.bad(CALL))
    }

    /// Cuts the dead primary's tail.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn save_binary_logs(
        &self,
        context: &Context,
        server: &str,
        from: &BinlogPosition,
        stall: Duration,
    ) -> Result<SegmentOutcome> {
        let request = v1::SaveBinaryLogsRequest {
            context: Some(wire_context(context, server, stall)),
            from: Some(to_wire(from)),
        };
        let mut client = self.logs();
        self.segment_stream("SaveBinaryLogs", stall, client.save_binary_logs(request))
            .await
    }

    /// Cuts a range of relay logs.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn generate_diff(
        &self,
        context: &Context,
        server: &str,
        range: &StreamRange,
        latest: Option<&BinlogPosition>,
        stall: Duration,
    ) -> Result<SegmentOutcome> {
        let request = v1::GenerateDiffRelayLogsRequest {
            context: Some(wire_context(context, server, stall)),
            range: Some(v1::StreamRange {
                from: Some(to_wire(&range.from)),
                to: Some(to_wire(&range.to)),
            }),
            latest: latest.map(to_wire),
        };
        let mut client = self.logs();
        self.segment_stream(
            "GenerateDiffRelayLogs",
            stall,
            client.generate_diff_relay_logs(request),
        )
        .await
    }

    /// Makes this agent fetch a segment from another.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn pull_segment(
        &self,
        context: &Context,
        server: &str,
        segment: &SegmentRef,
        provider: &AgentEndpoint,
        provider_server: &str,
        stall: Duration,
    ) -> Result<SegmentOutcome> {
        let request = v1::PullSegmentRequest {
            context: Some(wire_context(context, server, stall)),
            address: provider.address.clone(),
            certificate_name: provider.dns_name.clone(),
            segment: Some(segment.wire.clone()),
            provider_server: provider_server.to_owned(),
        };
        let mut client = self.logs();
        self.segment_stream("PullSegment", stall, client.pull_segment(request))
            .await
    }

    async fn segment_stream(
        &self,
        call: &'static str,
        stall: Duration,
        opening: impl Future<
            Output = std::result::Result<Response<Streaming<v1::SegmentProgress>>, Status>,
        >,
    ) -> Result<SegmentOutcome> {
        stream::drive(self.name(), call, stall, opening, stream::segment_step()).await
    }

    /// Reads a stored segment; `sink` gets the chunks in order, each with its offset, checked by CRC. Returns the number of bytes.
    ///
    /// # Errors
    /// See [`AgentCallError`]; an error of `sink` is a bad answer that names it.
    pub async fn read_segment(
        &self,
        context: &Context,
        server: &str,
        segment: &SegmentRef,
        stall: Duration,
        mut sink: impl FnMut(&Bytes) -> std::io::Result<()>,
    ) -> Result<()> {
        const CALL: &str = "ReadSegment";
        let size = segment.manifest.size;
        if size == 0 {
            return Ok(());
        }
        let request = v1::ReadSegmentRequest {
            cluster: context.cluster.clone(),
            server: server.to_owned(),
            operation: context.operation.clone(),
            segment_id: segment.id.clone(),
            offset: 0,
        };
        let mut client = self.logs();
        let mut expected = 0u64;
        let step = |chunk: v1::SegmentChunk| {
            if chunk.offset != expected || chunk.data.is_empty() {
                return Err(BadAnswer::new(
                    "chunk.offset",
                    "the next offset and some bytes",
                    format!("{} with {} bytes", chunk.offset, chunk.data.len()),
                ));
            }
            if crc32fast::hash(&chunk.data) != chunk.crc32 {
                return Err(BadAnswer::new(
                    "chunk.crc32",
                    "the checksum of the bytes",
                    format!("{:08x}", chunk.crc32),
                ));
            }
            expected += chunk.data.len() as u64;
            if expected > size {
                return Err(BadAnswer::new(
                    "chunk",
                    "no more bytes than announced",
                    expected.to_string(),
                ));
            }
            sink(&chunk.data)
                .map_err(|e| BadAnswer::new("chunk", "room to write it", e.to_string()))?;
            Ok(if expected == size {
                Step::Done(())
            } else {
                Step::Moved
            })
        };
        stream::drive(self.name(), CALL, stall, client.read_segment(request), step).await
    }

    /// Stops the receiver. Idempotent.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn stop_receiver(
        &self,
        context: &Context,
        server: &str,
        limit: Duration,
    ) -> Result<StoppedReceiver> {
        const CALL: &str = "StopReceiver";
        let request = v1::StopReceiverRequest {
            context: Some(wire_context(context, server, limit)),
        };
        let answer = unary(
            self.name(),
            CALL,
            limit,
            self.replication().stop_receiver(request),
        )
        .await?;
        Ok(StoppedReceiver {
            status: self.status(CALL, answer.status)?,
            was_running: answer.was_running,
        })
    }

    /// Drains the applier, then replays segments. Idempotent.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn apply(
        &self,
        context: &Context,
        server: &str,
        segment_ids: Vec<String>,
        until: &BinlogPosition,
        source: &Identity,
        stall: Duration,
    ) -> Result<Applied> {
        const CALL: &str = "ApplyLogs";
        /// Agents judge progress; a status that never changes is still not believed forever.
        const PATIENCE: u32 = 20;
        let request = v1::ApplyLogsRequest {
            context: Some(wire_context(context, server, stall)),
            segment_ids,
            until: Some(to_wire(until)),
            source: Some(wire_source(source)),
        };
        let mut client = self.replication();
        let mut last = None;
        let mut same = tokio::time::Instant::now();
        let step = |message: v1::ApplyProgress| match message.event {
            Some(v1::apply_progress::Event::Status(status)) => {
                if last.as_ref() != Some(&status) {
                    last = Some(status);
                    same = tokio::time::Instant::now();
                }
                Ok(if same.elapsed() < stall * PATIENCE {
                    Step::Moved
                } else {
                    Step::Still
                })
            }
            Some(v1::apply_progress::Event::Done(done)) => applied(done).map(Step::Done),
            None => Err(BadAnswer::new("event", "a status or a result", "nothing")),
        };
        stream::drive(self.name(), CALL, stall, client.apply_logs(request), step).await
    }

    /// Makes the server no replica any more; it stays read-only.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn promote(
        &self,
        context: &Context,
        server: &str,
        executed_at_least: &BinlogPosition,
        limit: Duration,
    ) -> Result<Promoted> {
        const CALL: &str = "Promote";
        let request = v1::PromoteRequest {
            context: Some(wire_context(context, server, limit)),
            executed_at_least: Some(to_wire(executed_at_least)),
        };
        let answer = unary(
            self.name(),
            CALL,
            limit,
            self.replication().promote(request),
        )
        .await?;
        let convert = || {
            Ok(Promoted {
                position: convert::required("position", answer.position)?,
                gtid_executed: answer.gtid_executed,
                executed: convert::required("executed", answer.executed)?,
                gtid_before_reset: answer.gtid_before_reset,
            })
        };
        convert().map_err(self.bad(CALL))
    }

    /// read_only=0: the point of no return.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn make_writable(
        &self,
        context: &Context,
        server: &str,
        limit: Duration,
    ) -> Result<()> {
        const CALL: &str = "MakeWritable";
        let request = v1::MakeWritableRequest {
            context: Some(wire_context(context, server, limit)),
        };
        let answer = unary(
            self.name(),
            CALL,
            limit,
            self.replication().make_writable(request),
        )
        .await?;
        if answer.read_only {
            return Err(self.bad(CALL)(BadAnswer::new("read_only", "false", "true")));
        }
        Ok(())
    }

    /// Points the replica at a new source.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn repoint(
        &self,
        context: &Context,
        server: &str,
        to: &crate::config::HostPort,
        position: &BinlogPosition,
        executed_at_least: &BinlogPosition,
        limit: Duration,
    ) -> Result<Repointed> {
        const CALL: &str = "Repoint";
        let request = v1::RepointRequest {
            context: Some(wire_context(context, server, limit)),
            host: to.host.clone(),
            port: u32::from(to.port),
            position: Some(to_wire(position)),
            keep_gtid_mode: true,
            executed_at_least: Some(to_wire(executed_at_least)),
        };
        let answer = unary(
            self.name(),
            CALL,
            limit,
            self.replication().repoint(request),
        )
        .await?;
        Ok(Repointed {
            status: self.status(CALL, answer.status)?,
            executed_before: convert::position("executed_before", answer.executed_before)
                .map_err(self.bad(CALL))?,
            gtid_before: answer.gtid_before,
        })
    }

    /// Undoes what was done to a survivor before the promotion.
    ///
    /// # Errors
    /// See [`AgentCallError`].
    pub async fn resume_replication(
        &self,
        context: &Context,
        server: &str,
        limit: Duration,
    ) -> Result<Replica> {
        const CALL: &str = "ResumeReplication";
        let request = v1::ResumeReplicationRequest {
            context: Some(wire_context(context, server, limit)),
        };
        let answer = unary(
            self.name(),
            CALL,
            limit,
            self.replication().resume_replication(request),
        )
        .await?;
        self.status(CALL, answer.status)
    }

    fn status(&self, call: &'static str, wire: Option<v1::ReplicaStatus>) -> Result<Replica> {
        wire.ok_or_else(|| BadAnswer::new("status", "a replication status", "nothing"))
            .and_then(convert::replica)
            .map_err(self.bad(call))
    }
}

fn wire_logs(logs: Logs) -> v1::LogKind {
    match logs {
        Logs::Binary => v1::LogKind::Binary,
        Logs::Relay => v1::LogKind::Relay,
    }
}

fn wire_context(context: &Context, server: &str, limit: Duration) -> v1::CallContext {
    v1::CallContext {
        cluster: context.cluster.clone(),
        server: server.to_owned(),
        operation: context.operation.clone(),
        epoch: context.epoch,
        deadline_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX).max(1),
    }
}

fn wire_source(identity: &Identity) -> v1::SourceIdentity {
    let flavor = match identity.flavor {
        crate::facts::Flavor::Mysql => v1::Flavor::Mysql,
        crate::facts::Flavor::MariaDb => v1::Flavor::Mariadb,
    };
    v1::SourceIdentity {
        server_id: identity.server_id,
        server_uuid: identity.server_uuid.clone(),
        flavor: flavor.into(),
        version: identity.version.clone(),
        gtid_mode: identity.gtid_mode.clone(),
        binlog_checksum: identity.binlog_checksum.clone(),
    }
}

fn applied(done: v1::ApplyResult) -> std::result::Result<Applied, BadAnswer> {
    Ok(Applied {
        executed_before: convert::position("executed_before", done.executed_before)?,
        executed_drained: convert::position("executed_drained", done.executed_drained)?,
        executed_after: convert::required("executed_after", done.executed_after)?,
        gtid_executed: done.gtid_executed,
        half_transaction: done.half_transaction,
        applier_killed: done.applier_killed,
        applier_started: done.applier_started,
        maybe_twice: done.maybe_twice,
        phases_us: [done.drain_us, done.switch_us, done.replay_us],
        connections: done.connections,
    })
}
