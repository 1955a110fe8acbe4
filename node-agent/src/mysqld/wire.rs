//! The local server's facts as messages of the wire; the only place that knows both.

use proto::v1;

use super::account::Account;
use super::configured::Configured;
use super::observe::{Alive, Identity, Observed, OwnBinlog, ProcessState, Settings};
use super::status::{Receiver, ReplicaStatus};
use super::version::Flavor;

impl From<Flavor> for v1::Flavor {
    fn from(flavor: Flavor) -> Self {
        match flavor {
            Flavor::MySql => Self::Mysql,
            Flavor::MariaDb => Self::Mariadb,
        }
    }
}

impl From<&Identity> for v1::ServerIdentity {
    fn from(identity: &Identity) -> Self {
        Self {
            flavor: v1::Flavor::from(identity.version.flavor).into(),
            version: identity.version.text.clone(),
            server_id: identity.server_id,
            server_uuid: identity.server_uuid.clone(),
            hostname: identity.hostname.clone(),
            port: identity.port.into(),
            datadir: identity.datadir.display().to_string(),
            log_bin_basename: identity
                .log_bin_basename
                .as_ref()
                .map(|path| path.display().to_string())
                .unwrap_or_default(),
            gtid_mode: identity.gtid_mode.clone(),
            binlog_checksum: identity.binlog_checksum.clone(),
        }
    }
}

impl From<&Settings> for v1::ServerSettings {
    fn from(settings: &Settings) -> Self {
        Self {
            read_only: settings.read_only,
            super_read_only: settings.super_read_only,
            log_bin: settings.log_bin,
            log_replica_updates: settings.log_replica_updates,
            binlog_format: settings.binlog_format.clone(),
            relay_log_purge: settings.relay_log_purge,
            parallel_workers: settings.parallel_workers,
            sync_binlog: settings.sync_binlog,
            binlog_filters: settings.binlog_filters.clone(),
            replicate_filters: settings.replicate_filters.clone(),
            relay_log_info_repository: settings.relay_log_info_repository.clone(),
            log_encryption: settings.log_encryption.unwrap_or_default().to_owned(),
            binlog_storage_engine: settings.binlog_storage_engine.clone(),
            relay_log_recovery: settings.relay_log_recovery,
            semi_sync_source: settings.semi_sync.source.as_ref().map(|side| side.on),
            semi_sync_replica: settings.semi_sync.replica.as_ref().map(|side| side.on),
            semi_sync_wait_for: settings.semi_sync.wait_for,
            semi_sync_timeout_ms: settings.semi_sync.timeout_ms,
        }
    }
}

impl From<&Account> for v1::AgentAccount {
    fn from(account: &Account) -> Self {
        Self {
            name: account.name.clone(),
            missing: account.missing.iter().map(ToString::to_string).collect(),
        }
    }
}

impl From<&OwnBinlog> for v1::BinlogStatus {
    fn from(binlog: &OwnBinlog) -> Self {
        Self {
            position: Some((&binlog.position).into()),
            gtid_executed: binlog.gtid_executed.clone(),
            gtid_binlog_state: binlog.gtid_binlog_state.clone(),
        }
    }
}

impl From<Receiver> for v1::ReceiverState {
    fn from(receiver: Receiver) -> Self {
        match receiver {
            Receiver::Running => Self::Running,
            Receiver::Connecting => Self::Connecting,
            Receiver::Stopped => Self::Stopped,
        }
    }
}

impl From<&ReplicaStatus> for v1::ReplicaStatus {
    fn from(status: &ReplicaStatus) -> Self {
        let errno = |error: &Option<super::status::ThreadError>| {
            error.as_ref().map_or(0, |error| error.errno)
        };
        let text = |error: &Option<super::status::ThreadError>| {
            error
                .as_ref()
                .map(|error| error.text.clone())
                .unwrap_or_default()
        };
        Self {
            source_host: status.source_host.clone(),
            source_port: status.source_port.into(),
            source_user: status.source_user.clone(),
            receiver: v1::ReceiverState::from(status.receiver).into(),
            applier_running: status.applier_running,
            read: status.read.as_ref().map(Into::into),
            executed: status.executed.as_ref().map(Into::into),
            relay: status.relay.as_ref().map(|relay| v1::RelayPosition {
                file: relay.file.as_str().to_owned(),
                offset: relay.offset,
            }),
            receiver_errno: errno(&status.receiver_error),
            receiver_error: text(&status.receiver_error),
            applier_errno: errno(&status.applier_error),
            applier_error: text(&status.applier_error),
            delay_s: u32::try_from(status.delay.as_secs()).unwrap_or(u32::MAX),
            gtid_position: status.follows_gtid(),
            gtid_executed: status.gtid_executed.clone(),
            gtid_received: status.gtid_received.clone(),
            source_server_id: status.source_server_id,
            source_uuid: status.source_uuid.clone(),
            channels: status.channels,
            seconds_behind_source: status.seconds_behind,
        }
    }
}

/// What others know of a server, beside the observation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentFacts {
    /// Operation that holds mysqld down; empty if none.
    pub held_down_by: String,
    /// Operation whose unfinished replay has a channel record; empty if none.
    pub unfinished_replay: String,
    /// Where replication credentials were found; empty if nowhere.
    pub credentials_source: String,
    /// Whether the next start makes it read-only.
    pub configured_read_only: Configured,
}

/// The whole observation.
pub fn server_state(server: &str, observed: &Observed, facts: AgentFacts) -> v1::ServerState {
    let alive: Option<&Alive> = observed.sql.as_deref().ok();
    let (process, pid) = match observed.process {
        ProcessState::Running(pid) => (v1::ProcessState::Running, pid),
        ProcessState::NotRunning => (v1::ProcessState::NotRunning, 0),
        ProcessState::Unknown => (v1::ProcessState::Unknown, 0),
    };
    v1::ServerState {
        server: server.to_owned(),
        process: process.into(),
        pid,
        configured_read_only: Some(facts.configured_read_only.into()),
        held_down_by: facts.held_down_by,
        sql_alive: alive.is_some(),
        sql_error: observed
            .sql
            .as_ref()
            .err()
            .map(ToString::to_string)
            .unwrap_or_default(),
        identity: observed.identity.as_ref().map(Into::into),
        settings: alive.map(|alive| (&alive.settings).into()),
        binlog: alive
            .and_then(|alive| alive.binlog.as_ref())
            .map(Into::into),
        replica: alive
            .and_then(|alive| alive.replica.as_ref())
            .map(Into::into),
        unfinished_replay: facts.unfinished_replay,
        dump_threads: alive.map_or(0, |alive| alive.dump_threads),
        credentials_source: facts.credentials_source,
        semi_sync_received: alive.is_some_and(|alive| alive.remembered.semi_sync),
        account: alive
            .and_then(|alive| alive.account.as_ref())
            .map(Into::into),
    }
}
