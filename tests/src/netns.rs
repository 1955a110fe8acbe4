//! The virtual IP in a network of its own: real kernel, real servers, a neighbour whose ARP cache tells where the address is.
//!
//! Needs root, since it makes network namespaces; nothing of the machine's own network is touched. `run` makes the namespaces
//! ([`lab`]) and starts this program once more inside them; there [`stories`] start servers, agents and the manager as always,
//! with one interface for each agent, and take, move, refuse, restart and lose the address.

mod lab;
mod stories;

use std::path::Path;
use std::process::Stdio;

use nix::unistd::Uid;
use tokio::process::Command;

use crate::sandbox::slot::Slot;
use crate::sandbox::{SandboxError, ServerKind, binaries, fetch, template};

use self::lab::Lab;

/// Runs all stories; fails loudly where the machine does not allow them.
///
/// # Errors
/// What is missing, or the first story that went wrong.
pub async fn run(say: impl Fn(&str) -> Result<(), SandboxError>) -> Result<(), SandboxError> {
    if !Uid::effective().is_root() {
        return Err(failed(
            "not started",
            "it needs root: it makes network namespaces, and gives agents CAP_NET_ADMIN and CAP_NET_RAW there",
        ));
    }
    let _slot = Slot::take().await?;
    // Inside there is no network to fetch anything from.
    binaries::ensure().await?;
    tokio::task::spawn_blocking(|| {
        let distribution = fetch::ensure(ServerKind::MySql56)?;
        template::ensure(&distribution).map(drop)
    })
    .await
    .map_err(|error| failed("not prepared", &error.to_string()))??;
    let lab = Lab::make()?;
    say(&format!("network: {lab}"))?;
    let program = std::env::current_exe().map_err(SandboxError::io("find", Path::new("itself")))?;
    let status = Command::new(lab::IP.program)
        .args(["netns", "exec", lab.hosts()])
        .arg(&program)
        .args(["netns", "--inside", lab.neighbour()])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .status()
        .await
        .map_err(SandboxError::io("run", &program))?;
    if status.success() {
        Ok(())
    } else {
        Err(failed(&status.to_string(), "see the last line above"))
    }
}

/// The stories themselves, in the namespace of the hosts; `neighbour` is the neighbour's namespace.
///
/// # Errors
/// The first story that went wrong.
pub async fn inside(
    neighbour: &str,
    say: impl Fn(&str) -> Result<(), SandboxError>,
) -> Result<(), SandboxError> {
    stories::tell(neighbour, say).await
}

fn failed(status: &str, output: &str) -> SandboxError {
    SandboxError::Tool {
        command: "sandbox netns".to_owned(),
        status: status.to_owned(),
        output: output.to_owned(),
    }
}
