//! `DropAddress`: the virtual IP goes down on this host.

use std::sync::Arc;

use proto::address::DropOrder;
use proto::status::AgentError;
use proto::v1::{DropAddressRequest, DropAddressResponse};
use tonic::{Request, Response};

use super::failure::on_wire;
use super::{admit, work};
use crate::address;
use crate::agent::Agent;
use crate::state::flight::Lane;

pub(super) async fn handle(
    agent: &Arc<Agent>,
    request: Request<DropAddressRequest>,
) -> Result<Response<DropAddressResponse>, AgentError> {
    let admitted = admit::change(agent, &request, request.get_ref().context.clone())?;
    let order = DropOrder::try_from(request.into_inner())?;
    let lane = Lane::Address(admitted.server.config.name.clone());
    work::run(agent, admitted, lane, "DropAddress", |work| async move {
        let was_there = address::drop_it(&work.server, &order)
            .await
            .map_err(on_wire)?;
        Ok(DropAddressResponse { was_there })
    })
    .await
}
