//! Calls about the address that moves with the primary.

use std::time::Duration;

use proto::address::VirtualAddress;
use proto::v1;
use serde::{Deserialize, Serialize};

use super::client::{AgentClient, Result, unary, wire_context};
use super::convert;
use super::values::Context;
use crate::facts::Answer;

/// What an agent sees of the address on its host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressFacts {
    /// It is up there.
    pub up: Answer,
    /// On which interface, or why that cannot be told.
    pub evidence: String,
    /// Why the agent could not take or drop it; `None` if it could.
    pub trouble: Option<String>,
    /// The agent keeps it for its server, by the operation of this epoch.
    pub kept_epoch: Option<u64>,
}

impl AgentClient {
    /// Brings the address up; true if it was up already. Idempotent.
    ///
    /// # Errors
    /// See [`super::AgentCallError`]; kind CONFLICT says who else answers for it.
    pub async fn take_address(
        &self,
        context: &Context,
        server: &str,
        address: &VirtualAddress,
        holder_fenced: bool,
        limit: Duration,
    ) -> Result<bool> {
        let request = v1::TakeAddressRequest {
            context: Some(wire_context(context, server, limit)),
            address: Some(address.into()),
            holder_fenced,
        };
        let mut client = self.fences();
        let answer = unary(
            self.name(),
            "TakeAddress",
            limit,
            client.take_address(request),
        );
        Ok(answer.await?.was_there)
    }

    /// Takes the address down; true if it was up. Idempotent.
    ///
    /// # Errors
    /// See [`super::AgentCallError`].
    pub async fn drop_address(
        &self,
        context: &Context,
        server: &str,
        address: &VirtualAddress,
        limit: Duration,
    ) -> Result<bool> {
        let request = v1::DropAddressRequest {
            context: Some(wire_context(context, server, limit)),
            address: Some(address.into()),
        };
        let mut client = self.fences();
        let answer = unary(
            self.name(),
            "DropAddress",
            limit,
            client.drop_address(request),
        );
        Ok(answer.await?.was_there)
    }

    /// What is seen of the address there. Reads only.
    ///
    /// # Errors
    /// See [`super::AgentCallError`].
    pub async fn get_address(
        &self,
        cluster: &str,
        server: &str,
        address: &VirtualAddress,
        limit: Duration,
    ) -> Result<AddressFacts> {
        const CALL: &str = "GetAddress";
        let request = v1::GetAddressRequest {
            cluster: cluster.to_owned(),
            server: server.to_owned(),
            address: Some(address.into()),
        };
        let answer = unary(self.name(), CALL, limit, self.fences().get_address(request)).await?;
        Ok(AddressFacts {
            up: convert::answer("up", answer.up()).map_err(self.bad(CALL))?,
            evidence: answer.evidence,
            trouble: Some(answer.trouble).filter(|why| !why.is_empty()),
            kept_epoch: Some(answer.kept_epoch).filter(|epoch| *epoch > 0),
        })
    }
}
