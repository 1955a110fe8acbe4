//! Everything a refused command must not change: replication status, settings, logs and the agents' state, as text
//! lines that are compared before and after.
//!
//! Left out is what moves by itself: times, counters, the error text of a receiver that retries, and the log of a server
//! that writes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

use super::cluster::Cluster;
use super::deployment::Deployment;
use super::error::SandboxError;
use super::replica;
use super::server::Server;

/// Facts by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Snapshot {
    facts: BTreeMap<String, String>,
}

/// Columns of SHOW SLAVE STATUS that move without anybody's doing.
const MOVING_STATUS: [&str; 9] = [
    "Seconds_Behind_Master",
    "Slave_IO_State",
    "Slave_SQL_Running_State",
    "Last_IO_Error",
    "Last_IO_Errno",
    "Last_IO_Error_Timestamp",
    "Last_Errno",
    "Last_Error",
    "Slave_Non_Transactional_Groups",
];

/// Columns that move while the source writes.
const MOVING_POSITIONS: [&str; 9] = [
    "Master_Log_File",
    "Read_Master_Log_Pos",
    "Relay_Log_File",
    "Relay_Log_Pos",
    "Relay_Master_Log_File",
    "Exec_Master_Log_Pos",
    "Relay_Log_Space",
    "Gtid_IO_Pos",
    "Slave_Transactional_Groups",
];

/// Global variables that are clocks or follow the log.
const MOVING_VARIABLES: [&str; 8] = [
    "timestamp",
    "gtid_binlog_pos",
    "gtid_binlog_state",
    "gtid_current_pos",
    "gtid_slave_pos",
    "gtid_executed",
    "innodb_buffer_pool_load_incremental",
    "rand_seed1",
];

/// Whether writes go on while snapshots are taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Traffic {
    /// Nobody writes: positions and logs are compared too.
    None,
    /// Clients write: positions and the contents of logs move.
    Writing,
}

impl Snapshot {
    /// Of all servers that run, and of all agents' state folders.
    pub async fn take(
        cluster: &Cluster,
        deployment: &Deployment,
        traffic: Traffic,
    ) -> Result<Self, SandboxError> {
        let mut snapshot = Self::default();
        for server in cluster.servers() {
            snapshot.note(
                &format!("{} runs", server.name()),
                server.is_running().to_string(),
            );
            if server.is_running() {
                snapshot.server(server, traffic).await?;
            }
            snapshot.files(server, traffic)?;
        }
        for agent in deployment.agents() {
            snapshot.folder(
                agent.state_dir(),
                &format!("state of agent {}", agent.name()),
                &|path| {
                    // What the agent keeps for itself while nothing happens: a copy of what it last saw, and relay logs.
                    !path.ends_with("remembered.json")
                        && !path.display().to_string().contains("kept")
                },
            )?;
        }
        Ok(snapshot)
    }

    fn note(&mut self, name: &str, value: String) {
        self.facts.insert(name.to_owned(), value);
    }

    async fn server(&mut self, server: &Server, traffic: Traffic) -> Result<(), SandboxError> {
        let name = server.name();
        if let Some(status) = replica::status(server).await? {
            for (column, value) in status.row().fields() {
                let moving = MOVING_STATUS.contains(&column)
                    || (traffic == Traffic::Writing && MOVING_POSITIONS.contains(&column));
                if !moving {
                    self.note(
                        &format!("{name} status {column}"),
                        value.unwrap_or("NULL").to_owned(),
                    );
                }
            }
        }
        for row in server.rows("SHOW GLOBAL VARIABLES").await? {
            if let (Some(variable), Some(value)) = (row.at(0), row.at(1))
                && (traffic == Traffic::None || !MOVING_VARIABLES.contains(&variable))
                && variable != "timestamp"
            {
                self.note(&format!("{name} variable {variable}"), value.to_owned());
            }
        }
        if traffic == Traffic::None {
            self.note(
                &format!("{name} binlog end"),
                replica::binlog_end(server).await?.to_string(),
            );
        }
        Ok(())
    }

    /// Configuration, and names (without traffic: contents) of binary logs and relay logs with their indexes.
    fn files(&mut self, server: &Server, traffic: Traffic) -> Result<(), SandboxError> {
        let name = server.name();
        self.note(
            &format!("{name} configuration"),
            digest(&server.config_file())?,
        );
        for base in [server.binlog_base(), server.relay_base()] {
            let folder = base.parent().unwrap_or(Path::new("/"));
            let prefix = base
                .file_name()
                .map(|name| name.to_string_lossy().into_owned())
                .unwrap_or_default();
            for path in list(folder)? {
                let file = path
                    .file_name()
                    .map(|name| name.to_string_lossy().into_owned())
                    .unwrap_or_default();
                if file.starts_with(&format!("{prefix}.")) {
                    let value = if traffic == Traffic::None {
                        digest(&path)?
                    } else {
                        "there".to_owned()
                    };
                    self.note(&format!("{name} file {file}"), value);
                }
            }
        }
        for file in ["master.info", "relay-log.info"] {
            let path = server.datadir().join(file);
            if traffic == Traffic::None && path.exists() {
                self.note(&format!("{name} file {file}"), digest(&path)?);
            }
        }
        Ok(())
    }

    fn folder(
        &mut self,
        folder: &Path,
        label: &str,
        wanted: &dyn Fn(&Path) -> bool,
    ) -> Result<(), SandboxError> {
        if !folder.exists() {
            return Ok(());
        }
        for path in list(folder)? {
            let label = format!(
                "{label}/{}",
                path.file_name().unwrap_or_default().to_string_lossy()
            );
            if path.is_dir() {
                self.folder(&path, &label, wanted)?;
            } else if wanted(&path) {
                self.note(&label, digest(&path)?);
            }
        }
        Ok(())
    }

    /// One line per fact that differs; empty if nothing changed.
    pub fn changes(&self, later: &Self) -> Vec<String> {
        let names: std::collections::BTreeSet<&String> =
            self.facts.keys().chain(later.facts.keys()).collect();
        names
            .into_iter()
            .filter(|name| self.facts.get(*name) != later.facts.get(*name))
            .map(|name| {
                let show = |facts: &BTreeMap<String, String>| {
                    facts
                        .get(name)
                        .map_or_else(|| "absent".to_owned(), |value| format!("`{value}`"))
                };
                format!(
                    "{name}: {} before, {} after",
                    show(&self.facts),
                    show(&later.facts)
                )
            })
            .collect()
    }
}

fn list(folder: &Path) -> Result<Vec<PathBuf>, SandboxError> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(SandboxError::io("list", folder))? {
        paths.push(entry.map_err(SandboxError::io("list", folder))?.path());
    }
    Ok(paths)
}

fn digest(path: &Path) -> Result<String, SandboxError> {
    let bytes = fs::read(path).map_err(SandboxError::io("read", path))?;
    Ok(format!(
        "{} bytes, sha256 {}",
        bytes.len(),
        hex::encode(Sha256::digest(&bytes))
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_and_a_new_fact_are_changes() {
        let (mut before, mut after) = (Snapshot::default(), Snapshot::default());
        before.note("db1 variable read_only", "OFF".to_owned());
        after.note("db1 variable read_only", "ON".to_owned());
        after.note("db1 file relay-bin.000003", "there".to_owned());
        assert_eq!(
            before.changes(&after),
            [
                "db1 file relay-bin.000003: absent before, `there` after",
                "db1 variable read_only: `OFF` before, `ON` after",
            ]
        );
        assert!(before.changes(&before).is_empty());
    }
}
