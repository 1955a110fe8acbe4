//! `ApplyLogs`: drains the applier, then replays segments through the local source.

use std::path::PathBuf;
use std::sync::Arc;

use binlog_core::{BinlogPosition, ServerId};
use proto::convert::{ConvertError, SegmentId, convert, required};
use proto::status::AgentError;
use proto::v1::{self, ApplyLogsRequest, ApplyProgress, ErrorKind};
use tonic::{Request, Response};

use super::failure::on_wire;
use super::{admit, replica, work};
use crate::agent::Agent;
use crate::replication::{self, ApplyOutcome, ApplyPhase, ApplyRequest, ApplyStatus, Choice, Way};
use crate::source::{Flavor, SourceIdentity};

pub(super) async fn handle(
    agent: &Arc<Agent>,
    mut request: Request<ApplyLogsRequest>,
) -> Result<Response<work::Progressing<ApplyProgress>>, AgentError> {
    let context = request.get_mut().context.take();
    let admitted = admit::change(agent, &request, context)?;
    let request = request.into_inner();
    let until: BinlogPosition = convert(request.until, "until")?;
    let source = identity(required(request.source, "source")?)?;
    let standing = match request.standing {
        None => None,
        Some(standing) => Some((
            standing.gtids,
            convert(standing.position, "standing.position")?,
        )),
    };
    let ids = request
        .segment_ids
        .iter()
        .map(|id| id.parse::<SegmentId>())
        .collect::<Result<Vec<_>, _>>()?;
    let lane = replica::lane(&admitted.server);
    // Every wait of the replay has the limit on lack of progress built in, and names what it waited for.
    let stall = work::Stall::ByWork;
    work::run_streaming(
        agent,
        admitted,
        lane,
        "ApplyLogs",
        stall,
        |work, mut progress| async move {
            let local = replica::local(&work)?;
            let request = ApplyRequest {
                operation: work.context.operation.to_string(),
                segments: segments(&work, ids).await?,
                until,
                source,
                standing,
                stall: work.context.deadline,
                faults: work.agent.config.replay_faults.clone(),
            };
            let mut report = |status: ApplyStatus| progress.report(moving(status));
            let outcome = replication::apply(&local, &request, &mut report)
                .await
                .map_err(replica::failed)?;
            Ok(done(outcome))
        },
    )
    .await
}

/// Paths of whole segments of the call's operation.
async fn segments(work: &work::Work, ids: Vec<SegmentId>) -> Result<Vec<PathBuf>, AgentError> {
    let store = work.agent.segments.clone();
    let context = work.context.clone();
    work.agent
        .on_disk(move || {
            ids.iter()
                .map(|id| store.get(&context.cluster, context.operation.as_str(), id.as_str()))
                .map(|stored| stored.map(|stored| stored.path))
                .collect::<Result<Vec<_>, _>>()
        })
        .await
        .ok_or_else(|| AgentError::new(ErrorKind::Io, "the segments were not looked up"))?
        .map_err(on_wire)
}

fn identity(source: v1::SourceIdentity) -> Result<SourceIdentity, ConvertError> {
    let flavor = match source.flavor() {
        v1::Flavor::Unspecified => return Err(ConvertError::new("source.flavor", "missing")),
        v1::Flavor::Mysql => Flavor::MySql,
        v1::Flavor::Mariadb => Flavor::MariaDb,
    };
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    Ok(SourceIdentity {
        server_id: ServerId(source.server_id),
        server_uuid: text(source.server_uuid),
        flavor,
        version: text(source.version)
            .ok_or_else(|| ConvertError::new("source.version", "missing"))?,
        gtid_mode: text(source.gtid_mode),
        binlog_checksum: text(source.binlog_checksum),
    })
}

fn moving(status: ApplyStatus) -> ApplyProgress {
    let phase = match status.phase {
        ApplyPhase::Draining => v1::ApplyPhase::Draining,
        ApplyPhase::Switching => v1::ApplyPhase::Switching,
        ApplyPhase::Replaying => v1::ApplyPhase::Replaying,
    };
    ApplyProgress {
        event: Some(v1::apply_progress::Event::Status(v1::ApplyStatus {
            phase: phase.into(),
            executed: status.executed.as_ref().map(Into::into),
            sent_bytes: status.sent_bytes,
        })),
    }
}

fn done(outcome: ApplyOutcome) -> ApplyProgress {
    let (way, way_reason) = match outcome.way {
        None => (v1::ApplyWay::Unspecified, String::new()),
        Some(Choice { way, why }) => {
            let way = match way {
                Way::ByGtid => v1::ApplyWay::BesideByGtid,
                Way::FromRead => v1::ApplyWay::BesideFromRead,
                Way::Stopped => v1::ApplyWay::Stopped,
            };
            (way, why)
        }
    };
    let us = |time: std::time::Duration| u64::try_from(time.as_micros()).unwrap_or(u64::MAX);
    ApplyProgress {
        event: Some(v1::apply_progress::Event::Done(v1::ApplyResult {
            executed_before: outcome.executed_before.as_ref().map(Into::into),
            executed_drained: outcome.executed_drained.as_ref().map(Into::into),
            executed_after: Some((&outcome.executed_after).into()),
            gtid_executed: outcome.gtid_executed,
            half_transaction: outcome.half_transaction,
            applier_killed: outcome.applier_killed,
            applier_started: outcome.applier_started,
            maybe_twice: outcome.maybe_twice,
            drain_us: us(outcome.drain),
            switch_us: us(outcome.switch),
            replay_us: us(outcome.replay),
            connections: u32::try_from(outcome.connections).unwrap_or(u32::MAX),
            way: way.into(),
            way_reason,
        })),
    }
}
