//! Clients that try to write to every server all the time, to find out who takes writes.
//!
//! A row names the server that took it, so two servers that take writes are seen afterwards in the list of what was
//! acknowledged, in the servers' own tables, and in their checksums.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::sandbox::accounts::APPLICATION;
use crate::sandbox::client::Login;
use crate::sandbox::{Client, SandboxError, Server};

/// The table they write to.
pub const TABLE: &str = "app.writers";

/// Pause between two tries at one server.
const PAUSE: Duration = Duration::from_millis(10);

/// Rows that each server has acknowledged, by its name.
pub type Taken = BTreeMap<String, Vec<u64>>;

/// Running clients.
#[derive(Debug)]
pub struct Writers {
    tasks: JoinSet<(String, Vec<u64>)>,
    stop: watch::Sender<bool>,
    taken: watch::Receiver<usize>,
}

/// Makes the table on the primary, to be replicated.
pub async fn prepare(primary: &Server) -> Result<(), SandboxError> {
    primary
        .exec_all(&[
            "CREATE DATABASE IF NOT EXISTS app",
            &format!(
                "CREATE TABLE {TABLE} (server VARCHAR(16), n BIGINT UNSIGNED, PRIMARY KEY (server, n)) ENGINE=InnoDB"
            ),
        ])
        .await
}

impl Writers {
    /// One client without SUPER per server.
    pub fn start(servers: &[&Server]) -> Self {
        let (stop, stopped) = watch::channel(false);
        let (count, taken) = watch::channel(0);
        let mut tasks = JoinSet::new();
        for server in servers {
            let login = server.login(APPLICATION.user, APPLICATION.password);
            tasks.spawn(write(login, stopped.clone(), count.clone()));
        }
        Self { tasks, stop, taken }
    }

    /// Waits until somebody has taken a row.
    pub async fn first(&mut self, limit: Duration) -> Result<(), SandboxError> {
        let waited = tokio::time::timeout(limit, self.taken.wait_for(|rows| *rows > 0)).await;
        match waited {
            Ok(Ok(_)) => Ok(()),
            _ => Err(SandboxError::Wait {
                what: "a server to take a row".to_owned(),
                waited: limit,
                seen: "none did".to_owned(),
            }),
        }
    }

    /// Stops them.
    pub async fn finish(mut self) -> Taken {
        self.stop.send_replace(true);
        let mut taken = Taken::new();
        while let Some(rows) = self.tasks.join_next().await {
            // A panic of a client is a defect of the suite.
            taken.extend([rows.expect("a client does not panic")]);
        }
        taken
    }
}

async fn write(
    login: Login,
    stopped: watch::Receiver<bool>,
    count: watch::Sender<usize>,
) -> (String, Vec<u64>) {
    let (mut acknowledged, mut number) = (Vec::new(), 0);
    let mut session = None;
    while !*stopped.borrow() {
        let client = match &mut session {
            Some(client) => client,
            None => match Client::connect(&login).await {
                Ok(client) => session.insert(client),
                Err(_) => {
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            },
        };
        number += 1;
        let row = format!("INSERT INTO {TABLE} VALUES ('{}', {number})", login.server);
        match client.exec(&row).await {
            Ok(()) => {
                acknowledged.push(number);
                count.send_modify(|rows| *rows += 1);
            }
            // The server refused it, read-only as a rule.
            Err(SandboxError::Sql {
                source: mysql_async::Error::Server(_),
                ..
            }) => {}
            Err(_) => session = None,
        }
        tokio::time::sleep(PAUSE).await;
    }
    (login.server, acknowledged)
}

/// The rows on a server that this one took: its numbers.
pub async fn rows_of(server: &Server, taker: &str) -> Result<Vec<u64>, SandboxError> {
    let sql = format!("SELECT n FROM {TABLE} WHERE server='{taker}'");
    let rows = server.rows(&sql).await?;
    Ok(rows
        .iter()
        .filter_map(|row| row.at(0)?.parse().ok())
        .collect())
}
