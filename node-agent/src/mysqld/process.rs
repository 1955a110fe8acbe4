//! Which process is the mysqld of a data directory, when it ends, and how to end it.
//!
//! A process belongs to a data directory if its command name is that of a server and its working directory is the
//! data directory, which every mysqld makes so at its start; the pid file only says where to look first, since it may
//! be stale and its number taken by another process. All later acts go through a pidfd opened before that check was
//! repeated, so a signal can never reach a process that merely inherited the number.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::timeout;

use super::Deadline;

/// Command names of servers, as the kernel shortens them (15 bytes).
const COMMANDS: [&str; 4] = ["mysqld", "mariadbd", "mysqld-debug", "mariadbd-debug"];

/// Why a process could not be watched or ended.
#[derive(Debug, thiserror::Error)]
#[error("{action} process {pid}")]
pub struct ProcessError {
    /// What was tried.
    pub action: &'static str,
    /// On which process.
    pub pid: u32,
    /// Why it failed.
    #[source]
    pub source: io::Error,
}

/// A running mysqld, held by its pidfd.
#[derive(Debug)]
pub struct Mysqld {
    pid: u32,
    handle: AsyncFd<OwnedFd>,
}

/// How a mysqld came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// None ran.
    NotRunning,
    /// It obeyed SIGTERM.
    Sigterm,
    /// It was killed.
    Sigkill,
    /// SIGKILL was sent and is pending: the process is stuck in the kernel and runs no more of its own code.
    SigkillPending,
}

/// What a process left for its parent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExitStatus {
    /// It ended by itself, with this code.
    Code(u8),
    /// It was ended by this signal.
    Signal(u8),
}

impl Ended {
    /// The words of the wire: `not running`, `SIGTERM`, `SIGKILL`, `SIGKILL pending`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NotRunning => "not running",
            Self::Sigterm => "SIGTERM",
            Self::Sigkill => "SIGKILL",
            Self::SigkillPending => "SIGKILL pending",
        }
    }
}

/// Finds the mysqld whose data directory this is: pid file first, then all processes.
///
/// Reads `/proc` only; a few milliseconds on a host with thousands of processes. Needs a tokio runtime.
pub fn find(datadir: &Path, pid_file: Option<&Path>) -> Result<Option<Mysqld>, ProcessError> {
    let Ok(datadir) = fs::canonicalize(datadir) else {
        // No such directory (any more): no server can have it as its working directory by this name.
        return Ok(None);
    };
    let named = pid_file
        .and_then(|path| fs::read_to_string(path).ok())
        .and_then(|text| text.trim().parse::<u32>().ok());
    if let Some(pid) = named
        && let Some(found) = open(pid, &datadir)?
    {
        return Ok(Some(found));
    }
    for pid in running_pids() {
        if let Some(found) = open(pid, &datadir)? {
            return Ok(Some(found));
        }
    }
    Ok(None)
}

/// Ends the mysqld of a data directory: SIGTERM, after `patience` SIGKILL, all within `deadline`.
///
/// `SigkillPending` is a success of this function: the process executes nothing any more.
pub async fn stop(
    datadir: &Path,
    pid_file: Option<&Path>,
    patience: Duration,
    deadline: Deadline,
) -> Result<Ended, ProcessError> {
    match find(datadir, pid_file)? {
        None => Ok(Ended::NotRunning),
        Some(mysqld) => mysqld.stop(patience, deadline).await,
    }
}

impl Mysqld {
    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Its arguments; empty if they cannot be read.
    pub fn command_line(&self) -> Vec<String> {
        let bytes = fs::read(proc_folder(self.pid).join("cmdline")).unwrap_or_default();
        bytes
            .split(|byte| *byte == 0)
            .filter(|argument| !argument.is_empty())
            .map(|argument| String::from_utf8_lossy(argument).into_owned())
            .collect()
    }

    /// What it was given behind its program's name, also where a dynamic loader was started with the program.
    pub fn arguments(&self) -> Vec<String> {
        let all = self.command_line();
        let program = all
            .iter()
            .position(|argument| is_server_program(argument))
            .unwrap_or(0);
        all.into_iter().skip(program + 1).collect()
    }

