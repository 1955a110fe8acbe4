//! What promote, repoint and undo have in common: bring both threads to a stand and read what was executed.

use binlog_core::BinlogPosition;

use super::channel::{ChannelRecord, Evidence};
use super::drain::failure;
use super::halt::halt;
use super::local::{Control, Local};
use super::relay::RelayFiles;
use super::{ReplicationError, executed};
use crate::mysqld::Deadline;
use crate::mysqld::status::ReplicaStatus;
use crate::mysqld::variables::Variables;

/// What a killed applier reports: its own coordinates are right, and all that is required was executed.
const KILLED: [u32; 4] = [
    1317, // ER_QUERY_INTERRUPTED
    1593, // ER_SLAVE_FATAL_ERROR (MariaDB)
    1756, // ER_MTS_INCONSISTENT_DATA
    1927, // ER_CONNECTION_KILLED (MariaDB)
];

/// A channel whose threads stand still.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) status: ReplicaStatus,
    pub(super) files: RelayFiles,
    pub(super) evidence: Evidence,
}

/// Stops both threads and checks that `required` was executed. A half transaction at the end of what was received is
/// dropped, as everywhere. Nothing is stopped if less than `required` was executed.
pub(super) async fn settle(
    local: &Local,
    control: &mut Control,
    variables: &Variables,
    record: &ChannelRecord,
    required: Option<&BinlogPosition>,
    deadline: Deadline,
) -> Result<Settled, ReplicationError> {
    let mut before = control.replica().await?;
    executed::correct(local, control, record, &mut before).await?;
    check_applier(control, &before)?;
    if variables.parallel_workers() == 0 {
        // With workers the position may lag behind the truth until they stand still.
        check_reached(control, &before, required)?;
    }
    let status = control.stop_receiver(deadline.remaining()).await?;
    let files = RelayFiles::of(control, variables).await?;
    let mut status = if status.applier_running {
        let received = files.received(&status).await?;
        halt(control, variables, &received, deadline).await?.status
    } else {
        status
    };
    executed::correct(local, control, record, &mut status).await?;
    check_reached(control, &status, required)?;
    let executed = status
        .executed
        .clone()
        .ok_or_else(|| ReplicationError::ExecutedUnknown {
            server: control.session.server().to_owned(),
        })?;
    let gtid = control.gtid_executed().await?;
    Ok(Settled {
        status,
        files,
        evidence: Evidence { executed, gtid },
    })
}

/// An applier that failed is left alone; one that was killed by an act of ours did not fail.
fn check_applier(control: &Control, status: &ReplicaStatus) -> Result<(), ReplicationError> {
    match &status.applier_error {
        Some(error) if !status.applier_running && !KILLED.contains(&error.errno) => {
            failure(control, status).map_or(Ok(()), Err)
        }
        _ => Ok(()),
    }
}

fn check_reached(
    control: &Control,
    status: &ReplicaStatus,
    required: Option<&BinlogPosition>,
) -> Result<(), ReplicationError> {
    match required {
        Some(required)
            if status
                .executed
                .as_ref()
                .is_none_or(|executed| executed < required) =>
        {
            Err(ReplicationError::Behind {
                server: control.session.server().to_owned(),
                executed: status.executed.clone(),
                required: required.clone(),
            })
        }
        _ => Ok(()),
    }
}
