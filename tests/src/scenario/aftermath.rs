//! What must hold after every failover, whatever the case: equal tables, no acknowledged row lost, a report that says
//! exactly what the client's list says, and servers that are left as they were but for their roles.
//!
//! An exception counts only if the scenario expects it *and* the report names it.

use std::time::Duration;

use manager::proof::ProofVerdict;

use crate::sandbox::accounts::APPLICATION;
use crate::sandbox::compare::{self, Checksums};
use crate::sandbox::deployment::server_name;
use crate::sandbox::replica::{self, LogPlace};
use crate::sandbox::wait::{self, Look};
use crate::sandbox::{Client, Cluster, SandboxError, Server};

use super::before::Before;
use super::ended::Ended;
use super::failure::{Failure, expect, expect_eq};
use super::ledger::{self, LEDGER, Ledger};

/// No scenario of three or four small servers may take longer: nothing in it waits for a timeout of a server, the shortest
/// of which is the minute that STOP SLAVE waits inside a transaction.
const LIMIT: Duration = Duration::from_secs(55);
/// How long a row may take from the new primary to a replica.
const REPLICATES: Duration = Duration::from_secs(60);

/// What the scenario expects.
#[derive(Debug, Clone)]
pub struct Expected {
    /// Exit code.
    pub exit: i32,
    /// The dead disk could not be asked: the survivors end here, and the client's later rows are lost.
    pub unknown_beyond: Option<LogPlace>,
    /// Number of the client's rows that must be there; all that were acknowledged if absent.
    pub rows: Option<u64>,
    /// Replicas whose applier had failed before: stopped and unchanged, and named by the report.
    pub aside: Vec<usize>,
    /// Tables of a replica whose changes may have come twice, and the report names them.
    pub maybe_twice: Vec<(usize, &'static str)>,
    /// Tables that the filters of a replica leave out.
    pub left_out: Vec<&'static str>,
}

impl Expected {
    /// Everything is there, on all, and nothing needs care.
    pub fn all() -> Self {
        Self {
            exit: 0,
            unknown_beyond: None,
            rows: None,
            aside: Vec::new(),
            maybe_twice: Vec::new(),
            left_out: Vec::new(),
        }
    }

    /// The dead host could not be asked: `rows` rows are there, up to `place`.
    #[must_use]
    pub fn up_to(mut self, place: &LogPlace, rows: u64) -> Self {
        self.unknown_beyond = Some(place.clone());
        self.rows = Some(rows);
        self
    }

    /// This replica is left aside.
    #[must_use]
    pub fn aside(mut self, number: usize) -> Self {
        self.exit = 10;
        self.aside.push(number);
        self
    }

