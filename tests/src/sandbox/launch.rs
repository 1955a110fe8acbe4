//! Starts child processes that cannot outlive this one, and signals them by the process id that was started.
//!
//! Children are started by one thread that lives as long as the process: the kernel sends a parent-death signal when the
//! starting *thread* ends, and test threads end early. `setpriv` sets the signal; where it is missing, children end by
//! `Drop` alone.

use std::ffi::OsString;
use std::fs::File;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, mpsc};
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::error::SandboxError;
use super::tool;

/// What to start.
#[derive(Debug, Clone)]
pub struct Launch {
    /// Name in errors.
    pub name: String,
    /// Program path.
    pub program: PathBuf,
    /// Arguments.
    pub arguments: Vec<OsString>,
    /// Environment variables on top of this process's own.
    pub environment: Vec<(String, String)>,
    /// Both outputs are appended to this file.
    pub log: PathBuf,
}

type Job = (Command, mpsc::Sender<std::io::Result<Child>>);

/// The thread that starts all children.
fn launcher() -> &'static Mutex<mpsc::Sender<Job>> {
    static LAUNCHER: OnceLock<Mutex<mpsc::Sender<Job>>> = OnceLock::new();
    LAUNCHER.get_or_init(|| {
        let (sender, jobs) = mpsc::channel::<Job>();
        std::thread::spawn(move || {
            for (mut command, answer) in jobs {
                // Nobody waits for the answer only if the starting call was given up; then the child ends here.
                if let Err(mpsc::SendError(Ok(mut child))) = answer.send(command.spawn()) {
                    let _ = child.kill();
                    let _ = child.wait();
                }
            }
        });
        Mutex::new(sender)
    })
}

fn unpoisoned<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn has_setpriv() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--", "true"]);
        tool::run(command, None, Duration::from_secs(60)).is_ok()
    })
}

/// A started child. Killed when dropped.
#[derive(Debug)]
pub struct Process {
    name: String,
    log: PathBuf,
    child: Mutex<Child>,
    pid: Pid,
}

impl Process {
    /// Starts a child in a process group of its own, so that Ctrl-C reaches only us.
    pub fn start(launch: &Launch) -> Result<Self, SandboxError> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(&launch.log)
            .map_err(SandboxError::io("open", &launch.log))?;
        let second = log
            .try_clone()
            .map_err(SandboxError::io("duplicate", &launch.log))?;
        let mut command = if has_setpriv() {
            let mut command = Command::new("setpriv");
            command
                .args(["--pdeathsig", "KILL", "--"])
                .arg(&launch.program);
            command
        } else {
            Command::new(&launch.program)
        };
        command
            .args(&launch.arguments)
            .envs(launch.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(second)
            .process_group(0);
        let gone = || std::io::Error::other("the starting thread has ended");
        let (answer, started) = mpsc::channel();
        let sent = unpoisoned(launcher()).send((command, answer));
        let child = sent
            .map_err(|_| gone())
            .and_then(|()| started.recv().map_err(|_| gone())?)
            .map_err(SandboxError::io("run", &launch.program))?;
        let pid = Pid::from_raw(i32::try_from(child.id()).unwrap_or(i32::MAX));
        Ok(Self {
            name: launch.name.clone(),
            log: launch.log.clone(),
            child: Mutex::new(child),
            pid,
        })
    }

    /// The process id.
    pub fn pid(&self) -> i32 {
        self.pid.as_raw()
    }

    /// The exit status, once it has ended.
    pub fn ended(&self) -> Result<Option<ExitStatus>, SandboxError> {
        unpoisoned(&self.child)
            .try_wait()
            .map_err(SandboxError::io("wait for", Path::new(&self.name)))
    }

    /// Sends a signal unless the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), SandboxError> {
        // The lock keeps the child unreaped, so that the id cannot belong to another process.
        let mut child = unpoisoned(&self.child);
        if matches!(child.try_wait(), Ok(Some(_))) {
            return Err(SandboxError::NotRunning {
                name: self.name.clone(),
            });
        }
        kill(self.pid, signal).map_err(|source| SandboxError::Signal {
            name: self.name.clone(),
            signal: signal.as_str(),
            source,
        })
    }

    /// SIGSTOP.
    pub fn freeze(&self) -> Result<(), SandboxError> {
        self.signal(Signal::SIGSTOP)
    }

    /// SIGCONT.
    pub fn thaw(&self) -> Result<(), SandboxError> {
        self.signal(Signal::SIGCONT)
    }

    /// Waits until it has ended.
    pub async fn wait(&self, limit: Duration) -> Result<ExitStatus, SandboxError> {
        let started = Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if started.elapsed() > limit {
                return Err(self.not_ready(format!("did not end within {limit:?}")));
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }

    /// SIGKILL, and waits for the end. Fine for one that has ended already.
    pub fn kill(&self) -> Result<(), SandboxError> {
        let mut child = unpoisoned(&self.child);
        if matches!(child.try_wait(), Ok(Some(_))) {
            return Ok(());
        }
        child
            .kill()
            .map_err(SandboxError::io("kill", Path::new(&self.name)))?;
        child
            .wait()
            .map_err(SandboxError::io("wait for", Path::new(&self.name)))?;
        Ok(())
    }

    /// An error that quotes the end of the log.
    pub fn not_ready(&self, what: String) -> SandboxError {
        let log = std::fs::read(&self.log).unwrap_or_default();
        SandboxError::NotReady {
            name: self.name.clone(),
            what,
            log_path: self.log.clone(),
            log: tool::tail(&String::from_utf8_lossy(&log)),
        }
    }

    /// One sentence about an exit status, signal included.
    pub fn describe(status: ExitStatus) -> String {
        match status.signal() {
            Some(number) => format!("ended by signal {number}"),
            None => format!("ended with code {}", status.code().unwrap_or(-1)),
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // A stopped (SIGSTOP) child dies of SIGKILL as well.
        let _ = self.kill();
    }
}
