//! ApplyLogs: bring the server to a position of the dead primary's stream, losing and repeating nothing.
//!
//! What was received is drained first; what is lacking then comes from the agent's local source, beside the running applier
//! where that is right and with both threads stopped elsewhere (see [`super::way`]). The channel record is on disk before the
//! first change, so that any later operation can go on from wherever an apply broke off:
//!
//! | found | done |
//! |---|---|
//! | executed is at `until` already, channel untouched | nothing |
//! | channel untouched | drain; replay beside the applier, or halt it and replay |
//! | halted by an earlier try | replay with both threads stopped |
//! | channel points at a local source of an earlier try | halt, read what was executed, replay from there |
//!
//! A replay beside the applier that fails, as long as the applier does not, is done again with both threads stopped, in
//! the same call.
//!
//! A delayed replica is not drained, nor is a MariaDB replica in GTID mode whose applier stands still: its START would
//! throw the relay logs away. Both are served from their executed position instead, which the segments then must hold.
//!
//! After success both threads stand still and the channel still points at the (gone) local source, until a promotion,
//! a repoint or an undo.
//!
//! The parts: `found` (what is there before a replay), `beside` and `stopped` (the ways), `ended` (the outcomes).

mod beside;
mod ended;
mod found;
mod stopped;

use std::path::PathBuf;
use std::time::Duration;

use binlog_core::BinlogPosition;

use self::found::Found;
use super::channel::{ChannelRecord, Phase, Standing};
use super::local::{Control, Local, small};
use super::way::{Choice, Way};
use super::{ReplicationError, drain, executed, globals, revive};
use crate::mysqld::Deadline;
use crate::mysqld::status::ReplicaStatus;
use crate::mysqld::variables::Variables;
use crate::source::SourceIdentity;
use crate::source::fault::FaultPlan;

/// What to replay.
#[derive(Debug, Clone)]
pub struct ApplyRequest {
    /// Operation on whose behalf.
    pub operation: String,
    /// Segments in stream order, contiguous. Empty: drain only.
    pub segments: Vec<PathBuf>,
    /// Executed position to reach: end of the last whole transaction known anywhere.
    pub until: BinlogPosition,
    /// Who the dead primary was.
    pub source: SourceIdentity,
    /// What GTIDs mean in its log: those, and the place before which it holds no other transaction.
    pub standing: Option<(String, BinlogPosition)>,
    /// Longest time without progress, for each wait.
    pub stall: Duration,
    /// Faults of the local source; empty except in tests.
    pub faults: FaultPlan,
}

/// What an apply is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ApplyPhase {
    /// The applier works through what was received.
    Draining,
    /// The applier is stopped and the channel pointed at the local source.
    Switching,
    /// The server replays.
    Replaying,
}

/// Where an apply is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApplyStatus {
    /// Phase.
    pub phase: ApplyPhase,
    /// Executed position.
    pub executed: Option<BinlogPosition>,
    /// Bytes the local source has sent.
    pub sent_bytes: u64,
}

/// Outcome: the evidence of the proof.
#[derive(Debug, Clone, PartialEq)]
pub struct ApplyOutcome {
    /// Executed when the call came (for a resumed replay: when its first call came).
    pub executed_before: Option<BinlogPosition>,
    /// Executed after the drain, where the replay started.
    pub executed_drained: Option<BinlogPosition>,
    /// Executed at the end.
    pub executed_after: BinlogPosition,
    /// MySQL `gtid_executed`, MariaDB `gtid_slave_pos`, at the end.
    pub gtid_executed: String,
    /// The received range ended inside a transaction.
    pub half_transaction: bool,
    /// The applier was killed because of it.
    pub applier_killed: bool,
    /// The applier was found stopped without an error and was started.
    pub applier_started: bool,
    /// Non-transactional tables that a half transaction changed or may have changed: the changes come twice if the
    /// transaction was replayed, and stay although it is lost if nobody held it in full.
    pub maybe_twice: Vec<String>,
    /// Which way the replay went and why; `None` if nothing was to be replayed.
    pub way: Option<Choice>,
    /// Time of the drain.
    pub drain: Duration,
    /// Time of stop, record, CHANGE, START.
    pub switch: Duration,
    /// Time from START until executed.
    pub replay: Duration,
    /// Times the server connected to the local source.
    pub connections: u64,
}

/// Receives progress.
pub type OnProgress<'a> = &'a mut (dyn FnMut(ApplyStatus) + Send);

