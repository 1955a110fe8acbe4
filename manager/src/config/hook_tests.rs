//! The section `hooks:`: good and bad, and what a script adds to it.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use super::*;
use crate::hooks::{Hook, HookSettings};

const HEAD: &str = "\
cluster: app1
plaintext: true
servers:
  - { name: 'db1:3306', host: 127.0.0.1, agent: '127.0.0.1:7306' }
  - { name: 'db2:3306', host: 127.0.0.2, agent: '127.0.0.2:7306' }
";

fn private(path: &Path, text: &str, mode: u32) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
}

/// Loads HEAD and this from a folder with a script that prints settings.
fn load_with(hooks: &str, script: &str) -> Result<ClusterConfig, ConfigError> {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("app1.yaml");
    let loader = dir.path().join("loader");
    private(&loader, &format!("#!/bin/sh\n{script}\n"), 0o755);
    private(&dir.path().join("secret"), "from file\n", 0o600);
    private(&dir.path().join("open"), "from file\n", 0o644);
    let hooks = hooks.replace("LOADER", &loader.display().to_string());
    fs::write(&file, format!("{HEAD}{hooks}")).unwrap();
    load(&file)
}

fn hooks(text: &str) -> HookSettings {
    load_with(text, "").unwrap().hooks
}

#[test]
fn without_the_section_there_are_no_hooks() {
    let hooks = hooks("");
    assert!(hooks.commands.is_empty() && hooks.mha_compat.is_none());
    assert_eq!((hooks.ssh.port, hooks.ssh.options), (22, None));
    assert!(!hooks.ssh.user.is_empty(), "the user of this process");
}

#[test]
fn a_command_is_a_line_or_a_list_with_or_without_a_limit() {
    let table: [(&str, &str, &[&str], u64); 8] = [
        ("/bin/x", "/bin/x", &[], 60),
        (
            "/bin/x --vip=10.0.0.9  -v",
            "/bin/x",
            &["--vip=10.0.0.9", "-v"],
            60,
        ),
        (
            r#"'/opt/my scripts/x' "a b" c\ d"#,
            "/opt/my scripts/x",
            &["a b", "c d"],
            60,
        ),
        (
            "[/bin/x, 'a b', '$HOME | `id`']",
            "/bin/x",
            &["a b", "$HOME | `id`"],
            60,
        ),
        ("[sh, -c, 'x | y']", "sh", &["-c", "x | y"], 60),
        ("{ command: /bin/x -v, timeout: 5s }", "/bin/x", &["-v"], 5),
        (
            "{ command: [/bin/x, -v], timeout: 2m }",
            "/bin/x",
            &["-v"],
            120,
        ),
        ("{ command: /bin/x }", "/bin/x", &[], 60),
    ];
    for (text, program, arguments, seconds) in table {
        // A quoted line is a YAML text of its own.
        let value = match text.chars().next() {
            Some('[' | '{') => text.to_owned(),
            _ => format!("'{}'", text.replace('\'', "''")),
        };
        let hooks = hooks(&format!("hooks:\n  shutdown_script: {value}\n"));
        let command = hooks.command(Hook::ShutdownScript).unwrap();
        assert_eq!(command.program, program, "{text}");
        assert_eq!(command.arguments, arguments, "{text}");
        assert_eq!(command.timeout, Duration::from_secs(seconds), "{text}");
        assert_eq!(hooks.commands.len(), 1);
    }
    let hooks = hooks("hooks: { timeout: 7s, report_script: /r, shutdown_script: '' }\n");
    assert_eq!(
        hooks.command(Hook::ReportScript).unwrap().timeout,
        Duration::from_secs(7)
    );
    assert!(
        !hooks.has(Hook::ShutdownScript),
        "an empty command switches it off"
    );
}

#[test]
fn bad_sections_are_refused_with_key_or_line() {
    let table = [
        ("{ shutdown_scrip: /x }", "did you mean `shutdown_script`?"),
        ("{ shutdown_scrip: /x }", "line 6"),
        (
            "{ shutdown_script: { comand: /x } }",
            "did you mean `command`?",
        ),
        ("{ shutdown_script: { comand: /x } }", "line 6"),
        ("{ ssh: { usr: x } }", "did you mean `user`?"),
        (
            "{ servers: { 'db1:3306': { ssh_prt: 1 } } }",
            "did you mean `ssh_port`?",
        ),
        (
            "{ servers: { 'db9:3306': { ssh_port: 1 } } }",
            "hooks.servers: expected the name of one of servers, found `db9:3306`",
        ),
        (
            "{ shutdown_script: 5 }",
            "expected a command line, a list of words",
        ),
        (
            "{ shutdown_script: \"/x 'a\" }",
            "hooks.shutdown_script: expected a command with closed quotes",
        ),
        (
            "{ shutdown_script: [''] }",
            "hooks.shutdown_script: expected a program",
        ),
        ("{ shutdown_script: /x | logger }", "no shell is used"),
        ("{ shutdown_script: /x; /y }", "no shell is used"),
        ("{ shutdown_script: '/x 2>&1' }", "no shell is used"),
        ("{ shutdown_script: '/x `date`' }", "no shell is used"),
        ("{ shutdown_script: /x $(date) }", "no shell is used"),
        ("{ shutdown_script: PATH=/y /x }", "no shell is used"),
        ("{ timeout: '60' }", "hooks.timeout: expected a duration"),
        (
            "{ shutdown_script: { command: /x, timeout: 0s } }",
            "hooks.shutdown_script.timeout: expected a duration",
        ),
        (
            "{ mha_compat: { hooks: [shutdown_script] } }",
            "hooks.mha_compat.hooks: expected master_ip_failover_script or secondary_check_script",
        ),
        (
            "{ mha_compat: { hooks: [secondary_check_script] } }",
            "hooks.mha_compat.user: expected a MySQL user",
        ),
        (
            "{ mha_compat: { user: u, hooks: [secondary_check_script] } }",
            "hooks.mha_compat.password_file: expected a file",
        ),
        (
            "{ mha_compat: { user: u, password_file: open, hooks: [secondary_check_script] } }",
            "mode 644 gives access",
        ),
    ];
    for (text, expected) in table {
        let error = load_with(&format!("hooks: {text}\n"), "").unwrap_err();
        let shown = crate::observe::chain(&error);
        assert!(shown.contains(expected), "{text}\n{shown}");
    }
}

