//! `GenerateDiffRelayLogs`: cuts a range of the relay logs.

use std::sync::Arc;

use binlog_core::{BinlogPosition, StreamRange};
use proto::convert::{convert, optional};
use proto::status::AgentError;
use proto::v1::{ErrorKind, GenerateDiffRelayLogsRequest, SegmentProgress};
use tonic::{Request, Response};

use super::failure::on_wire;
use super::{admit, wire, work};
use crate::agent::Agent;
use crate::logs::LogsError;
use crate::logs::cut::{carry_out, diff_id};
use crate::logs::provider::RelayProvider;
use crate::state::flight::Lane;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    mut request: Request<GenerateDiffRelayLogsRequest>,
) -> Result<Response<work::Progressing<SegmentProgress>>, AgentError> {
    let context = request.get_mut().context.take();
    let admitted = admit::change(agent, &request, context)?;
    let request = request.into_inner();
    let range: StreamRange = convert(request.range, "range")?;
    let latest: Option<BinlogPosition> = optional(request.latest)?;
    let id = diff_id(&admitted.server.config.name, &range.from);
    let lane = Lane::Segment {
        operation: admitted.context.operation.to_string(),
        id: id.clone(),
    };
    work::run_streaming(
        agent,
        admitted,
        lane,
        "GenerateDiffRelayLogs",
        work::Stall::Watched,
        |work, mut progress| async move {
            let (store, context, server) = (work.agent.segments.clone(), work.context, work.server);
            let outcome = work
                .agent
                .on_disk(move || {
                    let known = server.remembered();
                    let logs =
                        RelayProvider::open(known.as_ref(), &server.keeper, latest.as_ref())?;
                    let plan = logs.plan_cut(&range)?;
                    carry_out(
                        &store,
                        &context,
                        &id,
                        &server.config.name,
                        plan,
                        &mut |done, total| progress.report(wire::moving(done, total)),
                    )
                })
                .await
                .ok_or_else(|| AgentError::new(ErrorKind::Io, "the cut was abandoned"))?
                .map_err(|error: LogsError| on_wire(error))?;
            Ok(wire::cut_outcome(outcome))
        },
    )
    .await
}
