//! What each act calls, within which limit, and what its answer must look like.

use std::time::Duration;

use proto::v1::ErrorKind;
use tokio::time::Instant;

use super::{Run, StepError, address, copy, lock, show_event};
use crate::agents::{AgentCallError, HeldEvent, Logs, Primary, SegmentOutcome, SegmentRef, Waits};
use crate::hooks::{self, HookError};
use crate::journal::StepOutcome;
use crate::plan::{self, Act, Met, PieceId, Source};
use crate::topology::Standing;

type Result<T> = std::result::Result<T, StepError>;

/// Pause before a lost idempotent call is repeated: an agent that restarts is back soon.
pub(super) const RETRY_PAUSE: Duration = Duration::from_millis(200);

pub(super) async fn perform(run: &Run, act: &Act) -> Result<StepOutcome> {
    let policy = &run.config.failover;
    let context = &run.context;
    match act {
        // Claims have their own order and rules.
        Act::ClaimEpoch { .. } | Act::ReleaseEpoch { .. } => Err(StepError::Incomplete {
            what: "the claim that this step belongs to",
        }),
        Act::HoldDown { server } => {
            let client = run.client(server)?;
            let held = client
                .hold_down(context, server, policy.save_timeout)
                .await?;
            Ok(StepOutcome::HeldDown(held))
        }
        Act::ReleaseHold { server } => {
            let released = run
                .client(server)?
                .release_hold(context, server, policy.call_timeout)
                .await?;
            Ok(StepOutcome::HoldReleased { released })
        }
        Act::StopReceiver { server } => {
            let stopped = run
                .client(server)?
                .stop_receiver(context, server, policy.call_timeout)
                .await?;
            if let Some(read) = &stopped.status.read {
                run.set_latest(server, read.clone());
            }
            Ok(StepOutcome::ReceiverStopped(stopped))
        }
        Act::Compare { at, left, right } => compare(run, at, left, right).await,
        Act::SaveBinaryLogs {
            piece,
            server,
            from,
            expected_end,
        } => {
            let outcome = run
                .client(server)?
                .save_binary_logs(context, server, from, policy.save_timeout)
                .await?;
            let segment = segment_of(outcome, server, from)?;
            let manifest = &segment.manifest;
            let whole = manifest.whole_end.as_ref().unwrap_or(&manifest.range.to);
            if manifest.range.from != *from || whole != expected_end {
                return Err(unexpected(
                    server,
                    format!("[{from}, {expected_end})"),
                    &segment,
                ));
            }
            Ok(cut(run, *piece, segment))
        }
        Act::SaveCopies {
            piece,
            server,
            range,
        } => {
            let outcome = run
                .client(server)?
                .save_copies(
                    context,
                    server,
                    run.primary_id(),
                    range,
                    policy.save_timeout,
                )
                .await?;
            let segment = segment_of(outcome, server, &range.from)?;
            if segment.manifest.range != *range {
                return Err(unexpected(server, range.to_string(), &segment));
            }
            Ok(cut(run, *piece, segment))
        }
        Act::GenerateDiff {
            piece,
            server,
            range,
        } => {
            let latest = run.latest(server);
            let outcome = run
                .client(server)?
                .generate_diff(
                    context,
                    server,
                    range,
                    latest.as_ref(),
                    policy.progress_timeout,
                )
                .await?;
            let segment = segment_of(outcome, server, &range.from)?;
            if segment.manifest.range != *range {
                return Err(unexpected(server, range.to_string(), &segment));
            }
            Ok(cut(run, *piece, segment))
        }
        Act::KeepCopy { piece, server } => {
            let segment = segment(run, *piece)?;
            let (path, walked) = copy::keep(run, server, &segment).await?;
            Ok(StepOutcome::Copied {
                path: path.display().to_string(),
                range: segment.manifest.range.clone(),
                walked,
            })
        }
        Act::Pull {
            piece,
            server,
            from,
        } => pull(run, *piece, server, from).await,
        Act::Drain { server, until } => apply(run, server, &[], until, None).await,
        Act::Apply {
            server,
            pieces,
            until,
            standing,
        } => apply(run, server, pieces, until, standing.as_ref()).await,
        Act::Promote {
            server,
            executed_at_least,
            continues,
        } => {
            let promoted = run
                .client(server)?
                .promote(
                    context,
                    server,
                    executed_at_least,
                    continues.as_deref(),
                    policy.progress_timeout,
                )
                .await?;
            if promoted.executed < *executed_at_least {
                return Err(StepError::NotReached {
                    server: server.clone(),
                    expected: executed_at_least.clone(),
                    found: promoted.executed,
                });
            }
            lock(&run.progress).promoted = Some(promoted.clone());
            Ok(StepOutcome::Promoted(promoted))
        }
        Act::MakeWritable {
            server,
            wait_for_replicas,
        } => {
            let client = run.client(server)?;
            let limit = policy.call_timeout;
            // A lease that an earlier run gave it may end at this very moment: the next try lifts that order, too.
            let crossed = |error: &AgentCallError| error.kind() == Some(ErrorKind::Conflict);
            let waits = super::again(limit, crossed, || {
                client.make_writable(context, server, *wait_for_replicas, limit)
            })
            .await?;
            Ok(StepOutcome::Writable { waits })
        }
        Act::AwaitLease { .. } => {
            let ends = lock(&run.progress)
                .lease_ends
                .ok_or(StepError::Incomplete {
                    what: "the end of the lease",
                })?;
            let began = Instant::now();
            tokio::time::sleep_until(ends.into()).await;
            Ok(StepOutcome::LeaseOver {
                waited_ms: u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX),
            })
        }
        Act::AssignPrimary { server, primary } => {
            // The dead one is held down, and thereby deposed.
            let primary = Primary {
                name: primary,
                replaced_called: false,
            };
            let lease = run
                .client(server)?
                .assign_primary(&run.config, context, server, &primary, policy.call_timeout)
                .await?;
            Ok(StepOutcome::Assigned { lease })
        }
        Act::Repoint {
            server,
            to,
            executed_at_least,
        } => {
            let promoted = run.promoted().ok_or(StepError::Incomplete {
                what: "the position of the new primary",
            })?;
            let to = &run.server(to)?.address;
            let repointed = run
                .client(server)?
                .repoint(
                    context,
                    server,
                    to,
                    &promoted.position,
                    executed_at_least,
                    policy.progress_timeout,
                )
                .await?;
            Ok(StepOutcome::Repointed(Box::new(repointed)))
        }
        Act::RunHook { call } => {
            let say = &*run.narrator;
            let ran = hooks::perform(&run.config, context, call, &|line| say(line)).await;
            if ran.as_ref().map_or_else(HookError::has_run, |_| true) {
                lock(&run.progress).hooks_ran = true;
            }
            Ok(StepOutcome::HookRan(ran?))
        }
        Act::DropAddress { server } => address::drop_it(run, server).await,
        Act::TakeAddress {
            server,
            holder_fenced,
        } => address::take(run, server, *holder_fenced).await,
        Act::ResumeReplication { server } => {
            let status = run
                .client(server)?
                .resume_replication(context, server, policy.progress_timeout)
                .await?;
            Ok(StepOutcome::Resumed(Box::new(status)))
        }
    }
}

