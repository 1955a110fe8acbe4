//! Lag as a value: the primary's stream in batches, and how many of them each replica received and applied.
//!
//! Receivers run as in production; the gate in front of the primary's host holds back what a replica is not to get.
//! After the last batch the state of every replica is compared with the plan.

use crate::sandbox::replica::{self, LogPlace};
use crate::sandbox::{Client, Cluster, SandboxError};

use super::failure::{Failure, expect, expect_eq};
use super::ledger::{LEDGER, Ledger};

/// One thing that happens on the primary's side.
#[derive(Debug, Clone)]
pub enum Act {
    /// The client writes so many rows, one transaction each.
    Rows(u32),
    /// The client writes so many rows in one transaction.
    Together(u32),
    /// The client runs a statement.
    Sql(&'static str),
    /// An administrator runs a statement on the primary.
    Admin(&'static str),
    /// The primary begins a new file.
    RotatePrimary,
    /// Every replica that is not held back begins a new relay log.
    RotateRelayLogs,
}

/// What the applier of a replica does at the kill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Applier {
    /// It runs and has nothing left to do.
    Running,
    /// It was stopped without an error.
    Stopped,
    /// It stopped with an error: a row was there already.
    Failed,
    /// It runs and waits for a lock that somebody holds.
    Blocked,
    /// It runs and is kept an hour behind on purpose (`MASTER_DELAY`).
    Delayed,
}

/// What one replica has at the kill, in batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Lag {
    /// Batches received.
    pub received: usize,
    /// Batches applied.
    pub applied: usize,
    /// Why not more were applied than that.
    pub applier: Applier,
}

impl Lag {
    /// Received and applied so many batches.
    pub fn behind(batches: usize) -> Self {
        Self {
            received: batches,
            applied: batches,
            applier: Applier::Running,
        }
    }

    /// Received so many batches and applied fewer, for this reason.
    pub fn applied(received: usize, applied: usize, applier: Applier) -> Self {
        Self {
            received,
            applied,
            applier,
        }
    }
}

/// What happens before the kill.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The primary's stream.
    pub batches: Vec<Vec<Act>>,
    /// The lag of the replicas, in their order.
    pub lags: Vec<Lag>,
}

impl Plan {
    /// Four batches of three rows. With these lags of the first replicas; further ones have everything.
    pub fn rows(lags: &[Lag]) -> Self {
        Self {
            batches: vec![vec![Act::Rows(3)]; 4],
            lags: lags.to_vec(),
        }
    }

    fn lag(&self, replica: usize) -> Lag {
        self.lags
            .get(replica - 1)
            .copied()
            .unwrap_or(Lag::behind(self.batches.len()))
    }
}

/// A plan that was played: the primary is still alive, the replicas are where the plan has them.
#[derive(Debug)]
pub struct Played {
    /// Where the primary stood before the first batch and after each.
    pub places: Vec<LogPlace>,
    /// Sessions whose locks hold appliers up, with the number of the replica.
    locks: Vec<(usize, Client)>,
}

impl Played {
    /// Where the primary stands.
    pub fn end(&self) -> Result<&LogPlace, Failure> {
        self.place(self.places.len().saturating_sub(1))
    }

    /// Where the primary stood after so many batches.
    pub fn place(&self, batches: usize) -> Result<&LogPlace, Failure> {
        self.places.get(batches).ok_or_else(|| Failure::Unexpected {
            what: "a place of the plan".to_owned(),
            expected: format!("at most {}", self.places.len()),
            found: batches.to_string(),
        })
    }

    /// Lets go of each lock once the receiver of its replica is stopped: the appliers were behind when the failover
    /// began, and are not when it waits for them.
    pub async fn release_when_frozen(self, cluster: &Cluster) -> Result<(), Failure> {
        for (number, session) in self.locks {
            replica::wait_until(cluster.server(number), "the receiver to stop", |status| {
                Ok(status.io_running()? == "No")
            })
            .await?;
            session.close().await?;
        }
        Ok(())
    }
}

