//! A channel that a crash removed.
//!
//! A mysqld that is killed inside one of our CHANGE statements may come back without the channel (seen on 5.6 with
//! `master_info_repository=TABLE`). The channel record still has all of it, and what was executed is known too, since
//! no applier runs during a CHANGE. So the channel is made anew, stopped, pointing at the recorded local source (or at
//! its original, if it was never replayed): the state from which every act goes on.

use std::time::Duration;

use binlog_core::BinlogPosition;

use super::channel::{ChannelRecord, LOCAL_SOURCE_HOST, OriginalChannel, Phase};
use super::local::{Control, Local};
use super::{ReplicationError, executed};
use crate::mysqld::SqlError;
use crate::mysqld::dialect::ChangeOption;
use crate::mysqld::status::{Receiver, ReplicaStatus};

/// Longest wait for each statement.
const LIMIT: Duration = Duration::from_secs(10);

/// Status of the channel; one that a crash removed is made anew first.
pub(super) async fn replica(
    local: &Local,
    control: &mut Control,
) -> Result<ReplicaStatus, ReplicationError> {
    match status(local, control).await? {
        Some(status) => Ok(status),
        None => Err(ReplicationError::NotAReplica {
            server: local.server().to_owned(),
        }),
    }
}

/// [`replica`] of a server that may rightly have no channel.
pub(super) async fn status(
    local: &Local,
    control: &mut Control,
) -> Result<Option<ReplicaStatus>, ReplicationError> {
    if let Some(status) = control.status().await? {
        return Ok(Some(status));
    }
    let Some((record, original)) = lost(local)? else {
        return Ok(None);
    };
    let executed = executed_when_lost(local, control, &record).await?;
    tracing::warn!(server = local.server(), operation = record.operation, %executed, "the channel is gone after a crash; it is made anew from its record");
    let mut options = match &record.replay {
        Some(replay) => vec![
            ChangeOption::Host(LOCAL_SOURCE_HOST.to_owned()),
            ChangeOption::Port(replay.port),
            ChangeOption::User(replay.user.clone()),
            ChangeOption::Password(replay.password.clone()),
            ChangeOption::ConnectRetry(1),
        ],
        None => original.restoring(&original.host, original.port),
    };
    options.extend(original.rest());
    options.push(ChangeOption::LogFile(executed.file.as_str().to_owned()));
    options.push(ChangeOption::LogPos(executed.offset));
    // What is left of the relay logs and positions belongs to no channel any more, and may keep CHANGE from working.
    let reset = control.dialect.reset();
    match control.session.exec(&reset, LIMIT).await {
        Ok(()) | Err(SqlError::Refused { .. }) => {}
        Err(error) => return Err(error.into()),
    }
    let sql = control.dialect.change(&options);
    control
        .session
        .query("CHANGE MASTER TO (as recorded)", &sql, LIMIT)
        .await?;
    control.status().await
}

/// What an observation shows of a channel that a crash removed: a stopped replica of its original. Changes nothing.
pub(super) async fn as_recorded(
    local: &Local,
    control: &mut Control,
) -> Result<Option<ReplicaStatus>, ReplicationError> {
    let Some((record, original)) = lost(local)? else {
        return Ok(None);
    };
    let executed = executed_when_lost(local, control, &record).await?;
    let gtid_executed = control.gtid_executed().await?;
    Ok(Some(shown(&original, executed, gtid_executed)))
}

/// The record of a channel that should be there.
fn lost(local: &Local) -> Result<Option<(ChannelRecord, OriginalChannel)>, ReplicationError> {
    let record = ChannelRecord::load(&local.state_folder)?;
    Ok(record
        .filter(|record| {
            matches!(
                record.phase,
                Phase::Replaying | Phase::Replayed | Phase::Repointing
            )
        })
        .and_then(|record| {
            let original = record.original.clone()?;
            Some((record, original))
        }))
}

fn shown(
    original: &OriginalChannel,
    executed: BinlogPosition,
    gtid_executed: String,
) -> ReplicaStatus {
    ReplicaStatus {
        channel: original.channel.clone(),
        channels: 1,
        source_host: original.host.clone(),
        source_port: original.port,
        source_user: original.user.clone(),
        receiver: Receiver::Stopped,
        applier_running: false,
        applier_state: String::new(),
        read: Some(executed.clone()),
        executed: Some(executed),
        relay: None,
        receiver_error: None,
        applier_error: None,
        delay: Duration::from_secs(original.delay_s.into()),
        auto_position: original.auto_position,
        using_gtid: original.using_gtid,
        gtid_executed,
        gtid_received: String::new(),
        source_server_id: 0,
        source_uuid: String::new(),
        seconds_behind: None,
        filters: Vec::new(),
        connect_retry: original.connect_retry,
        retry_count: original.retry_count,
        bind: original.bind.clone(),
        ignore_server_ids: original.ignore_server_ids.clone(),
        tls: original.tls.clone(),
    }
}

/// What the server had executed when it lost the channel.
async fn executed_when_lost(
    local: &Local,
    control: &mut Control,
    record: &ChannelRecord,
) -> Result<BinlogPosition, ReplicationError> {
    let unknown = || ReplicationError::ExecutedUnknown {
        server: local.server().to_owned(),
    };
    if let (Phase::Repointing, Some(evidence)) = (record.phase, &record.evidence) {
        return Ok(evidence.executed.clone());
    }
    let replay = record.replay.as_ref().ok_or_else(unknown)?;
    if control.dialect.version().is_mariadb() {
        let text = control.gtid_executed().await?;
        return executed::by_gtid(replay, &text).await?.ok_or_else(unknown);
    }
    executed::stored(local, control, replay).await
}
