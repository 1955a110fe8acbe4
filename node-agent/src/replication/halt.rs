//! Stopping the applier without waiting 60 seconds.
//!
//! STOP waits up to 60 s for the rest of a transaction of which only the first part was received, where the applier has
//! parallel workers or has changed a non-transactional table. So the received range is looked at first: if it ends
//! inside a transaction, the applier's thread is killed *instead of* stopped (after a STOP it is too late on 5.6 and
//! MariaDB). The half transaction is rolled back, the executed position is its start, and the server reports 1756 or
//! 1593, which CHANGE and START clear. What cannot be rolled back, changes of non-transactional tables, is reported.
//!
//! # Temporary tables of the applier
//!
//! A replay from the executed position is right only if the temporary tables that statements created are still open.
//! Seen with statement format on MySQL 5.6.24 and MariaDB 10.11 (single-threaded and with 4 parallel threads), by
//! `Slave_open_temp_tables` and by replaying an `INSERT .. SELECT` from such a table:
//!
//! | act | temporary tables |
//! |---|---|
//! | STOP of the applier, or KILL of its idle thread | stay open |
//! | CHANGE MASTER with both threads stopped (relay logs deleted) | stay open |
//! | `SET GLOBAL relay_log_info_repository` to TABLE and back (5.6) | stay open |
//! | format description with `created` not zero | dropped: the local source zeroes it |
//! | RESET SLAVE ALL | dropped: a promoted server has none of the dead primary's sessions left |
//! | end of mysqld | gone: a replay of statements that use them stops with 1146, as any restart of a replica does |
//!
//! So CHANGE is safe while some are open. One case is not: a half transaction that itself created one. KILL rolls the
//! transaction back but leaves the table, and its second CREATE fails on 5.6 with 1050, which is reported as the
//! applier's failure (MariaDB replays it).

use std::time::Duration;

use tokio::time::Instant;

use super::ReplicationError;
use super::drain::failure;
use super::local::{Control, small};
use super::relay::{Received, non_transactional};
use crate::mysqld::status::ReplicaStatus;
use crate::mysqld::variables::Variables;
use crate::mysqld::{Deadline, SqlError};

/// Pause between looks at an applier that is stopping.
const PAUSE: Duration = Duration::from_millis(1);
/// How long a killed applier gets before it is killed once more. One of 8.0.15 was seen to go on waiting for events for as long as
/// anybody looked; a KILL between its look at the flag and its sleep would not wake it.
const KILL_AGAIN: Duration = Duration::from_millis(500);
/// `ER_NO_SUCH_THREAD`: it ended by itself.
const NO_SUCH_THREAD: u16 = 1094;

/// How the applier came to a stand.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Halted {
    /// Status afterwards: the executed position is exact.
    pub(super) status: ReplicaStatus,
    /// The received range ended inside a transaction.
    pub(super) half_transaction: bool,
    /// It was killed.
    pub(super) killed: bool,
    /// Non-transactional tables that the half transaction changed or may have changed.
    pub(super) maybe_twice: Vec<String>,
}

/// Stops the applier. The receiver must stand still, and `received` be read since.
pub(super) async fn halt(
    control: &mut Control,
    variables: &Variables,
    received: &Received,
    deadline: Deadline,
) -> Result<Halted, ReplicationError> {
    let status = control.replica().await?;
    let maybe_twice = match &received.tail {
        Some(tail) => non_transactional(control, tail, small(deadline)).await?,
        None => Vec::new(),
    };
    let half_transaction = received.tail.is_some();
    if !status.applier_running {
        return Ok(Halted {
            status,
            half_transaction,
            killed: false,
            maybe_twice,
        });
    }
    let killed = if must_kill(&status, received, variables) {
        kill(control, &status, deadline).await?
    } else {
        None
    };
    if killed.is_none() {
        let stop = control.dialect.stop_applier();
        control.session.exec(&stop, deadline.remaining()).await?;
    }
    let status = stopped(control, killed, deadline).await?;
    Ok(Halted {
        status,
        half_transaction,
        killed: killed.is_some(),
        maybe_twice,
    })
}

/// True if the applier is, or may be, inside the unfinished transaction.
fn must_kill(status: &ReplicaStatus, received: &Received, variables: &Variables) -> bool {
    if received.tail.is_none() {
        return false;
    }
    // With workers the position lags behind the work; without, it tells whether whole transactions are left.
    variables.parallel_workers() > 0
        || match (&status.executed, &received.whole_end) {
            // One that works is not inside it, whatever could be read of its relay logs (MariaDB with compressed events): a KILL
            // would leave a definition made and not counted as executed.
            (Some(executed), Some(end)) => executed >= end && is_waiting(status),
            _ => true,
        }
}

/// True if the applier says that it waits for more.
fn is_waiting(status: &ReplicaStatus) -> bool {
    status.applier_state.contains("has read all relay log")
}