/// Brings the server to `request.until`.
///
/// # Errors
/// [`ReplicationError::ApplierFailed`] leaves an untouched channel untouched; after any other error a later call goes
/// on where this one ended.
pub async fn apply(
    local: &Local,
    request: &ApplyRequest,
    on_progress: OnProgress<'_>,
) -> Result<ApplyOutcome, ReplicationError> {
    let mut control = local.control(request.stall).await?;
    let mut status = revive::replica(local, &mut control).await?;
    let found = ChannelRecord::load(&local.state_folder)?;
    // An earlier try may have killed the applier: its error is ours then.
    let interrupted = found
        .as_ref()
        .is_some_and(|record| matches!(record.phase, Phase::Replaying | Phase::Repointing));
    if interrupted && let Some(record) = &found {
        // It may have died while commits were deferred.
        let deadline = Deadline::after(request.stall);
        globals::flush_deferred(&mut control, &record.saved_globals, deadline).await?;
    }
    let mut record = ChannelRecord::adopt(found, &request.operation, &status);
    let points_here = record.points_here(&status);
    stand(local, &mut control, &mut record, request, &mut status).await?;
    let mut run = Apply {
        local,
        request,
        executed_before: record.replay.as_ref().map_or_else(
            || status.executed.clone(),
            |replay| replay.executed_before.clone(),
        ),
        record,
        variables: Variables::read(&mut control.session, small(Deadline::after(request.stall)))
            .await?,
        control,
    };
    if !points_here {
        if !status.applier_running
            && !interrupted
            && let Some(failure) = drain::failure(&run.control, &status)
        {
            return Err(failure);
        }
        if has_reached(&status, &request.until) {
            return run.nothing_to_replay(status, None).await;
        }
    }
    let found = if points_here || (interrupted && !status.applier_running) {
        run.look().await?
    } else {
        run.drain(status, on_progress).await?
    };
    if !found.reached {
        return run.replay(found, on_progress).await;
    }
    if points_here {
        return run.nothing_left(found).await;
    }
    let status = found.status.clone();
    run.nothing_to_replay(status, Some(&found)).await
}

/// Notes what the GTIDs of this server mean, durably: promotion and repoint look for it, too.
async fn stand(
    local: &Local,
    control: &mut Control,
    record: &mut ChannelRecord,
    request: &ApplyRequest,
    status: &mut ReplicaStatus,
) -> Result<(), ReplicationError> {
    let source = match &record.original {
        Some(original) => (original.host.clone(), original.port),
        None => (status.source_host.clone(), status.source_port),
    };
    let standing = request.standing.as_ref().map(|(gtids, position)| Standing {
        source_host: source.0,
        source_port: source.1,
        gtids: gtids.clone(),
        position: position.clone(),
    });
    if record.standing != standing {
        record.standing = standing;
        record.store(&local.state_folder)?;
    }
    if record.standing.is_some() {
        executed::correct(local, control, record, status).await?;
    }
    Ok(())
}

fn has_reached(status: &ReplicaStatus, until: &BinlogPosition) -> bool {
    status
        .executed
        .as_ref()
        .is_some_and(|executed| executed >= until)
        && executed::domains_are_level(status)
}

/// One apply.
struct Apply<'a> {
    local: &'a Local,
    request: &'a ApplyRequest,
    control: Control,
    variables: Variables,
    record: ChannelRecord,
    executed_before: Option<BinlogPosition>,
}

impl Apply<'_> {
    fn deadline(&self) -> Deadline {
        Deadline::after(self.request.stall)
    }

    /// Replays what is lacking: beside the applier where that is right, and else, or if it fails, with both threads
    /// stopped.
    async fn replay(
        mut self,
        mut found: Found,
        on_progress: OnProgress<'_>,
    ) -> Result<ApplyOutcome, ReplicationError> {
        let chain = self.open_segments(&found).await?;
        let mut choice = self.choose(&found, &chain, None).await?;
        if choice.way != Way::Stopped {
            let served = chain.clone();
            let ended = self.beside(&found, choice.way, served, on_progress).await;
            match ended {
                Ok(done) => return self.conclude(found, done, choice).await,
                Err(beside::Failed::ForGood(error)) => return Err(self.given_up(error).await),
                Err(beside::Failed::GoStopped(why)) => {
                    tracing::warn!(
                        server = self.local.server(),
                        why,
                        "the replay beside the applier failed; the applier is stopped and the replay done again"
                    );
                    let started = found.started;
                    found = Found {
                        started,
                        took: found.took,
                        ..self.look().await?
                    };
                    choice = self.choose(&found, &chain, Some(&why)).await?;
                    if found.reached {
                        return self.nothing_left(found).await;
                    }
                }
            }
        }
        tracing::info!(server = self.local.server(), %choice, "replay");
        self.stopped(found, chain, choice, on_progress).await
    }

    /// Commits are as durable as they were again: nobody knows when a later call goes on. The error that counts is the
    /// first one.
    async fn given_up(&mut self, error: ReplicationError) -> ReplicationError {
        let deadline = self.deadline();
        let saved = &self.record.saved_globals;
        if let Err(second) = globals::flush_deferred(&mut self.control, saved, deadline).await {
            tracing::warn!(server = self.local.server(), error = %second, "commits are not as durable as they were set to be");
        }
        error
    }
}
