//! How the servers of a run are set up: chance chooses among the settings that change what a binary log holds or how it is
//! applied.

use std::fmt;

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

use crate::sandbox::{ClusterSpec, ServerKind};

/// `binlog_format`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Statements, also those that the server calls unsafe.
    Statement,
    /// Statements, rows for those that are unsafe.
    Mixed,
    /// Rows.
    Row,
}

impl Format {
    fn name(self) -> &'static str {
        match self {
            Self::Statement => "STATEMENT",
            Self::Mixed => "MIXED",
            Self::Row => "ROW",
        }
    }
}

/// The servers of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Shape {
    /// Their line.
    pub kind: ServerKind,
    /// `binlog_format`.
    pub format: Format,
    /// By GTID, or by position.
    pub gtid: bool,
    settings: Vec<(&'static str, &'static str)>,
}

/// Keeps a shape from changing when the workload draws more numbers than it did.
const STREAM: u64 = 0x5eed_0001;

impl Shape {
    /// The servers of the run with this number.
    pub fn of(kind: ServerKind, seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed ^ STREAM);
        let format = match rng.random_range(0..3) {
            0 => Format::Statement,
            1 => Format::Mixed,
            _ => Format::Row,
        };
        let gtid = rng.random_bool(0.5);
        let mut settings = Vec::new();
        if rng.random_bool(0.25) {
            settings.push(("binlog-checksum", "NONE"));
        }
        if rng.random_bool(0.5) {
            settings.push(("max-binlog-size", "65536"));
        }
        if rng.random_bool(0.3) {
            settings.push(("binlog-row-image", "MINIMAL"));
        }
        let parallel = rng.random_bool(0.5);
        let in_order = rng.random_bool(0.5);
        let packed = rng.random_bool(0.25);
        if kind.is_mariadb() {
            if parallel {
                settings.push(("slave-parallel-threads", "4"));
            }
            if packed {
                settings.push(("log-bin-compress", "1"));
            }
        } else {
            settings.push(("slave-parallel-workers", if parallel { "4" } else { "0" }));
            if matches!(kind, ServerKind::MySql57 | ServerKind::MySql80) {
                settings.push(("slave-parallel-type", "LOGICAL_CLOCK"));
            }
            if kind != ServerKind::MySql56 {
                let value = if in_order && parallel { "1" } else { "0" };
                settings.push(("slave-preserve-commit-order", value));
            }
            if kind == ServerKind::MySql97 && packed {
                settings.push(("binlog-transaction-compression", "1"));
            }
            if matches!(kind, ServerKind::MySql80 | ServerKind::MySql97) && rng.random_bool(0.5) {
                settings.push(("binlog-row-value-options", "PARTIAL_JSON"));
            }
        }
        Self {
            kind,
            format,
            gtid,
            settings,
        }
    }

    /// A primary, two replicas that a manager knows, and one that it does not.
    pub fn cluster(&self) -> ClusterSpec {
        let mut spec = ClusterSpec::new(self.kind)
            .replicas(3)
            .database("app")
            .set("binlog-format", self.format.name())
            .set("log-bin-trust-function-creators", 1)
            // LOAD DATA may read and write wherever it likes.
            .set("secure-file-priv", "\"\"")
            .set("innodb-lock-wait-timeout", 5);
        for (name, value) in &self.settings {
            spec = spec.set(name, value);
        }
        if self.gtid { spec.by_gtid() } else { spec }
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = if self.gtid { "GTID" } else { "position" };
        write!(f, "{}, {way}, {}", self.kind, self.format.name())?;
        for (name, value) in &self.settings {
            write!(f, ", {name}={value}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_always_means_the_same_servers_and_numbers_mean_all_of_them() {
        let shapes: Vec<Shape> = (0..100)
            .map(|seed| Shape::of(ServerKind::MySql80, seed))
            .collect();
        for (seed, shape) in (0..).zip(&shapes) {
            assert_eq!(Shape::of(ServerKind::MySql80, seed), *shape);
        }
        for format in [Format::Statement, Format::Mixed, Format::Row] {
            for gtid in [false, true] {
                let found = shapes
                    .iter()
                    .any(|shape| shape.format == format && shape.gtid == gtid);
                assert!(found, "{format:?}, GTID {gtid}");
            }
        }
    }
}
