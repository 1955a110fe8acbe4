//! An agent of one fake server: speaks the protocol, changes the world.

use std::path::{Path, PathBuf};
use std::pin::Pin;

use binlog_core::{BinaryLogs, BinlogPosition, CutPlan, LogEnd, Manifest, ManifestExtent};
use proto::status::AgentError;
use proto::v1::{self, ErrorKind};
use sha2::{Digest, Sha256};
use tokio_stream::Stream;
use tonic::{Request, Response, Status};

use super::logs::{self, FILE};
use super::world::{FakeServer, Shared, fault, lock, whole};

/// One agent, one server.
#[derive(Clone)]
pub(crate) struct FakeAgent {
    pub(crate) world: Shared,
    pub(crate) server: String,
}

type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl FakeAgent {
    /// Serves on a port of its own; returns its address.
    pub(crate) async fn spawn(
        world: Shared,
        server: &str,
    ) -> (String, tokio::task::JoinHandle<()>) {
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
                .add_service(v1::watch_service_server::WatchServiceServer::new(
                    agent.clone(),
                ))
                .add_service(v1::lease_service_server::LeaseServiceServer::new(
                    agent.clone(),
                ))
                .add_service(v1::replication_service_server::ReplicationServiceServer::new(agent))
                .serve_with_incoming(tokio_stream::wrappers::TcpListenerStream::new(listener))
                .await
                .unwrap();
        });
        (address, serving)
    }

    pub(crate) async fn fault(&self, call: &'static str) -> Result<(), Status> {
        fault(&self.world, &self.server, call).await
    }

    pub(crate) fn check(&self, context: &Option<v1::CallContext>) -> Result<(), Status> {
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

    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut FakeServer) -> T) -> T {
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

/// The logs of a server as they are now.
fn open(server: &FakeServer) -> BinaryLogs {
    let mut bytes = logs::binary_log(server.received, u8::from(server.diverged));
    if let Some(at) = server.corrupt_at
        && let Some(byte) = bytes.get_mut(at as usize + 25)
    {
        *byte ^= 0xff;
    }
    BinaryLogs::open(&logs::write(&server.folder.join("log"), &bytes)).unwrap()
}

fn segment_path(server: &FakeServer, id: &str) -> PathBuf {
    let folder = server.folder.join("segments");
    std::fs::create_dir_all(&folder).unwrap();
    folder.join(id)
}

fn cut(server: &FakeServer, id: &str, from: u64, to: Option<u64>) -> v1::SegmentInfo {
    let path = segment_path(server, id);
    let plan = open(server)
        .plan_cut(&at(from), to.map(at).as_ref())
        .unwrap();
    let CutPlan::Cut(cut) = plan else {
        panic!("nothing to cut: {plan:?}")
    };
    cut.write(&path, &server.name, &mut |_| {}).unwrap();
    if server.drops_a_transaction {
        drop_second_transaction(&path);
    }
    info(server, id)
}

/// A provider that lost a transaction and whose manifest agrees with what is left.
fn drop_second_transaction(path: &Path) {
    let mut manifest = Manifest::load(path).unwrap();
    let mut bytes = std::fs::read(path).unwrap();
    let extent = manifest.extents.remove(0);
    let place = extent.segment_offset;
    bytes.drain(place as usize + 214..place as usize + 428);
    let part = |from, to, segment_offset| ManifestExtent {
        file: extent.file.clone(),
        from,
        to,
        segment_offset,
        length: to - from,
    };
    manifest.extents = vec![
        part(extent.from, extent.from + 214, place),
        part(extent.from + 428, extent.to, place + 214),
    ];
    manifest.transactions -= 1;
    manifest.size = bytes.len() as u64;
    manifest.sha256 = hex::encode(Sha256::digest(&bytes));
    std::fs::write(path, &bytes).unwrap();
    std::fs::write(Manifest::path_for(path), manifest.to_json()).unwrap();
}

fn info(server: &FakeServer, id: &str) -> v1::SegmentInfo {
    let path = segment_path(server, id);
    let manifest = Manifest::load(&path).unwrap();
    v1::SegmentInfo {
        id: id.into(),
        size: manifest.size,
        sha256: hex::decode(&manifest.sha256).unwrap().into(),
        manifest_json: manifest.to_json().into(),
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
            configured_read_only: Some(v1::ConfiguredReadOnly {
                answer: v1::Answer::Yes.into(),
                evidence: "read_only=1 at my.cnf:2".into(),
            }),
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
                    assignment: s.assignment.clone(),
                    vouched_ms_ago: s.vouched_ms_ago,
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

    async fn take_address(
        &self,
        request: Request<v1::TakeAddressRequest>,
    ) -> Result<Response<v1::TakeAddressResponse>, Status> {
        self.fault("TakeAddress").await?;
        let request = request.into_inner();
        self.check(&request.context)?;
        let was_there = self.change(|s| {
            let fenced = request.holder_fenced;
            let before = s.address.replace((request.address.unwrap(), fenced));
            before.is_some()
        });
        Ok(Response::new(v1::TakeAddressResponse { was_there }))
    }

    async fn drop_address(
        &self,
        request: Request<v1::DropAddressRequest>,
    ) -> Result<Response<v1::DropAddressResponse>, Status> {
        self.fault("DropAddress").await?;
        self.check(&request.into_inner().context)?;
        let was_there = self.change(|s| s.address.take().is_some());
        Ok(Response::new(v1::DropAddressResponse { was_there }))
    }

    async fn get_address(
        &self,
        _: Request<v1::GetAddressRequest>,
    ) -> Result<Response<v1::GetAddressResponse>, Status> {
        self.fault("GetAddress").await?;
        let up = self.change(|s| s.address.is_some());
        let up = if up { v1::Answer::Yes } else { v1::Answer::No };
        Ok(Response::new(v1::GetAddressResponse {
            up: up.into(),
            ..Default::default()
        }))
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
        if from >= server.received {
            return Ok(Response::new(v1::SurveyLogsResponse::default()));
        }
        let survey = open(&server).survey(Some(&at(from))).unwrap();
        let kind = match survey.end {
            LogEnd::Corrupt { .. } => v1::LogEndKind::Corrupt,
            _ => v1::LogEndKind::InUse,
        };
        Ok(Response::new(v1::SurveyLogsResponse {
            ranges: survey.ranges.iter().map(Into::into).collect(),
            holes: vec![],
            end: Some(v1::LogEnd {
                kind: kind.into(),
                file: FILE.into(),
                offset: survey.end.offset(),
                detail: String::new(),
            }),
            whole_end: survey.whole_end.map(Into::into),
            data_end: survey.data_end.map(Into::into),
            last_transaction: survey.last_transaction.map(|t| v1::TransactionRef {
                end: Some(t.end.into()),
                gtid: String::new(),
                xid: t.xid,
            }),
            walked_bytes: survey.walked_bytes,
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
        let event = open(&server)
            .event_before(&at(before))
            .unwrap()
            .filter(|e| e.start.offset >= server.held_from)
            .map(|e| v1::EventDigest {
                start: Some(e.start.into()),
                end: Some(e.end.into()),
                type_code: u32::from(e.type_code),
                sha256: e.sha256.to_vec().into(),
            });
        Ok(Response::new(v1::DescribeEventResponse { event }))
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
        let segment = self.change(|s| {
            assert!(!s.alive, "mysqld runs while its log is read");
            cut(s, &id, from, None)
        });
        Ok(one(done(segment)))
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
        let segment = self.change(|s| {
            assert!(s.held_from <= from && to <= s.received);
            cut(s, &id, from, Some(to))
        });
        Ok(one(done(segment)))
    }

    async fn pull_segment(
        &self,
        request: Request<v1::PullSegmentRequest>,
    ) -> Result<Response<Self::PullSegmentStream>, Status> {
        self.fault("PullSegment").await?;
        let request = request.into_inner();
        self.check(&request.context)?;
        let segment = request.segment.unwrap();
        let theirs = segment_path(
            lock(&self.world).server(&request.provider_server),
            &segment.id,
        );
        let ours = self.change(|s| {
            let ours = segment_path(s, &segment.id);
            std::fs::copy(&theirs, &ours).unwrap();
            std::fs::copy(Manifest::path_for(&theirs), Manifest::path_for(&ours)).unwrap();
            info(s, &segment.id)
        });
        Ok(one(done(ours)))
    }

    async fn read_segment(
        &self,
        request: Request<v1::ReadSegmentRequest>,
    ) -> Result<Response<Self::ReadSegmentStream>, Status> {
        self.fault("ReadSegment").await?;
        let id = request.into_inner().segment_id;
        let path = self.change(|s| segment_path(s, &id));
        let data: bytes::Bytes = std::fs::read(path).unwrap().into();
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
        self.change(|s| {
            if !s.replica {
                return Err(AgentError::new(ErrorKind::Conflict, "no replica").into());
            }
            let was_running = std::mem::replace(&mut s.receiver_running, false);
            Ok(Response::new(v1::StopReceiverResponse {
                status: Some(status(s)),
                was_running,
            }))
        })
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
                let range = Manifest::load(&segment_path(s, id)).unwrap().range;
                assert!(
                    range.from.offset <= s.executed,
                    "segments meet what was executed"
                );
                s.executed = s.executed.max(range.to.offset);
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
        let operation = request.context.map(|c| c.operation).unwrap_or_default();
        let executed = self.change(|s| {
            let by = s.promoted_by.get_or_insert_with(|| operation.clone());
            let known = *by == operation || *by == request.continues;
            if !known || !s.read_only {
                return Err(AgentError::new(ErrorKind::Conflict, "no replica"));
            }
            s.replica = false;
            Ok(s.executed)
        })?;
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
            s.source_host.clone_from(&request.host);
            s.source_port = request.port as u16;
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
