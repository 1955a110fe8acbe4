//! Draining: the applier works through what was received, as long as it makes progress.
//!
//! It ends when the applier's relay logs are at their end or hold only a part of a transaction. An applier that was
//! stopped without an error is started; one that stopped with an error is left as it is, and so is the server.

use std::time::Duration;

use binlog_core::BinlogPosition;

use super::ReplicationError;
use super::executed::domains_are_level;
use super::local::Control;
use super::relay::Received;
use super::unblock::Unblock;
use super::watch::{Seen, Watch};
use crate::mysqld::Deadline;
use crate::mysqld::status::ReplicaStatus;

/// Longest wait for START.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Result of a drain.
#[derive(Debug)]
pub(super) struct Drained {
    pub(super) status: ReplicaStatus,
    pub(super) started: bool,
}

/// Starts the applier if it stands still without an error. `true` if it was started.
pub(super) async fn start_if_stopped(
    control: &mut Control,
    status: &ReplicaStatus,
) -> Result<bool, ReplicationError> {
    if status.applier_running {
        return Ok(false);
    }
    if let Some(error) = failure(control, status) {
        return Err(error);
    }
    let start = control.dialect.start_applier();
    control.session.exec(&start, START_LIMIT).await?;
    Ok(true)
}

/// Waits until everything whole in `received` is executed. `stall` is the longest time without progress.
pub(super) async fn wait(
    control: &mut Control,
    received: &Received,
    mut unblock: Unblock,
    stall: Duration,
    mut started: bool,
    on_progress: &mut (dyn FnMut(Option<&BinlogPosition>) + Send),
) -> Result<Drained, ReplicationError> {
    let mut watch = Watch::new(stall);
    loop {
        let status = control.replica().await?;
        if is_drained(&status, received.whole_end.as_ref()) {
            return Ok(Drained { status, started });
        }
        if !status.applier_running {
            return Err(failure(control, &status).unwrap_or_else(|| {
                ReplicationError::ApplierStopped {
                    server: control.session.server().to_owned(),
                    executed: status.executed.clone(),
                }
            }));
        }
        on_progress(status.executed.as_ref());
        if let Err(waited) = watch.note(Seen::of(&status, 0)) {
            return Err(ReplicationError::NoProgress {
                server: control.session.server().to_owned(),
                doing: "draining the applier",
                waited,
                executed: status.executed,
            });
        }
        watch.count_work(control).await?;
        started |= unblock
            .look(control, &status, Deadline::after(stall))
            .await?;
        watch.pause().await;
    }
}

/// The applier's error as a failure, if it has one.
pub(super) fn failure(control: &Control, status: &ReplicaStatus) -> Option<ReplicationError> {
    status
        .applier_error
        .as_ref()
        .map(|error| ReplicationError::ApplierFailed {
            server: control.session.server().to_owned(),
            errno: error.errno,
            text: error.text.clone(),
            executed: status.executed.clone(),
        })
}

/// True if nothing whole is left to execute.
///
/// Where the relay logs hold no transaction to compare with, the applier's own words decide: it says that it has read
/// all of them only while it waits for more.
fn is_drained(status: &ReplicaStatus, whole_end: Option<&BinlogPosition>) -> bool {
    match (whole_end, &status.executed) {
        _ if !domains_are_level(status) => false,
        (Some(end), Some(executed)) => executed >= end,
        (Some(_), None) => false,
        (None, _) => {
            status.applier_running && status.applier_state.contains("has read all relay log")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysqld::Receiver;
    use crate::mysqld::status::{ChannelTls, UsingGtid};

    fn status(executed: Option<&str>, running: bool, state: &str) -> ReplicaStatus {
        ReplicaStatus {
            channel: String::new(),
            channels: 1,
            source_host: "db1".to_owned(),
            source_port: 3306,
            source_user: "repl".to_owned(),
            receiver: Receiver::Stopped,
            applier_running: running,
            applier_state: state.to_owned(),
            read: None,
            executed: executed.map(|text| text.parse().unwrap()),
            relay: None,
            receiver_error: None,
            applier_error: None,
            delay: Duration::ZERO,
            auto_position: false,
            using_gtid: UsingGtid::No,
            gtid_executed: String::new(),
            gtid_received: String::new(),
            source_server_id: 1,
            source_uuid: String::new(),
            seconds_behind: None,
            filters: Vec::new(),
            connect_retry: 60,
            retry_count: None,
            bind: String::new(),
            ignore_server_ids: Vec::new(),
            tls: ChannelTls::default(),
        }
    }

    #[test]
    fn drained_means_in_every_domain() {
        let end: BinlogPosition = "b.000002:120".parse().unwrap();
        for (using_gtid, executed, received, expected) in [
            (UsingGtid::SlavePos, "0-1-3,1-1-57", "0-1-3,1-1-60", false),
            (UsingGtid::SlavePos, "1-1-60,0-1-3", "0-1-3,1-1-60", true),
            (UsingGtid::CurrentPos, "0-1-3", "0-1-3,1-1-1", false),
            // One domain is applied in order, and by position all are.
            (UsingGtid::SlavePos, "0-1-3", "0-1-4", true),
            (UsingGtid::No, "0-1-3,1-1-57", "0-1-3,1-1-60", true),
        ] {
            let status = ReplicaStatus {
                using_gtid,
                gtid_executed: executed.to_owned(),
                gtid_received: received.to_owned(),
                ..status(Some("b.000002:120"), true, "")
            };
            assert_eq!(is_drained(&status, Some(&end)), expected, "{status:?}");
        }
    }

    #[test]
    fn drained_means_nothing_whole_is_left() {
        let end: BinlogPosition = "b.000002:120".parse().unwrap();
        let waiting = "Slave has read all relay log; waiting for more updates";
        let table = [
            (Some("b.000002:120"), true, "", Some(&end), true),
            (Some("b.000002:4"), true, waiting, Some(&end), false),
            (Some("b.000010:4"), true, "", Some(&end), true),
            (Some("b.999999:900"), true, "", Some(&end), true),
            (None, true, waiting, Some(&end), false),
            // Only the replica's own format description: nothing to compare with.
            (Some("b.000001:452"), true, waiting, None, true),
            (
                Some("b.000001:452"),
                true,
                "Reading event from the relay log",
                None,
                false,
            ),
            (Some("b.000001:452"), false, "", None, false),
        ];
        for (executed, running, state, end, expected) in table {
            let status = status(executed, running, state);
            assert_eq!(
                is_drained(&status, end),
                expected,
                "{executed:?} {running} {state}"
            );
        }
    }
}
