//! `HoldDown`: stops mysqld if it runs and stops it on sight until released.

use std::sync::Arc;

use proto::status::AgentError;
use proto::v1::{HoldDownRequest, HoldDownResponse};
use tonic::{Request, Response};

use super::failure::on_wire;
use super::{admit, work};
use crate::agent::Agent;
use crate::fence::{FenceError, Hold};
use crate::guard::{Cause, Deposed};
use crate::state::flight::Lane;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    mut request: Request<HoldDownRequest>,
) -> Result<Response<HoldDownResponse>, AgentError> {
    let context = request.get_mut().context.take();
    let admitted = admit::change(agent, &request, context)?;
    let lane = Lane::Fence(admitted.server.config.name.clone());
    work::run(agent, admitted, lane, "HoldDown", |work| async move {
        let datadir = work
            .server
            .datadir()
            .ok_or(FenceError::NoDataDirectory)
            .map_err(on_wire)?;
        let hold = Hold {
            operation: work.context.operation.to_string(),
            epoch: work.context.epoch.get(),
            datadir,
            pid_file: work.server.pid_file(),
        };
        let fence = &work.server.fence;
        let held = if work.server.watch.hangs() {
            fence.kill_and_hold_down(hold, work.deadline).await
        } else {
            fence.hold_down(hold, work.deadline).await
        }
        .map_err(on_wire)?;
        // From here on it stays read-only, whoever starts it after the hold.
        let order = Deposed {
            operation: work.context.operation.to_string(),
            epoch: work.context.epoch.get(),
            cause: Cause::HeldDown,
            earlier: None,
        };
        work.server.guard.depose(order).await.map_err(on_wire)?;
        work.server.watch.nudge();
        Ok(HoldDownResponse {
            was_running: held.was_running,
            // Every way a stop can succeed is one: ended, or a SIGKILL is pending.
            confirmed: true,
            how: held.how.as_str().to_owned(),
        })
    })
    .await
}
