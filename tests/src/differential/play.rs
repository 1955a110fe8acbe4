//! One run: a workload, two replicas that are cut off inside it, a failover, and the comparison.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::IndexedRandom;

use super::shape::Shape;
use super::state::{self, State};
use super::workload::{self, FILES, SESSIONS, Workload};
use crate::sandbox::deployment::{Deployment, DeploymentSpec, server_name};
use crate::sandbox::replica::{self, LogPlace};
use crate::sandbox::slot::Slot;
use crate::sandbox::wait::{self, Look};
use crate::sandbox::{Client, Cluster, SandboxError, Server, ServerKind};
use crate::scenario::{Failure, expect, expect_eq};

/// Number of the replica that no manager knows and that receives everything.
const WITNESS: usize = 3;
/// How long a replica may take to execute what it has.
const LIMIT: Duration = Duration::from_secs(120);
/// Keeps the cuts of a run when its workload draws more numbers than it did.
const STREAM: u64 = 0xc075_0001;

/// A run that ended as it must.
#[derive(Debug)]
pub struct Ended {
    /// The servers.
    pub shape: Shape,
    /// Statements given.
    pub statements: usize,
    /// Statements that the primary refused.
    pub refused: usize,
    /// Events in the primary's log, so far as a cut can fall behind them.
    pub events: usize,
    /// How far the two replicas had received the primary's log.
    pub received: [LogPlace; 2],
    /// The new primary.
    pub winner: String,
    /// From the death of the primary to the end of the failover.
    pub took: Duration,
}

/// Plays the run with this number on servers of this line.
///
/// # Errors
/// What could not be set up, and what is not as it must be: a failover that did not succeed, a survivor that differs from
/// the replica that received everything.
pub async fn play(kind: ServerKind, seed: u64) -> Result<Ended, Failure> {
    let shape = Shape::of(kind, seed);
    let workload = workload::generate(&shape, seed);
    let mut rng = StdRng::seed_from_u64(seed ^ STREAM);
    let _slot = Slot::take().await?;
    let cluster = Cluster::start(shape.cluster()).await?;
    // Whatever a stopped applier has to catch up with: a workload fills several files.
    let spec = DeploymentSpec::default()
        .outside(1)
        .failover("check_delay", false);
    let deployment = Deployment::start(&cluster, &spec).await?;
    for number in 1..WITNESS {
        cluster.hold_here(number).await?;
    }

    // Sessions end with the primary: what they leave open is a part of the test.
    let (refused, _sessions) = give(&cluster, &workload).await?;
    expect(
        refused * 3 < workload.statements.len(),
        "statements that the server refused",
        "less than a third",
        format!("{refused} of {}", workload.statements.len()),
    )?;
    level(cluster.server(WITNESS), cluster.primary()).await?;
    let ends = ends(cluster.primary()).await?;
    let received = [
        cut(&cluster, 1, &ends, &mut rng).await?,
        cut(&cluster, 2, &ends, &mut rng).await?,
    ];

    let died = Instant::now();
    cluster.crash(0)?;
    let run = deployment.failover(cluster.primary(), &[]).await?;
    let took = died.elapsed();
    let told = || {
        format!(
            "received {} and {}\n{}",
            received[0],
            received[1],
            run.text()
        )
    };
    let checked = check(&cluster, &shape, &run).await;
    let winner = checked.map_err(|failure| Failure::Told {
        failure: Box::new(failure),
        told: told(),
    })?;
    Ok(Ended {
        shape,
        statements: workload.statements.len(),
        refused,
        events: ends.len(),
        received,
        winner,
        took,
    })
}

/// Gives all statements to the primary. Returns how many it refused, and the sessions.
async fn give(
    cluster: &Cluster,
    workload: &Workload,
) -> Result<(usize, Vec<Client>), SandboxError> {
    let folder = cluster.dir().join("files");
    write_files(&folder, workload)?;
    let mut sessions: Vec<Client> = Vec::new();
    for _ in 0..SESSIONS {
        let mut session = cluster.primary().admin().await?;
        session.exec("USE app").await?;
        sessions.push(session);
    }
    let mut refused = 0;
    for statement in &workload.statements {
        let text = statement.text.replace(FILES, &folder.display().to_string());
        match sessions[statement.session].exec(&text).await {
            Ok(()) => {}
            Err(SandboxError::Sql {
                source: mysql_async::Error::Server(_),
                ..
            }) => refused += 1,
            Err(error) => return Err(error),
        }
    }
    Ok((refused, sessions))
}

/// Waits until the replica that receives everything has executed everything. What plain replication cannot carry is no part of a
/// workload: an applier that stops says so at once.
async fn level(witness: &Server, primary: &Server) -> Result<(), Failure> {
    let what = "plain replication to carry the workload";
    let stopped = wait::until(what, LIMIT, || async {
        let end = replica::binlog_end(primary).await?;
        let status = replica::must_status(witness).await?;
        let (number, text) = status.sql_error()?;
        if number != 0 {
            return Ok(Look::Done(Some(format!("{number}: {text}"))));
        }
        let (read, executed) = (status.read()?, status.executed()?);
        Ok(if executed == end && read == end {
            Look::Done(None)
        } else {
            Look::NotYet(format!("{end}; read {read}, executed {executed}"))
        })
    })
    .await?;
    let Some(mut found) = stopped else {
        return Ok(());
    };
    if !witness.kind().is_mariadb() && witness.kind() != ServerKind::MySql56 {
        // With parallel workers the status only says where to look.
        let query = "SELECT last_error_message FROM performance_schema.replication_applier_status_by_worker WHERE last_error_number<>0";
        for row in witness.rows(query).await? {
            let _ = write!(found, "; {}", row.at(0).unwrap_or_default());
        }
    }
    Err(Failure::Unexpected {
        what: what.to_owned(),
        expected: "no error".to_owned(),
        found,
    })
}

