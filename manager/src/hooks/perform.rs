//! The hooks of a failover as acts that can be journalled: what is called for, and what came of it.

use serde::{Deserialize, Serialize};

use super::{
    Call, Hook, HookError, Output, Party, Say, master_ip_failover, party, report, run, shutdown,
};
use crate::agents::Context;
use crate::config::{ClusterConfig, ServerConfig};

/// A hook to be run in a failover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "hook", rename_all = "snake_case")]
#[non_exhaustive]
pub enum HookCall {
    /// `master_ip_failover_script --command=stopssh` or `stop`.
    TakeAddressDown {
        /// The dead primary.
        server: String,
        /// Its host answers: its agent does.
        host_answers: bool,
    },
    /// `shutdown_script --command=stopssh` or `stop`.
    ShutDown {
        /// The dead primary.
        server: String,
        /// Its host answers: its agent does.
        host_answers: bool,
    },
    /// `master_ip_failover_script --command=start`.
    BringAddressUp {
        /// New primary.
        server: String,
        /// The dead primary.
        instead_of: String,
    },
    /// `report_script`.
    SendReport {
        /// The dead primary.
        server: String,
        /// New primary, once it was opened for writes.
        new_primary: Option<String>,
        /// Its replicas.
        replicas: Vec<String>,
        /// The operation ended with exit code 0.
        succeeded: bool,
        /// The report as text.
        body: String,
    },
}

impl HookCall {
    /// The hook that is run.
    #[must_use]
    pub fn hook(&self) -> Hook {
        match self {
            Self::TakeAddressDown { .. } | Self::BringAddressUp { .. } => {
                Hook::MasterIpFailoverScript
            }
            Self::ShutDown { .. } => Hook::ShutdownScript,
            Self::SendReport { .. } => Hook::ReportScript,
        }
    }

    /// The server it is about.
    #[must_use]
    pub fn server(&self) -> &str {
        match self {
            Self::TakeAddressDown { server, .. }
            | Self::ShutDown { server, .. }
            | Self::BringAddressUp { server, .. }
            | Self::SendReport { server, .. } => server,
        }
    }

    /// Whether an exit code lets the failover go on.
    #[must_use]
    pub fn goes_on(&self, code: i32) -> bool {
        match self {
            Self::TakeAddressDown { .. } | Self::BringAddressUp { .. } => {
                master_ip_failover::meaning(code) != master_ip_failover::Meaning::Stop
            }
            Self::ShutDown { .. } => shutdown::meaning(code) != shutdown::Meaning::Stop,
            Self::SendReport { .. } => code == 0,
        }
    }
}

impl std::fmt::Display for HookCall {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let stop = |answers: &bool| if *answers { "stopssh" } else { "stop" };
        let hook = self.hook();
        match self {
            Self::TakeAddressDown {
                server,
                host_answers,
            }
            | Self::ShutDown {
                server,
                host_answers,
            } => write!(f, "{hook} --command={} for {server}", stop(host_answers)),
            Self::BringAddressUp { server, .. } => write!(f, "{hook} --command=start for {server}"),
            Self::SendReport { .. } => write!(f, "{hook}"),
        }
    }
}

/// A hook that ran and lets the operation go on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HookRan {
    /// Its exit code.
    pub exit_code: i32,
    /// What it printed.
    #[serde(flatten)]
    pub output: Output,
}

/// Runs a hook of an operation.
///
/// # Errors
/// [`HookError`], also for an exit code that stops the operation.
pub(crate) async fn perform(
    config: &ClusterConfig,
    context: &Context,
    wanted: &HookCall,
    say: Say<'_>,
) -> Result<HookRan, HookError> {
    let hook = wanted.hook();
    let command = config
        .hooks
        .command(hook)
        .ok_or(HookError::NotConfigured { hook })?;
    let call = with_context(config, context, build(config, wanted).await);
    let said = |line: &str| say(&format!("  {hook}: {line}"));
    let ran = run(command, &call, &said).await?;
    let (exit_code, output) = ran.exit_code()?;
    if wanted.goes_on(exit_code) {
        Ok(HookRan { exit_code, output })
    } else {
        Err(HookError::Failed {
            hook,
            code: exit_code,
            output,
        })
    }
}

