//! What can be asked of `sandbox`, as it is typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};

use crate::big::Kind;
use crate::sandbox::{SandboxError, ServerKind};
use crate::watched::{Before, Loss};

/// Runs real MySQL and MariaDB servers in a sandbox.
#[derive(Debug, Parser)]
#[command(name = "sandbox", version)]
pub(super) struct Arguments {
    #[command(subcommand)]
    pub(super) command: Command,
}

/// The servers of a command that plays on one line of them.
#[derive(Debug, Args)]
pub(super) struct Line {
    /// Server line.
    #[arg(long, default_value = "mysql-5.6", value_parser = parse_kind)]
    pub(super) server: ServerKind,
}

/// Which cases of a suite are played, and how.
#[derive(Debug, Args)]
pub(super) struct Cases {
    /// Only so many, chosen by the seed.
    #[arg(long)]
    pub(super) sample: Option<usize>,
    /// Where all that chance decides comes from; by chance if absent.
    #[arg(long)]
    seed: Option<u64>,
    /// Cases at the same time.
    #[arg(long, default_value_t = 1)]
    pub(super) jobs: usize,
    /// Keep the files of failed ones in this folder.
    #[arg(long, value_name = "DIR")]
    pub(super) keep: Option<PathBuf>,
}

impl Cases {
    /// The given seed, or another one each time.
    pub(super) fn seed(&self) -> u64 {
        self.seed.unwrap_or_else(rand::random)
    }
}

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Kill the primary of three servers whose replicas lag, fail over, and show what happened and how long it took.
    Demo {
        #[command(flatten)]
        line: Line,
    },
    /// Measure kill to first write over several failovers; fails if the median is over the limit.
    Speed {
        #[command(flatten)]
        line: Line,
        /// Number of failovers.
        #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
        runs: u8,
        /// Largest median that passes, in milliseconds; 1500 unless --fault says otherwise.
        #[arg(long)]
        limit_ms: Option<u64>,
        /// Nobody types a command: `mha-manager run` finds out by itself, under load.
        #[arg(long)]
        watched: bool,
        /// What befalls the primary; anything but `killed` needs --watched. The limit is 4000 ms for a lost host and 6000 ms for
        /// a server that hangs, unless given.
        #[arg(long, default_value = "killed")]
        fault: Fault,
        /// Replicas follow by GTID; needs --watched.
        #[arg(long, requires = "watched")]
        gtid: bool,
        /// The replica that is no candidate holds the first part of a transaction; needs --watched. With --gtid the limit is
        /// 700 ms, unless given.
        #[arg(long, requires = "watched")]
        half: bool,
    },
    /// A large load that only the dead primary's disk holds: throughput of its apply beside the servers' own replication of
    /// it, kill to first write, peak memory; fails beyond a limit.
    Tail {
        #[command(flatten)]
        line: Line,
        /// In which way the load is large.
        #[arg(long, default_value = "tiny")]
        kind: Kind,
        /// Number of tiny transactions.
        #[arg(long, default_value_t = 40_000)]
        transactions: u32,
        /// Size of the row (64 unless given) or of the big transaction (1536 unless given) in MiB.
        #[arg(long)]
        mib: Option<u32>,
        /// Number of replicas.
        #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=8))]
        replicas: u8,
        /// Replicas follow by GTID.
        #[arg(long)]
        gtid: bool,
        /// Longest time from the kill to the first write that passes, in milliseconds; none if absent.
        #[arg(long)]
        limit_ms: Option<u64>,
        /// An option of all servers, as in my.cnf.
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_option)]
        options: Vec<(String, String)>,
    },
    /// Replicas in mixed states, equalised at the same time, beside one alone.
    Replicas {
        #[command(flatten)]
        line: Line,
        /// Number of replicas.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(2..=16))]
        number: u8,
        /// Rows of each stretch of the primary's log, one transaction each.
        #[arg(long, default_value_t = 500)]
        rows: u32,
    },
    /// Hosts that lose sight of each other in every way, beside a manager that watches: who takes writes when.
    Partitions {
        #[command(flatten)]
        line: Line,
        /// Where chance comes from; another one each time if not given.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Both cores busy, 200 ms of jitter on all links, parts that stand still for a second: nothing must come of it.
    Jitter {
        #[command(flatten)]
        line: Line,
        /// For how long.
        #[arg(long, default_value_t = 30)]
        minutes: u64,
        /// Where chance comes from; another one each time if not given.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Kill manager and agents at every hook point of a failover; prints a table.
    KillEveryStep {
        #[command(flatten)]
        line: Line,
        /// Replicas follow by GTID.
        #[arg(long)]
        gtid: bool,
        /// Only this case (`manager/17`), or all of a kind (`manager/`, `command/`, `torn/`, `winner/`, `survivor/`, `dead/`).
        #[arg(long, value_name = "CASE")]
        only: Vec<String>,
        #[command(flatten)]
        cases: Cases,
    },
    /// Fail over every server line, by position and by GTID, in every state of its replicas, in row and statement format;
    /// prints tables.
    Matrix {
        /// Only clusters whose primary is of this line; all if none is given.
        #[arg(long, value_parser = parse_kind)]
        server: Vec<ServerKind>,
        /// Clusters of mixed versions, as in an upgrade, instead of plain ones.
        #[arg(long)]
        mixed: bool,
        /// Only these cells: SERVERS/position|gtid/behind|tail|both|host-gone/row|statement, `*` for any, the end may be left out.
        #[arg(long, value_name = "CELL")]
        only: Vec<String>,
        #[command(flatten)]
        cases: Cases,
    },
    /// Let two managers start a failover of one cluster at the same moment, again and again; prints a table.
    TwoManagers {
        #[command(flatten)]
        line: Line,
        /// Number of runs.
        #[arg(long, default_value_t = 50)]
        runs: u32,
    },
    /// Random workloads, replicas cut off inside them, a failover: the survivors must equal a replica that received
    /// everything; prints a table.
    Differential {
        /// Server lines, in turn; all if none is given.
        #[arg(long, value_parser = parse_kind)]
        server: Vec<ServerKind>,
        /// Number of runs.
        #[arg(long, default_value_t = 200)]
        runs: u64,
        /// Number of the first run, from which all that chance decides comes; by chance if absent.
        #[arg(long)]
        seed: Option<u64>,
        /// Runs at the same time.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
    },
    /// What servers do with what the local source sends them, experiment by experiment; prints a table and fails where
    /// something that the product relies on does not hold.
    LocalSource {
        /// Server lines; all if none is given.
        #[arg(long, value_parser = parse_kind)]
        server: Vec<ServerKind>,
        /// Only experiments whose names begin so.
        #[arg(long, value_name = "NAME")]
        only: Vec<String>,
        /// Pairs of servers at the same time.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
    },
    /// The virtual IP in network namespaces of its own: taken, refused, announced, moved by a failover, lost. Needs root.
    Netns {
        /// The neighbour's namespace; only for this program's own call of itself.
        #[arg(long, hide = true)]
        inside: Option<String>,
    },
    /// Fetch servers into the cache, so that later runs need no network.
    Fetch {
        /// Names of servers; all if none is given.
        #[arg(value_parser = parse_kind)]
        servers: Vec<ServerKind>,
    },
    /// Run a cluster until Enter, end of input, Ctrl-C or SIGTERM; prints how to reach it as JSON.
    Up {
        #[command(flatten)]
        line: Line,
        /// Number of replicas.
        #[arg(long, default_value_t = 2)]
        replicas: u8,
        /// Let MariaDB replicas follow by GTID (MASTER_USE_GTID=slave_pos).
        #[arg(long)]
        slave_pos: bool,
        /// An option of all servers, as in my.cnf; an empty value stands for an option without one.
        #[arg(long = "set", value_name = "NAME=VALUE", value_parser = parse_option)]
        options: Vec<(String, String)>,
    },
}

/// What befalls a primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Fault {
    /// SIGKILL of mysqld.
    Killed,
    /// SIGSTOP of mysqld and agent; thawed after the failover.
    Host,
    /// Not a packet passes between its host and all others.
    Cut,
    /// SIGSTOP of mysqld.
    Hung,
    /// The data disk completes no write; the binary log is on another one.
    Disk,
}

impl Fault {
    pub(super) fn loss(self) -> Loss {
        match self {
            Self::Killed => Loss::Killed,
            Self::Host => Loss::HostFrozen,
            Self::Cut => Loss::HostCut,
            Self::Hung => Loss::Hung,
            Self::Disk => Loss::DiskStalled,
        }
    }

    pub(super) fn limit(self, before: Before) -> Duration {
        Duration::from_millis(match self {
            Self::Killed if before.gtid && before.half => 700,
            Self::Killed => 1500,
            Self::Host | Self::Cut => 4000,
            Self::Hung | Self::Disk => 6000,
        })
    }
}

fn parse_kind(given: &str) -> Result<ServerKind, String> {
    given
        .parse()
        .map_err(|error: SandboxError| error.to_string())
}

fn parse_option(given: &str) -> Result<(String, String), String> {
    let (name, value) = given.split_once('=').unwrap_or((given, ""));
    if name.is_empty() {
        Err("wanted NAME=VALUE".to_owned())
    } else {
        Ok((name.to_owned(), value.to_owned()))
    }
}
