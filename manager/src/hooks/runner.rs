//! Runs one hook: no shell, a process group of its own, a limit, its output.
//!
//! Guarantees: a call returns within the limit and two seconds; at the limit the group gets SIGTERM, a second later
//! SIGKILL; a future that is dropped kills the group. A hook that ends in time may leave a process in the background,
//! as under MHA: nobody waits for it, and its output is taken and thrown away, so that it is not ended by a closed pipe.

use std::io::ErrorKind;
use std::os::unix::process::ExitStatusExt;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::output::{Collector, Lines};
use super::{Call, Hook, HookCommand, HookError, Output, Say};

/// From SIGTERM to SIGKILL, and from there until nobody waits any longer.
const GRACE: Duration = Duration::from_secs(1);
/// How long output is still read after the end: what was written before it is there at once.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// A file that is still open for writing cannot be started; whoever writes it is done in a moment.
const BUSY_TRIES: u32 = 20;
const BUSY_PAUSE: Duration = Duration::from_millis(25);
/// Bytes of stdout that are handed on where it is a hook's answer.
const LONGEST_ANSWER: usize = 64 * 1024;

/// How a hook ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// By itself, with this code.
    Exited(i32),
    /// By a signal that was not ours.
    Signalled(i32),
    /// At its limit, by us; `gone` unless it is stuck in the kernel.
    TimedOut {
        /// It is gone for sure.
        gone: bool,
    },
}

/// A hook that has run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ran {
    /// The hook.
    pub hook: Hook,
    /// Its limit.
    pub limit: Duration,
    /// How it ended.
    pub end: End,
    /// What it printed.
    pub output: Output,
    /// Its stdout, if it is an answer; not part of `output` then.
    pub answer: Vec<u8>,
}

impl Ran {
    /// Its exit code and output.
    ///
    /// # Errors
    /// [`HookError`] if it did not end by itself.
    pub fn exit_code(self) -> Result<(i32, Output), HookError> {
        let Self { hook, limit, .. } = self;
        let output = self.output;
        match self.end {
            End::Exited(code) => Ok((code, output)),
            End::Signalled(signal) => Err(HookError::Signalled {
                hook,
                signal,
                output,
            }),
            End::TimedOut { gone } => Err(HookError::TimedOut {
                hook,
                limit,
                gone,
                output,
            }),
        }
    }
}

/// Kills the group when dropped, unless its leader has been reaped: then its number may belong to somebody else.
struct Group(Option<Pid>);

impl Group {
    fn signal(&self, signal: Signal) {
        if let Some(group) = self.0 {
            // A group that is gone already is what is wanted.
            let _ = killpg(group, signal);
        }
    }

    fn reaped(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// Runs a hook; every line it prints is said.
///
/// # Errors
/// [`HookError::NotStarted`]; how it ended is in the answer.
pub async fn run(command: &HookCommand, call: &Call, say: Say<'_>) -> Result<Ran, HookError> {
    let hook = call.hook();
    tracing::info!(%hook, program = %command.program, arguments = %call.shown(), "hook starts");
    let mut child = spawn(command, call).await?;
    let mut group = Group(
        child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw),
    );
    let deadline = Instant::now() + command.timeout;
    let mut work = Work::new(&mut child, call);
    let hear = |line: &str| {
        tracing::info!(%hook, line, "hook says");
        say(line);
    };
    let end = match work.until_exit(&mut child, deadline, &hear).await {
        Some(status) => {
            group.reaped();
            of_status(status)
        }
        None => end_group(&mut child, &mut group).await,
    };
    let (output, answer) = work.finish(end);
    tracing::info!(%hook, ?end, dropped_bytes = output.dropped_bytes, "hook ended");
    Ok(Ran {
        hook,
        limit: command.timeout,
        end,
        output,
        answer,
    })
}

/// The same from code that is not asynchronous, inside a runtime or not.
///
/// # Errors
/// As [`run`].
pub fn run_blocking(command: &HookCommand, call: &Call, say: Say<'_>) -> Result<Ran, HookError> {
    let failed = |source| HookError::NotStarted {
        hook: call.hook(),
        program: command.program.clone(),
        source,
    };
    std::thread::scope(|scope| {
        scope
            .spawn(|| {
                tokio::runtime::Builder::new_current_thread()
                    .enable_all()
                    .build()
                    .map_err(failed)?
                    .block_on(run(command, call, say))
            })
            .join()
            .unwrap_or_else(|_| Err(failed(std::io::Error::other("its thread panicked"))))
    })
}

async fn spawn(command: &HookCommand, call: &Call) -> Result<Child, HookError> {
    let mut tries_left = BUSY_TRIES;
    loop {
        let spawned = Command::new(&command.program)
            .args(&command.arguments)
            .args(call.arguments())
            .envs(call.environment())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .spawn();
        match spawned {
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy && tries_left > 0 => {
                tries_left -= 1;
                sleep(BUSY_PAUSE).await;
            }
            Ok(child) => return Ok(child),
            Err(source) => {
                return Err(HookError::NotStarted {
                    hook: call.hook(),
                    program: command.program.clone(),
                    source,
                });
            }
        }
    }
}

fn of_status(status: ExitStatus) -> End {
    match (status.code(), status.signal()) {
        (Some(code), _) => End::Exited(code),
        (None, signal) => End::Signalled(signal.unwrap_or_default()),
    }
}

/// SIGTERM, a moment, SIGKILL; waits for neither longer than [`GRACE`].
async fn end_group(child: &mut Child, group: &mut Group) -> End {
    group.signal(Signal::SIGTERM);
    let after_term = timeout(GRACE, child.wait()).await;
    // Also if the leader is gone: the rest of its group may not have listened.
    group.signal(Signal::SIGKILL);
    let gone = match after_term {
        Ok(_) => true,
        Err(_) => timeout(GRACE, child.wait()).await.is_ok(),
    };
    group.reaped();
    End::TimedOut { gone }
}

type Stream = Box<dyn AsyncRead + Send + Unpin>;

/// Pipes of a running hook.
struct Work {
    stdin: Option<tokio::process::ChildStdin>,
    input: Vec<u8>,
    written: usize,
    pipes: [Option<Stream>; 2],
    lines: [Lines; 2],
    collector: Collector,
    answers: bool,
    answer: Vec<u8>,
}

impl Work {
    fn new(child: &mut Child, call: &Call) -> Self {
        Self {
            stdin: child.stdin.take(),
            input: call.json(),
            written: 0,
            pipes: [
                child.stdout.take().map(|p| Box::new(p) as Stream),
                child.stderr.take().map(|p| Box::new(p) as Stream),
            ],
            lines: [Lines::default(), Lines::default()],
            collector: Collector::new(call.secrets()),
            answers: call.hook() == Hook::InitConfLoadScript,
            answer: Vec::new(),
        }
    }

