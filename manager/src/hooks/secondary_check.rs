//! `secondary_check_script`: do other hosts reach the primary? Started at the first failed ping of a round.
//!
//! Arguments: `--user --master_host --master_ip --master_port`, `--master_user --master_password` if
//! `hooks.mha_compat` gives them to this hook, `--ping_type`, and `--options` if ssh options are set.

use super::{Call, CompatCredentials, Hook, Party, Say, party, runner};
use crate::config::{ClusterConfig, ServerConfig};
use crate::observe::chain;

/// What the script found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SecondaryCheck {
    /// No script is configured.
    NotConfigured,
    /// 0: no host reaches the primary.
    UnreachableFromAll,
    /// 2: a host that should have looked cannot be reached itself.
    SecondaryUnreachable,
    /// 3: at least one host reaches the primary.
    Reachable,
    /// It failed, hung, or ended with a code that means nothing.
    Unknown(String),
}

impl SecondaryCheck {
    /// Whether MHA goes on: nobody reaches the primary, or nobody was to be asked.
    #[must_use]
    pub fn allows_failover(&self) -> bool {
        matches!(self, Self::NotConfigured | Self::UnreachableFromAll)
    }

    /// Reads an exit code.
    #[must_use]
    pub fn of_exit_code(code: i32) -> Self {
        match code {
            0 => Self::UnreachableFromAll,
            2 => Self::SecondaryUnreachable,
            3 => Self::Reachable,
            other => Self::Unknown(format!("exit code {other}")),
        }
    }
}

impl std::fmt::Display for SecondaryCheck {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NotConfigured => write!(f, "no secondary_check_script is configured"),
            Self::UnreachableFromAll => write!(f, "no secondary host reaches it"),
            Self::SecondaryUnreachable => write!(f, "a secondary host cannot be reached itself"),
            Self::Reachable => write!(f, "a secondary host reaches it"),
            Self::Unknown(why) => write!(f, "secondary_check_script: {why}"),
        }
    }
}

/// The arguments.
#[must_use]
pub fn arguments(
    primary: &Party,
    credentials: Option<&CompatCredentials>,
    ping_type: &str,
    ssh_options: Option<&str>,
) -> Call {
    let call = Call::new(Hook::SecondaryCheckScript).argument("user", primary.ssh_user.as_str());
    let call = primary.address(call, "master_");
    let call = match credentials {
        Some(c) => call
            .argument("master_user", c.user.as_str())
            .secret("master_password", &c.password),
        None => call,
    };
    call.argument("ping_type", ping_type)
        .maybe("options", ssh_options)
}

/// Runs the script for a primary that does not answer; `ping_type` is SELECT, CONNECT or INSERT. Ends within the hook's
/// limit and two seconds. Dropping the future ends the script.
pub async fn secondary_check(
    config: &ClusterConfig,
    primary: &ServerConfig,
    ping_type: &str,
    say: Say<'_>,
) -> SecondaryCheck {
    const HOOK: Hook = Hook::SecondaryCheckScript;
    let settings = &config.hooks;
    let Some(command) = settings.command(HOOK) else {
        return SecondaryCheck::NotConfigured;
    };
    let party = party(config, primary).await;
    let call = arguments(
        &party,
        settings.credentials(HOOK),
        ping_type,
        settings.ssh.options.as_deref(),
    );
    let call = call.fact("cluster", config.cluster.as_str());
    match runner::run(command, &call, say)
        .await
        .and_then(runner::Ran::exit_code)
    {
        Ok((code, _)) => SecondaryCheck::of_exit_code(code),
        Err(error) => SecondaryCheck::Unknown(chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::address::tests::simple;
    use super::*;
    use crate::config::Secret;

    #[test]
    fn only_0_allows_a_failover() {
        for (code, expected) in [
            (0, SecondaryCheck::UnreachableFromAll),
            (1, SecondaryCheck::Unknown("exit code 1".into())),
            (2, SecondaryCheck::SecondaryUnreachable),
            (3, SecondaryCheck::Reachable),
            (10, SecondaryCheck::Unknown("exit code 10".into())),
            (127, SecondaryCheck::Unknown("exit code 127".into())),
        ] {
            let found = SecondaryCheck::of_exit_code(code);
            assert_eq!(found.allows_failover(), code == 0, "{code}");
            assert_eq!(found, expected, "{code}");
        }
        assert!(SecondaryCheck::NotConfigured.allows_failover());
    }

    #[test]
    fn arguments_are_mhas_in_mhas_order() {
        let primary = simple("db1", "10.0.0.1");
        let credentials = CompatCredentials {
            user: "root".into(),
            password: Secret::new("x"),
            hooks: BTreeSet::new(),
        };
        let table: [(Call, &[&str]); 2] = [
            (
                arguments(&primary, None, "SELECT", None),
                &[
                    "--user=mysql",
                    "--master_host=db1",
                    "--master_ip=10.0.0.1",
                    "--master_port=3306",
                    "--ping_type=SELECT",
                ],
            ),
            (
                arguments(&primary, Some(&credentials), "INSERT", Some("-4")),
                &[
                    "--user=mysql",
                    "--master_host=db1",
                    "--master_ip=10.0.0.1",
                    "--master_port=3306",
                    "--master_user=root",
                    "--master_password=x",
                    "--ping_type=INSERT",
                    "--options=-4",
                ],
            ),
        ];
        for (call, expected) in table {
            assert_eq!(call.arguments(), expected);
        }
    }
}