/// Events compared before a meeting point. The last one may be an Xid, which two histories can share by chance; what
/// stands before it is the change itself.
pub(crate) const COMPARED_EVENTS: u32 = 3;

async fn compare(
    run: &Run,
    at: &binlog_core::BinlogPosition,
    left: &Source,
    right: &Source,
) -> Result<StepOutcome> {
    let mut before = at.clone();
    let mut last = None;
    for _ in 0..COMPARED_EVENTS {
        let (one, other) =
            futures::join!(describe(run, &before, left), describe(run, &before, right));
        match plan::compare(&before, one?, other?) {
            Met::Same(event) => {
                before = event.start.clone();
                last = last.or(Some(event));
            }
            Met::Other(a, b) => {
                return Err(StepError::Divergence {
                    at: before,
                    left: left.clone(),
                    left_event: show_event(&a),
                    right: right.clone(),
                    right_event: show_event(&b),
                });
            }
            Met::Nothing => break,
        }
    }
    // Without any common event continuity alone is proven.
    Ok(StepOutcome::Compared { event: last })
}

async fn describe(
    run: &Run,
    at: &binlog_core::BinlogPosition,
    source: &Source,
) -> Result<Option<HeldEvent>> {
    let policy = &run.config.failover;
    let client = run.client(&source.server)?;
    let (latest, limit) = match source.logs {
        Logs::Relay => (run.latest(&source.server), policy.progress_timeout),
        Logs::Binary => (None, policy.save_timeout),
        Logs::BinlogServer => {
            let (cluster, primary) = (&run.context.cluster, run.primary_id());
            let limit = policy.save_timeout;
            return Ok(client
                .describe_copied_event(cluster, &source.server, primary, at, limit)
                .await?);
        }
    };
    Ok(client
        .describe_event(
            &run.context.cluster,
            &source.server,
            source.logs,
            at,
            latest.as_ref(),
            limit,
        )
        .await?)
}