    /// Writes, reads and waits at the same time; `None` at the deadline.
    async fn until_exit(
        &mut self,
        child: &mut Child,
        deadline: Instant,
        say: &(dyn Fn(&str) + Send + Sync),
    ) -> Option<ExitStatus> {
        let mut status = None;
        let mut until = deadline;
        let (mut out, mut err) = (vec![0; 64 * 1024], vec![0; 16 * 1024]);
        loop {
            let open = self.pipes.iter().any(Option::is_some);
            if status.is_some() && !open {
                break;
            }
            let [stdout, stderr] = &mut self.pipes;
            tokio::select! {
                biased;
                () = sleep_until(until) => break,
                exited = child.wait(), if status.is_none() => {
                    // If nobody can say how it ended, it counts as killed: how far it came is not known.
                    status = Some(exited.unwrap_or_else(|_| ExitStatus::from_raw(9)));
                    self.stdin = None;
                    until = deadline.min(Instant::now() + LAST_WORDS);
                }
                written = write(&mut self.stdin, self.input.get(self.written..).unwrap_or_default()) => {
                    self.written += written;
                    if written == 0 || self.written >= self.input.len() {
                        self.stdin = None;
                    }
                }
                read = read(stdout, &mut out) => self.took(0, out.get(..read), say),
                read = read(stderr, &mut err) => self.took(1, err.get(..read), say),
            }
        }
        for lines in &mut self.lines {
            if lines.is_begun() {
                self.collector.finish(lines, say);
            }
        }
        status
    }

    fn took(&mut self, pipe: usize, block: Option<&[u8]>, say: &(dyn Fn(&str) + Send + Sync)) {
        let block = block.unwrap_or_default();
        if block.is_empty() {
            self.pipes[pipe] = None;
        } else if pipe == 0 && self.answers {
            let room = LONGEST_ANSWER.saturating_sub(self.answer.len());
            self.answer
                .extend_from_slice(block.get(..room.min(block.len())).unwrap_or_default());
        } else {
            self.collector.take(&mut self.lines[pipe], block, say);
        }
    }

    /// Leaves open pipes to somebody who empties them.
    fn finish(mut self, end: End) -> (Output, Vec<u8>) {
        for pipe in &mut self.pipes {
            if let (Some(mut pipe), End::Exited(_)) = (pipe.take(), end) {
                tokio::spawn(
                    async move { tokio::io::copy(&mut pipe, &mut tokio::io::sink()).await },
                );
            }
        }
        (self.collector.into_output(), self.answer)
    }
}

/// Bytes written; 0 if nobody reads. Waits for ever without a pipe.
async fn write(stdin: &mut Option<tokio::process::ChildStdin>, rest: &[u8]) -> usize {
    match stdin {
        Some(stdin) => stdin.write(rest).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

/// Bytes read; 0 at the end. Waits for ever without a pipe.
async fn read(pipe: &mut Option<Stream>, block: &mut [u8]) -> usize {
    match pipe {
        Some(pipe) => pipe.read(block).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
