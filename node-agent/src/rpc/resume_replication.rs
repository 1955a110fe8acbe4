//! `ResumeReplication`: undo before the promotion, the channel and the receiver as they were.

use std::sync::Arc;

use proto::status::AgentError;
use proto::v1::{ResumeReplicationRequest, ResumeReplicationResponse};
use tonic::{Request, Response};

use super::{admit, replica, work};
use crate::agent::Agent;
use crate::replication;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    mut request: Request<ResumeReplicationRequest>,
) -> Result<Response<ResumeReplicationResponse>, AgentError> {
    let context = request.get_mut().context.take();
    let admitted = admit::change(agent, &request, context)?;
    let lane = replica::lane(&admitted.server);
    work::run(
        agent,
        admitted,
        lane,
        "ResumeReplication",
        |work| async move {
            let local = replica::local(&work)?;
            let status = replication::resume(&local, work.deadline)
                .await
                .map_err(replica::failed)?;
            Ok(ResumeReplicationResponse {
                status: Some(replica::status(&work.server, status)),
            })
        },
    )
    .await
}
