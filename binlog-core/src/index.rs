//! The text files a server keeps beside its logs: `*.index`, `relay-log.info`, `master.info`.

use std::path::{Path, PathBuf};

use crate::error::LogError;
use crate::position::{BinlogPosition, RelayPosition};

/// `relay-log.info`: where the applier is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayLogInfo {
    /// Relay log file as written (may be relative to the data directory).
    pub relay_log_path: PathBuf,
    /// Place in the relay logs.
    pub relay: RelayPosition,
    /// Executed position; `None` if nothing was executed yet.
    pub executed: Option<BinlogPosition>,
}

impl RelayLogInfo {
    /// Reads the text of the file; `path` is for errors only.
    ///
    /// # Errors
    /// [`LogError::BadInfoFile`].
    pub fn parse(_text: &str, _path: &Path) -> Result<Self, LogError> {
        todo!()
    }
}

/// `master.info`: where the receiver is and how it connects.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterInfo {
    /// Read position; `None` before the first connection.
    pub read: Option<BinlogPosition>,
    /// Host of the source.
    pub host: String,
    /// Account.
    pub user: String,
    /// Its password, in clear.
    pub password: String,
    /// Port of the source.
    pub port: u16,
    /// Seconds between reconnects.
    pub connect_retry: u32,
    /// TLS is used.
    pub ssl: bool,
    /// TLS settings.
    pub ssl_ca: String,
    /// CA directory.
    pub ssl_capath: String,
    /// Certificate.
    pub ssl_cert: String,
    /// Cipher list.
    pub ssl_cipher: String,
    /// Private key.
    pub ssl_key: String,
    /// Verify the source's certificate.
    pub ssl_verify_server_cert: bool,
    /// Heartbeat period in seconds, as written.
    pub heartbeat: String,
    /// Interface to bind to (MySQL).
    pub bind: String,
    /// Server ids whose events are ignored.
    pub ignore_server_ids: Vec<u32>,
    /// UUID of the source (MySQL).
    pub source_uuid: String,
    /// Number of reconnects (MySQL).
    pub retry_count: Option<u64>,
    /// CRL file.
    pub ssl_crl: String,
    /// CRL directory.
    pub ssl_crlpath: String,
    /// AUTO_POSITION (MySQL).
    pub auto_position: bool,
    /// MariaDB: `using_gtid` (0 no, 1 current_pos, 2 slave_pos).
    pub using_gtid: Option<u8>,
    /// MariaDB: further `key=value` lines, in order.
    pub extra: Vec<(String, String)>,
}

impl std::fmt::Debug for MasterInfo {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The password must not reach a log.
        f.debug_struct("MasterInfo")
            .field("read", &self.read)
            .field("host", &self.host)
            .field("port", &self.port)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

impl MasterInfo {
    /// Reads the text of the file (with the line count of 4.1 to 8.0, with MariaDB's `key=value` tail); `path` is for
    /// errors only.
    ///
    /// # Errors
    /// [`LogError::BadInfoFile`].
    pub fn parse(_text: &str, _path: &Path) -> Result<Self, LogError> {
        todo!()
    }
}

/// Reads a `*.index` file: one path a line; relative ones are resolved against the directory of the index.
///
/// # Errors
/// Unreadable, or not UTF-8.
pub fn read_index(_path: &Path) -> Result<Vec<PathBuf>, LogError> {
    todo!()
}
