//! An agent of one fake server: speaks the protocol, changes the world.

use std::pin::Pin;

use binlog_core::{BinlogPosition, Manifest, ManifestExtent, StreamRange};
use proto::status::AgentError;
use proto::v1::{self, ErrorKind};
use sha2::{Digest, Sha256};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::world::{FakeServer, Shared, fault, lock, whole};

const FILE: &str = "mysql-bin.000001";

/// One agent, one server.
#[derive(Clone)]
pub struct FakeAgent {
    world: Shared,
    server: String,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl FakeAgent {
    /// Serves on a port of its own; returns its address.
    pub async fn spawn(world: Shared, server: &str) -> (String, tokio::task::JoinHandle<()>) {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let agent = Self {
            world,
            server: server.to_owned(),
        };
        let serving = tokio::spawn(async move {
            proto::channel::configure_server(tonic::transport::Server::builder())
                .add_service(v1::agent_service_server::AgentServiceServer::new(
                    agent.clone(),
                ))
                .add_service(v1::epoch_service_server::EpochServiceServer::new(
                    agent.clone(),
                ))
                .add_service(v1::fence_service_server::FenceServiceServer::new(
                    agent.clone(),
                ))
                .add_service(v1::log_service_server::LogServiceServer::new(agent.clone()))
                .add_service(v1::replication_service_server::ReplicationServiceServer::new(agent))
                .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        (address, serving)
    }

    async fn fault(&self, call: &'static str) -> Result<(), Status> {
        fault(&self.world, &self.server, call).await
    }

    fn check(&self, context: &Option<v1::CallContext>) -> Result<(), Status> {
        let context = context.as_ref().unwrap();
        assert!(context.deadline_ms > 0);
        assert_eq!(context.cluster, "app1");
        let mut world = lock(&self.world);
        let server = world.server(&self.server);
        let holds = server.epoch == context.epoch
            && server
                .holder
                .as_ref()
                .is_some_and(|(o, _)| *o == context.operation);
        if holds {
            Ok(())
        } else {
            Err(AgentError::new(ErrorKind::StaleEpoch, "not the stored pair").into())
        }
    }

    fn change<T>(&self, change: impl FnOnce(&mut FakeServer) -> T) -> T {
        change(lock(&self.world).server(&self.server))
    }
}

fn at(offset: u64) -> BinlogPosition {
    BinlogPosition::new(FILE.parse().unwrap(), offset)
}

fn wire(offset: u64) -> Option<v1::BinlogPosition> {
    Some((&at(offset)).into())
}

fn one<T: Send + 'static>(message: T) -> Response<Streamed<T>> {
    Response::new(Box::pin(tokio_stream::iter([Ok(message)])))
}

/// Bytes of a segment: as many as its range, so that digests differ by range.
fn bytes(from: u64, to: u64) -> Vec<u8> {
    (from..to).map(|o| (o % 251) as u8).collect()
}

fn info(id: &str, from: u64, to: u64, lies: bool) -> v1::SegmentInfo {
    let body = bytes(from, to);
    let sha256 = Sha256::digest(&body);
    let extent = |from: u64, to: u64, segment_offset: u64| ManifestExtent {
        file: FILE.parse().unwrap(),
        from,
        to,
        segment_offset,
    };
    // Where a transaction was taken out, the extents tell.
    let extents = if lies {
        vec![extent(from, from + 214, 0), extent(from + 428, to, 214)]
    } else {
        vec![extent(from, to, 0)]
    };
    let manifest = Manifest {
        format_version: 1,
        range: StreamRange::new(at(from), at(to)),
        extents,
        events: (to - from) / 107,
        transactions: (to - from) / 214,
        whole_end: Some(at(to)),
        size: body.len() as u64,
        sha256: hex::encode(sha256),
        provider: "fake".into(),
        dropped_bytes: 0,
        original_format_description: String::new(),
        made_up_rotates: vec![],
    };
    v1::SegmentInfo {
        id: id.into(),
        size: body.len() as u64,
        sha256: sha256.to_vec().into(),
        manifest_json: manifest.to_json().unwrap().into(),
    }
}

fn done(info: v1::SegmentInfo) -> v1::SegmentProgress {
    v1::SegmentProgress {
        event: Some(v1::segment_progress::Event::Done(info)),
    }
}

fn status(server: &FakeServer) -> v1::ReplicaStatus {
    let receiver = match (server.receiver_running, server.connected) {
        (false, _) => v1::ReceiverState::Stopped,
        (true, false) => v1::ReceiverState::Connecting,
        (true, true) => v1::ReceiverState::Running,
    };
    v1::ReplicaStatus {
        source_host: server.source_host.clone(),
        source_port: u32::from(server.source_port),
        source_user: "repl".into(),
        receiver: receiver.into(),
        applier_running: server.applier_running,
        read: wire(server.received),
        executed: wire(server.executed),
        applier_errno: server.applier_errno,
        applier_error: if server.applier_errno == 0 {
            ""
        } else {
            "it broke"
        }
        .into(),
        source_server_id: 1,
        source_uuid: "11111111-1111-1111-1111-111111111111".into(),
        channels: server.channels,
        ..Default::default()
    }
}

#[tonic::async_trait]
impl v1::agent_service_server::AgentService for FakeAgent {
    async fn get_agent_info(
        &self,
        _: Request<v1::GetAgentInfoRequest>,
    ) -> Result<Response<v1::GetAgentInfoResponse>, Status> {
        self.fault("GetAgentInfo").await?;
        let (epoch, holder) = self.change(|s| (s.epoch, s.holder.clone()));
        let (operation, manager) = holder.unwrap_or_default();
        Ok(Response::new(v1::GetAgentInfoResponse {
            name: self.server.clone(),
            version: "0".into(),
            protocol_revision: proto::PROTOCOL_REVISION,
            servers: vec![v1::AgentServer {
                name: self.server.clone(),
                cluster: "app1".into(),
                stored_epoch: epoch,
                holder_operation: operation,
                holder_manager: manager,
            }],
            ..Default::default()
        }))
    }

    async fn observe_server(
        &self,
        _: Request<v1::ObserveServerRequest>,
    ) -> Result<Response<v1::ServerState>, Status> {
        self.fault("ObserveServer").await?;
        let server = self.change(|s| s.clone());
        let process = if server.alive {
            v1::ProcessState::Running
        } else {
            v1::ProcessState::NotRunning
        };
        Ok(Response::new(v1::ServerState {
            server: server.name.clone(),
            process: process.into(),
            sql_alive: server.alive,
            sql_error: if server.alive { "" } else { "no socket" }.into(),
            identity: Some(v1::ServerIdentity {
                flavor: v1::Flavor::Mysql.into(),
                version: server.version.into(),
                server_id: server.server_id,
                server_uuid: format!(
                    "{0}{0}{0}{0}{0}{0}{0}{0}-{0}{0}{0}{0}-{0}{0}{0}{0}-{0}{0}{0}{0}-{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}{0}",
                    server.server_id
                ),
                binlog_checksum: "CRC32".into(),
                gtid_mode: "OFF".into(),
                ..Default::default()
            }),
            settings: server.alive.then(|| v1::ServerSettings {
                read_only: server.read_only,
                log_bin: server.log_bin,
                ..Default::default()
            }),
            replica: (server.alive && server.replica).then(|| status(&server)),
            credentials_source: "config".into(),
            ..Default::default()
        }))
    }
}

#[tonic::async_trait]
impl v1::epoch_service_server::EpochService for FakeAgent {
    async fn claim_epoch(
        &self,
        request: Request<v1::ClaimEpochRequest>,
    ) -> Result<Response<v1::ClaimEpochResponse>, Status> {
        self.fault("ClaimEpoch").await?;
        let request = request.into_inner();
        self.change(|s| {
            let same = s
                .holder
                .as_ref()
                .is_some_and(|(o, _)| *o == request.operation);
            if request.epoch > s.epoch || (request.epoch == s.epoch && same) {
                s.epoch = request.epoch;
                s.holder = Some((request.operation, request.manager));
                Ok(Response::new(v1::ClaimEpochResponse {
                    stored_epoch: s.epoch,
                }))
            } else {
                let holder = s.holder.clone().map(|h| h.0).unwrap_or_default();
                Err(AgentError::new(ErrorKind::Held, "another operation")
                    .with_holder(s.epoch, holder)
                    .into())
            }
        })
    }

    async fn release_epoch(
        &self,
        request: Request<v1::ReleaseEpochRequest>,
    ) -> Result<Response<v1::ReleaseEpochResponse>, Status> {
        self.fault("ReleaseEpoch").await?;
        let request = request.into_inner();
        let released = self.change(|s| {
            let held = s
                .holder
                .as_ref()
                .is_some_and(|(o, _)| *o == request.operation)
                && s.epoch == request.epoch;
            if held {
                s.holder = None;
            }
            held
        });
        Ok(Response::new(v1::ReleaseEpochResponse { released }))
    }
}

#[tonic::async_trait]
impl v1::fence_service_server::FenceService for FakeAgent {
    async fn hold_down(
        &self,
        request: Request<v1::HoldDownRequest>,
    ) -> Result<Response<v1::HoldDownResponse>, Status> {
        self.fault("HoldDown").await?;
        let context = request.into_inner().context;
        self.check(&context)?;
        let was_running = self.change(|s| {
            s.held_down_by = context.map(|c| c.operation).unwrap_or_default();
            std::mem::replace(&mut s.alive, false)
        });
        Ok(Response::new(v1::HoldDownResponse {
            was_running,
            confirmed: true,
            how: if was_running {
                "SIGKILL"
            } else {
                "not running"
            }
            .into(),
        }))
    }

    async fn release_hold(
        &self,
        request: Request<v1::ReleaseHoldRequest>,
    ) -> Result<Response<v1::ReleaseHoldResponse>, Status> {
        self.fault("ReleaseHold").await?;
        self.check(&request.into_inner().context)?;
        let released = self.change(|s| !std::mem::take(&mut s.held_down_by).is_empty());
        Ok(Response::new(v1::ReleaseHoldResponse { released }))
    }
}

#[tonic::async_trait]
impl v1::log_service_server::LogService for FakeAgent {
    type SaveBinaryLogsStream = Streamed<v1::SegmentProgress>;
    type GenerateDiffRelayLogsStream = Streamed<v1::SegmentProgress>;
    type PullSegmentStream = Streamed<v1::SegmentProgress>;
    type ReadSegmentStream = Streamed<v1::SegmentChunk>;

    async fn survey_logs(
        &self,
        request: Request<v1::SurveyLogsRequest>,
    ) -> Result<Response<v1::SurveyLogsResponse>, Status> {
        self.fault("SurveyLogs").await?;
        let request = request.into_inner();
        let server = self.change(|s| s.clone());
        let from = match request.kind() {
            v1::LogKind::Binary => request.from.map_or(4, |p| p.offset),
            _ => server.held_from,
        };
        let to = server.corrupt_at.unwrap_or(server.received);
        let last = whole(to);
        let kind = match server.corrupt_at {
            Some(_) => v1::LogEndKind::Corrupt,
            None => v1::LogEndKind::InUse,
        };
        Ok(Response::new(v1::SurveyLogsResponse {
            ranges: if from < to {
                vec![v1::StreamRange {
                    from: wire(from),
                    to: wire(to),
                }]
            } else {
                vec![]
            },
            holes: vec![],
            end: Some(v1::LogEnd {
                kind: kind.into(),
                file: FILE.into(),
                offset: to,
                detail: String::new(),
            }),
            whole_end: wire(last),
            data_end: wire(to),
            last_transaction: (last > from).then(|| v1::TransactionRef {
                end: wire(last),
                gtid: String::new(),
                xid: Some(last),
            }),
            walked_bytes: to.saturating_sub(from),
        }))
    }

    async fn find_relay_logs(
        &self,
        _: Request<v1::FindRelayLogsRequest>,
    ) -> Result<Response<v1::FindRelayLogsResponse>, Status> {
        Err(Status::unimplemented("not asked by a failover"))
    }

    async fn describe_event(
        &self,
        request: Request<v1::DescribeEventRequest>,
    ) -> Result<Response<v1::DescribeEventResponse>, Status> {
        self.fault("DescribeEvent").await?;
        let before = request.into_inner().before.unwrap().offset;
        let server = self.change(|s| s.clone());
        let end = whole(before.min(server.received));
        if end <= server.held_from {
            return Ok(Response::new(v1::DescribeEventResponse { event: None }));
        }
        let salt = u8::from(server.diverged);
        Ok(Response::new(v1::DescribeEventResponse {
            event: Some(v1::EventDigest {
                start: wire(end - 31),
                end: wire(end),
                type_code: 16,
                sha256: Sha256::digest([end as u8, salt]).to_vec().into(),
            }),
        }))
    }

    async fn save_binary_logs(
        &self,
        request: Request<v1::SaveBinaryLogsRequest>,
    ) -> Result<Response<Self::SaveBinaryLogsStream>, Status> {
        self.fault("SaveBinaryLogs").await?;
        let request = request.into_inner();
        self.check(&request.context)?;
        let from = request.from.unwrap().offset;
        let id = format!("tail-{FILE}-{from}");
        let (to, lies) = self.change(|s| {
            assert!(!s.alive, "mysqld runs while its log is read");
            let to = whole(s.corrupt_at.unwrap_or(s.received));
            s.segments.insert(id.clone(), (from, to));
            (to, s.drops_a_transaction)
        });
        Ok(one(done(info(&id, from, to, lies))))
    }

    async fn generate_diff_relay_logs(
        &self,
        request: Request<v1::GenerateDiffRelayLogsRequest>,
    ) -> Result<Response<Self::GenerateDiffRelayLogsStream>, Status> {
        self.fault("GenerateDiffRelayLogs").await?;
        let request = request.into_inner();
        self.check(&request.context)?;
        let range = request.range.unwrap();
        let (from, to) = (range.from.unwrap().offset, range.to.unwrap().offset);
        let id = format!("diff-{}-{FILE}-{from}", self.server);
        self.change(|s| {
            assert!(s.held_from <= from && to <= s.received);
            s.segments.insert(id.clone(), (from, to));
        });
        Ok(one(done(info(&id, from, to, false))))
    }

    async fn pull_segment(
        &self,
        request: Request<v1::PullSegmentRequest>,
    ) -> Result<Response<Self::PullSegmentStream>, Status> {
        self.fault("PullSegment").await?;
        let request = request.into_inner();
        self.check(&request.context)?;
        let segment = request.segment.unwrap();
        let held = lock(&self.world)
            .server(&request.provider_server)
            .segments
            .get(&segment.id)
            .copied()
            .unwrap();
        self.change(|s| s.segments.insert(segment.id.clone(), held));
        Ok(one(done(segment)))
    }

    async fn read_segment(
        &self,
        request: Request<v1::ReadSegmentRequest>,
    ) -> Result<Response<Self::ReadSegmentStream>, Status> {
        self.fault("ReadSegment").await?;
        let id = request.into_inner().segment_id;
        let (from, to) = self.change(|s| s.segments.get(&id).copied()).unwrap();
        let data: bytes::Bytes = bytes(from, to).into();
        Ok(one(v1::SegmentChunk {
            offset: 0,
            crc32: crc32fast::hash(&data),
            data,
        }))
    }
}

#[tonic::async_trait]
impl v1::replication_service_server::ReplicationService for FakeAgent {
    type ApplyLogsStream = Streamed<v1::ApplyProgress>;

    async fn stop_receiver(
        &self,
        request: Request<v1::StopReceiverRequest>,
    ) -> Result<Response<v1::StopReceiverResponse>, Status> {
        self.fault("StopReceiver").await?;
        self.check(&request.into_inner().context)?;
        Ok(Response::new(self.change(|s| {
            let was_running = std::mem::replace(&mut s.receiver_running, false);
            v1::StopReceiverResponse {
                status: Some(status(s)),
                was_running,
            }
        })))
    }

    async fn apply_logs(
        &self,
        request: Request<v1::ApplyLogsRequest>,
    ) -> Result<Response<Self::ApplyLogsStream>, Status> {
        self.fault("ApplyLogs").await?;
        let request = request.into_inner();
        self.check(&request.context)?;
        let until = request.until.unwrap().offset;
        assert_eq!(request.source.unwrap().server_id, 1);
        let applied = self.change(|s| {
            let before = s.executed;
            let started = !s.applier_running;
            s.executed = s.executed.max(whole(s.received));
            let drained = s.executed;
            for id in &request.segment_ids {
                let (from, to) = s.segments.get(id).copied().unwrap();
                assert!(from <= s.executed, "segments meet what was executed");
                s.executed = s.executed.max(to);
            }
            (before, drained, s.executed, started)
        });
        let (before, drained, after, started) = applied;
        if after < until {
            return Err(AgentError::new(ErrorKind::RangeNotHeld, "segments end too early").into());
        }
        let result = v1::ApplyResult {
            executed_before: wire(before),
            executed_drained: wire(drained),
            executed_after: wire(after),
            applier_started: started,
            connections: 1,
            ..Default::default()
        };
        Ok(one(v1::ApplyProgress {
            event: Some(v1::apply_progress::Event::Done(result)),
        }))
    }

    async fn promote(
        &self,
        request: Request<v1::PromoteRequest>,
    ) -> Result<Response<v1::PromoteResponse>, Status> {
        self.fault("Promote").await?;
        let request = request.into_inner();
        self.check(&request.context)?;
        let executed = self.change(|s| {
            s.replica = false;
            s.executed
        });
        if executed < request.executed_at_least.unwrap().offset {
            return Err(AgentError::new(ErrorKind::Conflict, "behind").into());
        }
        Ok(Response::new(v1::PromoteResponse {
            position: Some(v1::BinlogPosition {
                file: "new-bin.000007".into(),
                offset: 999,
            }),
            executed: wire(executed),
            ..Default::default()
        }))
    }

    async fn make_writable(
        &self,
        request: Request<v1::MakeWritableRequest>,
    ) -> Result<Response<v1::MakeWritableResponse>, Status> {
        self.fault("MakeWritable").await?;
        self.check(&request.into_inner().context)?;
        self.change(|s| {
            assert!(!s.replica, "promoted before it is opened");
            s.read_only = false;
        });
        Ok(Response::new(v1::MakeWritableResponse { read_only: false }))
    }

    async fn repoint(
        &self,
        request: Request<v1::RepointRequest>,
    ) -> Result<Response<v1::RepointResponse>, Status> {
        self.fault("Repoint").await?;
        let request = request.into_inner();
        self.check(&request.context)?;
        let position = request.position.unwrap();
        assert_eq!(
            (position.file.as_str(), position.offset),
            ("new-bin.000007", 999)
        );
        let least = request.executed_at_least.unwrap().offset;
        self.change(|s| {
            if s.executed < least {
                return Err(AgentError::new(ErrorKind::Conflict, "behind").into());
            }
            s.replicates_from = Some((request.host, request.port as u16));
            Ok(Response::new(v1::RepointResponse {
                status: Some(status(s)),
                executed_before: wire(s.executed),
                gtid_before: String::new(),
            }))
        })
    }

    async fn resume_replication(
        &self,
        request: Request<v1::ResumeReplicationRequest>,
    ) -> Result<Response<v1::ResumeReplicationResponse>, Status> {
        self.fault("ResumeReplication").await?;
        self.check(&request.into_inner().context)?;
        Ok(Response::new(self.change(|s| {
            s.receiver_running = true;
            v1::ResumeReplicationResponse {
                status: Some(status(s)),
            }
        })))
    }
}
