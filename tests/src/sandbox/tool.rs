//! Runs programs of the operating system with a time limit, and names the one that is missing.

use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use super::error::SandboxError;

/// How much of a program's output an error quotes, in bytes from its end.
const QUOTED: usize = 2000;

/// What a program needs to be called: its purpose for the error text, and the package that has it.
pub struct Tool {
    /// Program name, looked up in PATH, or a path.
    pub program: &'static str,
    /// Package that usually holds it.
    pub package: &'static str,
}

/// npm, for servers published as npm packages.
pub const NPM: Tool = Tool {
    program: "npm",
    package: "Node.js with npm",
};
/// Maven, for servers published as Maven artifacts.
pub const MAVEN: Tool = Tool {
    program: "mvn",
    package: "Maven with a Java runtime",
};
/// apt-get, for servers published as Debian packages.
pub const APT_GET: Tool = Tool {
    program: "apt-get",
    package: "apt (a Debian or Ubuntu machine)",
};
/// dpkg, to unpack Debian packages.
pub const DPKG: Tool = Tool {
    program: "dpkg",
    package: "dpkg",
};
/// tar, to unpack npm packages and what Maven artifacts hold.
pub const TAR: Tool = Tool {
    program: "tar",
    package: "tar and gzip",
};

impl Tool {
    /// A command for this tool.
    pub fn command(&self) -> Command {
        Command::new(self.program)
    }

    /// Runs `command` (made by [`Tool::command`]) to its end and returns what it wrote to standard output.
    pub fn run(
        &self,
        command: Command,
        purpose: &str,
        limit: Duration,
    ) -> Result<String, SandboxError> {
        run(command, None, limit).map_err(|error| match error {
            SandboxError::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {
                SandboxError::MissingTool {
                    tool: self.program.to_owned(),
                    purpose: purpose.to_owned(),
                    package: self.package,
                }
            }
            other => other,
        })
    }
}

/// What a program that ran to its end left.
#[derive(Debug, Clone)]
pub struct Finished {
    /// Exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

/// Runs a command to its end with an optional file as standard input; returns its standard output.
pub fn run(
    command: Command,
    input: Option<&Path>,
    limit: Duration,
) -> Result<String, SandboxError> {
    let shown = show(&command);
    let finished = finish(command, input, limit)?;
    if finished.code == Some(0) {
        return Ok(finished.stdout);
    }
    let status = finished
        .code
        .map_or("a signal".to_owned(), |code| format!("exit code {code}"));
    Err(SandboxError::Tool {
        command: shown,
        status,
        output: tail(&(finished.stdout + &finished.stderr)),
    })
}

/// Runs a command to its end, whatever its exit code; one that does not end in time is killed and is an error.
pub fn finish(
    mut command: Command,
    input: Option<&Path>,
    limit: Duration,
) -> Result<Finished, SandboxError> {
    let shown = show(&command);
    let scratch = std::env::temp_dir();
    let new_file = || tempfile::tempfile().map_err(SandboxError::io("create a file in", &scratch));
    let (mut out, mut err) = (new_file()?, new_file()?);
    let handle = |file: &File| {
        file.try_clone()
            .map_err(SandboxError::io("duplicate a file in", &scratch))
    };
    let stdin = match input {
        Some(path) => Stdio::from(File::open(path).map_err(SandboxError::io("open", path))?),
        None => Stdio::null(),
    };
    command
        .stdin(stdin)
        .stdout(handle(&out)?)
        .stderr(handle(&err)?);
    let program = command.get_program().to_owned();
    let started = Instant::now();
    let mut child = command
        .spawn()
        .map_err(SandboxError::io("run", Path::new(&program)))?;
    loop {
        if let Some(status) = child
            .try_wait()
            .map_err(SandboxError::io("wait for", Path::new(&program)))?
        {
            let took = started.elapsed();
            return Ok(Finished {
                code: status.code(),
                stdout: read(&mut out)?,
                stderr: read(&mut err)?,
                took,
            });
        }
        if started.elapsed() > limit {
            // Both fail only if it has ended by itself in between.
            let _ = child.kill();
            let _ = child.wait();
            let output = tail(&(read(&mut out)? + &read(&mut err)?));
            return Err(SandboxError::Tool {
                command: shown,
                status: format!("no end after {limit:?}"),
                output,
            });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn read(file: &mut File) -> Result<String, SandboxError> {
    let scratch = std::env::temp_dir();
    let mut bytes = Vec::new();
    file.rewind()
        .map_err(SandboxError::io("rewind a file in", &scratch))?;
    file.read_to_end(&mut bytes)
        .map_err(SandboxError::io("read a file in", &scratch))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

/// The end of a text, at a character boundary.
pub(crate) fn tail(text: &str) -> String {
    let mut start = text.len().saturating_sub(QUOTED);
    while !text.is_char_boundary(start) {
        start += 1;
    }
    text.get(start..).unwrap_or_default().trim().to_owned()
}

fn show(command: &Command) -> String {
    let mut text = command.get_program().to_string_lossy().into_owned();
    for argument in command.get_args() {
        text.push(' ');
        text.push_str(&argument.to_string_lossy());
    }
    text
}
