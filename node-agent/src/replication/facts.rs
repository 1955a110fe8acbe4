//! What the agent knows of a server's channel beyond what the server says: for observations.

use std::time::Duration;

use super::channel::{ChannelRecord, observed_as_original, unfinished_replay};
use super::local::Local;
use super::{ReplicationError, credentials, executed, revive};
use crate::mysqld::{Observed, ReplicaStatus};

/// Facts of the agent.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChannelFacts {
    /// Operation whose unfinished replay has a channel record; empty if none.
    pub unfinished_replay: String,
    /// Where replication credentials were found; empty if nowhere, or if the server is no replica.
    pub credentials_source: String,
}

/// Completes an observation: a channel that points at a local source shows as its original, and it is said whether a
/// repoint would find credentials. What cannot be read is logged and absent; an observation never fails for it.
pub async fn complete(local: &Local, observed: &mut Observed, limit: Duration) -> ChannelFacts {
    let unfinished_replay = unfinished_replay(&local.state_folder).unwrap_or_else(|error| {
        tracing::warn!(server = local.server(), %error, "the channel record cannot be read");
        None
    });
    let record = ChannelRecord::load(&local.state_folder).ok().flatten();
    let Ok(alive) = &mut observed.sql else {
        return ChannelFacts {
            unfinished_replay: unfinished_replay.unwrap_or_default(),
            credentials_source: String::new(),
        };
    };
    if alive.replica.is_none() {
        let recorded = async {
            let mut control = local.control(limit).await?;
            revive::as_recorded(local, &mut control).await
        };
        match recorded.await {
            Ok(status) => alive.replica = status,
            Err(error) => {
                tracing::warn!(server = local.server(), %error, "a channel lost in a crash cannot be shown");
            }
        }
    }
    let mut credentials_source = String::new();
    if let Some(status) = &mut alive.replica {
        let recorded = record
            .as_ref()
            .filter(|record| record.points_here(status) || record.is_of(status))
            .and_then(|record| record.original.as_ref());
        credentials_source = match recorded {
            Some(original) => original.password_found_in.clone(),
            None => {
                let found = async {
                    let mut control = local.control(limit).await?;
                    credentials::find(
                        local,
                        &mut control.session,
                        status,
                        &alive.variables,
                        &alive.remembered,
                        limit,
                    )
                    .await
                }
                .await;
                match found {
                    Ok(found) => found.found_in.as_str().to_owned(),
                    Err(error) => {
                        tracing::info!(server = local.server(), %error, "no replication credentials");
                        String::new()
                    }
                }
            }
        };
        if let Some(record) = &record {
            if let Err(error) = corrected(local, record, status, limit).await {
                tracing::warn!(server = local.server(), %error, "the executed position is as the server shows it");
            }
            observed_as_original(status, record);
        }
    }
    ChannelFacts {
        unfinished_replay: unfinished_replay.unwrap_or_default(),
        credentials_source,
    }
}

/// The executed position as the record of this channel tells it.
async fn corrected(
    local: &Local,
    record: &ChannelRecord,
    status: &mut ReplicaStatus,
    limit: Duration,
) -> Result<(), ReplicationError> {
    if record.replay.is_none() || !(record.points_here(status) || record.is_of(status)) {
        return Ok(());
    }
    let mut control = local.control(limit).await?;
    executed::correct(local, &mut control, record, status).await
}
