//! `StopReceiver`: stops the receiver only; the applier goes on.

use std::sync::Arc;

use proto::status::AgentError;
use proto::v1::{StopReceiverRequest, StopReceiverResponse};
use tonic::{Request, Response};

use super::{admit, replica, work};
use crate::agent::Agent;
use crate::replication::stop_receiver;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    mut request: Request<StopReceiverRequest>,
) -> Result<Response<StopReceiverResponse>, AgentError> {
    let context = request.get_mut().context.take();
    let admitted = admit::change(agent, &request, context)?;
    let lane = replica::lane(&admitted.server);
    work::run(agent, admitted, lane, "StopReceiver", |work| async move {
        let local = replica::local(&work)?;
        let stopped = stop_receiver(&local, work.context.operation.as_str(), work.deadline)
            .await
            .map_err(replica::failed)?;
        Ok(StopReceiverResponse {
            status: Some((&stopped.status).into()),
            was_running: stopped.was_running,
        })
    })
    .await
}
