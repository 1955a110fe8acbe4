//! One case: who is killed at which hook point, and how it ends.

use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use manager::journal::fault::VARIABLE;
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};

use super::Servers;
use super::stage::{Stage, differs, in_words};
use crate::sandbox::SandboxError;
use crate::sandbox::daemon::Daemon;
use crate::sandbox::deployment::CLUSTER;
use crate::sandbox::launch::Process;
use crate::sandbox::wait::{self, Look};

/// How long a failover, or what is left of one, may take.
const LIMIT: Duration = Duration::from_secs(90);

/// Why a run is refused whose facts could not be had in time.
const UNOBSERVED: [&str; 2] = [
    "cannot be observed (set ignore_fail",
    "does not answer SQL (set ignore_fail",
];

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Victim {
    /// `mha-manager run`, which is started again.
    Manager,
    /// `mha-manager failover`, which is run again.
    Command,
    /// The daemon right after a record was written; that record is torn at a byte before the next start.
    Torn,
    /// The agent of the preferred candidate, while the manager stands at its hook point.
    Winner,
    /// The other survivor's.
    Survivor,
    /// The dead primary's.
    Dead,
}

impl Victim {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Manager,
        Self::Command,
        Self::Torn,
        Self::Winner,
        Self::Survivor,
        Self::Dead,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Manager => "manager",
            Self::Command => "command",
            Self::Torn => "torn",
            Self::Winner => "winner",
            Self::Survivor => "survivor",
            Self::Dead => "dead",
        }
    }
}

/// `manager/17`: the victim and the hook point, counted from 0. Even points are before a record is written, odd ones after.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Case {
    /// Who.
    pub victim: Victim,
    /// When.
    pub point: u64,
}

impl fmt::Display for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.victim.name(), self.point)
    }
}

/// How a case ended.
#[derive(Debug)]
pub struct Ended {
    /// The last record at the moment of the kill; `None` if the run was over before that point came.
    pub at: Option<String>,
    /// The new primary.
    pub winner: String,
    /// Exit code in the last journal.
    pub code: u8,
    /// From the death of the primary to the end of the last failover, kill and restart included.
    pub took: Duration,
}

/// Plays a failover without a fault and counts its hook points.
pub async fn count(servers: Servers) -> Result<u64, SandboxError> {
    let stage = Stage::prepare(servers).await?;
    let daemon = Daemon::start(&stage.deployment).await?;
    let writers = stage.lose_the_primary()?;
    until_replaced(&stage, &daemon).await?;
    let winner = stage.check(writers).await?;
    let state = stage.deployment.manager_state();
    let code = stage.closed(&state)?;
    if (winner.as_str(), code) != ("db2", 0) {
        let seen = format!("{winner}, exit code {code}");
        return Err(differs("a clean run that ends with db2 and 0", seen));
    }
    let records: usize = stage.records(&state)?.iter().map(Vec::len).sum();
    Ok(2 * u64::try_from(records).unwrap_or(u64::MAX))
}

/// Plays it. Where it does not end as it must, the manager's files are copied to `keep`.
pub async fn play(
    servers: Servers,
    case: Case,
    seed: u64,
    keep: Option<&Path>,
) -> Result<Ended, SandboxError> {
    let stage = Stage::prepare(servers).await?;
    let ended = on(&stage, case, seed).await;
    if let (Err(_), Some(keep)) = (&ended, keep) {
        let target = keep.join(case.to_string().replace('/', "-"));
        copy(&stage.cluster.dir().join("mha"), &target)
            .map_err(SandboxError::io("copy to", &target))?;
    }
    ended
}

async fn on(stage: &Stage, case: Case, seed: u64) -> Result<Ended, SandboxError> {
    match case.victim {
        Victim::Manager | Victim::Torn => daemon_killed(stage, case, seed).await,
        Victim::Command => command_killed(stage, case).await,
        Victim::Winner | Victim::Survivor | Victim::Dead => agent_killed(stage, case).await,
    }
}

async fn daemon_killed(stage: &Stage, case: Case, seed: u64) -> Result<Ended, SandboxError> {
    let state = stage.deployment.manager_state();
    let fault = (VARIABLE.to_owned(), format!("kill:{}", case.point));
    let daemon = Daemon::start_with(&stage.deployment, &[fault]).await?;
    let died = Instant::now();
    let writers = stage.lose_the_primary()?;
    let killed = wait::until("the manager to be killed", LIMIT, || async {
        if daemon.has_ended()? {
            return Ok(Look::Done(true));
        }
        let (_, status) = daemon.status().await?;
        Ok(if stage.replaced(&status) {
            Look::Done(false)
        } else {
            Look::NotYet(status.to_string())
        })
    })
    .await?;
    let mut at = killed.then(|| last_record(stage, &state)).transpose()?;
    let daemon = if killed {
        if case.victim == Victim::Torn {
            let cut = tear(&state, seed ^ case.point)?;
            at = at.map(|at| format!("{at}, {cut}"));
        }
        Daemon::launch(&stage.deployment)?
    } else {
        daemon
    };
    until_replaced(stage, &daemon).await?;
    finish(stage, at, died, writers).await
}

