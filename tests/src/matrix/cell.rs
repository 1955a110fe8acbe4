//! The axes of the matrix, and the names of its cells: `mysql-5.7/gtid/host-gone/statement`.
//!
//! Where the versions of a cluster differ, the newest replica is the preferred candidate, so that each such cell also asks
//! whether an election passes it over: nobody older could replicate from it.

use std::fmt;

use crate::sandbox::deployment::DeploymentSpec;
use crate::sandbox::{ClusterSpec, ServerKind};
use crate::scenario::{Act, Lag, Plan};

/// The servers of a cluster: the primary and two replicas, none of them older than it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    /// In the order of their numbers.
    pub servers: [ServerKind; 3],
}

impl Line {
    /// As in an upgrade: replicas first, one by one or all, the primary last. `mysql-8.4` cannot be had.
    pub const MIXED: [Self; 7] = {
        use ServerKind::{MariaDb105, MariaDb118, MariaDb1011, MySql56, MySql57, MySql80, MySql97};
        [
            Self::of(MySql56, MySql57, MySql57),
            Self::of(MySql56, MySql57, MySql56),
            Self::of(MySql57, MySql80, MySql80),
            Self::of(MySql57, MySql80, MySql57),
            Self::of(MySql80, MySql97, MySql97),
            Self::of(MySql80, MySql97, MySql80),
            Self::of(MariaDb105, MariaDb1011, MariaDb118),
        ]
    };

    const fn of(primary: ServerKind, one: ServerKind, other: ServerKind) -> Self {
        Self {
            servers: [primary, one, other],
        }
    }

    /// All lines, three servers of each.
    pub fn plain() -> Vec<Self> {
        ServerKind::ALL
            .into_iter()
            .map(|kind| Self::of(kind, kind, kind))
            .collect()
    }

    fn is_mixed(self) -> bool {
        let [primary, one, other] = self.servers;
        primary != one || primary != other
    }

    /// Number of the preferred candidate: the first of the newest replicas.
    pub fn preferred(self) -> usize {
        let [_, one, other] = self.servers;
        if other > one { 2 } else { 1 }
    }

    /// Number of the replica that must win: the preferred one, unless the other one is older and could not follow it.
    pub fn winner(self) -> usize {
        let [_, one, other] = self.servers;
        if other < one { 2 } else { 1 }
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [primary, replicas @ ..] = self.servers;
        f.write_str(primary.name())?;
        if self.is_mixed() {
            for kind in replicas {
                let name = kind.name();
                write!(f, "+{}", name.rsplit('-').next().unwrap_or(name))?;
            }
        }
        Ok(())
    }
}

/// How the replicas follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mode {
    /// By file and offset.
    Position,
    /// By GTID, in the way of the family.
    Gtid,
}

/// Where the rows are that the survivors lack when the primary dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Situation {
    /// The other replica has everything, the one that is to win lacks half of it.
    Behind,
    /// Both replicas lack the same, which is only on the dead disk.
    Tail,
    /// The other replica has some of what the winner lacks, the rest is only on the dead disk.
    Both,
    /// The same, and the host is gone with its disk.
    HostGone,
}

/// What the binary logs hold of a change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Format {
    /// Rows.
    Row,
    /// The statement, and what it depends on.
    Statement,
}

impl Mode {
    const ALL: [Self; 2] = [Self::Position, Self::Gtid];

    fn name(self) -> &'static str {
        match self {
            Self::Position => "position",
            Self::Gtid => "gtid",
        }
    }
}

impl Situation {
    const ALL: [Self; 4] = [Self::Behind, Self::Tail, Self::Both, Self::HostGone];

    fn name(self) -> &'static str {
        match self {
            Self::Behind => "behind",
            Self::Tail => "tail",
            Self::Both => "both",
            Self::HostGone => "host-gone",
        }
    }

    /// Batches of the plan that the winner and the other replica have.
    fn received(self) -> (usize, usize) {
        match self {
            Self::Behind => (2, BATCHES),
            Self::Tail => (2, 2),
            Self::Both => (1, 3),
            Self::HostGone => (1, REACHABLE),
        }
    }
}

