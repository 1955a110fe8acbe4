//! Everything election and plan need to know about one server, read in one go.
//!
//! Reads only, but for one thing: what a living server says about its files and itself is remembered. A server that
//! does not answer is no error here: the observation then says so, with the remembered identity and the process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use binlog_core::BinlogPosition;
use serde::{Deserialize, Serialize};

use super::account::{self, Account};
use super::dialect::Dialect;
use super::paths::Remembered;
use super::semi_sync::{self, SemiSync};
use super::status::{self, Receiver, ReplicaStatus, filter_text};
use super::variables::Variables;
use super::{Endpoint, ServerVersion, Session, SqlError, process};

/// Identity of a server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identity {
    /// Flavor and version.
    pub version: ServerVersion,
    /// `@@server_id`.
    pub server_id: u32,
    /// `@@server_uuid`; empty for MariaDB.
    pub server_uuid: String,
    /// `@@hostname`.
    pub hostname: String,
    /// `@@port`.
    pub port: u16,
    /// `@@datadir`.
    pub datadir: PathBuf,
    /// Directory and base name of the binary log; `None` if it is off.
    pub log_bin_basename: Option<PathBuf>,
    /// `@@gtid_mode`; empty for MariaDB.
    pub gtid_mode: String,
    /// `@@binlog_checksum`.
    pub binlog_checksum: String,
}

/// Settings that decide about candidates and steps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// `@@read_only`.
    pub read_only: bool,
    /// `@@super_read_only`; false where unknown.
    pub super_read_only: bool,
    /// `@@log_bin`.
    pub log_bin: bool,
    /// `@@log_slave_updates`.
    pub log_replica_updates: bool,
    /// `@@binlog_format`.
    pub binlog_format: String,
    /// `@@relay_log_purge`.
    pub relay_log_purge: bool,
    /// Applier workers.
    pub parallel_workers: u32,
    /// `@@sync_binlog`.
    pub sync_binlog: u64,
    /// Binary log filters, normalised, sorted.
    pub binlog_filters: Vec<String>,
    /// Replication filters, normalised, sorted.
    pub replicate_filters: Vec<String>,
    /// `@@relay_log_info_repository`; empty where unknown.
    pub relay_log_info_repository: String,
    /// `@@relay_log_recovery`.
    pub relay_log_recovery: bool,
    /// The variable that has the logs encrypted; `None` if they are not.
    pub log_encryption: Option<&'static str>,
    /// `@@binlog_storage_engine`; empty: the binary log is in files of its own.
    pub binlog_storage_engine: String,
    /// Both sides of semi-synchronous replication.
    pub semi_sync: SemiSync,
}

/// A server's own binary log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OwnBinlog {
    /// End of the current file.
    pub position: BinlogPosition,
    /// `@@gtid_executed`, or `@@gtid_binlog_pos` of MariaDB.
    pub gtid_executed: String,
    /// `@@gtid_binlog_state` of MariaDB; empty for MySQL.
    pub gtid_binlog_state: String,
}

/// What a living server said.
#[derive(Debug, Clone)]
pub struct Alive {
    /// Identity.
    pub identity: Identity,
    /// Settings.
    pub settings: Settings,
    /// Own binary log; `None` if it is off.
    pub binlog: Option<OwnBinlog>,
    /// Replication status; `None` if the server is no replica.
    pub replica: Option<ReplicaStatus>,
    /// Threads that serve other replicas.
    pub dump_threads: u32,
    /// Its files.
    pub remembered: Remembered,
    /// All variables that were read.
    pub variables: Variables,
    /// The account of the session; `None` where the server asks no more of it than older ones did.
    pub account: Option<Account>,
}

/// The mysqld process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProcessState {
    /// It runs, with this pid.
    Running(u32),
    /// None runs.
    NotRunning,
    /// Cannot be told: the data directory was never learnt, or `/proc` cannot be read.
    Unknown,
}

