//! A replay whose agent died while commits were deferred: the server is as durable as it was set to be again as soon as the
//! agent is back, whether or not any operation goes on with that replay.
//!
//! Only that one setting: all others of a replay cost speed or nothing while nobody acts, and go back with the channel.

use std::time::Duration;

use super::channel::{ChannelRecord, Phase};
use super::local::Local;
use super::{ReplicationError, globals};
use crate::mysqld::Deadline;

/// Makes commits durable again if a replay that nobody finished may have deferred them. No act of replication control may
/// run meanwhile. Idempotent; `true` if there was something to do.
///
/// # Errors
/// The record is unreadable; the server does not answer, in which case it is to be tried again.
pub async fn make_durable(local: &Local, limit: Duration) -> Result<bool, ReplicationError> {
    let Some(record) = ChannelRecord::load(&local.state_folder)?.filter(is_due) else {
        return Ok(false);
    };
    let mut control = local.control(limit).await?;
    let deadline = Deadline::after(limit);
    globals::flush_deferred(&mut control, &record.saved_globals, deadline).await?;
    control.session.close(deadline.remaining()).await;
    Ok(true)
}

/// A replay began and did not end, on a server whose commits it may have deferred.
fn is_due(record: &ChannelRecord) -> bool {
    record.phase == Phase::Replaying && globals::may_have_deferred(&record.saved_globals)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::replication::channel::tests::replaying;

    #[test]
    fn only_a_replay_under_way_leaves_commits_deferred() {
        let mut record = replaying();
        assert!(!is_due(&record), "this server's commits are its own");
        record
            .saved_globals
            .insert("innodb_flush_log_at_trx_commit".to_owned(), "1".to_owned());
        for (phase, due) in [
            (Phase::ReceiverStopped, false),
            (Phase::Replaying, true),
            (Phase::Replayed, false),
            (Phase::Repointing, false),
            (Phase::Promoting, false),
            (Phase::Promoted, false),
        ] {
            record.phase = phase;
            assert_eq!(is_due(&record), due, "{phase:?}");
        }
    }

    #[tokio::test]
    async fn without_a_record_no_server_is_asked() {
        let folder = tempfile::tempdir().unwrap();
        let local = crate::replication::local::tests::unreachable(folder.path());
        assert!(!make_durable(&local, Duration::from_secs(1)).await.unwrap());
        let mut record = replaying();
        record
            .saved_globals
            .insert("innodb_flush_log_at_trx_commit".to_owned(), "1".to_owned());
        record.store(folder.path()).unwrap();
        assert!(make_durable(&local, Duration::from_secs(1)).await.is_err());
    }
}
