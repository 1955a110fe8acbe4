//! `Promote`: makes the server no replica any more; it stays read-only.

use std::sync::Arc;

use binlog_core::BinlogPosition;
use proto::convert::convert;
use proto::status::AgentError;
use proto::v1::{PromoteRequest, PromoteResponse};
use tonic::{Request, Response};

use super::{admit, replica, work};
use crate::agent::Agent;
use crate::replication;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    mut request: Request<PromoteRequest>,
) -> Result<Response<PromoteResponse>, AgentError> {
    let context = request.get_mut().context.take();
    let admitted = admit::change(agent, &request, context)?;
    let request = request.into_inner();
    let at_least: BinlogPosition = convert(request.executed_at_least, "executed_at_least")?;
    let continues = request.continues;
    let lane = replica::lane(&admitted.server);
    work::run(agent, admitted, lane, "Promote", |work| async move {
        let local = replica::local(&work)?;
        let operation = work.context.operation.as_str();
        let continues = Some(continues.as_str()).filter(|earlier| !earlier.is_empty());
        let promoted = replication::promote(&local, operation, continues, &at_least, work.deadline)
            .await
            .map_err(replica::failed)?;
        Ok(PromoteResponse {
            position: Some((&promoted.position).into()),
            gtid_executed: promoted.gtid_executed,
            executed: Some((&promoted.executed).into()),
            gtid_before_reset: promoted.gtid_before_reset,
        })
    })
    .await
}
