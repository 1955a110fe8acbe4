//! When a client can write again: sessions on all survivors that try until one of them takes a row.

use std::time::{Duration, Instant};

use tokio::task::JoinSet;

use super::accounts::APPLICATION;
use super::client::Client;
use super::error::SandboxError;
use super::server::Server;

/// The table that the tries go to; `prepare` makes it.
pub const TABLE: &str = "app.first_write";

/// Pause between two tries at one server.
const PAUSE: Duration = Duration::from_millis(1);

/// The first row that was taken.
#[derive(Debug, Clone)]
pub struct FirstWrite {
    /// Name of the server that took it.
    pub server: String,
    /// When its OK came.
    pub at: Instant,
}

/// Sessions that try.
#[derive(Debug)]
pub struct Watch {
    tasks: JoinSet<Result<FirstWrite, SandboxError>>,
}

/// Makes the table on the primary, to be replicated.
pub async fn prepare(primary: &Server) -> Result<(), SandboxError> {
    primary
        .exec_all(&[
            "CREATE DATABASE IF NOT EXISTS app",
            &format!("CREATE TABLE {TABLE} (id INT PRIMARY KEY) ENGINE=InnoDB"),
        ])
        .await
}

impl Watch {
    /// Opens a session on each server and starts trying. Every one must be read-only now.
    pub async fn start(servers: &[&Server]) -> Result<Self, SandboxError> {
        Self::start_every(servers, PAUSE).await
    }

    /// The same with another pause between two tries.
    pub async fn start_every(servers: &[&Server], pause: Duration) -> Result<Self, SandboxError> {
        let mut tasks = JoinSet::new();
        for server in servers {
            let client =
                Client::connect(&server.login(APPLICATION.user, APPLICATION.password)).await?;
            tasks.spawn(try_until_taken(client, pause));
        }
        Ok(Self { tasks })
    }

    /// Waits for the first row that was taken.
    pub async fn wait(mut self, limit: Duration) -> Result<FirstWrite, SandboxError> {
        let nobody = |seen: String| SandboxError::Wait {
            what: "a survivor to take a write".to_owned(),
            waited: limit,
            seen,
        };
        // All others are aborted when `self` is dropped.
        match tokio::time::timeout(limit, self.tasks.join_next()).await {
            Ok(Some(Ok(result))) => result,
            Ok(Some(Err(error))) => Err(nobody(error.to_string())),
            Ok(None) => Err(nobody("no server to try".to_owned())),
            Err(_) => Err(nobody("all are read-only".to_owned())),
        }
    }
}

async fn try_until_taken(mut client: Client, pause: Duration) -> Result<FirstWrite, SandboxError> {
    loop {
        match client
            .exec(&format!("INSERT INTO {TABLE} VALUES (1)"))
            .await
        {
            Ok(()) => {
                return Ok(FirstWrite {
                    server: client.server().to_owned(),
                    at: Instant::now(),
                });
            }
            // ER_OPTION_PREVENTS_STATEMENT: read-only, as it should be until it is promoted.
            Err(SandboxError::Sql {
                source: mysql_async::Error::Server(error),
                ..
            }) if error.code == 1290 => {}
            Err(other) => return Err(other),
        }
        tokio::time::sleep(pause).await;
    }
}