#[test]
fn credentials_reach_only_the_hooks_that_are_named() {
    let hooks = hooks(
        "hooks: { mha_compat: { user: root, password_file: secret, hooks: [master_ip_failover_script] } }\n",
    );
    let given = hooks.credentials(Hook::MasterIpFailoverScript).unwrap();
    assert_eq!(
        (given.user.as_str(), given.password.reveal()),
        ("root", "from file")
    );
    for hook in Hook::ALL {
        let expected = hook == Hook::MasterIpFailoverScript;
        assert_eq!(hooks.credentials(hook).is_some(), expected, "{hook}");
    }
    assert!(!format!("{hooks:?}").contains("from file"));
}

#[test]
fn without_their_own_credentials_hooks_get_those_of_the_monitor() {
    let hooks = hooks(
        "monitor: { user: mon, password_file: secret }\nhooks: { mha_compat: { hooks: [secondary_check_script] } }\n",
    );
    let given = hooks.credentials(Hook::SecondaryCheckScript).unwrap();
    assert_eq!(
        (given.user.as_str(), given.password.reveal()),
        ("mon", "from file")
    );
}

#[test]
fn what_a_script_prints_goes_before_the_file() {
    let config = load_with(
        "monitor: { user: mon, password_file: secret }\n\
         hooks:\n  init_conf_load_script: LOADER\n  ssh: { user: a, port: 23 }\n  \
         servers: { 'db1:3306': { ssh_user: own } }\n  \
         shutdown_script: { command: /from/file, timeout: 3s }\n  \
         mha_compat: { user: other, password_file: secret, hooks: [secondary_check_script] }\n",
        "echo 'user=mha'; echo 'password=from=script='; echo ssh_user=b; echo ssh_port=24; echo repl_password=x; \
         echo \"shutdown_script='/from/script'\"; echo noise >&2",
    )
    .unwrap();
    assert_eq!(config.monitor.user.as_deref(), Some("mha"));
    assert_eq!(config.monitor.password.unwrap().reveal(), "from=script=");
    let hooks = config.hooks;
    assert_eq!((hooks.ssh.user.as_str(), hooks.ssh.port), ("b", 24));
    assert_eq!(
        hooks.servers["db1:3306"].ssh_user.as_deref(),
        Some("own"),
        "a single server's own stays"
    );
    let shutdown = hooks.command(Hook::ShutdownScript).unwrap();
    assert_eq!(
        (shutdown.program.as_str(), shutdown.timeout),
        ("/from/script", Duration::from_secs(3))
    );
    let given = hooks.credentials(Hook::SecondaryCheckScript).unwrap();
    assert_eq!(
        (given.user.as_str(), given.password.reveal()),
        ("mha", "from=script=")
    );
}

#[test]
fn a_script_that_brings_no_settings_is_refused_without_showing_what_it_printed() {
    let table = [
        (
            "echo password=s3cret; exit 1",
            "init_conf_load_script ended with exit code 1",
        ),
        (
            "echo password=s3cret; sleep 60",
            "was still running after 0.3 s",
        ),
        ("echo s3cret", "line 1 of its output: expected name=value"),
        (
            "echo s3cret/X=1",
            "line 1 of its output: expected a parameter of MHA",
        ),
        (
            "echo ssh_port=high",
            "ssh_port: expected a port from 1 to 65535, found `high`",
        ),
        ("echo shutdown_script=/x \\| y", "no shell is used"),
    ];
    for (script, expected) in table {
        let text = "hooks: { init_conf_load_script: { command: LOADER, timeout: 300ms } }\n";
        let shown = crate::observe::chain(&load_with(text, script).unwrap_err());
        assert!(shown.contains(expected), "{script}\n{shown}");
        assert!(!shown.contains("s3cret"), "{shown}");
    }
    let absent = "hooks: { init_conf_load_script: /no/such/loader }\n";
    let shown = crate::observe::chain(&load_with(absent, "").unwrap_err());
    assert!(
        shown.contains("/no/such/loader cannot be started"),
        "{shown}"
    );
}

#[tokio::test]
async fn a_configuration_can_be_read_inside_a_runtime() {
    let text = "hooks: { init_conf_load_script: LOADER }\n";
    let config = load_with(text, "echo user=mha").unwrap();
    assert_eq!(config.monitor.user.as_deref(), Some("mha"));
}
