//! `ReleaseEpoch`: clears the operation; the epoch stays.

use std::sync::Arc;

use proto::status::AgentError;
use proto::v1::{ErrorKind, ReleaseEpochRequest, ReleaseEpochResponse};
use tonic::{Request, Response};

use super::admit;
use super::failure::on_wire;
use crate::agent::Agent;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<ReleaseEpochRequest>,
) -> Result<Response<ReleaseEpochResponse>, AgentError> {
    let caller = admit::caller(&request)?;
    let request = request.into_inner();
    caller.require(&request.cluster)?;
    let releasing = Arc::clone(agent);
    let release = request.clone();
    let released = tokio::task::spawn_blocking(move || {
        releasing
            .epochs
            .release(&release.cluster, release.epoch, &release.operation)
    })
    .await
    .map_err(|_| AgentError::new(ErrorKind::OutcomeUnknown, "the release was abandoned"))?
    .map_err(on_wire)?;
    if released {
        agent.nudge(&request.cluster);
        tracing::info!(
            cluster = request.cluster,
            epoch = request.epoch,
            operation = request.operation,
            %caller,
            "epoch released"
        );
    }
    Ok(Response::new(ReleaseEpochResponse { released }))
}