/// Plays the plan and checks that every replica is where the plan has it.
pub async fn play(cluster: &Cluster, ledger: &mut Ledger, plan: &Plan) -> Result<Played, Failure> {
    let mut played = Played {
        places: vec![replica::binlog_end(cluster.primary()).await?],
        locks: Vec::new(),
    };
    cluster.wait_caught_up().await?;
    let replicas = 1..cluster.servers().len();
    for number in replicas.clone() {
        settle(cluster, ledger, plan, &mut played, number).await?;
    }
    for batch in &plan.batches {
        let done = played.places.len() - 1;
        for act in batch {
            perform(cluster, ledger, act, |number| {
                plan.lag(number).received > done
            })
            .await?;
        }
        played
            .places
            .push(replica::binlog_end(cluster.primary()).await?);
        for number in replicas.clone() {
            settle(cluster, ledger, plan, &mut played, number).await?;
        }
    }
    check(cluster, plan, &played).await?;
    Ok(played)
}

async fn perform(
    cluster: &Cluster,
    ledger: &mut Ledger,
    act: &Act,
    receives: impl Fn(usize) -> bool,
) -> Result<(), SandboxError> {
    match act {
        Act::Rows(rows) => ledger.write(*rows).await,
        Act::Together(rows) => ledger.write_together(*rows).await,
        Act::Sql(statement) => ledger.exec(statement).await,
        Act::Admin(statement) => cluster.primary().exec(statement).await,
        Act::RotatePrimary => replica::rotate(cluster.primary()).await,
        Act::RotateRelayLogs => {
            let end = replica::binlog_end(cluster.primary()).await?;
            for number in (1..cluster.servers().len()).filter(|number| receives(*number)) {
                replica::wait_read(cluster.server(number), &end).await?;
                cluster.server(number).exec("FLUSH RELAY LOGS").await?;
            }
            Ok(())
        }
    }
}

/// Brings a replica to its state after the last batch so far, if the plan has one for it here.
async fn settle(
    cluster: &Cluster,
    ledger: &Ledger,
    plan: &Plan,
    played: &mut Played,
    number: usize,
) -> Result<(), Failure> {
    let done = played.places.len() - 1;
    let place = played.end()?.clone();
    let (lag, server) = (plan.lag(number), cluster.server(number));
    if lag.received == done && done < plan.batches.len() {
        cluster.hold(number, &place);
        replica::wait_read(server, &place).await?;
    }
    if lag.applied == done && lag.applier != Applier::Running {
        replica::wait_until(server, &format!("executed up to {place}"), |status| {
            Ok(status.executed()? == place)
        })
        .await?;
        match lag.applier {
            Applier::Running => {}
            Applier::Stopped => {
                let stop = server.kind().statement("STOP SLAVE SQL_THREAD");
                server.exec(&stop).await?;
            }
            Applier::Failed => {
                let row = format!(
                    "INSERT INTO {LEDGER} VALUES ({}, 'in the way')",
                    ledger.next()
                );
                server.exec_all(&["SET sql_log_bin=0", &row]).await?;
            }
            Applier::Delayed => {
                let words = |statement| server.kind().statement(statement);
                server
                    .exec_all(&[
                        &words("STOP SLAVE"),
                        &words("CHANGE MASTER TO MASTER_DELAY=3600"),
                        &words("START SLAVE"),
                    ])
                    .await?;
            }
            Applier::Blocked => {
                let mut session = server.admin().await?;
                session.exec(&format!("LOCK TABLES {LEDGER} READ")).await?;
                played.locks.push((number, session));
            }
        }
    }
    Ok(())
}

/// Every replica is where the plan has it.
async fn check(cluster: &Cluster, plan: &Plan, played: &Played) -> Result<(), Failure> {
    for number in 1..cluster.servers().len() {
        let (lag, server) = (plan.lag(number), cluster.server(number));
        let read = played.place(lag.received)?;
        let status = replica::wait_until(server, &format!("be as planned: {lag:?}"), |status| {
            let applier = match lag.applier {
                Applier::Running | Applier::Blocked | Applier::Delayed => status.sql_running()?,
                Applier::Stopped => !status.sql_running()?,
                Applier::Failed => status.sql_error()?.0 != 0 && !status.sql_running()?,
            };
            let caught_up =
                lag.applier != Applier::Running || status.executed()? == status.read()?;
            let receives = status.io_running()? == "Yes";
            Ok(status.read()? == *read && receives && applier && caught_up)
        })
        .await?;
        let name = server.name();
        expect_eq(
            format!("{name} executed"),
            &status.executed()?,
            played.place(lag.applied)?,
        )?;
        let wanted = if lag.applier == Applier::Failed {
            1062
        } else {
            0
        };
        let (error, text) = status.sql_error()?;
        expect(
            error == wanted,
            format!("error of {name}'s applier"),
            wanted,
            text,
        )?;
    }
    Ok(())
}