async fn command_killed(stage: &Stage, case: Case) -> Result<Ended, SandboxError> {
    let state = stage.deployment.manager_state();
    let died = Instant::now();
    let writers = stage.lose_the_primary()?;
    let dead = stage.cluster.primary();
    let fault = (VARIABLE.to_owned(), format!("kill:{}", case.point));
    let first = stage
        .deployment
        .start_failover_with(dead, "command.log", vec![fault])?;
    let status = first.wait(LIMIT).await?;
    let at = if status.code().is_some() {
        None
    } else {
        let at = last_record(stage, &state)?;
        finish_by_command(stage).await.map_err(|seen| match seen {
            SandboxError::Wait { what, waited, seen } => SandboxError::Wait {
                what: format!("{what} after {}", Process::describe(status)),
                waited,
                seen,
            },
            other => other,
        })?;
        Some(at)
    };
    finish(stage, at, died, writers).await
}

/// Gives the command again. Where a survivor could not be observed in time, which happens on a busy machine, it is refused and
/// nothing is changed: it is given once more, as by an operator.
async fn finish_by_command(stage: &Stage) -> Result<(), SandboxError> {
    wait::until("the command again", LIMIT, || async {
        let again = stage
            .deployment
            .failover(stage.cluster.primary(), &[])
            .await?;
        let seen = format!("exit code {:?}:\n{}", again.finished.code, again.text());
        match again.finished.code {
            Some(0 | 10) => Ok(Look::Done(())),
            Some(12) if UNOBSERVED.iter().any(|why| again.mentions(why)) => Ok(Look::NotYet(seen)),
            _ => Err(differs("the command again", seen)),
        }
    })
    .await
}

async fn agent_killed(stage: &Stage, case: Case) -> Result<Ended, SandboxError> {
    let state = stage.deployment.manager_state();
    let here = stage.cluster.dir().join("here");
    let fault = (
        VARIABLE.to_owned(),
        format!("pause:{}:{}", case.point, here.display()),
    );
    let daemon = Daemon::start_with(&stage.deployment, &[fault]).await?;
    let died = Instant::now();
    let writers = stage.lose_the_primary()?;
    let paused = wait::until("the manager to stand at its point", LIMIT, || async {
        if here.exists() {
            return Ok(Look::Done(true));
        }
        let (_, status) = daemon.status().await?;
        Ok(if stage.replaced(&status) {
            Look::Done(false)
        } else {
            Look::NotYet(status.to_string())
        })
    })
    .await?;
    let mut at = None;
    if paused {
        at = Some(last_record(stage, &state)?);
        let agent = stage.deployment.agent(match case.victim {
            Victim::Winner => 1,
            Victim::Survivor => 2,
            _ => 0,
        });
        agent.kill()?;
        agent.start().await?;
        fs::remove_file(&here).map_err(SandboxError::io("remove", &here))?;
    }
    until_replaced(stage, &daemon).await?;
    finish(stage, at, died, writers).await
}

async fn finish(
    stage: &Stage,
    at: Option<String>,
    died: Instant,
    writers: super::writers::Writers,
) -> Result<Ended, SandboxError> {
    let took = died.elapsed();
    let winner = stage.check(writers).await?;
    let code = stage.closed(&stage.deployment.manager_state())?;
    Ok(Ended {
        at,
        winner,
        code,
        took,
    })
}

async fn until_replaced(stage: &Stage, daemon: &Daemon) -> Result<(), SandboxError> {
    daemon
        .until("a new primary", |status| stage.replaced(status))
        .await
        .map(drop)
}

/// The last whole record of the newest operation.
fn last_record(stage: &Stage, state: &Path) -> Result<String, SandboxError> {
    let operations = stage.records(state)?;
    let records = operations.last().map(Vec::as_slice).unwrap_or_default();
    Ok(match records.split_last() {
        Some((last, before)) => in_words(last, before),
        None => "nothing written".to_owned(),
    })
}

/// Cuts the last record of the newest journal off somewhere inside it.
fn tear(state: &Path, seed: u64) -> Result<String, SandboxError> {
    let path = newest(state)?;
    let bytes = fs::read(&path).map_err(SandboxError::io("read", &path))?;
    let whole = bytes.len().saturating_sub(1);
    let start = bytes
        .get(..whole)
        .and_then(|bytes| bytes.iter().rposition(|byte| *byte == b'\n'))
        .map_or(0, |end| end + 1);
    let cut = StdRng::seed_from_u64(seed).random_range(start..bytes.len().max(start + 1));
    let file = fs::OpenOptions::new()
        .write(true)
        .open(&path)
        .map_err(SandboxError::io("open", &path))?;
    file.set_len(u64::try_from(cut).unwrap_or(u64::MAX))
        .map_err(SandboxError::io("cut", &path))?;
    Ok(format!(
        "torn at byte {} of {}",
        cut - start,
        bytes.len() - start
    ))
}

fn newest(state: &Path) -> Result<PathBuf, SandboxError> {
    manager::journal::operations(state, CLUSTER)
        .map_err(|error| differs("journals", error.to_string()))?
        .pop()
        .ok_or_else(|| differs("a journal", "none"))
}

fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else if entry.file_type()?.is_file() {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}
