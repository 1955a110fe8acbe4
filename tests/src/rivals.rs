//! The suite `two-managers`: two managers with names and state folders of their own start a failover of one cluster at the
//! same moment. Exactly one acts; the other names it, changes nothing, and there are never two writers.
//!
//! Four kinds of runs take turns: two commands or two daemons, that start together, or that both stand before their first
//! claim and are let go together. Of two daemons the one that named the primary is the manager of record: the other one does
//! not come as far as a claim, and says whose the cluster is.

use std::path::PathBuf;
use std::time::Duration;

use manager::journal::Record;
use manager::journal::fault::VARIABLE;

use crate::kills::Servers;
use crate::kills::stage::{Stage, differs};
use crate::sandbox::daemon::Daemon;
use crate::sandbox::deployment::ManagerFiles;
use crate::sandbox::launch::{Launch, Process};
use crate::sandbox::wait::{self, Look};
use crate::sandbox::{SandboxError, ServerKind};

/// Says a manager that is not the one of record.
const OF_ANOTHER: &str = "the cluster is of manager";
/// How long a failover may take.
const LIMIT: Duration = Duration::from_secs(90);

/// Who they are and when they start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Kind {
    daemons: bool,
    /// Both are held before their first claim.
    held: bool,
}

impl Kind {
    fn of(run: u32) -> Self {
        Self {
            daemons: run & 2 != 0,
            held: run & 1 != 0,
        }
    }

    fn name(self) -> &'static str {
        match (self.daemons, self.held) {
            (false, false) => "commands, started together",
            (false, true) => "commands, let go together",
            (true, false) => "daemons, primary lost",
            (true, true) => "daemons, let go together",
        }
    }
}

/// How a run ended.
#[derive(Debug)]
struct Ended {
    actor: String,
    new_primary: String,
    loser: String,
}

