//! `AssignPrimary`: who the primary of the cluster is, by the present epoch.

use std::sync::Arc;

use proto::lease::AssignOrder;
use proto::status::AgentError;
use proto::v1::{AssignPrimaryRequest, AssignPrimaryResponse};
use tonic::{Request, Response};

use super::failure::on_wire;
use super::{admit, work};
use crate::agent::Agent;
use crate::guard::{Cause, Deposed};
use crate::lease::Assignment;
use crate::state::flight::Lane;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<AssignPrimaryRequest>,
) -> Result<Response<AssignPrimaryResponse>, AgentError> {
    let admitted = admit::change(agent, &request, request.get_ref().context.clone())?;
    let order = AssignOrder::try_from(request.into_inner())?;
    let replaced = order.replaced;
    let lane = Lane::Fence(admitted.server.config.name.clone());
    work::run(agent, admitted, lane, "AssignPrimary", |work| async move {
        let server = &work.server;
        let made = Assignment::from(&order);
        let before = server.lease.assign(made.clone()).await.map_err(on_wire)?;
        let own = &server.config.name;
        let was = before.is_some_and(|before| before.primary == *own);
        // A primary that vanished before anybody named it does not know what it was; an order that is there stays as it is.
        let must_be_told = replaced && server.guard.order().is_none();
        if (was || must_be_told) && made.primary != *own {
            let deposed = Deposed {
                operation: made.operation,
                epoch: made.epoch,
                cause: Cause::Succeeded,
                earlier: None,
            };
            server.guard.depose(deposed).await.map_err(on_wire)?;
        }
        server.watch.nudge();
        Ok(AssignPrimaryResponse {
            lease: server.lease.is_active(),
        })
    })
    .await
}