/// What MHA has no argument for.
fn with_context(config: &ClusterConfig, context: &Context, call: Call) -> Call {
    call.fact("cluster", context.cluster.as_str())
        .fact("operation", context.operation.as_str())
        .fact("epoch", context.epoch)
        .fact("manager", config.manager_name.as_str())
}

async fn build(config: &ClusterConfig, wanted: &HookCall) -> Call {
    let options = config.hooks.ssh.options.as_deref();
    match wanted {
        HookCall::TakeAddressDown {
            server,
            host_answers,
        } => master_ip_failover::stop(&named(config, server).await, *host_answers, options),
        HookCall::ShutDown {
            server,
            host_answers,
        } => shutdown::stop(&named(config, server).await, *host_answers, options),
        HookCall::BringAddressUp { server, instead_of } => {
            let (dead, new) = futures::join!(named(config, instead_of), named(config, server));
            let credentials = config.hooks.credentials(Hook::MasterIpFailoverScript);
            master_ip_failover::start(&dead, &new, credentials, options)
        }
        HookCall::SendReport {
            server,
            new_primary,
            replicas,
            succeeded,
            body,
        } => {
            let dead = named(config, server).await;
            let new = match new_primary {
                Some(new) => Some(named(config, new).await),
                None => None,
            };
            let replicas: Vec<String> = replicas.iter().map(|r| host_of(config, r)).collect();
            let subject = report::subject(&config.cluster, &dead, new.as_ref(), *succeeded);
            report::call(&report::Told {
                orig_master_host: &dead.host,
                new_master_host: new.as_ref().map(|n| n.host.as_str()),
                new_slave_hosts: &replicas,
                conf: &config.file,
                subject: &subject,
                body,
            })
        }
    }
}

fn find<'c>(config: &'c ClusterConfig, name: &str) -> Option<&'c ServerConfig> {
    config.servers.iter().find(|s| s.name == name)
}

fn host_of(config: &ClusterConfig, name: &str) -> String {
    find(config, name).map_or_else(|| name.to_owned(), |s| s.address.host.clone())
}

async fn named(config: &ClusterConfig, name: &str) -> Party {
    match find(config, name) {
        Some(server) => party(config, server).await,
        // A plan names configured servers only.
        None => Party::unknown(name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing;

    fn stop() -> HookCall {
        HookCall::TakeAddressDown {
            server: "db1".into(),
            host_answers: true,
        }
    }

    #[test]
    fn exit_codes_that_let_a_failover_go_on() {
        let start = HookCall::BringAddressUp {
            server: "db2".into(),
            instead_of: "db1".into(),
        };
        let shut_down = HookCall::ShutDown {
            server: "db1".into(),
            host_answers: false,
        };
        let table: [(&HookCall, &[i32]); 3] = [
            (&stop(), &[0, 10]),
            (&start, &[0, 10]),
            (&shut_down, &[0, 10]),
        ];
        for (call, good) in table {
            for code in 0..=255 {
                assert_eq!(call.goes_on(code), good.contains(&code), "{call} {code}");
            }
        }
    }

    #[test]
    fn calls_survive_the_journal() {
        let report = HookCall::SendReport {
            server: "db1".into(),
            new_primary: Some("db2".into()),
            replicas: vec!["db3".into()],
            succeeded: true,
            body: "text".into(),
        };
        for call in [stop(), report] {
            let json = serde_json::to_string(&call).unwrap();
            assert_eq!(serde_json::from_str::<HookCall>(&json).unwrap(), call);
        }
    }

    #[tokio::test]
    async fn a_report_names_hosts_not_servers() {
        let mut config = testing::config(3);
        config.file = "/etc/mha/app1.yaml".into();
        for (server, n) in config.servers.iter_mut().zip(1..) {
            server.address.host = format!("10.0.0.{n}");
        }
        let call = build(
            &config,
            &HookCall::SendReport {
                server: "db1".into(),
                new_primary: Some("db2".into()),
                replicas: vec!["db3".into()],
                succeeded: true,
                body: "text".into(),
            },
        )
        .await;
        assert_eq!(
            call.arguments(),
            [
                "--orig_master_host=10.0.0.1",
                "--new_master_host=10.0.0.2",
                "--new_slave_hosts=10.0.0.3",
                "--conf=/etc/mha/app1.yaml",
                "--subject=app1: MySQL Master failover 10.0.0.1(10.0.0.1:3306) to 10.0.0.2(10.0.0.2:3306) succeeded",
                "--body=text",
            ]
        );
    }
}
