//! The section `hooks:`, checked, and what `init_conf_load_script` adds to the file.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use super::raw_hooks::{self, CommandText, Script};
use super::resolved::Check;
use super::{ConfigError, MonitorConfig, Secret, ServerConfig, raw, secret};
use crate::hooks::init_conf_load::{self, Loaded};
use crate::hooks::{
    self, CompatCredentials, Hook, HookCommand, HookError, HookServer, HookSettings, SshSettings,
};
use crate::observe::chain;

/// MHA had no limit; scripts that power a host off through a management board take tens of seconds.
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);
const DEFAULT_SSH_PORT: u16 = 22;

/// Runs `init_conf_load_script`, if there is one, and reads what it prints.
pub(super) fn load(path: &Path, raw: &raw::Cluster) -> Result<Loaded, ConfigError> {
    const HOOK: Hook = Hook::InitConfLoadScript;
    let check = Check { path };
    let script = raw.hooks.init_conf_load_script.as_ref();
    let limit = default_timeout(&check, &raw.hooks)?;
    let Some(command) = command(&check, HOOK, script, limit)? else {
        return Ok(Loaded::default());
    };
    let call = init_conf_load::call(&raw.cluster, path);
    let failed = |source: HookError| ConfigError::Hook {
        path: path.to_owned(),
        why: chain(&source),
    };
    let ran = hooks::run_blocking(&command, &call, &|_| {}).map_err(failed)?;
    let answer = String::from_utf8_lossy(&ran.answer).into_owned();
    let (code, output) = ran.exit_code().map_err(failed)?;
    if code != 0 {
        return Err(failed(HookError::Failed {
            hook: HOOK,
            code,
            output,
        }));
    }
    let loaded = init_conf_load::parse(&answer).map_err(|error| ConfigError::Hook {
        path: path.to_owned(),
        why: format!("{HOOK}: {error}"),
    })?;
    for name in &loaded.ignored {
        tracing::warn!(
            name,
            "init_conf_load_script printed a parameter of MHA that has no meaning here"
        );
    }
    Ok(loaded)
}

/// Puts what was loaded before what the file says for the whole cluster.
pub(super) fn overlay(
    path: &Path,
    raw: &mut raw::Cluster,
    loaded: &Loaded,
) -> Result<(), ConfigError> {
    let value = |name: &str| loaded.values.get(name).cloned();
    if let Some(user) = value("user") {
        raw.monitor.user = Some(user);
        if let Some(compat) = &mut raw.hooks.mha_compat {
            compat.user = None;
        }
    }
    let ssh = &mut raw.hooks.ssh;
    ssh.user = value("ssh_user").or(ssh.user.take());
    ssh.options = value("ssh_options").or(ssh.options.take());
    if let Some(port) = value("ssh_port") {
        let check = Check { path };
        ssh.port = Some(port.parse().map_err(|_| {
            check.bad(
                "init_conf_load_script: ssh_port",
                "a port from 1 to 65535",
                &port,
            )
        })?);
    }
    for hook in Hook::ALL {
        if let Some(line) = value(hook.name()) {
            // A limit in the file stays: MHA has no name for it.
            let slot = slot(&mut raw.hooks, hook);
            let timeout = slot.take().and_then(|s| s.timeout);
            *slot = Some(Script {
                timeout,
                ..Script::line(&line)
            });
        }
    }
    Ok(())
}

/// The password that was loaded.
pub(super) fn loaded_password(loaded: &Loaded) -> Option<Secret> {
    loaded.values.get("password").map(|p| Secret::new(p))
}

pub(super) fn resolve(
    check: &Check<'_>,
    mut raw: raw_hooks::Hooks,
    loaded: &Loaded,
    servers: &[ServerConfig],
    monitor: &MonitorConfig,
) -> Result<HookSettings, ConfigError> {
    let limit = default_timeout(check, &raw)?;
    let mut commands = BTreeMap::new();
    for hook in Hook::ALL {
        let script = slot(&mut raw, hook).take();
        if let Some(command) = command(check, hook, script.as_ref(), limit)? {
            commands.insert(hook, command);
        }
    }
    let mha_compat = match raw.mha_compat {
        Some(compat) => credentials(check, compat, loaded, monitor)?,
        None => None,
    };
    let mut by_name = BTreeMap::new();
    for (name, server) in raw.servers {
        if !servers.iter().any(|s| s.name == name) {
            return Err(check.bad("hooks.servers", "the name of one of servers", &name));
        }
        let server = HookServer {
            ip: server.ip,
            ssh_user: server.ssh_user,
            ssh_host: server.ssh_host,
            ssh_ip: server.ssh_ip,
            ssh_port: server.ssh_port,
            master_pid_file: server.master_pid_file,
        };
        by_name.insert(name, server);
    }
    Ok(HookSettings {
        commands,
        ssh: SshSettings {
            user: raw.ssh.user.unwrap_or_else(own_user),
            port: raw.ssh.port.unwrap_or(DEFAULT_SSH_PORT),
            options: raw.ssh.options.filter(|o| !o.is_empty()),
        },
        servers: by_name,
        mha_compat,
    })
}