    /// Its environment at its start; `None` if the kernel does not show it.
    pub fn environment(&self) -> Option<BTreeMap<String, String>> {
        let bytes = fs::read(proc_folder(self.pid).join("environ")).ok()?;
        let variables = bytes.split(|byte| *byte == 0).filter_map(|variable| {
            let text = String::from_utf8_lossy(variable);
            let (name, value) = text.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        });
        Some(variables.collect())
    }

    /// True once the process has ended.
    pub fn has_ended(&self) -> bool {
        // Readable means ended; asking costs no wait and needs no trust in the number.
        let mut descriptors = [PollFd::new(self.handle.get_ref(), PollFlags::IN)];
        matches!(poll(&mut descriptors, Some(&Timespec::default())), Ok(ready) if ready > 0)
    }

    /// Returns when the process has ended. Cancel-safe; wrap it in the caller's deadline.
    pub async fn ended(&self) -> Result<(), ProcessError> {
        // A pidfd becomes readable when its process ends, and stays so.
        self.handle
            .ready(Interest::READABLE)
            .await
            .map(drop)
            .map_err(|source| self.error("watch", source))
    }

    /// How it ended, if its parent has not asked for that yet: only the parent is told, but until then the kernel shows it
    /// in `/proc`, to the same user and to root.
    pub fn exit_status(&self) -> Option<ExitStatus> {
        let folder = proc_folder(self.pid);
        let ours = nix::unistd::Uid::effective();
        let owner = fs::metadata(&folder).ok()?.uid();
        if !ours.is_root() && ours.as_raw() != owner {
            // To others the kernel shows 0.
            return None;
        }
        exit_status_in(&fs::read_to_string(folder.join("stat")).ok()?)
    }

    /// SIGTERM, after `patience` SIGKILL, all within `deadline`.
    pub async fn stop(
        &self,
        patience: Duration,
        deadline: Deadline,
    ) -> Result<Ended, ProcessError> {
        self.signal(Signal::TERM)?;
        if let Ok(ended) = timeout(deadline.at_most(patience), self.ended()).await {
            return ended.map(|()| Ended::Sigterm);
        }
        self.kill(deadline).await
    }

    /// SIGKILL, and the end of the process awaited until `deadline`.
    pub async fn kill(&self, deadline: Deadline) -> Result<Ended, ProcessError> {
        self.signal(Signal::KILL)?;
        match timeout(deadline.remaining(), self.ended()).await {
            Ok(ended) => ended.map(|()| Ended::Sigkill),
            Err(_) => Ok(Ended::SigkillPending),
        }
    }

    fn signal(&self, signal: Signal) -> Result<(), ProcessError> {
        match pidfd_send_signal(self.handle.get_ref(), signal) {
            // It ended meanwhile: what the signal was for has happened.
            Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
            Err(errno) => Err(self.error("signal", errno.into())),
        }
    }

    fn error(&self, action: &'static str, source: io::Error) -> ProcessError {
        ProcessError {
            action,
            pid: self.pid,
            source,
        }
    }
}

/// Opens a process if it is a mysqld of this (canonical) data directory.
fn open(pid: u32, datadir: &Path) -> Result<Option<Mysqld>, ProcessError> {
    if !belongs_to(pid, datadir) {
        return Ok(None);
    }
    let Some(raw) = i32::try_from(pid).ok().and_then(Pid::from_raw) else {
        return Ok(None);
    };
    let failed = |source: io::Error| ProcessError {
        action: "open",
        pid,
        source,
    };
    // Registering with the runtime needs a non-blocking descriptor.
    let handle = match pidfd_open(raw, PidfdFlags::NONBLOCK) {
        Ok(handle) => handle,
        Err(rustix::io::Errno::SRCH) => return Ok(None),
        Err(errno) => return Err(failed(errno.into())),
    };
    // The number may have changed hands between the check and the opening.
    if !belongs_to(pid, datadir) {
        return Ok(None);
    }
    // Its replacement is an unsafe function, for types that may close their descriptor behind tokio's back; an
    // `OwnedFd` that nothing else can reach does not.
    #[expect(
        deprecated,
        reason = "sound for an OwnedFd, and the replacement is unsafe"
    )]
    let handle = AsyncFd::with_interest(handle, Interest::READABLE).map_err(failed)?;
    Ok(Some(Mysqld { pid, handle }))
}

