//! CHANGE MASTER, also on a server whose replica state a crash has damaged.
//!
//! A MySQL 5.6 that was killed inside CHANGE MASTER may come back with an applier position in a relay log that is gone.
//! It then never initialises its applier: START answers 1872, `SET GLOBAL relay_log_info_repository` "ERROR 2: Error
//! reading file", and another CHANGE mends nothing. RESET SLAVE does. It loses nothing here: the position is in the
//! CHANGE that follows, relay logs are kept aside before, and the settings are in the channel record. MariaDB with such a
//! position answers 1201 to START and to CHANGE, and is mended in the same way.

use super::ReplicationError;
use super::channel::OriginalChannel;
use super::local::Control;
use super::relay::RelayFiles;
use crate::mysqld::Deadline;
use crate::mysqld::dialect::ChangeOption;
use crate::mysqld::status::ReplicaStatus;

/// True if the applier's relay log is not there, so that the server cannot start it and needs a reset.
pub(super) fn is_damaged(status: &ReplicaStatus, files: &RelayFiles) -> bool {
    !status
        .relay
        .as_ref()
        .is_some_and(|relay| files.files.iter().any(|(name, _)| *name == relay.file))
}

/// Makes a CHANGE; `reset` first where the server is damaged. Both threads stand still and the record is stored.
pub(super) async fn make(
    control: &mut Control,
    what: &'static str,
    mut options: Vec<ChangeOption>,
    original: Option<&OriginalChannel>,
    reset: bool,
    deadline: Deadline,
) -> Result<(), ReplicationError> {
    if reset {
        tracing::warn!(
            server = control.session.server(),
            "the replica state is damaged by a crash; it is reset and made anew"
        );
        let sql = control.dialect.reset();
        control.session.exec(&sql, deadline.remaining()).await?;
        // What a CHANGE leaves alone may not survive a RESET.
        options.extend(original.map(OriginalChannel::rest).unwrap_or_default());
    }
    let sql = control.dialect.change(&options);
    control
        .session
        .query(what, &sql, deadline.remaining())
        .await?;
    Ok(())
}