fn slot(raw: &mut raw_hooks::Hooks, hook: Hook) -> &mut Option<Script> {
    match hook {
        Hook::MasterIpFailoverScript => &mut raw.master_ip_failover_script,
        Hook::ShutdownScript => &mut raw.shutdown_script,
        Hook::ReportScript => &mut raw.report_script,
        Hook::SecondaryCheckScript => &mut raw.secondary_check_script,
        Hook::InitConfLoadScript => &mut raw.init_conf_load_script,
    }
}

fn default_timeout(check: &Check<'_>, raw: &raw_hooks::Hooks) -> Result<Duration, ConfigError> {
    check.duration("hooks.timeout", raw.timeout.clone(), DEFAULT_TIMEOUT)
}

/// The command of a hook. An empty one switches the hook off, as in MHA.
fn command(
    check: &Check<'_>,
    hook: Hook,
    script: Option<&Script>,
    limit: Duration,
) -> Result<Option<HookCommand>, ConfigError> {
    let Some(script) = script else {
        return Ok(None);
    };
    let key = format!("hooks.{hook}");
    let mut words = match &script.command {
        CommandText::Words(words) => words.clone(),
        CommandText::Line(line) => words(check, &key, line)?,
    };
    if words.iter().any(|w| w.contains('\0')) {
        return Err(check.bad(&key, "a command without NUL bytes", "one with"));
    }
    if words.is_empty() {
        return Ok(None);
    }
    let program = words.remove(0);
    if program.is_empty() {
        return Err(check.bad(&key, "a program", ""));
    }
    let timeout = check.duration(&format!("{key}.timeout"), script.timeout.clone(), limit)?;
    Ok(Some(HookCommand {
        program,
        arguments: words,
        timeout,
    }))
}

/// Splits a line as a shell would; what only a shell could do is refused, since none is there.
fn words(check: &Check<'_>, key: &str, line: &str) -> Result<Vec<String>, ConfigError> {
    const NO_SHELL: &str =
        "a program and its arguments (no shell is used; for one, write a list: [sh, -c, '...'])";
    let words =
        shlex::split(line).ok_or_else(|| check.bad(key, "a command with closed quotes", line))?;
    let shell = |word: &String| {
        let operator = matches!(
            word.as_str(),
            "|" | "||" | "&" | "&&" | ";" | "<" | ">" | ">>" | "2>" | "2>&1"
        );
        operator || word.contains('`') || word.contains("$(") || word.ends_with(';')
    };
    let assignment = words.first().is_some_and(|w| {
        w.split_once('=').is_some_and(|(name, _)| {
            !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        })
    });
    if assignment || words.iter().any(shell) {
        return Err(check.bad(key, NO_SHELL, line));
    }
    Ok(words)
}

fn credentials(
    check: &Check<'_>,
    raw: raw_hooks::MhaCompat,
    loaded: &Loaded,
    monitor: &MonitorConfig,
) -> Result<Option<CompatCredentials>, ConfigError> {
    let mut hooks = BTreeSet::new();
    for name in &raw.hooks {
        let hook = [Hook::MasterIpFailoverScript, Hook::SecondaryCheckScript]
            .into_iter()
            .find(|h| h.name() == name);
        hooks.insert(hook.ok_or_else(|| {
            check.bad(
                "hooks.mha_compat.hooks",
                "master_ip_failover_script or secondary_check_script, which MHA gives credentials to",
                name,
            )
        })?);
    }
    let password = match (loaded_password(loaded), raw.password_file) {
        (Some(password), _) => Some(password),
        (None, Some(file)) => Some(secret::read(&check.relative(file))?),
        (None, None) => monitor.password.clone(),
    };
    let user = raw.user.or_else(|| monitor.user.clone());
    match (hooks.is_empty(), user, password) {
        (true, _, _) => Ok(None),
        (false, Some(user), Some(password)) => Ok(Some(CompatCredentials {
            user,
            password,
            hooks,
        })),
        (false, None, _) => Err(check.bad(
            "hooks.mha_compat.user",
            "a MySQL user, here or in monitor",
            "nothing",
        )),
        (false, _, None) => Err(check.bad(
            "hooks.mha_compat.password_file",
            "a file with a password, here or in monitor",
            "nothing",
        )),
    }
}

/// MHA's default: the OS user it runs as.
fn own_user() -> String {
    nix::unistd::User::from_uid(nix::unistd::getuid())
        .ok()
        .flatten()
        .map_or_else(|| nix::unistd::getuid().to_string(), |user| user.name)
}