/// An observation.
#[derive(Debug)]
pub struct Observed {
    /// The process.
    pub process: ProcessState,
    /// What SQL said, or why it said nothing.
    pub sql: Result<Box<Alive>, SqlError>,
    /// Who the server is: fresh, or as last remembered.
    pub identity: Option<Identity>,
}

/// Observes a server. `limit` bounds each of the few statements and the connection; `configured_datadir` and the state
/// folder serve a server that does not answer. `replay_user` is the account with which its channel reads from the local source, if
/// there is a replay.
pub async fn observe(
    endpoint: &Endpoint,
    state_folder: &Path,
    configured_datadir: Option<&Path>,
    replay_user: Option<&str>,
    limit: Duration,
) -> Observed {
    let mut sql = read_alive(endpoint, limit).await;
    let remembered = match &mut sql {
        Ok(alive) => {
            keep_semi_sync(alive, state_folder, replay_user);
            if let Err(error) = alive.remembered.store(state_folder) {
                tracing::warn!(server = %endpoint.server, %error, "what the server said about its files was not stored");
            }
            Some(alive.remembered.clone())
        }
        Err(_) => Remembered::load(state_folder).unwrap_or_else(|error| {
            tracing::warn!(server = %endpoint.server, %error, "remembered facts cannot be read");
            None
        }),
    };
    let datadir = remembered
        .as_ref()
        .map(|known| known.datadir.as_path())
        .or(configured_datadir);
    let pid_file = remembered
        .as_ref()
        .and_then(|known| known.pid_file.as_deref());
    Observed {
        process: process_state(datadir, pid_file),
        identity: remembered.map(|known| known.identity),
        sql,
    }
}

/// A receiver that does not run says nothing of what it was; nor does one that reads from the local source, which has no
/// semi-synchronous replication.
fn keep_semi_sync(alive: &mut Alive, state_folder: &Path, replay_user: Option<&str>) {
    let channel = alive.replica.as_ref();
    let known = || matches!(Remembered::load(state_folder), Ok(Some(known)) if known.semi_sync);
    alive.remembered.semi_sync = semi_sync::was_waited_for(
        alive.remembered.semi_sync,
        channel.map(|replica| {
            replica.receiver == Receiver::Running && replay_user != Some(&replica.source_user)
        }),
        &alive.settings.semi_sync,
        known,
    );
}

fn process_state(datadir: Option<&Path>, pid_file: Option<&Path>) -> ProcessState {
    let Some(datadir) = datadir else {
        return ProcessState::Unknown;
    };
    match process::find(datadir, pid_file) {
        Ok(Some(mysqld)) => ProcessState::Running(mysqld.pid()),
        Ok(None) => ProcessState::NotRunning,
        Err(_) => ProcessState::Unknown,
    }
}

async fn read_alive(endpoint: &Endpoint, limit: Duration) -> Result<Box<Alive>, SqlError> {
    let mut session = Session::connect(endpoint, limit).await?;
    let alive = read(&mut session, limit).await?;
    session.close(limit).await;
    Ok(Box::new(alive))
}

/// Reads everything over an open session.
pub async fn read(session: &mut Session, limit: Duration) -> Result<Alive, SqlError> {
    let variables = Variables::read(session, limit).await?;
    let dialect = Dialect::new(session.version().clone());
    let replica = status::read(session, &dialect, limit).await?;
    let identity = identity(session, &variables)?;
    let (binlog, binlog_filters) = own_binlog(session, &dialect, &variables, limit).await?;
    let dump_threads = session
        .query_value(
            "SELECT COUNT(*) FROM information_schema.processlist WHERE COMMAND LIKE 'Binlog Dump%'",
            limit,
        )
        .await?
        .and_then(|count| count.parse().ok())
        .unwrap_or(0);
    let settings = settings(&variables, replica.as_ref(), binlog_filters);
    let command_line = command_line(&identity.datadir, &variables);
    let mut remembered = Remembered::from_variables(&variables, identity.clone(), &command_line);
    remembered.semi_sync = semi_sync::receives(session, &settings.semi_sync, limit).await?;
    let account = account::read(session, limit).await?;
    Ok(Alive {
        account,
        remembered,
        identity,
        settings,
        binlog,
        replica,
        dump_threads,
        variables,
    })
}

