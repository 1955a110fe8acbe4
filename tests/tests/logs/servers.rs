//! The situations on each server line, by position and by GTID.

use std::path::Path;
use std::time::Instant;

use tests::sandbox::binaries;
use tests::sandbox::{Replication, SandboxError, ServerKind};

use super::check::{Tally, every_event_end};
use super::purged::purged;
use super::set::LogSet;
use super::situations;
use super::stage::Stage;

/// The lines of this file.
pub(crate) const PLAYED: [ServerKind; 3] = [
    ServerKind::MySql56,
    ServerKind::MySql97,
    ServerKind::MariaDb1011,
];

#[tokio::test]
async fn mysql_56_by_position() -> Result<(), SandboxError> {
    play(ServerKind::MySql56, Replication::Position).await
}

#[tokio::test]
async fn mysql_56_by_gtid() -> Result<(), SandboxError> {
    play(ServerKind::MySql56, Replication::AutoPosition).await
}

#[tokio::test]
async fn mysql_97_by_position() -> Result<(), SandboxError> {
    play(ServerKind::MySql97, Replication::Position).await
}

#[tokio::test]
async fn mysql_97_by_gtid() -> Result<(), SandboxError> {
    play(ServerKind::MySql97, Replication::AutoPosition).await
}

#[tokio::test]
async fn mariadb_1011_by_position() -> Result<(), SandboxError> {
    play(ServerKind::MariaDb1011, Replication::Position).await
}

#[tokio::test]
async fn mariadb_1011_by_gtid() -> Result<(), SandboxError> {
    play(ServerKind::MariaDb1011, Replication::SlavePos).await
}

/// Plays all situations on one pair of servers and checks each set; fails with what was wrong in any.
async fn play(kind: ServerKind, replication: Replication) -> Result<(), SandboxError> {
    let stage = Stage::start(kind, replication).await?;
    let mut checks = Checks {
        stage: &stage,
        agent: &binaries::ensure().await?.agent,
        wrong: Vec::new(),
    };
    let idle = checks.check(&situations::idle(&stage).await?);
    checks.demand("idle", idle.served == 0, idle);
    let [empty, row] = situations::idle_rotations(&stage).await?;
    checks.check(&empty);
    checks.check(&row);
    checks.check(&situations::left_behind(&stage).await?);
    checks.check(&situations::one_log(&stage).await?);
    checks.check(&situations::checksums(&stage).await?);
    let half = checks.check(&situations::half(&stage).await?);
    checks.demand("half", half.served > 0 && half.not_held > 0, half);
    checks.check(&situations::interrupted(&stage).await?);
    checks.check(&situations::large(&stage).await?);
    // MySQL 9.7 refuses to ignore ids where GTIDs are on.
    if (kind, replication) != (ServerKind::MySql97, Replication::AutoPosition) {
        let ignored = checks.check(&situations::ignored_ids(&stage).await?);
        checks.demand("ignored", ignored.holes > 0 && ignored.served > 0, ignored);
    }
    if kind.is_mariadb() {
        let set = situations::compressed_events(&stage).await?;
        let compressed = checks.check(&set);
        let refused = compressed.holes > 0 && compressed.served > 0;
        checks.demand(&set.name, refused, compressed);
    }
    let set = situations::rotations(&stage).await?;
    checks.check(&set);
    let mut left = Tally::default();
    for set in purged(&set, stage.scratch()) {
        let one = checks.check(&set);
        left.holes += one.holes;
        left.not_held += one.not_held;
    }
    checks.demand("removed", left.holes > 0 && left.not_held > 0, left);
    let by_server = checks.check(&situations::purged_by_the_server(&stage).await?);
    let refused = by_server.served > 0 && by_server.not_held > 0;
    checks.demand("purged", refused, by_server);
    checks.check(&situations::restarts(&stage).await?);
    assert!(checks.wrong.is_empty(), "{}", checks.wrong.join("\n\n"));
    Ok(())
}

struct Checks<'a> {
    stage: &'a Stage,
    agent: &'a Path,
    wrong: Vec<String>,
}

impl Checks<'_> {
    fn check(&mut self, set: &LogSet) -> Tally {
        let started = Instant::now();
        match every_event_end(set, self.agent, self.stage.scratch()) {
            Ok(tally) => {
                let seconds = started.elapsed().as_secs_f64();
                eprintln!("{}: {tally:?} in {seconds:.1} s", set.name);
                tally
            }
            Err(wrong) => {
                eprintln!("{wrong}");
                self.wrong.push(wrong);
                Tally::default()
            }
        }
    }

    /// What a situation is for has come about: it would prove nothing else.
    fn demand(&mut self, what: &str, holds: bool, tally: Tally) {
        if !holds {
            self.wrong.push(format!("{what}: {tally:?}"));
        }
    }
}
