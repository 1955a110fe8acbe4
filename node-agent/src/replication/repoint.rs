//! Repointing: the replica follows the new primary, with the settings its channel had.
//!
//! Idempotent: a repeated call finds the evidence of the first one in the record and goes on from what the server
//! shows. If the new primary is not reached in time the channel is pointed back where it was, at the executed
//! position, and left stopped: what the server has executed stays readable in the old primary's terms.

use std::time::Duration;

use binlog_core::BinlogPosition;

use super::channel::{ChannelRecord, Evidence, OriginalChannel, Phase};
use super::credentials::{Credentials, FoundIn};
use super::local::{Control, Local, small};
use super::serve::protect;
use super::settle::settle;
use super::{ReplicationError, change, globals, revive};
use crate::config::Secret;
use crate::mysqld::Deadline;
use crate::mysqld::dialect::ChangeOption;
use crate::mysqld::status::{Receiver, ReplicaStatus, UsingGtid};
use crate::mysqld::variables::Variables;

/// Longest wait for the statements that point a failed channel back.
const BACK_LIMIT: Duration = Duration::from_secs(10);

/// Where to point.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RepointRequest {
    /// Operation on whose behalf.
    pub operation: String,
    /// Host of the new primary.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// Start here, by position.
    pub position: BinlogPosition,
    /// Follow GTIDs if the channel did.
    pub keep_gtid_mode: bool,
    /// Refused unless so much of the dead primary's stream is executed.
    pub executed_at_least: BinlogPosition,
}

/// A replica of the new primary.
#[derive(Debug, Clone, PartialEq)]
pub struct Repointed {
    /// Status, both threads running.
    pub status: ReplicaStatus,
    /// Executed position in the dead primary's coordinates, read before the CHANGE; `None` if a call before the record
    /// was removed had reported it.
    pub executed_before: Option<BinlogPosition>,
    /// GTID state read before the CHANGE.
    pub gtid_before: String,
}

/// Points the replica at the new primary and waits until both threads run.
///
/// # Errors
/// [`ReplicationError::Behind`] and a failed applier change nothing. [`ReplicationError::ReceiverFailed`] or
/// [`ReplicationError::ApplierFailed`]: left stopped, pointing where it was.
pub async fn repoint(
    local: &Local,
    request: &RepointRequest,
    deadline: Deadline,
) -> Result<Repointed, ReplicationError> {
    let mut control = local.control(deadline.remaining()).await?;
    let status = revive::replica(local, &mut control).await?;
    let found = ChannelRecord::load(&local.state_folder)?;
    let points_there = status.source_host == request.host && status.source_port == request.port;
    let record = match found {
        // The CHANGE of an earlier call is done: what is left is to start and to wait.
        Some(record) if points_there && record.phase == Phase::Repointing => record,
        None if points_there => {
            return started(&mut control, None, deadline).await;
        }
        found => {
            let record = ChannelRecord::adopt(found, &request.operation, &status);
            turn(local, &mut control, record, request, deadline).await?
        }
    };
    let evidence = record.evidence.clone();
    let repointed = async {
        // Both threads stand still unless an earlier call had started them, and then it had restored these.
        if stands_still(&mut control).await? {
            globals::restore(&mut control, &record.saved_globals, deadline).await?;
        }
        started(&mut control, evidence, deadline).await
    }
    .await;
    match repointed {
        Ok(repointed) => {
            ChannelRecord::remove(&local.state_folder)?;
            Ok(repointed)
        }
        Err(error) => {
            point_back(&mut control, &record, &error).await;
            Err(error)
        }
    }
}

async fn stands_still(control: &mut Control) -> Result<bool, ReplicationError> {
    Ok(control.replica().await?.is_stopped())
}

/// Stops, stores evidence, restores settings, and makes the CHANGE.
async fn turn(
    local: &Local,
    control: &mut Control,
    mut record: ChannelRecord,
    request: &RepointRequest,
    deadline: Deadline,
) -> Result<ChannelRecord, ReplicationError> {
    let variables = Variables::read(&mut control.session, small(deadline)).await?;
    let required = Some(&request.executed_at_least);
    let settled = settle(local, control, &variables, &record, required, deadline).await?;
    globals::remember(&mut record, &variables);
    let original = match record.original.take() {
        Some(original) => original,
        None => {
            let heartbeat = control.heartbeat_period(small(deadline)).await?;
            unchanged(local, &settled.status, heartbeat)
        }
    };
    let options = options(control, &original, request);
    record.original = Some(original);
    record.phase = Phase::Repointing;
    record.evidence = Some(settled.evidence);
    record.store(&local.state_folder)?;
    protect(local, settled.files.paths()).await?;
    let damaged = change::is_damaged(&settled.status, &settled.files);
    let original = record.original.as_ref();
    let what = "CHANGE MASTER TO (new primary)";
    change::make(control, what, options, original, damaged, deadline).await?;
    Ok(record)
}

