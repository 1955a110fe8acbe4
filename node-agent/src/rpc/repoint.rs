//! `Repoint`: points the replica at a new source, restores its channel settings, waits until both threads run.

use std::sync::Arc;

use proto::convert::{ConvertError, convert};
use proto::status::AgentError;
use proto::v1::{self, RepointResponse};
use tonic::{Request, Response};

use super::{admit, replica, work};
use crate::agent::Agent;
use crate::replication::{self, RepointRequest};

pub(super) async fn handle(
    agent: &Arc<Agent>,
    mut request: Request<v1::RepointRequest>,
) -> Result<Response<RepointResponse>, AgentError> {
    let context = request.get_mut().context.take();
    let admitted = admit::change(agent, &request, context)?;
    let request = request.into_inner();
    let repoint = RepointRequest {
        operation: admitted.context.operation.to_string(),
        host: Some(request.host)
            .filter(|host| !host.is_empty())
            .ok_or_else(|| ConvertError::new("host", "missing"))?,
        port: u16::try_from(request.port)
            .ok()
            .filter(|port| *port != 0)
            .ok_or_else(|| ConvertError::new("port", format!("{} is no port", request.port)))?,
        position: convert(request.position, "position")?,
        keep_gtid_mode: request.keep_gtid_mode,
        executed_at_least: convert(request.executed_at_least, "executed_at_least")?,
    };
    let lane = replica::lane(&admitted.server);
    work::run(agent, admitted, lane, "Repoint", |work| async move {
        let local = replica::local(&work)?;
        let repointed = replication::repoint(&local, &repoint, work.deadline)
            .await
            .map_err(replica::failed)?;
        Ok(RepointResponse {
            status: Some((&repointed.status).into()),
            executed_before: repointed.executed_before.as_ref().map(Into::into),
            gtid_before: repointed.gtid_before,
        })
    })
    .await
}