/// Kills the applier's coordinating thread and returns its id; `None` if none was found.
pub(super) async fn kill(
    control: &mut Control,
    status: &ReplicaStatus,
    deadline: Deadline,
) -> Result<Option<u64>, ReplicationError> {
    let Some(thread) = applier_thread(control, status, deadline).await? else {
        return Ok(None);
    };
    let found = kill_thread(control, thread, deadline).await?;
    Ok(found.then_some(thread))
}

/// False if there is no such thread.
async fn kill_thread(
    control: &mut Control,
    thread: u64,
    deadline: Deadline,
) -> Result<bool, ReplicationError> {
    let kill = format!("KILL {thread}");
    match control.session.exec(&kill, small(deadline)).await {
        Ok(()) => Ok(true),
        Err(SqlError::Refused {
            errno: NO_SUCH_THREAD,
            ..
        }) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Process list id of the applier's coordinating thread. The receiver must stand still.
///
/// MariaDB's process list names it. MySQL's does not; `performance_schema` does from 5.7 on, but 5.6 knows no process
/// list id there. Then it is the `system user` thread whose state is the one of the status; with the receiver stopped,
/// all others are its workers, which it started later.
async fn applier_thread(
    control: &mut Control,
    status: &ReplicaStatus,
    deadline: Deadline,
) -> Result<Option<u64>, ReplicationError> {
    let limit = small(deadline);
    let named = match control.dialect.applier_thread_name() {
        None => {
            "SELECT ID FROM information_schema.PROCESSLIST WHERE COMMAND='Slave_SQL' ORDER BY ID LIMIT 1"
                .to_owned()
        }
        Some(name) => format!(
            "SELECT PROCESSLIST_ID FROM performance_schema.threads WHERE NAME='{name}' \
             AND PROCESSLIST_ID IS NOT NULL ORDER BY PROCESSLIST_ID LIMIT 1"
        ),
    };
    let found = match control.session.query_value(&named, limit).await {
        Ok(found) => found,
        // No privilege, or no such table.
        Err(SqlError::Refused { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    if let Some(thread) = found.and_then(|text| text.parse().ok()) {
        return Ok(Some(thread));
    }
    let rows = control
        .session
        .query_rows(
            "SELECT ID, STATE FROM information_schema.PROCESSLIST WHERE USER='system user' ORDER BY ID",
            limit,
        )
        .await?;
    let mut threads = Vec::with_capacity(rows.len());
    for row in &rows {
        threads.push((row.number("ID")?, row.text_or_empty("STATE").to_owned()));
    }
    Ok(coordinator(&threads, &status.applier_state))
}

/// The thread in this state, else the oldest. The process list cuts states at 64 characters.
fn coordinator(threads: &[(u64, String)], applier_state: &str) -> Option<u64> {
    threads
        .iter()
        .find(|(_, state)| !state.is_empty() && applier_state.starts_with(state.as_str()))
        .or_else(|| threads.first())
        .map(|(id, _)| *id)
}

/// Waits until the applier stands still. `killed`: its thread, if it was killed.
pub(super) async fn stopped(
    control: &mut Control,
    killed: Option<u64>,
    deadline: Deadline,
) -> Result<ReplicaStatus, ReplicationError> {
    let mut kill_again = Instant::now() + KILL_AGAIN;
    loop {
        let status = control.replica().await?;
        if !status.applier_running {
            // A killed applier reports an error of its own; a stopped one none, or it failed before.
            return match failure(control, &status) {
                Some(error) if killed.is_none() => Err(error),
                _ => Ok(status),
            };
        }
        if deadline.has_passed() {
            return Err(ReplicationError::TooLate {
                server: control.session.server().to_owned(),
                doing: "stopping the applier",
                found: status.applier_state,
            });
        }
        if let Some(thread) = killed.filter(|_| Instant::now() >= kill_again) {
            kill_thread(control, thread, deadline).await?;
            kill_again = Instant::now() + KILL_AGAIN;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_coordinator_is_found_by_its_state_or_its_age() {
        let waiting = "Slave has read all relay log; waiting for the slave I/O thread to update it";
        let list = |states: &[(u64, &str)]| -> Vec<(u64, String)> {
            states
                .iter()
                .map(|(id, state)| (*id, (*state).to_owned()))
                .collect()
        };
        let cut = "Slave has read all relay log; waiting for the slave I/O thread t";
        assert_eq!(
            coordinator(&list(&[(8, ""), (11, cut), (12, "x")]), waiting),
            Some(11)
        );
        let workers = list(&[
            (11, "updating"),
            (12, "Waiting for an event from Coordinator"),
        ]);
        assert_eq!(coordinator(&workers, waiting), Some(11));
        assert_eq!(coordinator(&[], waiting), None);
    }
}