fn segment_of(
    outcome: SegmentOutcome,
    server: &str,
    from: &binlog_core::BinlogPosition,
) -> Result<SegmentRef> {
    match outcome {
        SegmentOutcome::Segment(segment) => Ok(*segment),
        SegmentOutcome::Nothing(nothing) => Err(StepError::NothingThere {
            server: server.to_owned(),
            from: from.clone(),
            reason: nothing.reason,
        }),
    }
}

fn unexpected(server: &str, expected: String, segment: &SegmentRef) -> StepError {
    StepError::UnexpectedSegment {
        server: server.to_owned(),
        expected,
        found: segment.manifest.range.to_string(),
    }
}

fn cut(run: &Run, piece: PieceId, segment: SegmentRef) -> StepOutcome {
    let outcome = StepOutcome::Cut {
        segment: segment.id.clone(),
        manifest: segment.manifest.clone(),
    };
    lock(&run.progress).segments.insert(piece, segment);
    outcome
}

fn segment(run: &Run, piece: PieceId) -> Result<SegmentRef> {
    lock(&run.progress)
        .segments
        .get(&piece)
        .cloned()
        .ok_or(StepError::Incomplete {
            what: "the segment of this piece",
        })
}

async fn pull(run: &Run, piece: PieceId, server: &str, from: &str) -> Result<StepOutcome> {
    let segment = segment(run, piece)?;
    let provider = run.endpoint(from)?;
    let stall = run.config.failover.progress_timeout;
    let outcome = run
        .client(server)?
        .pull_segment(&run.context, server, &segment, provider, from, stall)
        .await?;
    let pulled = segment_of(outcome, server, &segment.manifest.range.from)?;
    if pulled.manifest.sha256 != segment.manifest.sha256 || pulled.id != segment.id {
        return Err(StepError::WrongCopy {
            server: server.to_owned(),
            provider: from.to_owned(),
            expected: format!("{} {}", segment.id, segment.manifest.sha256),
            found: format!("{} {}", pulled.id, pulled.manifest.sha256),
        });
    }
    Ok(StepOutcome::Pulled {
        segment: pulled.id,
        manifest: pulled.manifest,
    })
}

