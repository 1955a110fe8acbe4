//! Promotion: the server stops being a replica, then, in a call of its own, takes writes.
//!
//! What it executed is read and stored before its replica state is reset, so a repeated call gives the same answer.
//! Between the two calls the server is read-only: its own position, where the others start, cannot move.

use binlog_core::BinlogPosition;

use super::channel::{ChannelRecord, Evidence, Phase};
use super::local::{Control, Local, small};
use super::serve::protect;
use super::settle::settle;
use super::{ReplicationError, globals, revive};
use crate::mysqld::semi_sync::{SemiSync, Side};
use crate::mysqld::variables::Variables;
use crate::mysqld::{Deadline, observe};

/// A promoted server, still read-only.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Promoted {
    /// Where its own binary log ends: the others start here.
    pub position: BinlogPosition,
    /// Own GTID state: `gtid_executed`; MariaDB: `gtid_current_pos`.
    pub gtid_executed: String,
    /// Executed position in the dead primary's coordinates, read before the reset.
    pub executed: BinlogPosition,
    /// GTID state in the dead primary's terms, read before the reset.
    pub gtid_before_reset: String,
}

/// Makes the server no replica any more. Idempotent, also over operations: one that `continues` another, whose manager
/// died before it heard the answer, gets the answer of that one.
///
/// # Errors
/// [`ReplicationError::Behind`] and a failed applier change nothing.
pub async fn promote(
    local: &Local,
    operation: &str,
    continues: Option<&str>,
    executed_at_least: &BinlogPosition,
    deadline: Deadline,
) -> Result<Promoted, ReplicationError> {
    let mut control = local.control(deadline.remaining()).await?;
    let variables = Variables::read(&mut control.session, small(deadline)).await?;
    if !variables.is_on("log_bin") {
        return Err(ReplicationError::NoBinaryLog {
            server: local.server().to_owned(),
        });
    }
    let found = ChannelRecord::load(&local.state_folder)?;
    let record = match revive::status(local, &mut control).await? {
        Some(status) => {
            let record = ChannelRecord::adopt(found, operation, &status);
            reset(
                local,
                &mut control,
                &variables,
                record,
                executed_at_least,
                deadline,
            )
            .await?
        }
        None => {
            let record = found
                .filter(|record| {
                    matches!(record.phase, Phase::Promoting | Phase::Promoted)
                        && (record.operation == operation
                            || continues == Some(record.operation.as_str()))
                })
                .ok_or_else(|| ReplicationError::NotAReplica {
                    server: local.server().to_owned(),
                })?;
            if !variables.is_on("read_only") {
                // Its own position may have moved since, and the others must start where it was.
                return Err(ReplicationError::Contradiction {
                    server: local.server().to_owned(),
                    what: "@@read_only of a promoted server that nobody has opened yet",
                    expected: "1".to_owned(),
                    found: "0".to_owned(),
                });
            }
            record
        }
    };
    let Some(evidence) = record.evidence.clone() else {
        return Err(ReplicationError::NotAReplica {
            server: local.server().to_owned(),
        });
    };
    if &evidence.executed < executed_at_least {
        return Err(ReplicationError::Behind {
            server: local.server().to_owned(),
            executed: Some(evidence.executed),
            required: executed_at_least.clone(),
        });
    }
    conclude(local, &mut control, record, evidence, deadline).await
}

/// Stops both threads, stores the evidence, and forgets the channel.
async fn reset(
    local: &Local,
    control: &mut Control,
    variables: &Variables,
    mut record: ChannelRecord,
    executed_at_least: &BinlogPosition,
    deadline: Deadline,
) -> Result<ChannelRecord, ReplicationError> {
    let settled = settle(
        local,
        control,
        variables,
        &record,
        Some(executed_at_least),
        deadline,
    )
    .await?;
    if !variables.is_on("read_only") {
        // A write between the reading of the position and the repoint of the others would never reach them.
        control
            .session
            .exec("SET GLOBAL read_only=1", deadline.remaining())
            .await?;
    }
    globals::remember(&mut record, variables);
    record.phase = Phase::Promoting;
    record.evidence = Some(settled.evidence);
    record.store(&local.state_folder)?;
    protect(local, settled.files.paths()).await?;
    let sql = control.dialect.reset_all();
    control.session.exec(&sql, deadline.remaining()).await?;
    Ok(record)
}