fn identity(session: &Session, variables: &Variables) -> Result<Identity, SqlError> {
    let number = |name: &str| -> Result<u32, SqlError> {
        variables
            .number(name)
            .ok_or_else(|| SqlError::UnexpectedAnswer {
                server: session.server().to_owned(),
                what: "SHOW GLOBAL VARIABLES".to_owned(),
                column: name.to_owned(),
                expected: "a number",
                found: variables.text(name).to_owned(),
            })
    };
    let datadir = PathBuf::from(variables.text("datadir"));
    let log_bin_basename = match variables.text("log_bin_basename") {
        "" => None,
        path => Some(datadir.join(path)),
    };
    Ok(Identity {
        version: session.version().clone(),
        server_id: number("server_id")?,
        server_uuid: variables.text("server_uuid").to_owned(),
        hostname: variables.text("hostname").to_owned(),
        port: u16::try_from(number("port")?).unwrap_or(0),
        log_bin_basename,
        datadir,
        gtid_mode: variables.text("gtid_mode").to_owned(),
        binlog_checksum: variables.text("binlog_checksum").to_owned(),
    })
}

/// Where the server's own binary log ends, over an open session; `None` if the log is off.
pub async fn own_position(
    session: &mut Session,
    limit: Duration,
) -> Result<Option<OwnBinlog>, SqlError> {
    let variables = Variables::read(session, limit).await?;
    let dialect = Dialect::new(session.version().clone());
    own_binlog(session, &dialect, &variables, limit)
        .await
        .map(|(binlog, _)| binlog)
}

async fn own_binlog(
    session: &mut Session,
    dialect: &Dialect,
    variables: &Variables,
    limit: Duration,
) -> Result<(Option<OwnBinlog>, Vec<String>), SqlError> {
    if !variables.is_on("log_bin") {
        return Ok((None, Vec::new()));
    }
    let Some(row) = session
        .query_row(dialect.show_own_position(), limit)
        .await?
    else {
        return Ok((None, Vec::new()));
    };
    let filters = ["Binlog_Do_DB", "Binlog_Ignore_DB"]
        .iter()
        .filter_map(|column| filter_text(&column.to_ascii_lowercase(), row.text_or_empty(column)))
        .collect();
    let binlog = status::binlog_position(&row, "File", "Position")?.map(|position| {
        let gtid_executed = if dialect.version().is_mariadb() {
            variables.text("gtid_binlog_pos").to_owned()
        } else {
            row.text_or_empty("Executed_Gtid_Set").replace('\n', "")
        };
        OwnBinlog {
            position,
            gtid_executed,
            gtid_binlog_state: variables.text("gtid_binlog_state").to_owned(),
        }
    });
    Ok((binlog, filters))
}