impl Format {
    const ALL: [Self; 2] = [Self::Row, Self::Statement];

    fn name(self) -> &'static str {
        match self {
            Self::Row => "row",
            Self::Statement => "statement",
        }
    }

    /// The value of `binlog_format`.
    pub fn value(self) -> &'static str {
        match self {
            Self::Row => "ROW",
            Self::Statement => "STATEMENT",
        }
    }
}

/// Batches of each cell's plan.
const BATCHES: usize = 4;
/// Batches that somebody still has when the host is gone.
const REACHABLE: usize = 3;

/// One cell.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Cell {
    /// Servers.
    pub line: Line,
    /// How they follow.
    pub mode: Mode,
    /// What they lack.
    pub situation: Situation,
    /// What the logs hold.
    pub format: Format,
}

impl fmt::Display for Cell {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (mode, situation, format) = (self.mode, self.situation, self.format);
        write!(
            f,
            "{}/{}/{}/{}",
            self.line,
            mode.name(),
            situation.name(),
            format.name()
        )
    }
}

impl Cell {
    /// All cells of these lines, in order.
    pub fn all(lines: &[Line]) -> Vec<Self> {
        let mut cells = Vec::new();
        for line in lines.iter().copied() {
            for mode in Mode::ALL {
                for situation in Situation::ALL {
                    cells.extend(Format::ALL.map(|format| Self {
                        line,
                        mode,
                        situation,
                        format,
                    }));
                }
            }
        }
        cells
    }

    /// Whether a pattern names it: the parts of a name, `*` for any; missing ones at the end are any, too.
    pub fn is_named_by(&self, pattern: &str) -> bool {
        let name = self.to_string();
        let mut parts = name.split('/');
        pattern.trim_end_matches('/').split('/').all(|wanted| {
            parts
                .next()
                .is_some_and(|part| wanted == "*" || wanted == part)
        })
    }

    /// The cluster of this cell.
    pub fn cluster(&self) -> ClusterSpec {
        let [primary, one, other] = self.line.servers;
        let mut spec = ClusterSpec::new(primary)
            .line(1, one)
            .line(2, other)
            .set("binlog-format", self.format.value());
        if self.line.is_mixed() && primary < ServerKind::MySql80 {
            // What the older server had stays in `my.cnf` through an upgrade; the newer one's default is another.
            spec = spec.set("character-set-server", "utf8");
        }
        match self.mode {
            // The default of 9.7 is ON, and no replica follows a source whose mode is another.
            Mode::Position if self.line.is_mixed() && !primary.is_mariadb() => {
                spec.set("gtid-mode", "OFF")
            }
            Mode::Position => spec,
            Mode::Gtid => spec.by_gtid(),
        }
    }

    /// The manager's configuration.
    pub fn deployment(&self) -> DeploymentSpec {
        DeploymentSpec::default().candidate(self.line.preferred(), "preferred")
    }

    /// What happens before the kill.
    pub fn plan(&self) -> Plan {
        let (winner, other) = self.situation.received();
        let (winner, other) = (Lag::behind(winner), Lag::behind(other));
        let lags = if self.line.winner() == 1 {
            vec![winner, other]
        } else {
            vec![other, winner]
        };
        Plan {
            batches: batches(),
            lags,
        }
    }

    /// If the host is gone: the batches that the survivors still have, and the number of the client's rows in them.
    pub fn reachable(&self) -> Option<(usize, u64)> {
        let rows = batches()
            .iter()
            .take(REACHABLE)
            .flatten()
            .map(|act| match act {
                Act::Rows(rows) | Act::Together(rows) => u64::from(*rows),
                _ => 0,
            })
            .sum();
        (self.situation == Situation::HostGone).then_some((REACHABLE, rows))
    }
}

