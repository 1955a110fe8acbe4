//! The text files a server keeps beside its logs: `*.index`, `relay-log.info`, `master.info`.
//!
//! Two forms of the info files exist: the first line is the number of lines that follow (all servers from 4.1 for
//! `master.info`, MySQL from 5.6 for `relay-log.info`), or the values start at once. MariaDB adds `key=value` lines.

use std::path::{Path, PathBuf};

use crate::error::LogError;
use crate::position::{BinlogFileName, BinlogPosition, RelayFileName, RelayPosition};

/// Most bytes read of such a file.
const SIZE_MAX: u64 = 16 << 20;

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
    pub fn parse(text: &str, path: &Path) -> Result<Self, LogError> {
        let mut lines = Lines::new(text, path);
        if lines
            .peek()
            .is_some_and(|line| !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit()))
        {
            lines.next("the number of lines")?;
        }
        let relay_log = lines.next("a relay log file")?;
        let relay_log_path = PathBuf::from(relay_log);
        let name = relay_log_path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        let file: RelayFileName = name
            .parse()
            .map_err(|_| lines.bad("a relay log file", relay_log))?;
        let offset = lines.number("an offset in the relay log")?;
        let executed = lines.position()?;
        Ok(Self {
            relay_log_path,
            relay: RelayPosition::new(file, offset),
            executed,
        })
    }
}

/// `master.info`: where the receiver is and how it connects.
#[derive(Clone, PartialEq, Eq, Default)]
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
    /// CA file.
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
    /// Lines after these as they are: MariaDB's `key=value`, and those of newer MySQL servers with an empty key.
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
    pub fn parse(text: &str, path: &Path) -> Result<Self, LogError> {
        let mut lines = Lines::new(text, path);
        let counted = lines
            .peek()
            .is_some_and(|line| !line.is_empty() && line.bytes().all(|b| b.is_ascii_digit()));
        let count = if counted {
            lines.number("the number of lines")?
        } else {
            7
        };
        let read = lines.position()?;
        let mut info = Self {
            read,
            host: lines.next("a host")?.to_owned(),
            user: lines.next("a user")?.to_owned(),
            password: lines.next("a password")?.to_owned(),
            port: lines.number_or("a port", 3306)?,
            connect_retry: lines.number_or("seconds between reconnects", 60)?,
            ..Self::default()
        };
        info.tls(&mut lines);
        info.heartbeat = lines.optional().to_owned();
        // Beyond: MySQL's further lines by count, then MariaDB's by name. MariaDB leaves the first empty.
        info.bind = lines.optional().to_owned();
        info.ignore_server_ids = parse_ids(lines.optional());
        info.source_uuid = lines.optional().to_owned();
        info.retry_count = lines.optional().parse().ok();
        info.ssl_crl = lines.optional().to_owned();
        info.ssl_crlpath = lines.optional().to_owned();
        if count >= 23 && !lines.peek().is_some_and(|line| line.contains('=')) {
            info.auto_position = lines.optional() == "1";
        }
        info.tail(&mut lines);
        Ok(info)
    }

    fn tls(&mut self, lines: &mut Lines<'_>) {
        self.ssl = lines.optional() == "1";
        self.ssl_ca = lines.optional().to_owned();
        self.ssl_capath = lines.optional().to_owned();
        self.ssl_cert = lines.optional().to_owned();
        self.ssl_cipher = lines.optional().to_owned();
        self.ssl_key = lines.optional().to_owned();
        self.ssl_verify_server_cert = lines.optional() == "1";
    }

    fn tail(&mut self, lines: &mut Lines<'_>) {
        while let Some(line) = lines.take() {
            match line.split_once('=') {
                Some(("using_gtid", value)) => self.using_gtid = value.trim().parse().ok(),
                Some((key, value)) => self.extra.push((key.to_owned(), value.to_owned())),
                None if line == "END_MARKER" => break,
                None if line.is_empty() => {}
                None => self.extra.push((String::new(), line.to_owned())),
            }
        }
    }
}

/// `COUNT id id ..`
fn parse_ids(line: &str) -> Vec<u32> {
    line.split_ascii_whitespace()
        .skip(1)
        .filter_map(|id| id.parse().ok())
        .collect()
}

/// Lines of a text with their numbers.
struct Lines<'a> {
    lines: std::iter::Peekable<std::str::Lines<'a>>,
    number: usize,
    path: &'a Path,
}

impl<'a> Lines<'a> {
    fn new(text: &'a str, path: &'a Path) -> Self {
        Self {
            lines: text.lines().peekable(),
            number: 0,
            path,
        }
    }

    fn peek(&mut self) -> Option<&'a str> {
        self.lines.peek().copied()
    }

    fn take(&mut self) -> Option<&'a str> {
        self.number += 1;
        self.lines.next()
    }

    fn next(&mut self, expected: &'static str) -> Result<&'a str, LogError> {
        self.take()
            .ok_or_else(|| self.bad(expected, "the end of the file"))
    }

    /// Empty beyond the end: older servers write fewer lines.
    fn optional(&mut self) -> &'a str {
        if self.peek().is_some_and(|line| {
            line.starts_with("using_gtid=") || line.starts_with("do_domain_ids=")
        }) {
            return "";
        }
        self.take().unwrap_or_default()
    }

    fn number(&mut self, expected: &'static str) -> Result<u64, LogError> {
        let line = self.next(expected)?;
        line.trim().parse().map_err(|_| self.bad(expected, line))
    }

    fn number_or<T: std::str::FromStr>(
        &mut self,
        expected: &'static str,
        default: T,
    ) -> Result<T, LogError> {
        match self.take() {
            None | Some("") => Ok(default),
            Some(line) => line.trim().parse().map_err(|_| self.bad(expected, line)),
        }
    }

    /// A file and an offset on two lines; an empty file means none.
    fn position(&mut self) -> Result<Option<BinlogPosition>, LogError> {
        let name = self.next("a binary log file")?;
        let file = match name {
            "" => None,
            name => Some(
                name.parse::<BinlogFileName>()
                    .map_err(|_| self.bad("a binary log file", name))?,
            ),
        };
        let offset = self.number("an offset in the binary log")?;
        Ok(file.map(|file| BinlogPosition::new(file, offset)))
    }

    fn bad(&self, expected: &'static str, found: &str) -> LogError {
        LogError::BadInfoFile {
            path: self.path.to_owned(),
            line: self.number,
            expected,
            found: found.chars().take(80).collect(),
        }
    }
}

/// Reads a `*.index` file: one path a line; relative ones are resolved against the directory of the index.
///
/// # Errors
/// Unreadable, or not UTF-8.
pub fn read_index(path: &Path) -> Result<Vec<PathBuf>, LogError> {
    let size = std::fs::metadata(path)
        .map_err(LogError::io("read", path))?
        .len();
    if size > SIZE_MAX {
        let source = std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            format!("{size} bytes long"),
        );
        return Err(LogError::Io {
            action: "read",
            path: path.to_owned(),
            source,
        });
    }
    let text = std::fs::read_to_string(path).map_err(LogError::io("read", path))?;
    let directory = path.parent().unwrap_or(Path::new(""));
    Ok(text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .map(|line| directory.join(line))
        .collect())
}
