//! What can go wrong in the sandbox, with the host, file or tool to look at.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// An error of the sandbox. A failing sandbox fails the test that wanted it; it never skips one.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SandboxError {
    /// A file operation did not succeed.
    #[error("{action} {}", path.display())]
    Io {
        /// What was tried, as a verb: `write`, `copy`.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A program of the operating system that the sandbox calls is not installed.
    #[error("the program `{tool}` is needed to {purpose}, and is not in PATH; install {package}")]
    MissingTool {
        /// Program name.
        tool: String,
        /// What it would have done.
        purpose: String,
        /// Where it usually comes from.
        package: &'static str,
    },
    /// A program was run and did not succeed.
    #[error("`{command}` ended with {status}: {output}")]
    Tool {
        /// The command line.
        command: String,
        /// Exit status, or what took its place.
        status: String,
        /// The end of what it printed.
        output: String,
    },
    /// What was downloaded is not what was expected.
    #[error("{what} has sha256 {found}, expected {expected}")]
    Digest {
        /// The file.
        what: String,
        /// The pinned digest.
        expected: String,
        /// The digest of what came.
        found: String,
    },
    /// No Debian archive is configured on this machine.
    #[error(
        "no Debian archive among this machine's apt sources (found: {found}); \
         name one with MHA_SANDBOX_DEBIAN_MIRROR=URI"
    )]
    NoDebianArchive {
        /// The archives that are configured.
        found: String,
    },
    /// The archive has moved on to another line of the server.
    #[error("the archive offers {package} {found}, wanted a version of the line {wanted}")]
    WrongLine {
        /// Package name.
        package: String,
        /// The wanted line, `10.11`.
        wanted: String,
        /// The version it offers.
        found: String,
    },
    /// A server's program does not run on this machine.
    #[error("{} cannot be run here: {output}", program.display())]
    Unusable {
        /// The program.
        program: PathBuf,
        /// What it said.
        output: String,
    },
    /// A server name that the sandbox does not know.
    #[error("no server is called `{given}`; known are {known}")]
    UnknownServer {
        /// What was asked for.
        given: String,
        /// All names.
        known: String,
    },
    /// A server that people run and that no package registry has.
    #[error(
        "{server} cannot be had, so that nothing is tested on it: `{command}` answers: {answer}"
    )]
    Absent {
        /// Its name.
        server: &'static str,
        /// What was tried.
        command: &'static str,
        /// The answer.
        answer: &'static str,
    },
    /// The folder for sockets has too long a path.
    #[error("{} is longer than the {limit} bytes a socket path may have; set TMPDIR to a shorter folder", path.display())]
    SocketPath {
        /// The socket.
        path: PathBuf,
        /// Length limit in bytes.
        limit: usize,
    },
    /// All loopback addresses that the sandbox hands out are in use.
    #[error("all {tried} loopback networks of the sandbox are in use")]
    NoNetwork {
        /// How many were tried.
        tried: u32,
    },
    /// A process ended or did not become ready.
    #[error("{name}: {what}; end of {}:\n{log}", log_path.display())]
    NotReady {
        /// Process name.
        name: String,
        /// What happened instead.
        what: String,
        /// Its log file.
        log_path: PathBuf,
        /// The end of the log.
        log: String,
    },
    /// A process is not running although the call needs it to be.
    #[error("{name} is not running")]
    NotRunning {
        /// Process name.
        name: String,
    },
    /// A signal could not be sent.
    #[error("signal {signal} to {name}")]
    Signal {
        /// Process name.
        name: String,
        /// Signal name.
        signal: &'static str,
        /// Why.
        source: nix::errno::Errno,
    },
    /// A statement was refused, or its connection broke.
    #[error("{server}: `{statement}`")]
    Sql {
        /// Server name.
        server: String,
        /// The statement, cut at 300 characters.
        statement: String,
        /// Why.
        source: mysql_async::Error,
    },
    /// A statement did not answer in time. What it did is unknown.
    #[error("{server}: `{statement}` gave no answer within {limit:?}")]
    SqlTimeout {
        /// Server name.
        server: String,
        /// The statement, cut at 300 characters.
        statement: String,
        /// The limit.
        limit: Duration,
    },
    /// A session was used again after one of its statements had no answer.
    #[error("{server}: the session was given up after an earlier statement had no answer")]
    SessionLost {
        /// Server name.
        server: String,
    },
    /// An answer lacks what every such server sends.
    #[error("{server}: the answer to `{statement}` has no {wanted}")]
    Answer {
        /// Server name.
        server: String,
        /// The statement.
        statement: String,
        /// The missing column or row.
        wanted: String,
    },
    /// A condition did not come true in time.
    #[error("waited {waited:?} for {what}; last seen: {seen}")]
    Wait {
        /// The condition.
        what: String,
        /// How long.
        waited: Duration,
        /// The last observation.
        seen: String,
    },
    /// A file that a program wrote is not what it should be.
    #[error("{} is not {wanted}: {detail}", path.display())]
    Format {
        /// The file.
        path: PathBuf,
        /// What was expected.
        wanted: &'static str,
        /// What is wrong.
        detail: String,
    },
}

impl SandboxError {
    /// For `map_err` on file operations.
    pub(crate) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }
}

/// The error and all its causes on one line, for people.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(cause) = next {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        next = cause.source();
    }
    text
}
