//! `RenewLease`: the manager was heard.

use std::sync::Arc;

use proto::lease::RenewOrder;
use proto::status::AgentError;
use proto::v1::{ErrorKind, RenewLeaseRequest, RenewLeaseResponse};
use tonic::{Request, Response};

use super::admit;
use crate::agent::Agent;
use crate::lease::vouches_for_itself;
use crate::watch::clock;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<RenewLeaseRequest>,
) -> Result<Response<RenewLeaseResponse>, AgentError> {
    let caller = admit::caller(&request)?;
    caller.require(&request.get_ref().cluster)?;
    let order = RenewOrder::try_from(request.into_inner())?;
    let server = admit::read(agent, &caller, &order.cluster, &order.server)?;
    let refused = |kind, message: &str, expected: String, found: String| {
        AgentError::new(kind, message)
            .with_server(&order.server)
            .with_found(expected, found)
    };
    let (known, manager) = server
        .lease
        .assignment()
        .map_or_else(Default::default, |made| (made.epoch, made.manager));
    if known != order.epoch.get() {
        return Err(refused(
            ErrorKind::StaleEpoch,
            "the lease is of another epoch",
            known.to_string(),
            order.epoch.to_string(),
        ));
    }
    // A second one could hold up what the first one has waited out.
    if manager != order.manager {
        return Err(refused(
            ErrorKind::Conflict,
            "another manager holds this lease up",
            manager,
            order.manager.clone(),
        ));
    }
    // Moments of another boot mean nothing here.
    if order.boot_id != agent.boot_id {
        return Err(refused(
            ErrorKind::Conflict,
            "the manager has seen this host before its last boot only",
            agent.boot_id.clone(),
            order.boot_id.clone(),
        ));
    }
    server.lease.manager_heard(order.seen);
    let told = server.lease.told(vouches_for_itself(agent, &server));
    Ok(Response::new(RenewLeaseResponse {
        lease: Some((&told).into()),
        sent: Some(clock::now().into()),
    }))
}
