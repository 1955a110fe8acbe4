//! Undo, before a promotion: the channel as it was, its threads as they were.
//!
//! What was executed meanwhile stays executed: it is the primary's own stream, and the channel goes on behind it.

use super::ReplicationError;
use super::channel::{ChannelRecord, Phase};
use super::local::{Control, Local, small};
use super::repoint::restoring;
use super::serve::protect;
use super::settle::{Settled, settle};
use super::{change, globals, revive};
use crate::mysqld::Deadline;
use crate::mysqld::dialect::ChangeOption;
use crate::mysqld::status::{Receiver, ReplicaStatus, UsingGtid};
use crate::mysqld::variables::Variables;

/// How the threads of a channel are left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Threads {
    /// As they were found.
    AsBefore,
    /// Both stand still.
    Stopped,
}

/// Undoes what operations did to the channel. Idempotent; without a record there is nothing to undo.
///
/// # Errors
/// [`ReplicationError::AlreadyPromoted`]; a failed applier changes nothing.
pub async fn resume(local: &Local, deadline: Deadline) -> Result<ReplicaStatus, ReplicationError> {
    undo(local, Threads::AsBefore, deadline).await
}

/// The same with a choice of how the threads are left.
///
/// # Errors
/// As [`resume`].
pub async fn undo(
    local: &Local,
    threads: Threads,
    deadline: Deadline,
) -> Result<ReplicaStatus, ReplicationError> {
    let mut control = local.control(deadline.remaining()).await?;
    let Some(record) = ChannelRecord::load(&local.state_folder)? else {
        return control.replica().await;
    };
    let Some(status) = revive::status(local, &mut control).await? else {
        return Err(match record.phase {
            Phase::Promoting | Phase::Promoted => ReplicationError::AlreadyPromoted {
                server: local.server().to_owned(),
                operation: record.operation,
            },
            _ => ReplicationError::NotAReplica {
                server: local.server().to_owned(),
            },
        });
    };
    let variables = Variables::read(&mut control.session, small(deadline)).await?;
    if record.points_here(&status) {
        let settled = settle(local, &mut control, &variables, &record, None, deadline).await?;
        change_back(local, &mut control, &record, settled, deadline).await?;
    } else {
        restore_stopped(local, &mut control, &record, &variables, deadline).await?;
    }
    match threads {
        Threads::AsBefore => run_as_before(&mut control, &record, deadline).await?,
        Threads::Stopped => stop(&mut control, deadline).await?,
    }
    ChannelRecord::remove(&local.state_folder)?;
    control.replica().await
}

/// Points a channel at its original again, from the executed position on.
async fn change_back(
    local: &Local,
    control: &mut Control,
    record: &ChannelRecord,
    settled: Settled,
    deadline: Deadline,
) -> Result<(), ReplicationError> {
    let Some(original) = &record.original else {
        return Err(ReplicationError::Contradiction {
            server: local.server().to_owned(),
            what: "the channel record",
            expected: "the original settings of a channel that points at a local source".to_owned(),
            found: "none".to_owned(),
        });
    };
    protect(local, settled.files.paths()).await?;
    let mut options = restoring(original, &original.host, original.port);
    let by_position = [
        ChangeOption::LogFile(settled.evidence.executed.file.as_str().to_owned()),
        ChangeOption::LogPos(settled.evidence.executed.offset),
    ];
    match (control.dialect.version().is_mariadb(), original.using_gtid) {
        (true, UsingGtid::SlavePos) => options.push(ChangeOption::UseGtid("slave_pos")),
        (true, UsingGtid::CurrentPos) => options.push(ChangeOption::UseGtid("current_pos")),
        (true, UsingGtid::No) => {
            options.extend(by_position);
            options.push(ChangeOption::UseGtid("no"));
        }
        (false, _) if original.auto_position => options.push(ChangeOption::AutoPosition(true)),
        (false, _) => {
            options.extend(by_position);
            options.push(ChangeOption::AutoPosition(false));
        }
    }
    let damaged = change::is_damaged(&settled.status, &settled.files);
    let what = "CHANGE MASTER TO (as it was)";
    change::make(control, what, options, Some(original), damaged, deadline).await?;
    globals::restore(control, &record.saved_globals, deadline).await
}

/// Settings of a channel that was not changed; a repository of ours needs both threads at a stand.
async fn restore_stopped(
    local: &Local,
    control: &mut Control,
    record: &ChannelRecord,
    variables: &Variables,
    deadline: Deadline,
) -> Result<(), ReplicationError> {
    let repository = record
        .saved_globals
        .get(globals::RELAY_LOG_INFO_REPOSITORY)
        .is_some_and(|saved| {
            !saved.eq_ignore_ascii_case(variables.text(globals::RELAY_LOG_INFO_REPOSITORY))
        });
    if repository {
        settle(local, control, variables, record, None, deadline).await?;
    }
    globals::restore(control, &record.saved_globals, deadline).await
}

async fn stop(control: &mut Control, deadline: Deadline) -> Result<(), ReplicationError> {
    if !control.replica().await?.is_stopped() {
        let sql = control.dialect.stop_both();
        control.session.exec(&sql, deadline.remaining()).await?;
    }
    Ok(())
}

/// Starts the threads that ran before and stops the applier if it did not.
async fn run_as_before(
    control: &mut Control,
    record: &ChannelRecord,
    deadline: Deadline,
) -> Result<(), ReplicationError> {
    let status = control.replica().await?;
    let statement = if record.applier_was_running && !status.applier_running {
        Some(control.dialect.start_applier())
    } else if !record.applier_was_running && status.applier_running {
        Some(control.dialect.stop_applier())
    } else {
        None
    };
    if let Some(sql) = statement {
        control.session.exec(&sql, deadline.remaining()).await?;
    }
    if record.receiver_was_running && status.receiver == Receiver::Stopped {
        let sql = control.dialect.start_receiver();
        control.session.exec(&sql, deadline.remaining()).await?;
    }
    Ok(())
}
