//! Clients that write rows and remember each one that the server acknowledged.
//!
//! Bounded in rows and in time. A row is in the list only after the server's OK, so every listed row must survive a
//! failover whose dead disk could be read.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::client::{Client, Login};
use super::error::SandboxError;
use super::server::Server;
use super::wait::{self, Look};

/// How long clients may take to write what is waited for.
const LIMIT: Duration = Duration::from_secs(60);

/// What to write.
#[derive(Debug, Clone)]
pub struct LoadSpec {
    /// Number of sessions.
    pub sessions: u32,
    /// Number of the first session; it begins the numbers of its rows, so that several loads do not meet.
    pub first_session: u32,
    /// Rows per session at most.
    pub rows: u32,
    /// Time at most.
    pub time: Duration,
}

impl Default for LoadSpec {
    fn default() -> Self {
        Self {
            sessions: 2,
            first_session: 0,
            rows: 100_000,
            time: Duration::from_secs(60),
        }
    }
}

/// Running clients; they stop at their bounds, at the first error, or when told.
#[derive(Debug)]
pub struct Load {
    tasks: JoinSet<Outcome>,
    stop: watch::Sender<bool>,
    acknowledged: Arc<AtomicUsize>,
}

/// What one session did.
#[derive(Debug)]
struct Outcome {
    acknowledged: Vec<u64>,
    /// The row whose statement had no OK: it may or may not be there.
    in_doubt: Option<u64>,
}

/// What all sessions did.
#[derive(Debug, Default)]
pub struct Written {
    /// Rows that the server said are committed.
    pub acknowledged: BTreeSet<u64>,
    /// Rows whose commit had no answer.
    pub in_doubt: BTreeSet<u64>,
}

/// The table that clients write to.
pub const TABLE: &str = "app.load_rows";

/// Makes the table on `server`, to be replicated.
pub async fn prepare(server: &Server) -> Result<(), SandboxError> {
    server
        .exec_all(&[
            "CREATE DATABASE IF NOT EXISTS app",
            &format!("CREATE TABLE {TABLE} (id BIGINT UNSIGNED PRIMARY KEY, body VARCHAR(64)) ENGINE=InnoDB"),
        ])
        .await
}

impl Load {
    /// Starts the clients.
    pub fn start(login: &Login, spec: &LoadSpec) -> Self {
        let (stop, stopped) = watch::channel(false);
        let acknowledged = Arc::default();
        let mut tasks = JoinSet::new();
        for session in spec.first_session..spec.first_session + spec.sessions {
            let (spec, stopped) = (spec.clone(), stopped.clone());
            let count = Arc::clone(&acknowledged);
            tasks.spawn(write(login.clone(), session, spec, stopped, count));
        }
        Self {
            tasks,
            stop,
            acknowledged,
        }
    }

    /// Waits until so many rows were acknowledged.
    pub async fn wait_for(&self, rows: usize) -> Result<(), SandboxError> {
        let what = format!("clients to write {rows} rows");
        wait::until(&what, LIMIT, || async {
            Ok(match self.acknowledged.load(Ordering::Relaxed) {
                found if found >= rows => Look::Done(()),
                found => Look::NotYet(found.to_string()),
            })
        })
        .await
    }

    /// Waits until the clients have written all their rows, and collects what they wrote.
    pub async fn finish_all(mut self) -> Written {
        self.collect().await
    }

    /// Tells the clients to stop after their present row, and collects what they wrote.
    pub async fn finish(mut self) -> Written {
        self.stop.send_replace(true);
        self.collect().await
    }

    async fn collect(&mut self) -> Written {
        let mut written = Written::default();
        while let Some(outcome) = self.tasks.join_next().await {
            // A panic of a client is a defect of the test.
            let outcome = outcome.expect("a load client does not panic");
            written.acknowledged.extend(outcome.acknowledged);
            written.in_doubt.extend(outcome.in_doubt);
        }
        written
    }
}

impl Written {
    /// Together with what others wrote.
    pub fn add(&mut self, other: Self) {
        self.acknowledged.extend(other.acknowledged);
        self.in_doubt.extend(other.in_doubt);
    }
}

async fn write(
    login: Login,
    session: u32,
    spec: LoadSpec,
    stopped: watch::Receiver<bool>,
    count: Arc<AtomicUsize>,
) -> Outcome {
    let mut outcome = Outcome {
        acknowledged: Vec::new(),
        in_doubt: None,
    };
    let started = Instant::now();
    let Ok(mut client) = Client::connect(&login).await else {
        return outcome;
    };
    for number in 0..spec.rows {
        if *stopped.borrow() || started.elapsed() > spec.time {
            break;
        }
        let id = u64::from(session) << 32 | u64::from(number);
        match client
            .exec(&format!(
                "INSERT INTO {TABLE} VALUES ({id}, 'row {number} of session {session}')"
            ))
            .await
        {
            Ok(()) => {
                outcome.acknowledged.push(id);
                count.fetch_add(1, Ordering::Relaxed);
            }
            // The server refused it, so it is not there.
            Err(SandboxError::Sql {
                source: mysql_async::Error::Server(_),
                ..
            }) => break,
            Err(_) => {
                outcome.in_doubt = Some(id);
                break;
            }
        }
    }
    outcome
}

/// The rows of the table on `server`.
pub async fn rows(server: &Server) -> Result<BTreeSet<u64>, SandboxError> {
    let rows = server.rows(&format!("SELECT id FROM {TABLE}")).await?;
    Ok(rows
        .iter()
        .filter_map(|row| row.at(0)?.parse().ok())
        .collect())
}
