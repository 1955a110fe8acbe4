//! The channel record: everything of a channel that a failover overwrites, and how far it got.
//!
//! `<state>/servers/NAME/channel.json`, mode 0600, synced before the first statement that changes anything, removed
//! when everything is restored. It outlives the agent, mysqld and the operation that wrote it.
//!
//! Invariant: `original` and `saved_globals` are the settings before *any* failover touched the channel. Once
//! recorded they are never replaced by what a server shows while it points at a local source.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use binlog_core::BinlogPosition;
use serde::{Deserialize, Serialize};

use super::credentials::Credentials;
use super::way::Way;
use crate::mysqld::dialect::ChangeOption;
use crate::mysqld::status::{ChannelTls, ReplicaStatus, UsingGtid};
use crate::state::durable::{self, DurableError};

/// How far an operation got with a channel. The order is the order of a failover.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The receiver was stopped; the channel is as it was.
    ReceiverStopped,
    /// The applier is being stopped and the channel pointed at the local source, or the replay runs.
    Replaying,
    /// The replay is complete; the channel still points at the local source, both threads stand still.
    Replayed,
    /// The channel is being pointed at the new primary.
    Repointing,
    /// The channel is being removed.
    Promoting,
    /// The channel is gone.
    Promoted,
}

/// The record.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChannelRecord {
    /// Version of this format: 1.
    pub format_version: u32,
    /// Operation that touched the channel last.
    pub operation: String,
    /// How far it got.
    pub phase: Phase,
    /// The receiver ran before the first operation touched it.
    pub receiver_was_running: bool,
    /// The applier ran before the first operation touched it.
    pub applier_was_running: bool,
    /// The channel as it was; `None` until it is about to be changed.
    pub original: Option<OriginalChannel>,
    /// Global variables as they were.
    pub saved_globals: BTreeMap<String, String>,
    /// The replay, from shortly before the first CHANGE on.
    pub replay: Option<Replay>,
    /// What was read before the channel was reset or repointed.
    pub evidence: Option<Evidence>,
    /// Where the server stands by its GTIDs, if the operation found that out.
    #[serde(default)]
    pub standing: Option<Standing>,
}

/// A server that has these GTIDs stands in the log of this source at this place, at least.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// Host of the source whose log it is.
    pub source_host: String,
    /// Its port.
    pub source_port: u16,
    /// MySQL: a set; MariaDB: a position.
    pub gtids: String,
    /// Every transaction before this place is among them.
    pub position: BinlogPosition,
}

/// Settings of a channel.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginalChannel {
    /// Channel name; empty for the default channel.
    pub channel: String,
    /// Source host.
    pub host: String,
    /// Source port.
    pub port: u16,
    /// Account.
    pub user: String,
    /// Its password.
    pub password: String,
    /// Where the password was found: `config`, `mysql.slave_master_info`, `master.info`; empty if it was not needed.
    pub password_found_in: String,
    /// Seconds between reconnects.
    pub connect_retry: u32,
    /// Heartbeat period in seconds, as the server prints it; `None` if it does not say.
    pub heartbeat_period: Option<String>,
    /// Delay in seconds.
    pub delay_s: u32,
    /// Interface to bind to.
    pub bind: String,
    /// TLS.
    pub tls: ChannelTls,
    /// MySQL: AUTO_POSITION.
    pub auto_position: bool,
    /// MariaDB: `Using_Gtid`.
    pub using_gtid: UsingGtid,
    /// Server ids whose events are ignored.
    pub ignore_server_ids: Vec<u32>,
    /// Number of reconnects (MySQL).
    pub retry_count: Option<u64>,
    /// How its connection is compressed (MySQL 8.0.18+); `None` where it is not.
    #[serde(default)]
    pub compression: Option<Compression>,
}

/// Compression of a channel's connection. The local source has none, and refuses who insists.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compression {
    /// Names, separated by commas: `zstd`, `zlib`, `uncompressed`.
    pub algorithms: String,
    /// Level of zstd.
    pub zstd_level: u32,
}

impl Compression {
    /// The algorithm of a connection that is not compressed.
    pub const NONE: &'static str = "uncompressed";
}

/// A replay.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Replay {
    /// Port of the local source.
    pub port: u16,
    /// Its one-time account.
    pub user: String,
    /// Password of that account.
    pub password: String,
    /// Segments, in order.
    pub segments: Vec<PathBuf>,
    /// Executed position where the replay starts.
    pub from: BinlogPosition,
    /// MariaDB: the replica asks by GTID, and `from` is what its GTID position means in the segments.
    pub by_gtid: bool,
    /// Executed position to reach.
    pub until: BinlogPosition,
    /// Executed position when the operation found the server.
    pub executed_before: Option<BinlogPosition>,
    /// The received range ended inside a transaction.
    pub half_transaction: bool,
    /// The applier was killed instead of stopped because of it.
    pub applier_killed: bool,
    /// Non-transactional tables whose changes may come twice.
    pub maybe_twice: Vec<String>,
    /// The channel was, or is about to be, changed beside its running applier.
    #[serde(default)]
    pub beside: Option<Beside>,
}

