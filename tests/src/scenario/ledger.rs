//! One client of the primary that keeps a list of the rows whose commit it saw acknowledged.
//!
//! Its rows are numbered without gaps, so a lost, doubled or half-applied transaction shows as a number.

use std::collections::BTreeSet;

use crate::sandbox::accounts::APPLICATION;
use crate::sandbox::{Client, Login, SandboxError, Server};

/// The table it writes to. Its primary key makes a row that comes twice an error of the applier.
pub const LEDGER: &str = "app.ledger";

/// The client. It has one session, so temporary tables and session settings stay.
#[derive(Debug)]
pub struct Ledger {
    client: Client,
    next: u64,
    acknowledged: BTreeSet<u64>,
}

impl Ledger {
    /// Makes the table on `primary`, to be replicated, and opens the session.
    pub async fn open(primary: &Server) -> Result<Self, SandboxError> {
        primary
            .exec(&format!(
                "CREATE TABLE {LEDGER} (id BIGINT PRIMARY KEY, body VARCHAR(200)) ENGINE=InnoDB"
            ))
            .await?;
        Ok(Self {
            client: session(primary).await?,
            next: 1,
            acknowledged: BTreeSet::new(),
        })
    }

    /// Opens a new session, after a restart of the primary.
    pub async fn reconnect(&mut self, primary: &Server) -> Result<(), SandboxError> {
        self.client = session(primary).await?;
        Ok(())
    }

    /// The number that the next row will have.
    pub fn next(&self) -> u64 {
        self.next
    }

    /// Writes rows, one transaction each.
    pub async fn write(&mut self, rows: u32) -> Result<(), SandboxError> {
        for _ in 0..rows {
            let id = self.next;
            self.client
                .exec(&format!(
                    "INSERT INTO {LEDGER} VALUES ({id}, 'row {id}, von außen')"
                ))
                .await?;
            self.note(id);
        }
        Ok(())
    }

    /// Writes rows in one transaction, each by a statement of its own.
    pub async fn write_together(&mut self, rows: u32) -> Result<(), SandboxError> {
        self.write_together_with(rows, None).await
    }

    /// The same, with another statement after the third row.
    pub async fn write_together_with(
        &mut self,
        rows: u32,
        other: Option<&str>,
    ) -> Result<(), SandboxError> {
        self.client.exec("BEGIN").await?;
        let first = self.next;
        let end = first + u64::from(rows);
        for id in first..end {
            if let (Some(other), true) = (other, id == first + 3) {
                self.client.exec(other).await?;
            }
            let body = "b".repeat(150);
            self.client
                .exec(&format!("INSERT INTO {LEDGER} VALUES ({id}, '{body}')"))
                .await?;
        }
        self.client.exec("COMMIT").await?;
        for id in first..end {
            self.note(id);
        }
        Ok(())
    }

    fn note(&mut self, id: u64) {
        self.acknowledged.insert(id);
        self.next = id + 1;
    }

    /// Runs another statement in the same session.
    pub async fn exec(&mut self, statement: &str) -> Result<(), SandboxError> {
        self.client.exec(statement).await
    }

    /// The rows whose commit was acknowledged.
    pub fn acknowledged(&self) -> &BTreeSet<u64> {
        &self.acknowledged
    }
}

async fn session(primary: &Server) -> Result<Client, SandboxError> {
    Client::connect(&Login {
        database: Some("app".to_owned()),
        ..primary.login(APPLICATION.user, APPLICATION.password)
    })
    .await
}

/// The rows that `server` has.
pub async fn rows(server: &Server) -> Result<BTreeSet<u64>, SandboxError> {
    let rows = server.rows(&format!("SELECT id FROM {LEDGER}")).await?;
    Ok(rows
        .iter()
        .filter_map(|row| row.at(0)?.parse().ok())
        .collect())
}