/// Plays so many runs; `say` prints lines of a table. Returns how many did not end as they must.
///
/// # Errors
/// If lines cannot be printed.
pub async fn run(
    kind: ServerKind,
    runs: u32,
    say: impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<u32, SandboxError> {
    say(&format!(
        "{kind}: {runs} runs\n\n| run | who | acted | new primary | the other said |\n|---|---|---|---|---|"
    ))?;
    let mut failed = 0;
    for number in 0..runs {
        let who = Kind::of(number);
        match play(kind, who).await {
            Ok(ended) => say(&format!(
                "| {} | {} | {} | {} | {} |",
                number + 1,
                who.name(),
                ended.actor,
                ended.new_primary,
                ended.loser
            ))?,
            Err(error) => {
                failed += 1;
                let why = crate::sandbox::error::chain(&error).replace('\n', "\n    ");
                say(&format!(
                    "| {} | {} | FAILED: {why} | | |",
                    number + 1,
                    who.name()
                ))?;
            }
        }
    }
    say(&format!("\n{runs} runs, {failed} failed"))?;
    Ok(failed)
}

async fn play(kind: ServerKind, who: Kind) -> Result<Ended, SandboxError> {
    let stage = Stage::prepare(Servers { kind, gtid: false }).await?;
    let managers = [
        stage.deployment.another_manager("first").await?,
        stage.deployment.another_manager("second").await?,
    ];
    let gates = managers.each_ref().map(|m| Gate {
        log: m.config.with_extension("log"),
        file: stage.cluster.dir().join(format!("{}.here", m.name)),
        held: who.held,
    });
    let (writers, told) = if who.daemons {
        let daemons = start_daemons(&stage, &managers, &gates).await?;
        let writers = stage.lose_the_primary()?;
        open(&gates).await?;
        let replaced = |status: &serde_json::Value| stage.replaced(status);
        for daemon in &daemons {
            daemon.until("a new primary", replaced).await?;
        }
        (writers, daemons.map(|daemon| (None, daemon.log_text())))
    } else {
        let writers = stage.lose_the_primary()?;
        let commands = [
            command(&stage, &managers[0], &gates[0])?,
            command(&stage, &managers[1], &gates[1])?,
        ];
        open(&gates).await?;
        let mut told = Vec::new();
        for (process, manager) in commands.iter().zip(&managers) {
            let code = process.wait(LIMIT).await?.code();
            let log = manager.config.with_extension("log");
            let text = std::fs::read_to_string(&log).map_err(SandboxError::io("read", &log))?;
            told.push((code, text));
        }
        let told = <[_; 2]>::try_from(told).map_err(|_| differs("two ends", "others"))?;
        (writers, told)
    };
    let new_primary = stage.check(writers).await?;
    judge(&stage, &managers, &told, who, new_primary)
}

/// One opened a server and is done; the other did no step beyond claims and named the first.
fn judge(
    stage: &Stage,
    managers: &[ManagerFiles; 2],
    told: &[(Option<i32>, String); 2],
    who: Kind,
    new_primary: String,
) -> Result<Ended, SandboxError> {
    let done = [
        stage.closed(&managers[0].state).is_ok(),
        stage.closed(&managers[1].state).is_ok(),
    ];
    let (actor, loser) = match done {
        [true, false] => (0, 1),
        [false, true] => (1, 0),
        both => {
            return Err(differs(
                "exactly one manager that acted",
                format!("{both:?}\n{}\n{}", told[0].1, told[1].1),
            ));
        }
    };
    let beyond_claims = stage
        .records(&managers[loser].state)?
        .iter()
        .flatten()
        .any(|record| matches!(record, Record::Started { stage: 1.., .. }));
    if beyond_claims {
        return Err(differs("claims of the loser, and no more", &told[loser].1));
    }
    if !who.daemons && (told[actor].0, told[loser].0) != (Some(0), Some(13)) {
        let seen = format!(
            "{:?} and {:?}\n{}",
            told[actor].0, told[loser].0, told[loser].1
        );
        return Err(differs("exit codes 0 and 13", seen));
    }
    let holder = format!("of {}", managers[actor].name);
    let by_manager = format!("of manager {}", managers[actor].name);
    let sentence = told[loser]
        .1
        .lines()
        .find(|line| line.contains(&holder) || line.contains(&by_manager))
        .ok_or_else(|| differs(&format!("a sentence with {holder:?}"), &told[loser].1))?;
    Ok(Ended {
        actor: managers[actor].name.clone(),
        new_primary,
        loser: sentence.trim().to_owned(),
    })
}

/// Where a manager stands before its first claim.
struct Gate {
    file: PathBuf,
    /// What the manager says.
    log: PathBuf,
    held: bool,
}

impl Gate {
    /// It stands there, or will not come.
    fn is_settled(&self) -> bool {
        let said = std::fs::read_to_string(&self.log).unwrap_or_default();
        self.file.exists() || said.contains(OF_ANOTHER)
    }

    fn environment(&self) -> Vec<(String, String)> {
        if !self.held {
            return Vec::new();
        }
        let fault = format!("pause:0:{}", self.file.display());
        vec![(VARIABLE.to_owned(), fault)]
    }
}

/// Waits until both stand there, but for one that is not of record, and lets them go at once.
async fn open(gates: &[Gate; 2]) -> Result<(), SandboxError> {
    for gate in gates.iter().filter(|gate| gate.held) {
        wait::until("a manager to stand before its claim", LIMIT, || async {
            Ok(if gate.is_settled() {
                Look::Done(())
            } else {
                Look::NotYet(format!("no {}", gate.file.display()))
            })
        })
        .await?;
    }
    for gate in gates.iter().filter(|gate| gate.file.exists()) {
        std::fs::remove_file(&gate.file).map_err(SandboxError::io("remove", &gate.file))?;
    }
    Ok(())
}

fn command(stage: &Stage, files: &ManagerFiles, gate: &Gate) -> Result<Process, SandboxError> {
    let program = stage.deployment.binaries().manager.clone();
    Process::start(&Launch {
        name: format!("mha-manager failover of {}", files.name),
        program,
        arguments: vec![
            "failover".into(),
            "--config".into(),
            files.config.clone().into(),
            "--dead-primary".into(),
            stage.cluster.primary().host_port().into(),
            "--yes".into(),
        ],
        environment: gate.environment(),
        log: files.config.with_extension("log"),
    })
}

async fn start_daemons(
    stage: &Stage,
    managers: &[ManagerFiles; 2],
    gates: &[Gate; 2],
) -> Result<[Daemon; 2], SandboxError> {
    let launch =
        |n: usize| Daemon::launch_as(&stage.deployment, &managers[n], &gates[n].environment());
    let daemons = [launch(0)?, launch(1)?];
    for daemon in &daemons {
        daemon.until_watching().await?;
    }
    Ok(daemons)
}