/// Single rows and a transaction of several, and statements that give the same on a replica only if what they depend on goes
/// with them: the clock and its zone, chance, a variable, the next number of a key, the last one. The primary goes on to
/// another file in the middle, and the last batch changes the schema.
fn batches() -> Vec<Vec<Act>> {
    let insert = Act::Sql(
        "INSERT INTO app.cells (who, at, chance, last) VALUES (@who, NOW(6), RAND(), LAST_INSERT_ID())",
    );
    let change = Act::Sql("UPDATE app.cells SET chance = chance + RAND(), last = last + @step");
    let common = [insert, Act::Rows(2), change, Act::Together(3)];
    let before: [&[Act]; BATCHES] = [
        &[
            Act::Sql(
                "CREATE TABLE app.cells (id INT AUTO_INCREMENT PRIMARY KEY, who VARCHAR(40), at DATETIME(6), \
                 chance DOUBLE, last BIGINT) ENGINE=InnoDB",
            ),
            Act::Sql("SET @who='somebody', @step=7, time_zone='+05:30'"),
        ],
        &[],
        &[Act::RotatePrimary],
        &[
            Act::Sql("CREATE TABLE app.later (id INT PRIMARY KEY) ENGINE=InnoDB"),
            Act::Sql("INSERT INTO app.later VALUES (1), (2)"),
        ],
    ];
    before
        .iter()
        .map(|before| before.iter().chain(&common).cloned().collect())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_combination_has_a_name_of_its_own() {
        let cells = Cell::all(&Line::plain());
        let names: BTreeSet<String> = cells.iter().map(ToString::to_string).collect();
        assert_eq!((cells.len(), names.len()), (112, 112));
        assert!(names.contains("mariadb-10.11/gtid/host-gone/statement"));
        let mixed: BTreeSet<String> = Line::MIXED.iter().map(ToString::to_string).collect();
        assert_eq!(mixed.len(), Line::MIXED.len());
        assert!(mixed.contains("mariadb-10.5+10.11+11.8"), "{mixed:?}");
    }

    #[test]
    fn patterns_name_cells_by_their_parts() {
        let cells = Cell::all(&Line::plain());
        let named = |pattern: &str| cells.iter().filter(|c| c.is_named_by(pattern)).count();
        for (pattern, wanted) in [
            ("mysql-5.6/position/tail/row", 1),
            ("mysql-5.6", 16),
            ("mysql-5.6/", 16),
            ("*/gtid/both", 14),
            ("*/*/host-gone/row", 14),
            ("mysql-5", 0),
            ("mysql-5.6/position/tail/row/more", 0),
        ] {
            assert_eq!(named(pattern), wanted, "{pattern}");
        }
    }

    #[test]
    fn the_oldest_replica_wins_and_the_newest_is_preferred() {
        for line in Line::MIXED {
            let [primary, one, other] = line.servers;
            let oldest = one.min(other);
            assert!(primary <= oldest, "{line}");
            assert_eq!(line.servers[line.winner()], oldest, "{line}");
            assert_eq!(line.servers[line.preferred()], one.max(other), "{line}");
            if one == other {
                assert_eq!((line.winner(), line.preferred()), (1, 1), "{line}");
            }
        }
    }

    #[test]
    fn only_a_lost_host_loses_rows() {
        for cell in Cell::all(&Line::plain()) {
            let plan = cell.plan();
            assert_eq!(plan.batches.len(), BATCHES);
            let most = plan.lags.iter().map(|lag| lag.received).max();
            let wanted = (cell.situation == Situation::HostGone).then_some((3, 15));
            assert_eq!(cell.reachable(), wanted, "{cell}");
            if let Some((batches, _)) = wanted {
                assert_eq!(most, Some(batches), "{cell}");
            }
        }
    }
}
