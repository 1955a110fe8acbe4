//! `SaveBinaryLogs`: cuts the tail of the local binary log, while mysqld is down.

use std::path::PathBuf;
use std::sync::Arc;

use binlog_core::BinlogPosition;
use proto::convert::convert;
use proto::status::AgentError;
use proto::v1::{ErrorKind, SaveBinaryLogsRequest, SegmentProgress};
use tonic::{Request, Response};

use super::failure::on_wire;
use super::{admit, wire, work};
use crate::agent::Agent;
use crate::logs::cut::{cut_tail, tail_id};
use crate::logs::provider::binary_logs;
use crate::logs::{LogsError, cut::CutOutcome};
use crate::mysqld::process;
use crate::state::flight::Lane;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    mut request: Request<SaveBinaryLogsRequest>,
) -> Result<Response<work::Progressing<SegmentProgress>>, AgentError> {
    let context = request.get_mut().context.take();
    let admitted = admit::change(agent, &request, context)?;
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
            let (datadir, pid_file) = (work.server.datadir(), work.server.pid_file());
            let known = work.server.remembered();
            let provider = work.server.config.name.clone();
            // Before and after: a mysqld that came up in between may have truncated what was being read.
            refuse_running(datadir.clone(), pid_file.clone()).map_err(on_wire)?;
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
            refuse_running(datadir, pid_file)
                .inspect_err(|_| withdraw(&outcome))
                .map_err(on_wire)?;
            Ok(wire::cut_outcome(outcome))
        },
    )
    .await
}

fn refuse_running(datadir: Option<PathBuf>, pid_file: Option<PathBuf>) -> Result<(), LogsError> {
    let datadir = datadir.ok_or(LogsError::NeverLearnt {
        what: "data directory",
    })?;
    match process::find(&datadir, pid_file.as_deref())? {
        None => Ok(()),
        Some(mysqld) => Err(LogsError::MysqldRunning { pid: mysqld.pid() }),
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
