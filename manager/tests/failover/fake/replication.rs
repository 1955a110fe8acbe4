//! Replication as positions: stopped, replayed, promoted, opened, repointed.

use binlog_core::Manifest;
use proto::status::AgentError;
use proto::v1::{self, ErrorKind};
use tonic::{Request, Response, Status};

use super::observed::status;
use super::segments::segment_path;
use super::{FakeAgent, Streamed, one, wire};
use crate::world::whole;

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
        let request = request.into_inner();
        self.check(&request.context)?;
        self.change(|s| {
            assert!(!s.replica, "promoted before it is opened");
            let mut answer = v1::MakeWritableResponse::default();
            match &mut s.semi_sync_source {
                Some(on) if request.wait_for_replicas => {
                    *on = true;
                    answer.waits_by = "rpl_semi_sync_master_enabled".to_owned();
                }
                None if request.wait_for_replicas => {
                    answer.waits_not = "it has no such variable".to_owned();
                }
                _ => {}
            }
            s.read_only = false;
            Ok(Response::new(answer))
        })
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