/// True if this process is a living server with this working directory.
fn belongs_to(pid: u32, datadir: &Path) -> bool {
    let folder = proc_folder(pid);
    let Ok(command) = fs::read_to_string(folder.join("comm")) else {
        return false;
    };
    let command = command.trim_end();
    // 5.6 and later name their main thread after the program; started through a dynamic loader (`ld.so mysqld`),
    // the command is the loader's, so the program's path is looked for in the arguments.
    let is_server = COMMANDS.contains(&command)
        || (command.starts_with("ld-linux") || command.starts_with("ld.so"))
            && runs_through_loader(&folder);
    is_server && fs::read_link(folder.join("cwd")).is_ok_and(|cwd| cwd == datadir) && is_alive(pid)
}

fn runs_through_loader(folder: &Path) -> bool {
    let Ok(arguments) = fs::read(folder.join("cmdline")) else {
        return false;
    };
    arguments
        .split(|byte| *byte == 0)
        .any(|argument| is_server_program(std::str::from_utf8(argument).unwrap_or("")))
}

fn is_server_program(argument: &str) -> bool {
    Path::new(argument)
        .file_name()
        .and_then(|name| name.to_str())
        .is_some_and(|name| COMMANDS.contains(&name))
}

/// False for a process that is gone or only waits for its parent (zombie).
fn is_alive(pid: u32) -> bool {
    let Ok(stat) = fs::read_to_string(proc_folder(pid).join("stat")) else {
        return false;
    };
    // `pid (comm) S ...`: comm may hold anything, also parentheses and spaces.
    stat.rsplit_once(')')
        .and_then(|(_, rest)| rest.trim_start().chars().next())
        .is_some_and(|state| !matches!(state, 'Z' | 'X' | 'x'))
}

/// When a process began, clock ticks since the boot (proc(5): field 22 `starttime`); `None` if it is gone.
pub fn started(pid: u32) -> Option<u64> {
    started_in(&fs::read_to_string(proc_folder(pid).join("stat")).ok()?)
}

fn started_in(stat: &str) -> Option<u64> {
    // The 3rd field is the first after the name; the 22nd is the 20th of these.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Exit status in a `stat` line of `/proc` (proc(5): field 3 `state`, field 52 `exit_code` in waitpid's form); `None` unless it is
/// that of a process that only waits for its parent.
fn exit_status_in(stat: &str) -> Option<ExitStatus> {
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_ascii_whitespace();
    if fields.next()? != "Z" {
        return None;
    }
    // `state` is the 3rd, taken; the 52nd is the 49th after it.
    let status: u32 = fields.nth(48)?.parse().ok()?;
    match u8::try_from(status & 0x7f) {
        Ok(0) => u8::try_from(status >> 8 & 0xff).ok().map(ExitStatus::Code),
        signal => signal.ok().map(ExitStatus::Signal),
    }
}

fn running_pids() -> impl Iterator<Item = u32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(Result::ok)
        .filter_map(|entry| {
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
        })
}