    /// This replica may have changes of this table twice.
    #[must_use]
    pub fn maybe_twice(mut self, number: usize, table: &'static str) -> Self {
        self.exit = 10;
        self.maybe_twice.push((number, table));
        self
    }
}

/// Checks everything. Returns the number of the new primary.
pub async fn check(
    cluster: &Cluster,
    ledger: &Ledger,
    before: &Before,
    ended: &Ended,
    expected: &Expected,
) -> Result<usize, Failure> {
    let checked = check_all(cluster, ledger, before, ended, expected).await;
    checked.map_err(|failure| Failure::Told {
        failure: Box::new(failure),
        told: ended.tell(),
    })
}

async fn check_all(
    cluster: &Cluster,
    ledger: &Ledger,
    before: &Before,
    ended: &Ended,
    expected: &Expected,
) -> Result<usize, Failure> {
    expect_eq("exit code", &ended.finished.code, &Some(expected.exit))?;
    expect_eq(
        "exit code in the report",
        &i32::from(ended.report.exit_code),
        &expected.exit,
    )?;
    expect(
        ended.finished.took < LIMIT,
        "time of the failover",
        format!("less than {LIMIT:?}"),
        format!("{:?}", ended.finished.took),
    )?;
    let winner = winner(cluster, ended)?;
    let following: Vec<usize> = (1..cluster.servers().len())
        .filter(|number| *number != winner && !expected.aside.contains(number))
        .collect();
    roles(cluster, winner, &following).await?;
    for number in &expected.aside {
        left_aside(cluster.server(*number), before, ended).await?;
    }

    let survivors: Vec<usize> = std::iter::once(winner)
        .chain(following.iter().copied())
        .collect();
    let exceptions = exceptions(cluster, ended, expected)?;
    equal_tables(cluster, &survivors, &exceptions).await?;
    let lost = rows(cluster, ledger, &survivors, expected).await?;
    verdict(ended, expected, lost)?;
    let kept_behind = replicates(cluster, winner, &following).await?;
    let level: Vec<usize> = survivors
        .iter()
        .copied()
        .filter(|number| !kept_behind.contains(number))
        .collect();
    equal_tables(cluster, &level, &exceptions).await?;
    for number in &survivors {
        before
            .settings_are_as_they_were(cluster.server(*number))
            .await?;
    }
    for number in &following {
        before.channel_is_as_it_was(cluster.server(*number)).await?;
    }
    Ok(winner)
}

fn winner(cluster: &Cluster, ended: &Ended) -> Result<usize, Failure> {
    let named = ended.report.new_primary.as_deref();
    let found = (1..cluster.servers().len())
        .find(|n| Some(server_name(cluster.server(*n)).as_str()) == named);
    found.ok_or_else(|| Failure::Unexpected {
        what: "the new primary in the report".to_owned(),
        expected: "one of the survivors".to_owned(),
        found: format!("{named:?}"),
    })
}

/// The winner is no replica and writable; the others follow it, read-only as they were.
async fn roles(cluster: &Cluster, winner: usize, following: &[usize]) -> Result<(), Failure> {
    let primary = cluster.server(winner);
    let name = primary.name();
    let status = replica::status(primary).await?;
    expect(
        status.is_none(),
        format!("replica status of {name}"),
        "none",
        format!("{status:?}"),
    )?;
    let read_only = primary.value("SELECT @@GLOBAL.read_only").await?;
    expect_eq(format!("read_only of {name}"), &read_only.as_str(), &"0")?;
    for number in following {
        let server = cluster.server(*number);
        let name = server.name();
        let status = replica::must_status(server).await?;
        expect_eq(
            format!("source of {name}"),
            &status.source()?,
            &primary.host_port(),
        )?;
        expect_eq(format!("receiver of {name}"), &status.io_running()?, &"Yes")?;
        expect_eq(
            format!("applier of {name} runs"),
            &status.sql_running()?,
            &true,
        )?;
        let read_only = server.value("SELECT @@GLOBAL.read_only").await?;
        expect_eq(format!("read_only of {name}"), &read_only.as_str(), &"1")?;
    }
    Ok(())
}

/// It is where it was, does nothing, and the report says so.
async fn left_aside(server: &Server, before: &Before, ended: &Ended) -> Result<(), Failure> {
    let name = server.name();
    let status = replica::must_status(server).await?;
    expect_eq(
        format!("applier of {name} runs"),
        &status.sql_running()?,
        &false,
    )?;
    expect_eq(format!("receiver of {name}"), &status.io_running()?, &"No")?;
    before.channel_is_as_it_was(server).await?;
    before.position_is_as_it_was(server).await?;
    expect(
        ended.names(server, "applier had stopped"),
        "what the report says needs care",
        format!("that the applier of {name} had stopped with an error"),
        format!("{:?}", ended.report.care),
    )
}

/// Tables that need not be equal, since the scenario says why and the report names them.
fn exceptions(
    cluster: &Cluster,
    ended: &Ended,
    expected: &Expected,
) -> Result<Vec<&'static str>, Failure> {
    let mut tables = expected.left_out.clone();
    for (number, table) in &expected.maybe_twice {
        let server = cluster.server(*number);
        expect(
            ended.names(server, table),
            "what the report says needs care",
            format!("{table} of {}", server.name()),
            format!("{:?}", ended.report.care),
        )?;
        tables.push(*table);
    }
    Ok(tables)
}

/// All tables of all survivors are equal.
pub async fn equal_tables(
    cluster: &Cluster,
    survivors: &[usize],
    exceptions: &[&str],
) -> Result<(), Failure> {
    let mut first: Option<(&str, Checksums)> = None;
    for number in survivors {
        let server = cluster.server(*number);
        let mut found = compare::checksums(server).await?;
        found.retain(|table, _| !exceptions.contains(&table.as_str()));
        match &first {
            None => first = Some((server.name(), found)),
            Some((name, wanted)) => {
                let differing = compare::differences(wanted, &found);
                let what = format!("tables of {name} and {}", server.name());
                expect(differing.is_empty(), what, "equal", differing.join("; "))?;
            }
        }
    }
    Ok(())
}

