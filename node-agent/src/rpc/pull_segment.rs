//! `PullSegment`: fetches a segment from another agent into the local store.

use std::sync::Arc;

use proto::convert::{Segment, convert};
use proto::status::AgentError;
use proto::v1::{PullSegmentRequest, SegmentProgress};
use tonic::{Request, Response};

use super::failure::on_wire;
use super::{admit, wire, work};
use crate::agent::Agent;
use crate::logs::pull::{Pull, pull};
use crate::peers;
use crate::state::flight::Lane;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    mut request: Request<PullSegmentRequest>,
) -> Result<Response<work::Progressing<SegmentProgress>>, AgentError> {
    let context = request.get_mut().context.take();
    let admitted = admit::change(agent, &request, context)?;
    let request = request.into_inner();
    let segment: Segment = convert(request.segment, "segment")?;
    let target = peers::target(
        agent,
        &admitted.context.cluster,
        request.address,
        &request.certificate_name,
    )?;
    let lane = Lane::Segment {
        operation: admitted.context.operation.to_string(),
        id: segment.id.to_string(),
    };
    work::run_streaming(
        agent,
        admitted,
        lane,
        "PullSegment",
        work::Stall::ByWork,
        |work, mut progress| async move {
            let wanted = Pull {
                target,
                cluster: work.context.cluster.clone(),
                provider_server: request.provider_server,
                operation: work.context.operation.to_string(),
                id: segment.id.to_string(),
                size: segment.size,
                sha256: segment.sha256,
                manifest_json: segment.manifest_json,
                progress_limit: work.context.deadline,
            };
            let stored = pull(&work.agent.segments, wanted, |done, total| {
                progress.report(wire::moving(done, total));
            })
            .await
            .map_err(on_wire)?;
            Ok(wire::arrived(stored))
        },
    )
    .await
}
