//! Stopping the receiver: what was received is final from then on, while the applier goes on.

use super::channel::ChannelRecord;
use super::local::Local;
use super::{ReplicationError, executed, observed_as_original, revive};
use crate::mysqld::Deadline;
use crate::mysqld::status::ReplicaStatus;

/// The receiver stands still.
#[derive(Debug, Clone, PartialEq)]
pub struct ReceiverStopped {
    /// Status afterwards; a channel that points at a local source shows as its original.
    pub status: ReplicaStatus,
    /// The receiver ran (or tried to) before the first operation touched it.
    pub was_running: bool,
}

/// Stops the receiver. Idempotent: how the channel ran is on disk before it is stopped.
///
/// # Errors
/// No replica; SQL; the record cannot be stored.
pub async fn stop_receiver(
    local: &Local,
    operation: &str,
    deadline: Deadline,
) -> Result<ReceiverStopped, ReplicationError> {
    let mut control = local.control(deadline.remaining()).await?;
    let status = revive::replica(local, &mut control).await?;
    let found = ChannelRecord::load(&local.state_folder)?;
    let record = ChannelRecord::adopt(found.clone(), operation, &status);
    if found.as_ref() != Some(&record) {
        record.store(&local.state_folder)?;
    }
    let mut status = control.stop_receiver(deadline.remaining()).await?;
    executed::correct(local, &mut control, &record, &mut status).await?;
    observed_as_original(&mut status, &record);
    control.session.close(deadline.remaining()).await;
    Ok(ReceiverStopped {
        status,
        was_running: record.receiver_was_running,
    })
}