/// The client's rows are there; whether any acknowledged one is lost, which only an unreachable disk excuses.
async fn rows(
    cluster: &Cluster,
    ledger: &Ledger,
    survivors: &[usize],
    expected: &Expected,
) -> Result<bool, Failure> {
    let acknowledged = ledger.acknowledged();
    let mut lost = false;
    for number in survivors {
        let server = cluster.server(*number);
        let found = ledger::rows(server).await?;
        let missing: Vec<u64> = acknowledged.difference(&found).copied().collect();
        let unknown: Vec<u64> = found.difference(acknowledged).copied().collect();
        let what = format!("the client's rows on {}", server.name());
        match expected.rows {
            None => expect(
                missing.is_empty(),
                &what,
                "all that were acknowledged",
                format!("without {missing:?}"),
            )?,
            Some(rows) => {
                let wanted = acknowledged.iter().copied().filter(|id| *id <= rows);
                expect(
                    found.iter().copied().eq(wanted),
                    &what,
                    format!("the first {rows}"),
                    format!("{found:?}"),
                )?;
            }
        }
        expect(
            unknown.is_empty(),
            what,
            "none that was not acknowledged",
            format!("{unknown:?}"),
        )?;
        lost |= !missing.is_empty();
    }
    Ok(lost)
}

/// The proof says what the client's list says.
fn verdict(ended: &Ended, expected: &Expected, lost: bool) -> Result<(), Failure> {
    let Some(proof) = &ended.report.proof else {
        return Err(Failure::Unexpected {
            what: "the proof in the report".to_owned(),
            expected: "one".to_owned(),
            found: "none".to_owned(),
        });
    };
    match (&proof.verdict, &expected.unknown_beyond) {
        (ProofVerdict::Proven, None) => expect(
            !lost,
            "acknowledged rows under the verdict `proven`",
            "all there",
            "some lost",
        ),
        (ProofVerdict::ProvenUpTo { position }, Some(place)) => {
            expect_eq(
                "end of what is proven",
                &position.to_string(),
                &place.to_string(),
            )?;
            expect(
                !ended.report.lost.is_empty(),
                "what the report lists as lost or unknown",
                "what the dead host held beyond",
                "nothing",
            )
        }
        (verdict, _) => Err(Failure::Unexpected {
            what: "the verdict of the proof".to_owned(),
            expected: match &expected.unknown_beyond {
                None => "proven".to_owned(),
                Some(place) => format!("proven up to {place}"),
            },
            found: format!("{verdict:?}, {:?}", proof.flaws),
        }),
    }
}

/// A client's new row reaches every replica; returns those that are kept behind on purpose and have it in their relay logs only.
async fn replicates(
    cluster: &Cluster,
    winner: usize,
    following: &[usize],
) -> Result<Vec<usize>, Failure> {
    let primary = cluster.server(winner);
    let mut client =
        Client::connect(&primary.login(APPLICATION.user, APPLICATION.password)).await?;
    client
        .exec(&format!("INSERT INTO {LEDGER} VALUES (1000000, 'after')"))
        .await?;
    let end = replica::binlog_end(primary).await?;
    let mut kept_behind = Vec::new();
    for number in following {
        let server = cluster.server(*number);
        if replica::must_status(server).await?.text("SQL_Delay")? != "0" {
            replica::wait_read(server, &end).await?;
            kept_behind.push(*number);
            continue;
        }
        let what = format!("the new row to reach {}", server.name());
        wait::until(&what, REPLICATES, || async {
            if ledger::rows(server).await?.contains(&1_000_000) {
                return Ok(Look::Done(()));
            }
            let status = replica::must_status(server).await?;
            Ok::<_, SandboxError>(Look::NotYet(format!(
                "I/O {} {}, SQL {} {}",
                status.io_running()?,
                status.text("Last_IO_Error")?,
                status.sql_running()?,
                status.text("Last_SQL_Error")?
            )))
        })
        .await?;
    }
    Ok(kept_behind)
}
