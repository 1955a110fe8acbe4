//! `SaveBinaryLogs`: cuts the tail of the local binary log, while mysqld is down, or runs as a deposed server that the agent has
//! made read-only: then its recovery is over, and its log can only grow. Of a binlog server's copies, which may grow, too, it
//! cuts exactly what was asked for.

use std::sync::Arc;

use binlog_core::{BinlogPosition, StreamRange};
use proto::convert::{Context, convert, required};
use proto::status::AgentError;
use proto::v1::{CallContext, ErrorKind, SaveBinaryLogsRequest, SegmentProgress};
use proto::watch::Guard;
use tonic::{Request, Response};

use super::authorise::Caller;
use super::failure::on_wire;
use super::{admit, wire, work};
use crate::agent::{Agent, LocalServer};
use crate::config::BinlogServerConfig;
use crate::logs::copies;
use crate::logs::cut::{carry_out, copy_id, cut_tail, tail_id};
use crate::logs::provider::binary_logs;
use crate::logs::{LogsError, cut::CutOutcome};
use crate::mysqld::process;
use crate::state::flight::Lane;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    mut request: Request<SaveBinaryLogsRequest>,
) -> Result<Response<work::Progressing<SegmentProgress>>, AgentError> {
    let context = request.get_mut().context.take();
    if let Some((caller, context, copies)) = asked_of_copies(agent, &request, context.as_ref())? {
        let admitted = admit::cut_copies(agent, &caller, context, copies)?;
        return cut_copies(agent, admitted, request.into_inner()).await;
    }
    let admitted = admit::save(agent, &request, context)?;
    let from: BinlogPosition = convert(request.into_inner().from, "from")?;
    let id = tail_id(&from);
    let lane = Lane::Segment {
        operation: admitted.context.operation.to_string(),
        id: id.clone(),
    };
    work::run_streaming(
        agent,
        admitted,
        lane,
        "SaveBinaryLogs",
        work::Stall::Watched,
        |work, mut progress| async move {
            let (store, context) = (work.agent.segments.clone(), work.context);
            let server = Arc::clone(&work.server);
            let known = work.server.remembered();
            let provider = work.server.config.name.clone();
            // Before and after: a mysqld that came up in between may have truncated what was being read.
            let before = at_rest(&server).map_err(on_wire)?;
            let outcome = work
                .agent
                .on_disk(move || {
                    let logs = binary_logs(known.as_ref())?;
                    cut_tail(
                        &store,
                        &context,
                        &id,
                        &provider,
                        (&logs, &from),
                        &mut |done, total| {
                            progress.report(wire::moving(done, total));
                        },
                    )
                })
                .await
                .ok_or_else(|| AgentError::new(ErrorKind::Io, "the cut was abandoned"))?
                .map_err(|error: LogsError| on_wire(error))?;
            match at_rest(&server) {
                Ok(after) if after == before => {}
                Ok(after) => {
                    withdraw(&outcome);
                    let pid = after.or(before).unwrap_or_default();
                    return Err(on_wire(LogsError::MysqldRunning { pid }));
                }
                Err(error) => {
                    withdraw(&outcome);
                    return Err(on_wire(error));
                }
            }
            Ok(wire::cut_outcome(outcome))
        },
    )
    .await
}

/// The call is for a binlog server: who asks, its context, and which.
fn asked_of_copies(
    agent: &Agent,
    request: &Request<SaveBinaryLogsRequest>,
    context: Option<&CallContext>,
) -> Result<Option<(Caller, Context, BinlogServerConfig)>, AgentError> {
    let caller = admit::caller(request)?;
    let context = Context::try_from(required(context.cloned(), "context")?)?;
    let found = admit::binlog_server(agent, &caller, &context.cluster, &context.server)?;
    Ok(found.map(|found| (caller, context, found)))
}

async fn cut_copies(
    agent: &Arc<Agent>,
    admitted: admit::Admitted<BinlogServerConfig>,
    request: SaveBinaryLogsRequest,
) -> Result<Response<work::Progressing<SegmentProgress>>, AgentError> {
    let primary = copies::primary(request.primary_server_id)?;
    let from: BinlogPosition = convert(request.from, "from")?;
    let range = StreamRange::new(from, convert(request.to, "to")?);
    let id = copy_id(&admitted.server.name, &range.from);
    let lane = Lane::Segment {
        operation: admitted.context.operation.to_string(),
        id: id.clone(),
    };
    work::run_streaming(
        agent,
        admitted,
        lane,
        "SaveBinaryLogs",
        work::Stall::Watched,
        |work, mut progress| async move {
            let (store, context) = (work.agent.segments.clone(), work.context);
            let copies = work.server;
            let outcome = work
                .agent
                .on_disk(move || {
                    let plan = copies::plan_cut(&copies, primary, &range)?;
                    let moving = &mut |done, total| progress.report(wire::moving(done, total));
                    carry_out(&store, &context, &id, &copies.name, plan, moving)
                })
                .await
                .ok_or_else(|| AgentError::new(ErrorKind::Io, "the cut was abandoned"))?
                .map_err(|error: LogsError| on_wire(error))?;
            Ok(wire::cut_outcome(outcome))
        },
    )
    .await
}

/// No mysqld runs, or one that is kept read-only: its process id.
fn at_rest(server: &LocalServer) -> Result<Option<u32>, LogsError> {
    let datadir = server.datadir().ok_or(LogsError::NeverLearnt {
        what: "data directory",
    })?;
    let Some(mysqld) = process::find(&datadir, server.pid_file().as_deref())? else {
        return Ok(None);
    };
    let pid = mysqld.pid();
    let seen = server.watch.facts().process;
    let shut = matches!(server.guard.told(&seen), Guard::ReadOnly { .. });
    if shut && seen.running_pid() == Some(pid) {
        Ok(Some(pid))
    } else {
        Err(LogsError::MysqldRunning { pid })
    }
}

/// A segment whose source may have changed under the reader is no segment: without its manifest it does not exist.
fn withdraw(outcome: &CutOutcome) {
    if let CutOutcome::Done(stored) = outcome {
        let manifest = binlog_core::Manifest::path_for(&stored.path);
        if let Err(error) = std::fs::remove_file(&manifest) {
            tracing::error!(file = %manifest.display(), %error, "a doubtful segment could not be withdrawn");
        }
    }
}
