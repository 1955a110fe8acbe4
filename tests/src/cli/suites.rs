//! Suites that are judged: run until their end or a signal, and passed only if nothing failed.

use crate::big;
use crate::demo;
use crate::differential;
use crate::kills;
use crate::local_source;
use crate::matrix;
use crate::netns;
use crate::rivals;
use crate::sandbox::{SandboxError, ServerKind};
use crate::speed;
use crate::watched::{Before, Loss};

use std::time::Duration;

use super::print;
use super::signals::stop_signals;

pub(super) async fn show_demo(server: ServerKind) -> Result<(), SandboxError> {
    let mut interrupted = stop_signals()?;
    // When interrupted, everything that runs is dropped with the future, which ends servers and agents.
    tokio::select! {
        end = demo::run(server, print) => match end? {
            demo::End::Good => Ok(()),
            demo::End::Bad => Err(SandboxError::Tool {
                command: "mha-manager failover".to_owned(),
                status: "another exit code than 0".to_owned(),
                output: "see the report above".to_owned(),
            }),
        },
        () = interrupted.wait() => Ok(()),
    }
}

pub(super) async fn measure(
    server: ServerKind,
    runs: usize,
    limit: Duration,
    watched: Option<(Loss, Before)>,
) -> Result<(), SandboxError> {
    let measured = speed::run(server, runs, watched, print).await?;
    let summary = format!(
        "median of {runs}: {} ms, limit {} ms",
        measured.median.as_millis(),
        limit.as_millis()
    );
    print(&summary)?;
    if measured.all_good && measured.median < limit {
        return Ok(());
    }
    Err(SandboxError::Tool {
        command: "sandbox speed".to_owned(),
        status: "target missed".to_owned(),
        output: summary,
    })
}

pub(super) async fn tail(plan: &big::tail::Plan) -> Result<(), SandboxError> {
    let mut interrupted = stop_signals()?;
    let kept = tokio::select! {
        kept = big::tail::run(plan, print) => kept?,
        () = interrupted.wait() => return Err(interrupted_suite("sandbox tail")),
    };
    passed("sandbox tail", kept)
}

pub(super) async fn many_replicas(plan: &big::replicas::Plan) -> Result<(), SandboxError> {
    let mut interrupted = stop_signals()?;
    let kept = tokio::select! {
        kept = big::replicas::run(plan, print) => kept?,
        () = interrupted.wait() => return Err(interrupted_suite("sandbox replicas")),
    };
    passed("sandbox replicas", kept)
}

fn passed(command: &str, kept: bool) -> Result<(), SandboxError> {
    if kept {
        return print("all limits kept");
    }
    Err(SandboxError::Tool {
        command: command.to_owned(),
        status: "target missed".to_owned(),
        output: "see the lines above".to_owned(),
    })
}

/// What did not run to its end has not passed.
fn interrupted_suite(command: &str) -> SandboxError {
    SandboxError::Tool {
        command: command.to_owned(),
        status: "a signal before its end".to_owned(),
        output: "the table is not complete".to_owned(),
    }
}

/// Passed if none of the so many played failed; a suite that a signal ended has not passed.
async fn judged(
    command: &str,
    what: &str,
    suite: impl Future<Output = Result<(usize, u64), SandboxError>>,
) -> Result<(), SandboxError> {
    let mut interrupted = stop_signals()?;
    let (failed, played) = tokio::select! {
        outcome = suite => outcome?,
        () = interrupted.wait() => return Err(interrupted_suite(command)),
    };
    if failed == 0 {
        return Ok(());
    }
    Err(SandboxError::Tool {
        command: command.to_owned(),
        status: format!("{failed} of {played} {what} failed"),
        output: "see the table".to_owned(),
    })
}

pub(super) async fn kill_every_step(plan: &kills::Plan) -> Result<(), SandboxError> {
    judged("sandbox kill-every-step", "cases", async {
        let outcome = kills::run(plan, print).await?;
        Ok((outcome.failed, outcome.played as u64))
    })
    .await
}

pub(super) async fn experiments(plan: &local_source::Plan) -> Result<(), SandboxError> {
    judged("sandbox local-source", "experiments", async {
        let (played, failed) = local_source::run(plan, print).await?;
        Ok((failed, played as u64))
    })
    .await
}

pub(super) async fn play_matrix(plan: &matrix::Plan) -> Result<(), SandboxError> {
    judged("sandbox matrix", "cells", async {
        let outcome = matrix::run(plan, print).await?;
        Ok((outcome.failed, outcome.played as u64))
    })
    .await
}

pub(super) async fn two_managers(server: ServerKind, runs: u32) -> Result<(), SandboxError> {
    judged("sandbox two-managers", "runs", async {
        let failed = rivals::run(server, runs, print).await?;
        Ok((failed as usize, u64::from(runs)))
    })
    .await
}

pub(super) async fn against_replication(plan: &differential::Plan) -> Result<(), SandboxError> {
    judged("sandbox differential", "runs", async {
        Ok((differential::run(plan, print).await?, plan.runs))
    })
    .await
}

pub(super) async fn network(inside: Option<String>) -> Result<(), SandboxError> {
    let mut interrupted = stop_signals()?;
    // When interrupted, servers, agents and namespaces end with the future.
    let told = async {
        match inside {
            None => netns::run(print).await,
            Some(neighbour) => netns::inside(&neighbour, print).await,
        }
    };
    tokio::select! {
        told = told => told,
        () = interrupted.wait() => Ok(()),
    }
}
