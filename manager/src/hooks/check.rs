//! Before the incident: can the hooks be used?
//!
//! MHA calls `--command=status` of `master_ip_failover_script` and `shutdown_script` when its manager starts, with the
//! primary of that moment, and does not start if one fails. Many people's `status` does more than look (some bring the
//! address up), so it is called while the primary lives, and never in a failover. What a failover checks first is only
//! that the programs are there and may be run.

use std::path::{Path, PathBuf};

use nix::unistd::{AccessFlags, access};

use super::{Call, Hook, HookCommand, HookError, Say, master_ip_failover, party, run, shutdown};
use crate::config::{ClusterConfig, ServerConfig};

/// A hook that could not be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// The program is not there, or may not be run.
    #[error("{hook}: {program} {why}")]
    Program {
        /// The hook.
        hook: Hook,
        /// Program of its command.
        program: String,
        /// What is wrong.
        why: String,
    },
    /// `--command=status` did not end with 0.
    #[error("--command=status")]
    Status(#[source] HookError),
}

impl Unusable {
    /// The hook.
    #[must_use]
    pub fn hook(&self) -> Option<Hook> {
        match self {
            Self::Program { hook, .. } => Some(*hook),
            Self::Status(_) => None,
        }
    }
}

/// Looks whether the programs of all configured hooks are there and may be run. Runs nothing.
#[must_use]
pub fn check_programs(config: &ClusterConfig) -> Vec<Unusable> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> = std::env::split_paths(&path).collect();
    config
        .hooks
        .commands
        .iter()
        .filter_map(|(hook, command)| {
            let why = usable(command, &folders).err()?;
            Some(Unusable::Program {
                hook: *hook,
                program: command.program.clone(),
                why,
            })
        })
        .collect()
}

fn usable(command: &HookCommand, folders: &[PathBuf]) -> Result<(), String> {
    let program = Path::new(&command.program);
    if command.program.contains('/') {
        return runnable(program);
    }
    if folders.iter().any(|f| runnable(&f.join(program)).is_ok()) {
        Ok(())
    } else {
        Err("is in no folder of PATH".to_owned())
    }
}

fn runnable(program: &Path) -> Result<(), String> {
    let metadata = std::fs::metadata(program).map_err(|e| format!("cannot be found: {e}"))?;
    if !metadata.is_file() {
        return Err("is no file".to_owned());
    }
    access(program, AccessFlags::X_OK).map_err(|e| format!("may not be run: {e}"))
}

/// MHA's check at the start of its manager: `--command=status` of both scripts, one after the other, with the primary
/// of this moment. Changes nothing itself. Returns the hooks that answered with 0.
///
/// # Errors
/// The first that did not end with 0.
pub async fn check_status(
    config: &ClusterConfig,
    primary: &ServerConfig,
    say: Say<'_>,
) -> Result<Vec<Hook>, Unusable> {
    let settings = &config.hooks;
    let options = settings.ssh.options.as_deref();
    let primary = party(config, primary).await;
    let calls: [Call; 2] = [
        master_ip_failover::status(&primary, options),
        shutdown::status(&primary, options),
    ];
    let mut good = Vec::new();
    for call in calls {
        let hook = call.hook();
        let Some(command) = settings.command(hook) else {
            continue;
        };
        let call = call.fact("cluster", config.cluster.as_str());
        let ran = run(command, &call, say).await.map_err(Unusable::Status)?;
        let (code, output) = ran.exit_code().map_err(Unusable::Status)?;
        if code != 0 {
            return Err(Unusable::Status(HookError::Failed { hook, code, output }));
        }
        good.push(hook);
    }
    Ok(good)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::Duration;

    use super::*;

    #[test]
    fn programs_are_looked_for_as_they_will_be_started() {
        let dir = tempfile::tempdir().unwrap();
        let file = |name: &str, mode: u32| {
            let path = dir.path().join(name);
            std::fs::write(&path, "#!/bin/sh\n").unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            path.display().to_string()
        };
        let folders = [dir.path().to_owned()];
        let table = [
            (file("good", 0o755), None),
            (file("closed", 0o644), Some("may not be run")),
            (dir.path().display().to_string(), Some("is no file")),
            (
                dir.path().join("absent").display().to_string(),
                Some("cannot be found"),
            ),
            ("good".to_owned(), None),
            ("closed".to_owned(), Some("in no folder of PATH")),
            ("absent".to_owned(), Some("in no folder of PATH")),
        ];
        for (program, expected) in table {
            let command = HookCommand {
                program: program.clone(),
                arguments: vec![],
                timeout: Duration::from_secs(1),
            };
            match (usable(&command, &folders), expected) {
                (Ok(()), None) => {}
                (Err(why), Some(text)) => assert!(why.contains(text), "{program}: {why}"),
                (found, expected) => panic!("{program}: {found:?}, expected {expected:?}"),
            }
        }
    }
}
