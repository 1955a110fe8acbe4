//! Why a configuration is refused.

use std::net::SocketAddr;
use std::path::PathBuf;

/// Why a configuration is refused; the message names the key and what was found.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("read configuration {}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: std::io::Error,
    },
    /// Not YAML, an unknown or repeated key, or a value of another type. The source names line and column.
    #[error("configuration {}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The parser's words, with line and column.
        #[source]
        source: serde_yaml::Error,
    },
    /// A name with characters that cannot be part of a file name or a call.
    #[error("{key}: {found:?} is no name: expected {expected}")]
    BadName {
        /// The key.
        key: String,
        /// What is allowed.
        expected: &'static str,
        /// What was found.
        found: String,
    },
    /// The agent's name or a cluster cannot stand in a certificate.
    #[error("{keys}")]
    BadIdentity {
        /// The keys concerned.
        keys: String,
        /// Which rule is broken.
        #[source]
        source: proto::identity::IdentityError,
    },
    /// Two servers of one name, or of names that would share a state folder.
    #[error("servers: {first:?} and {second:?} collide; each server needs a name of its own")]
    DuplicateServer {
        /// The earlier one.
        first: String,
        /// The later one.
        second: String,
    },
    /// No server at all.
    #[error("servers: at least one is needed, or one of binlog_servers")]
    NoServers,
    /// A number outside its range.
    #[error("{key}: {found} is not in {minimum}..={maximum}")]
    OutOfRange {
        /// The key.
        key: String,
        /// What was found.
        found: u64,
        /// Smallest allowed value.
        minimum: u64,
        /// Largest allowed value.
        maximum: u64,
    },
    /// Neither `tls` nor `plaintext: true`, or both.
    #[error("exactly one of `tls` and `plaintext: true` is needed")]
    NoSecurity,
    /// Plain text on an address others can reach.
    #[error("plaintext: true is allowed on a loopback address only; listen is {listen}")]
    PlainTextBeyondLoopback {
        /// The listen address.
        listen: SocketAddr,
    },
    /// A named file is missing or of the wrong kind.
    #[error("{key}: {}", path.display())]
    File {
        /// The key that names it.
        key: String,
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        source: std::io::Error,
    },
    /// A file with a secret that others may read.
    #[error("{key}: {} has mode {mode:04o}; a file with a secret must not be accessible to group or others (chmod 600)", path.display())]
    SecretExposed {
        /// The key that names it.
        key: String,
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// A path that must be absolute or of a certain kind.
    #[error("{key}: {} is not {expected}", path.display())]
    BadPath {
        /// The key.
        key: String,
        /// What is expected.
        expected: &'static str,
        /// The path.
        path: PathBuf,
    },
    /// One key makes no sense without another.
    #[error("{key} needs {needs} as well")]
    Incomplete {
        /// The key that is there.
        key: String,
        /// The key that is missing.
        needs: &'static str,
    },
}
