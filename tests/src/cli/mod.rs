//! The command line of `sandbox`: from what was typed to what is run. Output for programs goes to standard output, progress to
//! standard error.

mod arguments;
mod servers;
mod signals;
mod suites;

use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;

use arguments::{Arguments, Command};
use servers::{fetch_all, up};
use suites::{
    against_replication, experiments, kill_every_step, many_replicas, measure, network,
    play_matrix, show_demo, tail, two_managers,
};

use crate::big::{self, Kind, Load};
use crate::differential;
use crate::jitter;
use crate::kills;
use crate::local_source;
use crate::matrix;
use crate::partition;
use crate::sandbox::error::chain;
use crate::sandbox::{ClusterSpec, Replication, SandboxError, ServerKind};
use crate::watched::Before;

/// Parses the arguments and runs the command.
pub async fn run() -> ExitCode {
    let result = match Arguments::parse().command {
        Command::Demo { line } => show_demo(line.server).await,
        Command::Speed {
            line,
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
            measure(line.server, usize::from(runs), limit, loss).await
        }
        Command::Tail {
            line,
            kind,
            transactions,
            mib,
            replicas,
            gtid,
            limit_ms,
            options,
        } => {
            let plan = big::tail::Plan {
                server: line.server,
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
        Command::Replicas { line, number, rows } => {
            let plan = big::replicas::Plan {
                server: line.server,
                number,
                rows,
            };
            many_replicas(&plan).await
        }
        Command::Partitions { line, seed } => {
            let seed = seed.unwrap_or_else(rand::random);
            match print(&format!("seed {seed}")) {
                Ok(()) => partition::run_all(line.server, seed, print).await,
                Err(error) => Err(error),
            }
        }
        Command::Jitter {
            line,
            minutes,
            seed,
        } => {
            let time = Duration::from_secs(minutes * 60);
            jitter::run(line.server, time, seed.unwrap_or_else(rand::random), print).await
        }
        Command::KillEveryStep {
            line,
            gtid,
            only,
            cases,
        } => {
            let plan = kills::Plan {
                servers: kills::Servers {
                    kind: line.server,
                    gtid,
                },
                only,
                sample: cases.sample,
                seed: cases.seed(),
                jobs: cases.jobs,
                keep: cases.keep,
            };
            kill_every_step(&plan).await
        }
        Command::Matrix {
            server,
            mixed,
            only,
            cases,
        } => {
            let plan = matrix::Plan {
                servers: server,
                mixed,
                only,
                sample: cases.sample,
                seed: cases.seed(),
                jobs: cases.jobs,
                keep: cases.keep,
            };
            play_matrix(&plan).await
        }
        Command::TwoManagers { line, runs } => two_managers(line.server, runs).await,
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
        Command::LocalSource { server, only, jobs } => {
            let kinds = if server.is_empty() {
                ServerKind::ALL.to_vec()
            } else {
                server
            };
            experiments(&local_source::Plan { kinds, only, jobs }).await
        }
        Command::Netns { inside } => network(inside).await,
        Command::Fetch { servers } => fetch_all(servers).await,
        Command::Up {
            line,
            replicas,
            slave_pos,
            options,
        } => {
            let mut spec = ClusterSpec::new(line.server).replicas(replicas);
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
