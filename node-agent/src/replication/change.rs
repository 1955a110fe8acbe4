//! CHANGE MASTER, also on a server whose replica state a crash has damaged.
//!
//! A MySQL 5.6 that was killed inside CHANGE MASTER may come back with an applier position in a relay log that is gone.
//! It then never initialises its applier: START answers 1872, `SET GLOBAL relay_log_info_repository` "ERROR 2: Error
//! reading file", and another CHANGE mends nothing. RESET SLAVE does. It loses nothing here: the position is in the
//! CHANGE that follows, relay logs are kept aside before, and the settings are in the channel record. MariaDB with such a
//! position answers 1201 to START and to CHANGE, and is mended in the same way.
//!
//! A parallel MariaDB applier that stops in GTID mode remembers, if there are several domains, for each of them behind which
//! transaction the next start has to go on, and leaves out what other servers wrote until that one comes. A CHANGE to
//! `MASTER_USE_GTID=no` does not end that, nor does RESET SLAVE, with ALL or without: the replica of a new primary, whose log
//! begins behind those transactions, would leave out all that it writes, with both threads running and no error (10.11.19,
//! `slave_parallel_threads=4`). Another start of the applier in GTID mode does, with no relay logs that it could execute.

use super::ReplicationError;
use super::channel::OriginalChannel;
use super::local::Control;
use super::relay::RelayFiles;
use crate::mysqld::Deadline;
use crate::mysqld::dialect::ChangeOption;
use crate::mysqld::status::{ReplicaStatus, UsingGtid};

/// True if the applier's relay log is not there, so that the server cannot start it and needs a reset.
pub(super) fn is_damaged(status: &ReplicaStatus, files: &RelayFiles) -> bool {
    !status
        .relay
        .as_ref()
        .is_some_and(|relay| files.files.iter().any(|(name, _)| *name == relay.file))
}

/// Makes a CHANGE, behind a RESET where the server is `damaged`. Both threads stand still, the record is stored, and relay
/// logs that others may need are kept aside.
pub(super) async fn make(
    control: &mut Control,
    what: &'static str,
    mut options: Vec<ChangeOption>,
    original: Option<&OriginalChannel>,
    damaged: bool,
    deadline: Deadline,
) -> Result<(), ReplicationError> {
    if !damaged && ends_gtid_mode(control, &options).await? {
        // Deletes the relay logs first, which the CHANGE does as well.
        for sql in [
            control.dialect.start_applier(),
            control.dialect.stop_applier(),
        ] {
            control.session.exec(&sql, deadline.remaining()).await?;
        }
    }
    if damaged {
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

/// True if this CHANGE ends the GTID mode of a MariaDB that has applied transactions of several domains.
async fn ends_gtid_mode(
    control: &mut Control,
    options: &[ChangeOption],
) -> Result<bool, ReplicationError> {
    if !control.dialect.version().is_mariadb() || !options.contains(&ChangeOption::UseGtid("no")) {
        return Ok(false);
    }
    let by_gtid = control.replica().await?.using_gtid != UsingGtid::No;
    Ok(by_gtid && control.gtid_executed().await?.contains(','))
}
