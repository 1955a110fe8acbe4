//! The end of a replay: it is awaited, both threads are stopped, and what was executed is read.
//!
//! If anything goes wrong after START, the receiver is stopped before the local source goes away, so that no server is
//! left knocking at a closed port; a mysqld that died takes the local source with it at once, so that a receiver that
//! comes back with a stale position finds nobody and cannot fetch events twice.

use std::sync::Arc;
use std::time::Duration;

use binlog_core::{BinlogPosition, MariaDbGtidPos};

use super::ReplicationError;
use super::apply::{ApplyPhase, ApplyStatus, OnProgress};
use super::drain;
use super::executed::domains_are_level;
use super::local::Control;
use super::relay::blocking;
use super::serve::Running;
use super::watch::{Seen, Watch};
use crate::mysqld::status::{Receiver, ReplicaStatus};
use crate::mysqld::{Deadline, SqlError};
use crate::source::{EventFeed as _, LocalSource};

/// Longest wait for the receiver to stop after a failure.
const TIDY_LIMIT: Duration = Duration::from_secs(5);

/// A replay at its end: both threads stand still.
pub(super) struct Replayed {
    pub(super) executed: BinlogPosition,
    pub(super) took: Duration,
    pub(super) connections: u64,
}

/// Waits until `until` is executed, then stops both threads and the local source.
pub(super) async fn finish(
    running: Running,
    control: &mut Control,
    until: &BinlogPosition,
    stall: Duration,
    on_progress: OnProgress<'_>,
) -> Result<Replayed, ReplicationError> {
    let waited = wait(&running.source, control, until, stall, on_progress).await;
    let took = running.began.elapsed();
    let connections = running.source.progress().borrow().connections;
    let ended = match waited {
        Ok(()) => stop_and_verify(&running, control, until, Deadline::after(stall)).await,
        Err(error) => {
            tidy(control, &error).await;
            Err(error)
        }
    };
    running.source.stop().await;
    Ok(Replayed {
        executed: ended?,
        took,
        connections,
    })
}

async fn wait(
    source: &LocalSource,
    control: &mut Control,
    until: &BinlogPosition,
    stall: Duration,
    on_progress: OnProgress<'_>,
) -> Result<(), ReplicationError> {
    let mut watch = Watch::new(stall);
    let progress = source.progress();
    loop {
        let status = control.replica().await?;
        let sent_bytes = progress.borrow().sent_bytes;
        on_progress(ApplyStatus {
            phase: ApplyPhase::Replaying,
            executed: status.executed.clone(),
            sent_bytes,
        });
        if status
            .executed
            .as_ref()
            .is_some_and(|executed| executed >= until)
            && domains_are_level(&status)
        {
            return Ok(());
        }
        let complaint = progress.borrow().last_error.clone();
        check_threads(control, &status, complaint.as_deref())?;
        if let Err(waited) = watch.note(Seen::of(&status, sent_bytes)) {
            return Err(match status.receiver {
                Receiver::Connecting => receiver_failure(control, &status, complaint.as_deref()),
                _ => ReplicationError::NoProgress {
                    server: control.session.server().to_owned(),
                    doing: "replaying",
                    waited,
                    executed: status.executed,
                },
            });
        }
        watch.count_work(control).await?;
        watch.pause().await;
    }
}

fn check_threads(
    control: &Control,
    status: &ReplicaStatus,
    complaint: Option<&str>,
) -> Result<(), ReplicationError> {
    if !status.applier_running {
        return Err(drain::failure(control, status).unwrap_or_else(|| {
            ReplicationError::ApplierStopped {
                server: control.session.server().to_owned(),
                executed: status.executed.clone(),
            }
        }));
    }
    if status.receiver == Receiver::Stopped {
        return Err(receiver_failure(control, status, complaint));
    }
    Ok(())
}

/// The receiver's state as a failure; what the local source has to say is part of it.
fn receiver_failure(
    control: &Control,
    status: &ReplicaStatus,
    complaint: Option<&str>,
) -> ReplicationError {
    let (errno, mut text) = status
        .receiver_error
        .as_ref()
        .map_or((0, String::new()), |error| {
            (error.errno, error.text.clone())
        });
    if let Some(complaint) = complaint {
        text.push_str("; local source: ");
        text.push_str(complaint);
    }
    ReplicationError::ReceiverFailed {
        server: control.session.server().to_owned(),
        state: match status.receiver {
            Receiver::Stopped => "stopped",
            Receiver::Connecting => "connecting",
            Receiver::Running => "running",
        },
        errno,
        text,
    }
}

/// Stops both threads. Where the replay went by GTID, the GTID position must say the same as the executed one.
async fn stop_and_verify(
    running: &Running,
    control: &mut Control,
    until: &BinlogPosition,
    deadline: Deadline,
) -> Result<BinlogPosition, ReplicationError> {
    let executed = stop_both(control, until, deadline).await?;
    if !running.by_gtid {
        return Ok(executed);
    }
    let text = control.gtid_executed().await?;
    let feed = Arc::clone(&running.feed);
    let mapped = match text.parse::<MariaDbGtidPos>() {
        Ok(position) => {
            blocking("mapping the GTID position", move || {
                Ok(feed.position_of_gtid_pos(&position)?)
            })
            .await?
        }
        Err(_) => None,
    };
    match mapped {
        Some(mapped) if mapped >= *until => Ok(executed),
        _ => Err(ReplicationError::Contradiction {
            server: control.session.server().to_owned(),
            what: "@@gtid_slave_pos after the replay",
            expected: format!("the position of {until}"),
            found: match mapped {
                Some(mapped) => format!("'{text}', which is {mapped}"),
                None => format!("'{text}', which the segments do not know"),
            },
        }),
    }
}

/// Stops both threads; the executed position is exact then.
async fn stop_both(
    control: &mut Control,
    until: &BinlogPosition,
    deadline: Deadline,
) -> Result<BinlogPosition, ReplicationError> {
    let stop = control.dialect.stop_both();
    control.session.exec(&stop, deadline.remaining()).await?;
    let status = control.replica().await?;
    match status.executed {
        Some(executed) if status.receiver == Receiver::Stopped && !status.applier_running => {
            if &executed < until {
                return Err(ReplicationError::Behind {
                    server: control.session.server().to_owned(),
                    executed: Some(executed),
                    required: until.clone(),
                });
            }
            Ok(executed)
        }
        executed => Err(ReplicationError::Contradiction {
            server: control.session.server().to_owned(),
            what: "replica status after STOP",
            expected: "both threads stopped".to_owned(),
            found: format!(
                "receiver {:?}, applier running: {}, executed {executed:?}",
                status.receiver, status.applier_running
            ),
        }),
    }
}

/// Stops the receiver after a failure, if there is still a server to do it.
async fn tidy(control: &mut Control, error: &ReplicationError) {
    if matches!(error, ReplicationError::Sql(error) if error.lost_connection()) {
        return;
    }
    let stop = control.dialect.stop_receiver();
    let stopped: Result<(), SqlError> = control.session.exec(&stop, TIDY_LIMIT).await;
    if let Err(second) = stopped {
        tracing::warn!(server = control.session.server(), error = %second, "the receiver was not stopped after a failed replay");
    }
}