/// A CHANGE beside a running applier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beside {
    /// The read position from which the replica asks; `None` if it asks by its GTIDs.
    pub asked: Option<BinlogPosition>,
    /// After the CHANGE the applier still ran and had its relay log. Until this is known the server has executed exactly
    /// what it had before, whatever its status shows.
    pub applier_kept: bool,
}

impl Replay {
    /// Which way it goes.
    pub fn way(&self) -> Way {
        match &self.beside {
            None => Way::Stopped,
            Some(Beside { asked: None, .. }) => Way::ByGtid,
            Some(Beside { asked: Some(_), .. }) => Way::FromRead,
        }
    }
}

/// What a survivor had executed, in the dead primary's terms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Executed position in the dead primary's coordinates.
    pub executed: BinlogPosition,
    /// MySQL `gtid_executed`, MariaDB `gtid_slave_pos`.
    pub gtid: String,
}

impl ChannelRecord {
    /// Name of the file in a server's state folder.
    pub const FILE: &'static str = "channel.json";

    /// A record of a channel that nobody touched yet.
    pub fn new(operation: &str) -> Self {
        Self {
            format_version: 1,
            operation: operation.to_owned(),
            phase: Phase::ReceiverStopped,
            receiver_was_running: false,
            applier_was_running: false,
            original: None,
            saved_globals: BTreeMap::new(),
            replay: None,
            evidence: None,
            standing: None,
        }
    }

    /// Reads the record of this state folder.
    pub fn load(folder: &Path) -> Result<Option<Self>, DurableError> {
        durable::read_json(&folder.join(Self::FILE))
    }

    /// Stores it durably. Blocks for two syncs.
    pub fn store(&self, folder: &Path) -> Result<(), DurableError> {
        durable::create_private_directory(folder)?;
        durable::write_json(&folder.join(Self::FILE), self)
    }

    /// Removes it.
    pub fn remove(folder: &Path) -> Result<(), DurableError> {
        durable::remove(&folder.join(Self::FILE)).map(drop)
    }

    /// True if this status shows the channel pointing at the local source of this record.
    pub fn points_here(&self, status: &ReplicaStatus) -> bool {
        self.replay.as_ref().is_some_and(|replay| {
            status.source_host == LOCAL_SOURCE_HOST && status.source_user == replay.user
        })
    }

    /// True if this status shows the recorded channel as it was, or as an observation shows it.
    pub fn is_of(&self, status: &ReplicaStatus) -> bool {
        self.original.as_ref().is_some_and(|original| {
            original.host == status.source_host
                && original.port == status.source_port
                && original.user == status.source_user
        })
    }

    /// The record to go on with, given what the server shows now.
    ///
    /// A channel that does not point at the recorded local source was either not changed yet or was changed by
    /// somebody else since: its settings are then read afresh. Saved globals stay in any case.
    #[must_use]
    pub fn adopt(found: Option<Self>, operation: &str, status: &ReplicaStatus) -> Self {
        let fresh = || Self {
            receiver_was_running: status.receiver != crate::mysqld::Receiver::Stopped,
            applier_was_running: status.applier_running,
            ..Self::new(operation)
        };
        let Some(mut record) = found else {
            return fresh();
        };
        if !record.points_here(status) {
            match record.phase {
                // Ours, and the channel is still (or again) as it was.
                Phase::ReceiverStopped | Phase::Replaying | Phase::Repointing
                    if record.original.as_ref().is_none_or(|original| {
                        original.host == status.source_host && original.port == status.source_port
                    }) => {}
                _ => {
                    return Self {
                        saved_globals: record.saved_globals,
                        ..fresh()
                    };
                }
            }
            // The settings are read again before the first CHANGE; a stale password must not come back. What an earlier
            // try did to the applier, and where it stood, stays known.
            record.original = None;
            record.evidence = None;
        }
        record.operation = operation.to_owned();
        record
    }
}

/// Host name the channel points at during a replay.
pub const LOCAL_SOURCE_HOST: &str = "127.0.0.1";

/// What names of replay accounts begin with.
pub const REPLAY_USER_PREFIX: &str = "mha_";