fn settings(
    variables: &Variables,
    replica: Option<&ReplicaStatus>,
    binlog_filters: Vec<String>,
) -> Settings {
    // MariaDB shows the filters as variables too, also on a server that is no replica.
    let replicate_filters = match replica {
        Some(status) => status.filters.clone(),
        None => [
            "replicate_do_db",
            "replicate_do_table",
            "replicate_ignore_db",
            "replicate_ignore_table",
            "replicate_wild_do_table",
            "replicate_wild_ignore_table",
        ]
        .iter()
        .filter_map(|name| filter_text(name, variables.text(name)))
        .collect(),
    };
    Settings {
        read_only: variables.is_on("read_only")
            // MariaDB 12 has further values (NO_LOCK, ..), all of which forbid writes.
            || !matches!(variables.text("read_only"), "" | "OFF" | "0" | "ON" | "1"),
        super_read_only: variables.is_on("super_read_only"),
        log_bin: variables.is_on("log_bin"),
        log_replica_updates: variables.is_on("log_slave_updates")
            || variables.is_on("log_replica_updates"),
        binlog_format: variables.text("binlog_format").to_owned(),
        relay_log_purge: variables.is_on("relay_log_purge"),
        parallel_workers: variables.parallel_workers(),
        sync_binlog: variables.number("sync_binlog").unwrap_or(0),
        binlog_filters,
        replicate_filters,
        relay_log_info_repository: variables.text("relay_log_info_repository").to_owned(),
        relay_log_recovery: variables.is_on("relay_log_recovery"),
        log_encryption: ["binlog_encryption", "encrypt_binlog"]
            .into_iter()
            .find(|name| variables.is_on(name)),
        binlog_storage_engine: variables.text("binlog_storage_engine").to_owned(),
        semi_sync: SemiSync::of(variables),
    }
}

/// Arguments of the server's process; empty if they cannot be read.
fn command_line(datadir: &Path, variables: &Variables) -> Vec<String> {
    let pid_file = datadir.join(variables.text("pid_file"));
    let Ok(Some(mysqld)) = process::find(datadir, Some(&pid_file)) else {
        return Vec::new();
    };
    mysqld.command_line()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_value_of_read_only_but_off_forbids_writes() {
        for (value, expected) in [
            ("ON", true),
            ("1", true),
            ("OFF", false),
            ("0", false),
            ("NO_LOCK_NO_ADMIN", true),
        ] {
            let settings = settings(&Variables::of(&[("read_only", value)]), None, Vec::new());
            assert_eq!(settings.read_only, expected, "{value}");
        }
    }

    #[test]
    fn filters_of_a_server_that_is_no_replica_come_from_its_variables() {
        let variables = Variables::of(&[("replicate_do_db", "b,a"), ("replicate_ignore_db", "")]);
        let settings = settings(&variables, None, Vec::new());
        assert_eq!(settings.replicate_filters, ["replicate_do_db=a,b"]);
    }

    #[test]
    fn logs_that_nobody_can_read_beside_the_server_are_noticed_in_both_families() {
        for (name, value, expected) in [
            ("binlog_encryption", "ON", Some("binlog_encryption")),
            ("encrypt_binlog", "ON", Some("encrypt_binlog")),
            ("encrypt_binlog", "OFF", None),
            ("relay_log", "relay-bin", None),
        ] {
            let settings = settings(&Variables::of(&[(name, value)]), None, Vec::new());
            assert_eq!(settings.log_encryption, expected, "{name}={value}");
        }
        let variables = Variables::of(&[("binlog_storage_engine", "innodb")]);
        let settings = settings(&variables, None, Vec::new());
        assert_eq!(settings.binlog_storage_engine, "innodb");
    }

    #[tokio::test]
    async fn a_server_that_was_never_seen_is_unknown_and_not_dead() {
        let folder = tempfile::tempdir().unwrap();
        let endpoint = Endpoint {
            server: "db9:3306".to_owned(),
            socket: folder.path().join("no.sock"),
            user: "mha".to_owned(),
            password: None,
        };
        let limit = Duration::from_secs(5);
        let observed = observe(&endpoint, folder.path(), None, None, limit).await;
        assert_eq!(observed.process, ProcessState::Unknown);
        assert!(observed.identity.is_none());
        assert!(matches!(observed.sql, Err(SqlError::Unreachable { .. })));
        // With a data directory it can be told that nobody runs on it.
        let observed = observe(&endpoint, folder.path(), Some(folder.path()), None, limit).await;
        assert_eq!(observed.process, ProcessState::NotRunning);
    }
}
