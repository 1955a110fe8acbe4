//! `init_conf_load_script`: prints settings, one `name=value` a line, whenever the configuration is read. Mostly used to
//! fetch passwords. No arguments. What it prints goes before what the file says for the whole cluster, and after what
//! it says for a single server.
//!
//! The names are MHA's. Those that mean something to this manager are taken over; MHA's others are named in the log
//! and left alone, so that a script written for MHA runs unchanged; a name that MHA did not know is refused.

use std::collections::BTreeMap;
use std::path::Path;

use super::{Call, Hook};

/// MHA's names that mean something here.
pub const USED: [&str; 9] = [
    "user",
    "password",
    "ssh_user",
    "ssh_port",
    "ssh_options",
    "master_ip_failover_script",
    "shutdown_script",
    "report_script",
    "secondary_check_script",
];

/// MHA's other names: settings of single servers, of the agents, or of things that are decided elsewhere now.
pub const UNUSED: [&str; 33] = [
    "hostname",
    "ip",
    "port",
    "node_label",
    "ssh_host",
    "ssh_ip",
    "ssh_connection_timeout",
    "candidate_master",
    "no_master",
    "ignore_fail",
    "skip_init_ssh_check",
    "skip_reset_slave",
    "repl_user",
    "repl_password",
    "disable_log_bin",
    "master_pid_file",
    "handle_raw_binlog",
    "remote_workdir",
    "master_binlog_dir",
    "log_level",
    "manager_workdir",
    "manager_log",
    "check_repl_delay",
    "check_repl_filter",
    "latest_priority",
    "multi_tier_slave",
    "use_gtid_auto_pos",
    "ping_interval",
    "ping_type",
    "master_ip_online_change_script",
    "init_conf_load_script",
    "client_bindir",
    "client_libdir",
];

/// What a script printed.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Loaded {
    /// Values by name; only names of [`USED`]. May hold passwords.
    pub values: BTreeMap<String, String>,
    /// MHA's names without a meaning here.
    pub ignored: Vec<String>,
}

impl std::fmt::Debug for Loaded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Loaded")
            .field("names", &self.values.keys())
            .field("ignored", &self.ignored)
            .finish()
    }
}

/// Why the output cannot be used. Never shows a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSettings {
    /// A line without `=`.
    #[error("line {line} of its output: expected name=value, found no `=`")]
    NoEquals {
        /// Line, from 1.
        line: usize,
    },
    /// A name that MHA has not.
    #[error("line {line} of its output: expected a parameter of MHA, found `{name}`")]
    UnknownName {
        /// Line, from 1.
        line: usize,
        /// The name.
        name: String,
    },
}

/// The call: no arguments, only facts.
#[must_use]
pub fn call(cluster: &str, conf: &Path) -> Call {
    Call::new(Hook::InitConfLoadScript)
        .fact("cluster", cluster)
        .fact("conf", conf)
}

/// Reads the output. Blank lines and lines that begin with `#` are left out.
///
/// Differs from MHA: a value keeps what follows a second `=`; MHA lost it, so that no password in base64 could be used.
///
/// # Errors
/// [`NotSettings`] with the line.
pub fn parse(output: &str) -> Result<Loaded, NotSettings> {
    let mut loaded = Loaded::default();
    for (text, line) in output.lines().zip(1..) {
        let text = text.trim();
        if text.is_empty() || text.starts_with('#') {
            continue;
        }
        let (name, value) = text.split_once('=').ok_or(NotSettings::NoEquals { line })?;
        let (name, value) = (name.trim(), unquoted(value.trim()));
        if USED.contains(&name) {
            loaded.values.insert(name.to_owned(), value.to_owned());
        } else if UNUSED.contains(&name) {
            loaded.ignored.push(name.to_owned());
        } else {
            // What stands there may be a part of a secret: only something like a name is shown.
            let shown = name.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            let name = if shown { name } else { "(not a name)" };
            return Err(NotSettings::UnknownName {
                line,
                name: name.to_owned(),
            });
        }
    }
    Ok(loaded)
}

/// MHA's rule: one quote at the end goes, and then one at the beginning; a quote at the beginning alone stays.
fn unquoted(value: &str) -> &str {
    let quote = ['"', '\''];
    match value.strip_suffix(quote) {
        Some(value) => value.strip_prefix(quote).unwrap_or(value),
        None => value,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_values() {
        let table = [
            ("password=abc", "password", "abc"),
            ("  password = abc  ", "password", "abc"),
            ("# comment\n\npassword=abc\n", "password", "abc"),
            ("password=YWJj==", "password", "YWJj=="),
            ("password=\"a b\"", "password", "a b"),
            ("password='abc\"", "password", "abc"),
            ("password=abc'", "password", "abc"),
            ("password='abc", "password", "'abc"),
            ("password=\"\"", "password", ""),
            ("password=", "password", ""),
            ("user=a\nuser=b", "user", "b"),
            ("report_script=", "report_script", ""),
        ];
        for (output, name, value) in table {
            let loaded = parse(output).unwrap();
            assert_eq!(
                loaded.values.get(name).map(String::as_str),
                Some(value),
                "{output:?}"
            );
        }
    }

    #[test]
    fn mhas_other_names_are_left_alone_and_unknown_ones_refused() {
        let loaded = parse("repl_password=x\nuser=mha\n").unwrap();
        assert_eq!(loaded.ignored, ["repl_password"]);
        assert_eq!(loaded.values.len(), 1);
        assert_eq!(
            parse("user=mha\npasword=x"),
            Err(NotSettings::UnknownName {
                line: 2,
                name: "pasword".into()
            })
        );
        let error = parse("S3cret/x=1").unwrap_err().to_string();
        assert!(!error.contains("S3cret"), "{error}");
        assert_eq!(parse("secret"), Err(NotSettings::NoEquals { line: 1 }));
    }

    #[test]
    fn values_are_not_shown() {
        let shown = format!("{:?}", parse("password=s3cret").unwrap());
        assert!(shown.contains("password") && !shown.contains("s3cret"));
    }
}