/// Settings of a channel that no replay touched. Its password stays in the server, which keeps what a CHANGE does not
/// name; an account of the configuration replaces it.
fn unchanged(local: &Local, status: &ReplicaStatus, heartbeat: Option<String>) -> OriginalChannel {
    let user = local
        .replication_user
        .clone()
        .unwrap_or_else(|| status.source_user.clone());
    let (password, found_in) = match &local.replication_password {
        Some(password) => (password.clone(), FoundIn::Config),
        None => (Secret::new(String::new()), FoundIn::Kept),
    };
    let credentials = Credentials {
        user,
        password,
        found_in,
    };
    OriginalChannel::of(status, &credentials, heartbeat)
}

fn options(
    control: &Control,
    original: &OriginalChannel,
    request: &RepointRequest,
) -> Vec<ChangeOption> {
    let mut options = restoring(original, &request.host, request.port);
    let position = |options: &mut Vec<ChangeOption>| {
        options.push(ChangeOption::LogFile(
            request.position.file.as_str().to_owned(),
        ));
        options.push(ChangeOption::LogPos(request.position.offset));
    };
    if control.dialect.version().is_mariadb() {
        match original.using_gtid {
            UsingGtid::SlavePos if request.keep_gtid_mode => {
                options.push(ChangeOption::UseGtid("slave_pos"));
            }
            UsingGtid::CurrentPos if request.keep_gtid_mode => {
                options.push(ChangeOption::UseGtid("current_pos"));
            }
            _ => {
                position(&mut options);
                options.push(ChangeOption::UseGtid("no"));
            }
        }
    } else if original.auto_position && request.keep_gtid_mode {
        options.push(ChangeOption::AutoPosition(true));
    } else {
        position(&mut options);
        options.push(ChangeOption::AutoPosition(false));
    }
    options
}

/// Everything a replay overwrote; a password that was never learnt is not named, so that the server keeps its own.
pub(super) fn restoring(original: &OriginalChannel, host: &str, port: u16) -> Vec<ChangeOption> {
    let mut options = original.restoring(host, port);
    if original.password_found_in == FoundIn::Kept.as_str() {
        options.retain(|option| !matches!(option, ChangeOption::Password(_)));
    }
    options
}

/// Starts both threads where they stand still and waits until both run; "Connecting" is not running.
async fn started(
    control: &mut Control,
    evidence: Option<Evidence>,
    deadline: Deadline,
) -> Result<Repointed, ReplicationError> {
    let status = control.replica().await?;
    if status.receiver == Receiver::Stopped || !status.applier_running {
        let start = control.dialect.start_both();
        control.session.exec(&start, deadline.remaining()).await?;
    }
    let status = running(control, deadline).await?;
    let (executed_before, gtid_before) = match evidence {
        Some(evidence) => (Some(evidence.executed), evidence.gtid),
        None => (None, String::new()),
    };
    Ok(Repointed {
        status,
        executed_before,
        gtid_before,
    })
}

/// Waits until both threads run.
pub(super) async fn running(
    control: &mut Control,
    deadline: Deadline,
) -> Result<ReplicaStatus, ReplicationError> {
    loop {
        let status = control.replica().await?;
        if status.receiver == Receiver::Running && status.applier_running {
            return Ok(status);
        }
        if !status.applier_running
            && let Some(failure) = super::drain::failure(control, &status)
        {
            return Err(failure);
        }
        let error = status.receiver_error.as_ref();
        let failed = status.receiver == Receiver::Stopped && error.is_some();
        if failed || deadline.at_most(Duration::from_millis(20)) < Duration::from_millis(20) {
            let (errno, text) = error.map_or((0, String::new()), |error| {
                (error.errno, error.text.clone())
            });
            return Err(ReplicationError::ReceiverFailed {
                server: control.session.server().to_owned(),
                state: match status.receiver {
                    Receiver::Stopped => "stopped",
                    Receiver::Connecting => "connecting",
                    Receiver::Running => "running, but the applier is not",
                },
                errno,
                text,
            });
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// Leaves a channel whose new primary was not reached stopped and pointing where it was.
async fn point_back(control: &mut Control, record: &ChannelRecord, error: &ReplicationError) {
    let (Some(original), Some(evidence)) = (&record.original, &record.evidence) else {
        return;
    };
    if matches!(error, ReplicationError::Sql(error) if error.lost_connection()) {
        return;
    }
    let mut options = restoring(original, &original.host, original.port);
    options.push(ChangeOption::LogFile(
        evidence.executed.file.as_str().to_owned(),
    ));
    options.push(ChangeOption::LogPos(evidence.executed.offset));
    options.push(if control.dialect.version().is_mariadb() {
        ChangeOption::UseGtid("no")
    } else {
        ChangeOption::AutoPosition(false)
    });
    let back = async {
        let stop = control.dialect.stop_both();
        control.session.exec(&stop, BACK_LIMIT).await?;
        let deadline = Deadline::after(BACK_LIMIT);
        let what = "CHANGE MASTER TO (where it was)";
        change::make(control, what, options, Some(original), false, deadline).await
    }
    .await;
    if let Err(second) = back {
        tracing::warn!(server = control.session.server(), error = %second, "the channel was not pointed back after a failed repoint");
    }
}
