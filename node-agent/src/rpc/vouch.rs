//! `Vouch`: whether this agent knows of nothing newer than another server's assignment.

use std::sync::Arc;

use proto::lease::VouchOrder;
use proto::status::AgentError;
use proto::v1::{VouchRequest, VouchResponse};
use tonic::{Request, Response};

use super::admit;
use super::failure::on_wire;
use crate::agent::Agent;
use crate::lease::vouches;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<VouchRequest>,
) -> Result<Response<VouchResponse>, AgentError> {
    let caller = admit::caller(&request)?;
    caller.require(&request.get_ref().cluster)?;
    let order = VouchOrder::try_from(request.into_inner())?;
    // Before the epoch is looked at; see there.
    agent.vouched.asked(&order.cluster);
    // An epoch that cannot be read vouches for nobody.
    let stored = agent.epochs.stored(&order.cluster).map_err(on_wire)?;
    let known = agent.assignment(&order.cluster);
    let answer = vouches(&stored, known.as_ref(), &order.primary, order.epoch.get());
    Ok(Response::new(VouchResponse {
        vouches: answer.is_ok(),
        reason: answer.err().unwrap_or_default(),
    }))
}