/// A replay whose agent goes away is taken up again: what is executed is not replayed.
async fn apply(
    run: &Run,
    server: &str,
    pieces: &[PieceId],
    until: &binlog_core::BinlogPosition,
    standing: Option<&Standing>,
) -> Result<StepOutcome> {
    let segments = pieces
        .iter()
        .map(|p| segment(run, *p).map(|s| s.id))
        .collect::<Result<Vec<String>>>()?;
    let client = run.client(server)?;
    let stall = run.config.failover.progress_timeout;
    let give_up = Instant::now() + stall;
    let applied = loop {
        let result = client
            .apply(
                &run.context,
                server,
                segments.clone(),
                until,
                (&run.identity, standing),
                stall,
            )
            .await;
        match result {
            Err(AgentCallError::Call(error))
                if error.kind().is_none() && Instant::now() < give_up =>
            {
                tokio::time::sleep(RETRY_PAUSE).await;
            }
            result => break result?,
        }
    };
    if applied.executed_after < *until {
        return Err(StepError::NotReached {
            server: server.to_owned(),
            expected: until.clone(),
            found: applied.executed_after,
        });
    }
    Ok(StepOutcome::Applied(applied))
}

/// What an outcome says to an operator; empty if nothing beyond success.
pub(super) fn note(outcome: &StepOutcome) -> String {
    match outcome {
        StepOutcome::Claimed { epoch, lease } if lease.is_empty() => format!("epoch {epoch}"),
        StepOutcome::Claimed { epoch, lease } => format!("epoch {epoch}; {lease}"),
        StepOutcome::LeaseOver { waited_ms } => format!("over, waited {waited_ms} ms"),
        StepOutcome::Assigned { lease: true } => "it holds a lease".to_owned(),
        StepOutcome::Assigned { lease: false } => String::new(),
        StepOutcome::Released { .. } | StepOutcome::Writable { waits: None } => String::new(),
        StepOutcome::Writable { waits: Some(waits) } => match waits {
            Waits::By { variable } => format!("its commits wait for replicas by {variable}"),
            Waits::Not { why } => format!("its commits do NOT wait for replicas: {why}"),
        },
        StepOutcome::HeldDown(held) => {
            let fence = if held.confirmed {
                "confirmed"
            } else {
                "NOT confirmed"
            };
            format!("{}, {fence}", held.how)
        }
        StepOutcome::HoldReleased { .. } => String::new(),
        StepOutcome::AddressDropped { was_there: true } => String::new(),
        StepOutcome::AddressDropped { was_there: false } => "it was not there".to_owned(),
        StepOutcome::AddressTaken { was_there: false } => String::new(),
        StepOutcome::AddressTaken { was_there: true } => "it was there already".to_owned(),
        StepOutcome::ReceiverStopped(stopped) => stopped
            .status
            .read
            .as_ref()
            .map(|read| format!("received up to {read}"))
            .unwrap_or_default(),
        StepOutcome::Compared { event: Some(event) } => format!("the same: {}", show_event(event)),
        StepOutcome::Compared { event: None } => {
            "no event held by both; continuity alone".to_owned()
        }
        StepOutcome::Cut { segment, manifest } => format!(
            "{segment} {}, {} transactions, {} bytes",
            manifest.range, manifest.transactions, manifest.size
        ),
        StepOutcome::Pulled { manifest, .. } => format!("{} bytes", manifest.size),
        StepOutcome::Copied { path, walked, .. } => match walked {
            Ok(whole) => format!("{path}, walked up to {whole}"),
            Err(detail) => format!("{path} is NOT WHOLE: {detail}"),
        },
        StepOutcome::Applied(applied) => {
            let mut text = format!("executed {}", applied.executed_after);
            if applied.applier_started {
                text.push_str(", applier was stopped and was started");
            }
            if applied.half_transaction {
                text.push_str(", half a transaction had been received");
            }
            if applied.applier_killed {
                text.push_str(", applier killed because of it");
            }
            if let Some((way, why)) = &applied.way {
                text.push_str(&format!(", replayed {way}: {why}"));
            }
            text
        }
        StepOutcome::Promoted(promoted) => format!("its own log is at {}", promoted.position),
        StepOutcome::Repointed(_) => "both threads run".to_owned(),
        StepOutcome::Resumed(_) => String::new(),
        StepOutcome::HookRan(ran) => {
            let dropped = match ran.output.dropped_bytes {
                0 => String::new(),
                bytes => format!(", {bytes} bytes of its output are not kept"),
            };
            format!("exit code {}{dropped}", ran.exit_code)
        }
    }
}
