//! `ReleaseHold`: ends a hold; mysqld is not started.

use std::sync::Arc;

use proto::status::AgentError;
use proto::v1::{ReleaseHoldRequest, ReleaseHoldResponse};
use tonic::{Request, Response};

use super::failure::on_wire;
use super::{admit, work};
use crate::agent::Agent;
use crate::state::flight::Lane;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    mut request: Request<ReleaseHoldRequest>,
) -> Result<Response<ReleaseHoldResponse>, AgentError> {
    let context = request.get_mut().context.take();
    let admitted = admit::change(agent, &request, context)?;
    let lane = Lane::Fence(admitted.server.config.name.clone());
    work::run(agent, admitted, lane, "ReleaseHold", |work| async move {
        let guard = &work.server.guard;
        // A hold that an earlier run of the agent took up may have no order beside it yet.
        if let Some(order) = guard.order() {
            guard.depose(order).await.map_err(on_wire)?;
        }
        // The operation that held it down lets go: it promoted nobody.
        let operation = work.context.operation.as_str();
        if guard.pardon(operation).await.map_err(on_wire)? {
            tracing::info!("not deposed any more: its operation was undone");
        }
        let released = work.server.fence.release().await.map_err(on_wire)?;
        work.server.watch.nudge();
        Ok(ReleaseHoldResponse { released })
    })
    .await
}
