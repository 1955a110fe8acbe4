//! The command line of `sandbox`. Output for programs goes to standard output, progress to standard error.

use std::io::{self, Read, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, Subcommand, ValueEnum};
use tokio::signal::unix::{SignalKind, signal};

use crate::big::{self, Kind, Load};
use crate::demo;
use crate::differential;
use crate::jitter;
use crate::kills;
use crate::matrix;
use crate::netns;
use crate::partition;
use crate::rivals;
use crate::sandbox::accounts::{AGENT, APPLICATION, Account, MONITOR, REPLICATION};
use crate::sandbox::error::chain;
use crate::sandbox::replica;
use crate::sandbox::{
    Cluster, ClusterSpec, Replication, SandboxError, ServerKind, fetch, template,
};
use crate::speed;
use crate::watched::{Before, Loss};

/// Runs real MySQL and MariaDB servers in a sandbox.
#[derive(Debug, Parser)]
#[command(name = "sandbox", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Kill the primary of three servers whose replicas lag, fail over, and show what happened and how long it took.
    Demo {
        /// Server line: mysql-5.6 or mariadb-10.11.
        #[arg(long, default_value = "mysql-5.6", value_parser = parse_kind)]
        server: ServerKind,
    },
    /// Measure kill to first write over several failovers; fails if the median is over the limit.
    Speed {
        /// Server line: mysql-5.6 or mariadb-10.11.
        #[arg(long, default_value = "mysql-5.6", value_parser = parse_kind)]
        server: ServerKind,
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
        /// Server line.
        #[arg(long, default_value = "mysql-5.6", value_parser = parse_kind)]
        server: ServerKind,
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
        /// Server line.
        #[arg(long, default_value = "mysql-5.6", value_parser = parse_kind)]
        server: ServerKind,
        /// Number of replicas.
        #[arg(long, default_value_t = 8, value_parser = clap::value_parser!(u8).range(2..=16))]
        number: u8,
        /// Rows of each stretch of the primary's log, one transaction each.
        #[arg(long, default_value_t = 500)]
        rows: u32,
    },
    /// Hosts that lose sight of each other in every way, beside a manager that watches: who takes writes when.
    Partitions {
        /// Server line: mysql-5.6 or mariadb-10.11.
        #[arg(long, default_value = "mysql-5.6", value_parser = parse_kind)]
        server: ServerKind,
        /// Where chance comes from; another one each time if not given.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Both cores busy, 200 ms of jitter on all links, parts that stand still for a second: nothing must come of it.
    Jitter {
        /// Server line: mysql-5.6 or mariadb-10.11.
        #[arg(long, default_value = "mysql-5.6", value_parser = parse_kind)]
        server: ServerKind,
        /// For how long.
        #[arg(long, default_value_t = 30)]
        minutes: u64,
        /// Where chance comes from; another one each time if not given.
        #[arg(long)]
        seed: Option<u64>,
    },
    /// Kill manager and agents at every hook point of a failover; prints a table.
    KillEveryStep {
        /// Server line: mysql-5.6 or mariadb-10.11.
        #[arg(long, default_value = "mysql-5.6", value_parser = parse_kind)]
        server: ServerKind,
        /// Only this case (`manager/17`), or all of a kind (`manager/`, `command/`, `torn/`, `winner/`, `survivor/`, `dead/`).
        #[arg(long, value_name = "CASE")]
        only: Vec<String>,
        /// Only so many cases, chosen by the seed.
        #[arg(long)]
        sample: Option<usize>,
        /// Chooses the sample and where records are torn; by chance if absent.
        #[arg(long)]
        seed: Option<u64>,
        /// Cases at the same time.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
        /// Keep the files of failed cases in this folder.
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
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
        /// Only so many cells, chosen by the seed.
        #[arg(long)]
        sample: Option<usize>,
        /// Chooses the sample; by chance if absent.
        #[arg(long)]
        seed: Option<u64>,
        /// Cells at the same time.
        #[arg(long, default_value_t = 1)]
        jobs: usize,
        /// Keep logs and the program's files of failed cells in this folder.
        #[arg(long, value_name = "DIR")]
        keep: Option<PathBuf>,
    },
    /// Let two managers start a failover of one cluster at the same moment, again and again; prints a table.
    TwoManagers {
        /// Server line: mysql-5.6 or mariadb-10.11.
        #[arg(long, default_value = "mysql-5.6", value_parser = parse_kind)]
        server: ServerKind,
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
        /// Server line: mysql-5.6, mysql-9.7 or mariadb-10.11.
        #[arg(long, default_value = "mysql-5.6", value_parser = parse_kind)]
        server: ServerKind,
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
enum Fault {
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
    fn loss(self) -> Loss {
        match self {
            Self::Killed => Loss::Killed,
            Self::Host => Loss::HostFrozen,
            Self::Cut => Loss::HostCut,
            Self::Hung => Loss::Hung,
            Self::Disk => Loss::DiskStalled,
        }
    }

    fn limit(self, before: Before) -> Duration {
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

/// Parses the arguments and runs the command.
pub async fn run() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo { server } => show_demo(server).await,
        Command::Speed {
            server,
            runs,
            limit_ms,
            watched,
            fault,
            gtid,
            half,
        } => {
            let before = Before { gtid, half };
            let limit = limit_ms.map_or(fault.limit(before), Duration::from_millis);
            let loss = watched.then_some((fault.loss(), before));
            measure(server, usize::from(runs), limit, loss).await
        }
        Command::Tail {
            server,
            kind,
            transactions,
            mib,
            replicas,
            gtid,
            limit_ms,
            options,
        } => {
            let plan = big::tail::Plan {
                server,
                replicas,
                gtid,
                load: Load {
                    kind,
                    transactions,
                    mib: mib.unwrap_or(if kind == Kind::Row { 64 } else { 1536 }),
                },
                limit: limit_ms.map(Duration::from_millis),
                options,
            };
            tail(&plan).await
        }
        Command::Replicas {
            server,
            number,
            rows,
        } => {
            let plan = big::replicas::Plan {
                server,
                number,
                rows,
            };
            many_replicas(&plan).await
        }
        Command::Partitions { server, seed } => {
            let seed = seed.unwrap_or_else(rand::random);
            match print(&format!("seed {seed}")) {
                Ok(()) => partition::run_all(server, seed, print).await,
                Err(error) => Err(error),
            }
        }
        Command::Jitter {
            server,
            minutes,
            seed,
        } => {
            let time = Duration::from_secs(minutes * 60);
            jitter::run(server, time, seed.unwrap_or_else(rand::random), print).await
        }
        Command::KillEveryStep {
            server,
            only,
            sample,
            seed,
            jobs,
            keep,
        } => {
            let plan = kills::Plan {
                kind: server,
                only,
                sample,
                seed: seed.unwrap_or_else(rand::random),
                jobs,
                keep,
            };
            kill_every_step(&plan).await
        }
        Command::Matrix {
            server,
            mixed,
            only,
            sample,
            seed,
            jobs,
            keep,
        } => {
            let plan = matrix::Plan {
                servers: server,
                mixed,
                only,
                sample,
                seed: seed.unwrap_or_else(rand::random),
                jobs,
                keep,
            };
            play_matrix(&plan).await
        }
        Command::TwoManagers { server, runs } => two_managers(server, runs).await,
        Command::Differential {
            server,
            runs,
            seed,
            jobs,
        } => {
            let plan = differential::Plan {
                kinds: if server.is_empty() {
                    ServerKind::ALL.to_vec()
                } else {
                    server
                },
                seed: seed.unwrap_or_else(|| rand::random_range(0..1_000_000)),
                runs,
                jobs,
            };
            against_replication(&plan).await
        }
        Command::Netns { inside } => network(inside).await,
        Command::Fetch { servers } => fetch_all(servers).await,
        Command::Up {
            server,
            replicas,
            slave_pos,
            options,
        } => {
            let mut spec = ClusterSpec::new(server).replicas(replicas);
            if slave_pos {
                spec = spec.replication(Replication::SlavePos);
            }
            for (name, value) in options {
                spec = spec.set(&name, value);
            }
            up(spec).await
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sandbox: {}", chain(&error));
            ExitCode::FAILURE
        }
    }
}

async fn show_demo(server: ServerKind) -> Result<(), SandboxError> {
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

async fn measure(
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

async fn tail(plan: &big::tail::Plan) -> Result<(), SandboxError> {
    let mut interrupted = stop_signals()?;
    let kept = tokio::select! {
        kept = big::tail::run(plan, print) => kept?,
        () = interrupted.wait() => return Err(interrupted_suite("sandbox tail")),
    };
    passed("sandbox tail", kept)
}

async fn many_replicas(plan: &big::replicas::Plan) -> Result<(), SandboxError> {
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

async fn kill_every_step(plan: &kills::Plan) -> Result<(), SandboxError> {
    let mut interrupted = stop_signals()?;
    let outcome = tokio::select! {
        outcome = kills::run(plan, print) => outcome?,
        () = interrupted.wait() => return Err(interrupted_suite("sandbox kill-every-step")),
    };
    if outcome.failed == 0 {
        return Ok(());
    }
    Err(SandboxError::Tool {
        command: "sandbox kill-every-step".to_owned(),
        status: format!("{} of {} cases failed", outcome.failed, outcome.played),
        output: "see the table".to_owned(),
    })
}

async fn play_matrix(plan: &matrix::Plan) -> Result<(), SandboxError> {
    let mut interrupted = stop_signals()?;
    let outcome = tokio::select! {
        outcome = matrix::run(plan, print) => outcome?,
        () = interrupted.wait() => return Err(interrupted_suite("sandbox matrix")),
    };
    if outcome.failed == 0 {
        return Ok(());
    }
    Err(SandboxError::Tool {
        command: "sandbox matrix".to_owned(),
        status: format!("{} of {} cells failed", outcome.failed, outcome.played),
        output: "see the table".to_owned(),
    })
}

async fn two_managers(server: ServerKind, runs: u32) -> Result<(), SandboxError> {
    let mut interrupted = stop_signals()?;
    let failed = tokio::select! {
        failed = rivals::run(server, runs, print) => failed?,
        () = interrupted.wait() => return Err(interrupted_suite("sandbox two-managers")),
    };
    if failed == 0 {
        return Ok(());
    }
    Err(SandboxError::Tool {
        command: "sandbox two-managers".to_owned(),
        status: format!("{failed} of {runs} runs failed"),
        output: "see the table".to_owned(),
    })
}

async fn against_replication(plan: &differential::Plan) -> Result<(), SandboxError> {
    let mut interrupted = stop_signals()?;
    let failed = tokio::select! {
        failed = differential::run(plan, print) => failed?,
        () = interrupted.wait() => return Err(interrupted_suite("sandbox differential")),
    };
    if failed == 0 {
        return Ok(());
    }
    Err(SandboxError::Tool {
        command: "sandbox differential".to_owned(),
        status: format!("{failed} of {} runs failed", plan.runs),
        output: "see the table".to_owned(),
    })
}

async fn network(inside: Option<String>) -> Result<(), SandboxError> {
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

async fn fetch_all(servers: Vec<ServerKind>) -> Result<(), SandboxError> {
    let kinds = if servers.is_empty() {
        for absent in fetch::Absent::ALL {
            print(&format!("ATTENTION: {}", absent.error()))?;
        }
        ServerKind::ALL.to_vec()
    } else {
        servers
    };
    for kind in kinds {
        let distribution = tokio::task::spawn_blocking(move || {
            let distribution = fetch::ensure(kind)?;
            template::ensure(&distribution)?;
            Ok::<_, SandboxError>(distribution)
        })
        .await
        .map_err(|error| SandboxError::Io {
            action: "fetch",
            path: kind.name().into(),
            source: io::Error::other(error),
        })??;
        print(&format!(
            "{kind}: {} at {}",
            distribution.provenance.version,
            distribution.mysqld.display()
        ))?;
    }
    Ok(())
}

async fn up(spec: ClusterSpec) -> Result<(), SandboxError> {
    let mut interrupted = stop_signals()?;
    let cluster = tokio::select! {
        cluster = Cluster::start(spec) => cluster?,
        () = interrupted.wait() => return Ok(()),
    };
    print(&describe(&cluster).await?)?;
    eprintln!("sandbox: running; Enter, end of input or Ctrl-C stops it");
    let (sender, entered) = tokio::sync::oneshot::channel();
    // A thread of its own: tokio's standard input would keep the runtime from ending.
    std::thread::spawn(move || {
        // A byte, the end, or an input that cannot be read: all mean stop.
        let _ = io::stdin().read(&mut [0_u8; 1]);
        let _ = sender.send(());
    });
    tokio::select! {
        _ = entered => {}
        () = interrupted.wait() => {}
    }
    futures::future::try_join_all(cluster.servers().iter().map(|server| server.stop())).await?;
    Ok(())
}

/// SIGINT and SIGTERM.
struct StopSignals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl StopSignals {
    async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

fn stop_signals() -> Result<StopSignals, SandboxError> {
    let listen = |kind| {
        signal(kind).map_err(|source| SandboxError::Io {
            action: "listen for",
            path: "signals".into(),
            source,
        })
    };
    Ok(StopSignals {
        interrupt: listen(SignalKind::interrupt())?,
        terminate: listen(SignalKind::terminate())?,
    })
}

async fn describe(cluster: &Cluster) -> Result<String, SandboxError> {
    let mut servers = Vec::new();
    for server in cluster.servers() {
        let end = replica::binlog_end(server).await?;
        servers.push(serde_json::json!({
            "name": server.name(),
            "host": server.address().to_string(),
            "port": server.port(),
            "server_id": server.server_id(),
            "socket": server.socket(),
            "datadir": server.datadir(),
            "config": server.config_file(),
            "error_log": server.error_log(),
            "binlog": server.binlog_base(),
            "relay_log": server.relay_base(),
            "pid": server.pid(),
            "binlog_file": end.file,
            "binlog_position": end.offset,
        }));
    }
    let account = |account: Account| serde_json::json!({ "user": account.user, "password": account.password });
    let all = serde_json::json!({
        "server": cluster.kind().name(),
        "folder": cluster.dir(),
        "servers": servers,
        "accounts": {
            "root": { "user": "root", "password": "", "through": "socket" },
            "agent": account(AGENT),
            "monitor": account(MONITOR),
            "replication": account(REPLICATION),
            "application": account(APPLICATION),
        },
    });
    Ok(format!("{all:#}"))
}

fn print(text: &str) -> Result<(), SandboxError> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|source| SandboxError::Io {
            action: "write",
            path: "standard output".into(),
            source,
        })
}