fn proc_folder(pid: u32) -> PathBuf {
    PathBuf::from("/proc").join(pid.to_string())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::process::{Child, Command, Stdio};
    use std::time::Instant;

    use super::*;

    /// Longest wait for what should come at once, on a machine that does much else.
    const SOON: Duration = Duration::from_secs(60);

    /// A program named like a server, with the data directory as its working directory.
    fn impostor(program: &str, datadir: &Path, script: &str) -> Child {
        let shell = datadir.join(program);
        // Not a copy: it could not be run while a child of another thread still has it open for writing.
        symlink("/bin/sh", &shell).unwrap();
        Command::new(&shell)
            .args(["-c", script])
            .current_dir(datadir)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    async fn found(datadir: &Path, pid_file: Option<&Path>) -> Mysqld {
        let began = Instant::now();
        while began.elapsed() < SOON {
            if let Some(mysqld) = find(datadir, pid_file).unwrap() {
                return mysqld;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        panic!("no process found in {}", datadir.display());
    }

    #[tokio::test]
    async fn a_server_is_known_by_its_name_and_working_directory() {
        let folder = tempfile::tempdir().unwrap();
        let datadir = folder.path().canonicalize().unwrap();
        let elsewhere = tempfile::tempdir().unwrap();
        let mut other_name = impostor("notmysqld", &datadir, "while :; do sleep 0.1; done");
        let mut child = impostor("mysqld", &datadir, "while :; do sleep 0.1; done");
        let mysqld = found(&datadir, None).await;
        assert_eq!(mysqld.pid(), child.id());
        assert!(!mysqld.has_ended());
        assert!(find(elsewhere.path(), None).unwrap().is_none());
        // A stale pid file misleads nobody.
        let pid_file = folder.path().join("mysqld.pid");
        fs::write(&pid_file, format!("{}\n", std::process::id())).unwrap();
        assert_eq!(found(&datadir, Some(&pid_file)).await.pid(), child.id());
        child.kill().unwrap();
        timeout(SOON, mysqld.ended()).await.unwrap().unwrap();
        assert!(mysqld.has_ended());
        assert_eq!(mysqld.exit_status(), Some(ExitStatus::Signal(9)));
        // Not reaped yet: a zombie is no running server.
        assert!(find(&datadir, None).unwrap().is_none());
        child.wait().unwrap();
        assert_eq!(mysqld.exit_status(), None);
        other_name.kill().unwrap();
        other_name.wait().unwrap();
    }

    #[test]
    fn the_start_of_a_process_is_read_where_it_stands() {
        let between = (4..=21)
            .map(|n| n.to_string())
            .collect::<Vec<_>>()
            .join(" ");
        let stat = format!("7 (my (sql) d) S {between} 123456 0\n");
        assert_eq!(started_in(&stat), Some(123_456));
        assert_eq!(started_in("7 (mysqld) S 1"), None);
        let own = started(std::process::id());
        assert!(own.is_some_and(|ticks| ticks > 0), "{own:?}");
        assert_eq!(own, started(std::process::id()));
    }

    #[test]
    fn an_exit_status_is_read_where_it_stands() {
        let stat = |state: &str, status: u32| {
            let between = vec!["0"; 48].join(" ");
            format!("7 (my (sql) d) {state} {between} {status}\n")
        };
        assert_eq!(exit_status_in(&stat("Z", 0)), Some(ExitStatus::Code(0)));
        assert_eq!(exit_status_in(&stat("Z", 256)), Some(ExitStatus::Code(1)));
        assert_eq!(exit_status_in(&stat("Z", 9)), Some(ExitStatus::Signal(9)));
        // SIGSEGV with a core.
        assert_eq!(
            exit_status_in(&stat("Z", 0x8b)),
            Some(ExitStatus::Signal(11))
        );
        assert_eq!(exit_status_in(&stat("S", 0)), None);
        assert_eq!(exit_status_in("7 (mysqld) Z 0 0"), None);
        assert_eq!(exit_status_in(""), None);
    }

    #[tokio::test]
    async fn sigterm_is_enough_for_the_willing_and_sigkill_for_the_rest() {
        let folder = tempfile::tempdir().unwrap();
        let datadir = folder.path().canonicalize().unwrap();
        let deadline = Deadline::after(SOON * 2);
        let mut willing = impostor("mysqld", &datadir, "while :; do sleep 0.1; done");
        let mysqld = found(&datadir, None).await;
        let ended = mysqld.stop(SOON, deadline).await.unwrap();
        assert_eq!(ended, Ended::Sigterm);
        willing.wait().unwrap();

        let mut deaf = impostor(
            "mariadbd",
            &datadir,
            "trap '' TERM; touch ready; while :; do sleep 0.1; done",
        );
        let mysqld = found(&datadir, None).await;
        let began = Instant::now();
        while !datadir.join("ready").exists() {
            assert!(began.elapsed() < SOON, "it did not start");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let ended = mysqld
            .stop(Duration::from_millis(100), deadline)
            .await
            .unwrap();
        assert_eq!(ended, Ended::Sigkill);
        deaf.wait().unwrap();
        let none = stop(&datadir, None, Duration::from_secs(1), deadline)
            .await
            .unwrap();
        assert_eq!(none, Ended::NotRunning);
    }
}
