//! The programs under test, built once per process by the same cargo and in the same profile as the tests.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::OnceCell;

use super::error::SandboxError;
use super::tool;

/// Paths of the programs.
#[derive(Debug, Clone)]
pub struct Binaries {
    /// `mha-manager`.
    pub manager: PathBuf,
    /// `mha-node-agent`.
    pub agent: PathBuf,
}

/// Builds the programs, or finds that they are up to date, and returns their paths.
pub async fn ensure() -> Result<&'static Binaries, SandboxError> {
    static BUILT: OnceCell<Binaries> = OnceCell::const_new();
    BUILT
        .get_or_try_init(|| async {
            tokio::task::spawn_blocking(build)
                .await
                .map_err(|error| SandboxError::Io {
                    action: "build",
                    path: "mha-manager and mha-node-agent".into(),
                    source: std::io::Error::other(error),
                })?
        })
        .await
}

/// The part of cargo's JSON messages that names a built program.
#[derive(Debug, Deserialize)]
struct Message {
    reason: String,
    target: Option<Target>,
    executable: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
struct Target {
    name: String,
}

fn build() -> Result<Binaries, SandboxError> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."));
    let mut command = Command::new(cargo);
    command
        .current_dir(workspace)
        .args(["build", "--quiet", "--message-format=json"]);
    // With this package among them, the dependencies have the features they have for it, and are not built again.
    command.args([
        "--package",
        "manager",
        "--package",
        "node-agent",
        "--package",
        "tests",
        "--bins",
    ]);
    if !cfg!(debug_assertions) {
        command.arg("--release");
    }
    // What cargo tells the program that it runs is not for the cargo that this program runs: build scripts that look at it
    // (ring's does) would run again, and all that depends on them would be built again, here and at the next build outside.
    for (name, _) in std::env::vars_os() {
        let of_package = name.to_str().is_some_and(|name| {
            ["CARGO_PKG_", "CARGO_MANIFEST_"]
                .iter()
                .any(|prefix| name.starts_with(prefix))
        });
        if of_package || name == "OUT_DIR" {
            command.env_remove(name);
        }
    }
    let started = std::time::Instant::now();
    super::progress("building mha-manager and mha-node-agent");
    let text = tool::run(command, None, Duration::from_secs(1800))?;
    super::progress(&format!(
        "built in {:.1} s",
        started.elapsed().as_secs_f64()
    ));
    let built = |name: &str| {
        executable(&text, name).ok_or_else(|| SandboxError::Tool {
            command: "cargo build".to_owned(),
            status: "success".to_owned(),
            output: format!("no message names the program {name}"),
        })
    };
    Ok(Binaries {
        manager: built("mha-manager")?,
        agent: built("mha-node-agent")?,
    })
}

fn executable(messages: &str, name: &str) -> Option<PathBuf> {
    messages
        .lines()
        .filter_map(|line| serde_json::from_str::<Message>(line).ok())
        .filter(|message| message.reason == "compiler-artifact")
        .find(|message| {
            message
                .target
                .as_ref()
                .is_some_and(|target| target.name == name)
        })?
        .executable
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_are_found_by_their_name() {
        let messages = r#"{"reason":"compiler-artifact","target":{"name":"manager"},"executable":null}
{"reason":"compiler-artifact","target":{"name":"mha-manager"},"executable":"/t/mha-manager"}
{"reason":"build-finished","success":true}"#;
        assert_eq!(
            executable(messages, "mha-manager"),
            Some(PathBuf::from("/t/mha-manager"))
        );
        assert_eq!(executable(messages, "mha-node-agent"), None);
    }
}