impl OriginalChannel {
    /// From a status that shows the channel unchanged.
    pub fn of(
        status: &ReplicaStatus,
        credentials: &Credentials,
        heartbeat_period: Option<String>,
    ) -> Self {
        Self {
            channel: status.channel.clone(),
            host: status.source_host.clone(),
            port: status.source_port,
            user: credentials.user.clone(),
            password: credentials.password.expose().to_owned(),
            password_found_in: credentials.found_in.as_str().to_owned(),
            connect_retry: status.connect_retry,
            heartbeat_period,
            delay_s: u32::try_from(status.delay.as_secs()).unwrap_or(u32::MAX),
            bind: status.bind.clone(),
            tls: status.tls.clone(),
            auto_position: status.auto_position,
            using_gtid: status.using_gtid,
            ignore_server_ids: status.ignore_server_ids.clone(),
            retry_count: status.retry_count,
            compression: None,
        }
    }

    /// Settings that no CHANGE of ours overwrites, for a channel that has to be made anew.
    pub fn rest(&self) -> Vec<ChangeOption> {
        let mut options: Vec<ChangeOption> = [
            ("CA", &self.tls.ca),
            ("CAPATH", &self.tls.capath),
            ("CERT", &self.tls.cert),
            ("CIPHER", &self.tls.cipher),
            ("KEY", &self.tls.key),
            ("CRL", &self.tls.crl),
            ("CRLPATH", &self.tls.crlpath),
        ]
        .into_iter()
        .filter(|(_, text)| !text.is_empty())
        .map(|(name, text)| ChangeOption::SslText(name, text.clone()))
        .collect();
        if !self.tls.version.is_empty() {
            options.push(ChangeOption::TlsVersion(self.tls.version.clone()));
        }
        if self.tls.get_public_key {
            options.push(ChangeOption::GetPublicKey(true));
        }
        if !self.tls.public_key_path.is_empty() {
            options.push(ChangeOption::PublicKeyPath(
                self.tls.public_key_path.clone(),
            ));
        }
        if !self.ignore_server_ids.is_empty() {
            options.push(ChangeOption::IgnoreServerIds(
                self.ignore_server_ids.clone(),
            ));
        }
        options.extend(self.retry_count.map(ChangeOption::RetryCount));
        let level = self.compression.as_ref().map(|known| known.zstd_level);
        options.extend(level.map(ChangeOption::ZstdLevel));
        options
    }

    /// Options that bring back everything a replay overwrote, for a source at `host:port`; position and GTID mode are
    /// the caller's. TLS files, ciphers, ignored ids and the retry count are not overwritten and so not named.
    pub fn restoring(&self, host: &str, port: u16) -> Vec<ChangeOption> {
        let mut options = vec![
            ChangeOption::Host(host.to_owned()),
            ChangeOption::Port(port),
            ChangeOption::User(self.user.clone()),
            ChangeOption::Password(self.password.clone()),
            ChangeOption::ConnectRetry(self.connect_retry),
            ChangeOption::Delay(self.delay_s),
            ChangeOption::Ssl(self.tls.enabled),
            ChangeOption::SslVerify(self.tls.verify),
        ];
        if let Some(period) = &self.heartbeat_period {
            // A CHANGE that does not name it sets it to half of slave_net_timeout.
            options.push(ChangeOption::HeartbeatPeriod(period.clone()));
        }
        if !self.bind.is_empty() {
            options.push(ChangeOption::Bind(self.bind.clone()));
        }
        if let Some(known) = &self.compression {
            options.push(ChangeOption::Compression(known.algorithms.clone()));
        }
        options
    }
}

/// Operation whose unfinished replay the state folder holds a record of, for observations; `None` if there is none.
pub fn unfinished_replay(folder: &Path) -> Result<Option<String>, DurableError> {
    let record = ChannelRecord::load(folder)?;
    Ok(record
        .filter(|record| matches!(record.phase, Phase::Replaying | Phase::Replayed))
        .map(|record| record.operation))
}

/// Shows a channel that points at a local source as what it is: a replica of the recorded original.
///
/// Whoever decides must not take the agent for the server's primary. Positions stay: they are the dead primary's.
pub fn observed_as_original(status: &mut ReplicaStatus, record: &ChannelRecord) {
    let Some(original) = &record.original else {
        return;
    };
    if !record.points_here(status) {
        return;
    }
    status.source_host.clone_from(&original.host);
    status.source_port = original.port;
    status.source_user.clone_from(&original.user);
    status.delay = std::time::Duration::from_secs(original.delay_s.into());
    status.auto_position = original.auto_position;
    status.using_gtid = original.using_gtid;
}

// The record holds passwords; its debug forms do not.

impl fmt::Debug for ChannelRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChannelRecord")
            .field("operation", &self.operation)
            .field("phase", &self.phase)
            .field("original", &self.original)
            .field("replay", &self.replay)
            .field("saved_globals", &self.saved_globals)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for OriginalChannel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OriginalChannel")
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Replay {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replay")
            .field("port", &self.port)
            .field("from", &self.from)
            .field("until", &self.until)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests;
