//! What the calls of replication control have in common: the lane, the local server, errors, statuses.

use proto::status::AgentError;
use proto::v1::{self, ErrorKind};

use super::work::Work;
use crate::agent::LocalServer;
use crate::error::chain;
use crate::mysqld::ReplicaStatus;
use crate::replication::{ChannelRecord, Local, ReplicationError, observed_as_original};
use crate::state::flight::Lane;

/// One act of replication control at a time per server.
pub(super) fn lane(server: &LocalServer) -> Lane {
    Lane::Replication(server.config.name.clone())
}

/// The server as replication control sees it.
pub(super) fn local(work: &Work) -> Result<Local, AgentError> {
    work.server
        .local()
        .map_err(|error| AgentError::new(ErrorKind::NoCredentials, chain(&error)))
}

/// For `map_err`.
pub(super) fn failed(error: ReplicationError) -> AgentError {
    error.into()
}

/// A status for the wire; a channel that points at a local source shows as its original.
pub(super) fn status(work: &LocalServer, mut status: ReplicaStatus) -> v1::ReplicaStatus {
    if let Ok(Some(record)) = ChannelRecord::load(&work.config.state_dir) {
        observed_as_original(&mut status, &record);
    }
    (&status).into()
}
