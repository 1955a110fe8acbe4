//! `ClaimEpoch`: grants the cluster to an operation; work of an older one is stopped before the answer.

use std::sync::Arc;
use std::time::Duration;

use proto::status::AgentError;
use proto::v1::{ClaimEpochRequest, ClaimEpochResponse, ErrorKind};
use tonic::{Request, Response};

use super::admit;
use super::failure::on_wire;
use crate::agent::Agent;
use crate::state::epoch::Holder;

/// How long the end of an older operation's work is waited for. Dropping it takes a moment only; a cut that is under
/// way ends by itself and changes nothing but its own operation's folder.
const SUPERSEDE_LIMIT: Duration = Duration::from_secs(1);

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<ClaimEpochRequest>,
) -> Result<Response<ClaimEpochResponse>, AgentError> {
    let caller = admit::caller(&request)?;
    let request = request.into_inner();
    caller.require(&request.cluster)?;
    let claiming = Arc::clone(agent);
    let claim = request.clone();
    // The claim waits for the disk and must not be undone by a caller that goes away: it runs to its end.
    let grant = tokio::task::spawn_blocking(move || {
        let holder = Holder {
            operation: claim.operation,
            manager: claim.manager,
        };
        claiming
            .epochs
            .claim(&claim.cluster, claim.epoch, holder, claim.take_over)
    })
    .await
    .map_err(|_| AgentError::new(ErrorKind::OutcomeUnknown, "the claim was abandoned"))?
    .map_err(on_wire)?;
    if grant.before != grant.stored {
        agent.nudge(&request.cluster);
        tracing::info!(
            cluster = request.cluster,
            epoch = grant.stored.epoch,
            operation = request.operation,
            manager = request.manager,
            %caller,
            "claim granted"
        );
    }
    let taken_over_from = grant.taken_over_from().unwrap_or_default().to_owned();
    if !taken_over_from.is_empty() {
        tracing::warn!(
            cluster = request.cluster,
            manager = request.manager,
            from = taken_over_from,
            "the cluster was taken over from its manager of record"
        );
    }
    let unfinished = agent
        .flights
        .supersede(&request.cluster, grant.stored.epoch, SUPERSEDE_LIMIT)
        .await;
    if !unfinished.is_empty() {
        return Err(AgentError::new(
            ErrorKind::Conflict,
            format!(
                "granted, but work of an older operation has not ended yet: {}; claim again",
                unfinished.join(", ")
            ),
        ));
    }
    // After the grant: no older assignment is vouched for any more, and every yes of before is known.
    let vouched = agent.vouched.ago(&request.cluster);
    Ok(Response::new(ClaimEpochResponse {
        stored_epoch: grant.stored.epoch,
        assignment: agent
            .assignment(&request.cluster)
            .and_then(|made| made.told())
            .map(|told| (&told).into()),
        taken_over_from,
        vouched_ms_ago: Some(u64::try_from(vouched.as_millis()).unwrap_or(u64::MAX)),
    }))
}