async fn conclude(
    local: &Local,
    control: &mut Control,
    mut record: ChannelRecord,
    evidence: Evidence,
    deadline: Deadline,
) -> Result<Promoted, ReplicationError> {
    globals::restore(control, &record.saved_globals, deadline).await?;
    let own = observe::own_position(&mut control.session, small(deadline))
        .await?
        .ok_or_else(|| ReplicationError::NoBinaryLog {
            server: local.server().to_owned(),
        })?;
    let gtid_executed = if control.dialect.version().is_mariadb() {
        control
            .session
            .query_value("SELECT @@GLOBAL.gtid_current_pos", small(deadline))
            .await?
            .unwrap_or_default()
    } else {
        own.gtid_executed
    };
    // Kept for a repeated call, without the secrets that nobody needs any more.
    record.phase = Phase::Promoted;
    record.original = None;
    record.replay = None;
    record.standing = None;
    record.store(&local.state_folder)?;
    Ok(Promoted {
        position: own.position,
        gtid_executed,
        executed: evidence.executed,
        gtid_before_reset: evidence.gtid,
    })
}

/// Whether the commits of an opened server wait for replicas.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Waits {
    /// Nobody asked for it: it is as it was.
    NotAsked,
    /// They do; the variable that has them wait.
    By(&'static str),
    /// They do not, though it was asked for.
    Not {
        /// Why.
        why: String,
    },
}

/// Opens the server for writes: the point of no return. With `wait_for_replicas` its commits wait for replicas from the first one
/// on; what cannot be switched on is no reason to leave the cluster without a primary.
///
/// # Errors
/// [`ReplicationError::StillAReplica`] if it was not promoted.
pub async fn make_writable(
    local: &Local,
    wait_for_replicas: bool,
    deadline: Deadline,
) -> Result<Waits, ReplicationError> {
    let mut control = local.control(deadline.remaining()).await?;
    if let Some(status) = control.status().await? {
        return Err(ReplicationError::StillAReplica {
            server: local.server().to_owned(),
            source_host: status.source_host,
            source_port: status.source_port,
        });
    }
    let waits = if wait_for_replicas {
        have_it_wait(local, &mut control, deadline).await?
    } else {
        Waits::NotAsked
    };
    // MySQL switches super_read_only off with it.
    control
        .session
        .exec("SET GLOBAL read_only=0", deadline.remaining())
        .await?;
    let read_only = control
        .session
        .query_value("SELECT @@GLOBAL.read_only", small(deadline))
        .await?
        .unwrap_or_default();
    if !matches!(read_only.as_str(), "0" | "OFF") {
        return Err(ReplicationError::Contradiction {
            server: local.server().to_owned(),
            what: "@@read_only after SET GLOBAL read_only=0",
            expected: "0".to_owned(),
            found: read_only,
        });
    }
    control.session.close(deadline.remaining()).await;
    Ok(waits)
}

/// Switches the source's side of semi-synchronous replication on.
async fn have_it_wait(
    local: &Local,
    control: &mut Control,
    deadline: Deadline,
) -> Result<Waits, ReplicationError> {
    let variables = Variables::read(&mut control.session, small(deadline)).await?;
    let Some(Side { variable, on }) = SemiSync::of(&variables).source else {
        return Ok(Waits::Not {
            why: "it has no rpl_semi_sync variable of a source (is the plugin installed?)"
                .to_owned(),
        });
    };
    if on {
        return Ok(Waits::By(variable));
    }
    let set = format!("SET GLOBAL {variable}=1");
    match control.session.exec(&set, small(deadline)).await {
        Ok(()) => {
            tracing::info!(
                server = local.server(),
                variable,
                "switched on: commits wait for replicas, as the manager asked"
            );
            Ok(Waits::By(variable))
        }
        Err(error) if error.errno().is_some() => {
            tracing::warn!(server = local.server(), variable, %error, "commits will wait for no replica");
            Ok(Waits::Not {
                why: error.to_string(),
            })
        }
        Err(lost) => Err(lost.into()),
    }
}
