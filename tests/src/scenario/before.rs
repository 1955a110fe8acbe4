//! What servers were set to before the kill, to be compared afterwards: a failover may change roles, nothing else.

use std::collections::BTreeMap;

use crate::sandbox::replica::{self, LogPlace};
use crate::sandbox::{Cluster, SandboxError, Server, ServerKind};

use super::failure::{Failure, expect, expect_eq};

/// Columns of SHOW SLAVE STATUS that hold settings of the channel which outlive a change of the source.
const CHANNEL: &[&str] = &[
    "Master_User",
    "Connect_Retry",
    "Replicate_Do_DB",
    "Replicate_Ignore_DB",
    "Replicate_Do_Table",
    "Replicate_Ignore_Table",
    "Replicate_Wild_Do_Table",
    "Replicate_Wild_Ignore_Table",
    "Until_Condition",
    "Master_SSL_Allowed",
    "Master_SSL_CA_File",
    "Master_SSL_Cert",
    "Master_SSL_Key",
    "Master_SSL_Verify_Server_Cert",
    "Replicate_Ignore_Server_Ids",
    "Master_Retry_Count",
    "Auto_Position",
    "SQL_Delay",
    "Using_Gtid",
    "Parallel_Mode",
    "Get_master_public_key",
    "Master_public_key_path",
    "Master_TLS_Version",
    "Network_Namespace",
];

/// Global variables that tell state, not settings. That commits wait for replicas is a part of being the primary.
const STATE: &[&str] = &[
    "gtid_",
    "read_only",
    "innodb_",
    "last_",
    "slave_run_",
    "rpl_semi_sync_master_enabled",
    "rpl_semi_sync_source_enabled",
];

/// Settings that look like state.
const SETTINGS: &[&str] = &["innodb_flush_log_at_trx_commit"];

/// Settings of all replicas.
#[derive(Debug)]
pub struct Before {
    servers: BTreeMap<String, Settings>,
}

#[derive(Debug)]
struct Settings {
    variables: BTreeMap<String, String>,
    channel: BTreeMap<String, String>,
    source: String,
    connection: String,
    executed: LogPlace,
    read: LogPlace,
}

impl Before {
    /// Reads them.
    pub async fn read(cluster: &Cluster) -> Result<Self, SandboxError> {
        Self::of_replicas(cluster.replicas()).await
    }

    /// The same of these replicas alone.
    pub async fn of_replicas(
        replicas: impl Iterator<Item = &Server>,
    ) -> Result<Self, SandboxError> {
        let mut servers = BTreeMap::new();
        for server in replicas {
            let status = replica::must_status(server).await?;
            servers.insert(
                server.name().to_owned(),
                Settings {
                    variables: variables(server).await?,
                    channel: channel(server).await?,
                    source: status.source()?,
                    connection: connection(server).await?,
                    executed: status.executed()?,
                    read: status.read()?,
                },
            );
        }
        Ok(Self { servers })
    }

    fn of(&self, server: &Server) -> Result<&Settings, Failure> {
        self.servers
            .get(server.name())
            .ok_or_else(|| Failure::Unexpected {
                what: "settings before the kill".to_owned(),
                expected: server.name().to_owned(),
                found: "none".to_owned(),
            })
    }

    /// All global variables have the values they had.
    pub async fn settings_are_as_they_were(&self, server: &Server) -> Result<(), Failure> {
        let (was, is) = (&self.of(server)?.variables, variables(server).await?);
        let changed: Vec<String> = was
            .iter()
            .filter(|(name, value)| is.get(*name) != Some(*value))
            .map(|(name, value)| format!("{name} was {value}, is {:?}", is.get(name)))
            .collect();
        let what = format!("global variables of {}", server.name());
        expect(changed.is_empty(), what, "as before", changed.join("; "))
    }

    /// The channel has the settings it had, but for where it leads.
    pub async fn channel_is_as_it_was(&self, server: &Server) -> Result<(), Failure> {
        let name = server.name();
        let was = self.of(server)?;
        expect_eq(
            format!("channel settings of {name}"),
            &channel(server).await?,
            &was.channel,
        )?;
        expect_eq(
            format!("heartbeat period and compression of {name}"),
            &connection(server).await?,
            &was.connection,
        )
    }

    /// A replica that was left alone follows nobody else and stands where it stood.
    pub async fn position_is_as_it_was(&self, server: &Server) -> Result<(), Failure> {
        let was = self.of(server)?;
        let status = replica::must_status(server).await?;
        let name = server.name();
        expect_eq(format!("source of {name}"), &status.source()?, &was.source)?;
        expect_eq(
            format!("executed by {name}"),
            &status.executed()?,
            &was.executed,
        )?;
        expect_eq(format!("received by {name}"), &status.read()?, &was.read)
    }
}

async fn variables(server: &Server) -> Result<BTreeMap<String, String>, SandboxError> {
    Ok(server
        .rows("SHOW GLOBAL VARIABLES")
        .await?
        .iter()
        .filter_map(|row| Some((row.at(0)?.to_owned(), row.at(1)?.to_owned())))
        .filter(|(name, _)| {
            SETTINGS.contains(&name.as_str())
                || !STATE.iter().any(|prefix| name.starts_with(prefix))
        })
        .collect())
}

async fn channel(server: &Server) -> Result<BTreeMap<String, String>, SandboxError> {
    let status = replica::must_status(server).await?;
    Ok(status
        .row()
        .fields()
        .filter(|(name, _)| CHANNEL.contains(name))
        .map(|(name, value)| (name.to_owned(), value.unwrap_or("NULL").to_owned()))
        .collect())
}

/// Settings that the status of a replica does not show: the heartbeat period, and how the connection is compressed.
async fn connection(server: &Server) -> Result<String, SandboxError> {
    let (statement, column) = match server.kind() {
        ServerKind::MySql57 | ServerKind::MySql80 => (
            "SELECT HEARTBEAT_INTERVAL FROM performance_schema.replication_connection_configuration",
            0,
        ),
        ServerKind::MySql97 => (
            "SELECT CONCAT_WS(' ', HEARTBEAT_INTERVAL, COMPRESSION_ALGORITHM, ZSTD_COMPRESSION_LEVEL) \
             FROM performance_schema.replication_connection_configuration",
            0,
        ),
        _ => ("SHOW GLOBAL STATUS LIKE 'Slave_heartbeat_period'", 1),
    };
    let row = server.row(statement).await?;
    let period = row.as_ref().and_then(|row| row.at(column));
    match period {
        Some(period) if !period.is_empty() => Ok(period.to_owned()),
        _ => Err(SandboxError::Answer {
            server: server.name().to_owned(),
            statement: statement.to_owned(),
            wanted: "heartbeat period".to_owned(),
        }),
    }
}