fn write_files(folder: &Path, workload: &Workload) -> Result<(), SandboxError> {
    fs::create_dir_all(folder).map_err(SandboxError::io("create", folder))?;
    for (name, content) in &workload.files {
        let path = folder.join(name);
        fs::write(&path, content).map_err(SandboxError::io("write", &path))?;
    }
    Ok(())
}

/// Events that stand at the head or the end of a file; not every one of them moves the position that a replica shows.
const OF_FILES: &[&str] = &[
    "Format_desc",
    "Previous_gtids",
    "Gtid_list",
    "Binlog_checkpoint",
    "Rotate",
    "Stop",
    "Start_encryption",
];

/// The ends of the events in the primary's log behind which a replica can be cut off.
async fn ends(primary: &Server) -> Result<Vec<LogPlace>, SandboxError> {
    let mut session = primary.admin().await?;
    let mut ends = Vec::new();
    let files = session
        .rows(&primary.kind().statement("SHOW MASTER LOGS"))
        .await?;
    for file in files.iter().filter_map(|row| row.at(0)) {
        let events = session
            .rows(&format!("SHOW BINLOG EVENTS IN '{file}'"))
            .await?;
        let offsets: Vec<u64> = events
            .iter()
            .map(|event| {
                let end = event.get("End_log_pos").and_then(|end| end.parse().ok());
                end.unwrap_or(0)
            })
            .collect();
        for (at, event) in events.iter().enumerate() {
            let of_file = event
                .get("Event_type")
                .is_none_or(|name| OF_FILES.contains(&name));
            // MariaDB 11.4 and newer do not say inside a transaction where an event ends.
            let known = offsets[at] > 0 && offsets.get(at + 1).is_none_or(|next| *next > 0);
            if !of_file && known {
                ends.push(LogPlace::new(file, offsets[at]));
            }
        }
    }
    Ok(ends)
}

/// Lets a replica receive everything up to a random event; its applier runs or was stopped before.
async fn cut(
    cluster: &Cluster,
    number: usize,
    ends: &[LogPlace],
    rng: &mut StdRng,
) -> Result<LogPlace, Failure> {
    let server = cluster.server(number);
    let place = ends.choose(rng).ok_or_else(|| Failure::Unexpected {
        what: "the primary's log".to_owned(),
        expected: "events".to_owned(),
        found: "none".to_owned(),
    })?;
    if rng.random_bool(0.25) {
        let stop = server.kind().statement("STOP SLAVE SQL_THREAD");
        server.exec(&stop).await?;
    }
    cluster.hold(number, place);
    replica::wait_read(server, place).await?;
    Ok(place.clone())
}

/// The failover succeeded, and both survivors equal the replica that received everything. Returns the new primary's name.
async fn check(
    cluster: &Cluster,
    shape: &Shape,
    run: &crate::sandbox::deployment::ManagerRun,
) -> Result<String, Failure> {
    expect_eq("exit code", &run.finished.code, &Some(0))?;
    let named = run
        .report
        .as_ref()
        .and_then(|report| report.new_primary.clone())
        .unwrap_or_default();
    let winner = (1..WITNESS).find(|number| server_name(cluster.server(*number)) == named);
    expect(
        winner.is_some(),
        "the new primary",
        "one of the two replicas",
        &named,
    )?;
    let wanted = state::read(cluster.server(WITNESS), shape.gtid).await?;
    for number in 1..WITNESS {
        let server = cluster.server(number);
        if let Err(failure) = equal(server, shape, &wanted).await {
            return Err(Failure::Told {
                failure: Box::new(failure.into()),
                told: apart(cluster, shape).await?,
            });
        }
    }
    Ok(named)
}

/// What each survivor has that the replica that received everything has not, and the other way round.
async fn apart(cluster: &Cluster, shape: &Shape) -> Result<String, SandboxError> {
    let witness = cluster.server(WITNESS);
    let wanted = state::read(witness, shape.gtid).await?;
    let mut told = String::new();
    for number in 1..WITNESS {
        let server = cluster.server(number);
        let found = state::read(server, shape.gtid).await?;
        for line in state::differences(&wanted, &found) {
            // Writing to a String cannot fail.
            let _ = writeln!(told, "{}: {line}", server.name());
            let table = line
                .strip_prefix("rows of ")
                .and_then(|line| line.split(": ").next());
            for row in match table {
                Some(table) => state::rows_apart(table, witness, server).await?,
                None => Vec::new(),
            } {
                let _ = writeln!(told, "    {row}");
            }
        }
    }
    Ok(told)
}

/// Waits until nothing differs any more: with parallel workers a server shows its last transactions a moment later.
async fn equal(server: &Server, shape: &Shape, wanted: &State) -> Result<(), SandboxError> {
    let what = format!(
        "{} to equal the replica that received everything",
        server.name()
    );
    wait::until(&what, LIMIT, || async {
        let differing = state::differences(wanted, &state::read(server, shape.gtid).await?);
        if differing.is_empty() {
            return Ok(Look::Done(()));
        }
        let mut told = String::new();
        for line in differing.iter().take(8) {
            // Writing to a String cannot fail.
            let _ = writeln!(told, "{line}");
        }
        Ok(Look::NotYet(told))
    })
    .await
}
