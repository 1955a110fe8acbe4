//! `GetAddress`: where the virtual IP is, and whether this agent could take it. Reads only.

use std::sync::Arc;

use proto::address::VirtualAddress;
use proto::convert::convert;
use proto::status::AgentError;
use proto::v1::{Answer, GetAddressRequest, GetAddressResponse};
use tonic::{Request, Response};

use super::admit;
use crate::address;
use crate::agent::Agent;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<GetAddressRequest>,
) -> Result<Response<GetAddressResponse>, AgentError> {
    let caller = admit::caller(&request)?;
    let request = request.into_inner();
    let server = admit::read(agent, &caller, &request.cluster, &request.server)?;
    let wanted: VirtualAddress = convert(request.address, "address")?;
    let kept = server
        .address
        .kept()
        .filter(|kept| kept.held && kept.ip == wanted.ip);
    let seen = address::look(wanted).await;
    let up = match seen.up {
        Some(true) => Answer::Yes,
        Some(false) => Answer::No,
        None => Answer::Unknown,
    };
    Ok(Response::new(GetAddressResponse {
        up: up.into(),
        evidence: seen.evidence,
        trouble: seen.trouble.unwrap_or_default(),
        kept_epoch: kept.map_or(0, |kept| kept.epoch),
    }))
}
