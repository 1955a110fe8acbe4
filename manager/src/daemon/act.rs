//! Acting: one failover, asked for by the monitor, with its report beside its journal.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::config::ClusterConfig;
use crate::exit_code::ExitCode;
use crate::failover::{self, LeaseSeen, Request, Surroundings};
use crate::guard::Origin;
use crate::hooks;
use crate::journal::Hook;
use crate::monitor::Decision;
use crate::report::{self, Report};
use crate::verdict::{AgentEvidence, Reason};

/// How long a host or server that the monitor has found silent is asked once more, each time.
pub(super) const ONCE_MORE: Duration = Duration::from_millis(300);

/// What to ask of the failover. `None`: an interrupted one is to be finished.
pub(super) fn request(dead: &str, decision: Option<&Decision>, lease: LeaseSeen) -> Request {
    let stalled = decision.and_then(|d| match &d.evidence.agent {
        AgentEvidence::Answered { stalled, .. } => stalled.clone(),
        AgentEvidence::NoAnswer => None,
    });
    let reason = decision.map(|d| d.reason);
    let host = reason == Some(Reason::NobodyReaches);
    let server = host || reason == Some(Reason::ProcessSilent);
    Request {
        dead_primary: dead.to_owned(),
        yes: true,
        origin: Origin::Daemon,
        silent_host: host.then_some(ONCE_MORE),
        silent_server: server.then_some(ONCE_MORE),
        stalled,
        lease: Some(lease),
        ..Request::default()
    }
}

/// How it came out.
#[derive(Debug)]
pub(super) enum Outcome {
    /// MHA's `secondary_check_script` did not say that nobody reaches the primary.
    Vetoed(String),
    /// The failover ran, or was refused.
    Ended(Box<Report>),
}

/// Runs it to its end. MHA's `secondary_check_script`, where there is one, must have said that nobody reaches the primary;
/// it is run at the moment of the decision, whose evidence it confirms.
///
/// Differs from MHA: there it starts at the first failed ping, and its word is three intervals old when it counts.
pub(super) async fn fail_over(
    config: Arc<ClusterConfig>,
    request: Request,
    hook: Arc<dyn Hook>,
) -> Outcome {
    let cluster = config.cluster.clone();
    let say = move |line: &str| tracing::info!(cluster, "{}", line.trim_end());
    if let Some(dead) = config.find(&request.dead_primary) {
        let ping_type = config.monitor.ping_type.name();
        let seen = hooks::secondary_check(&config, dead, ping_type, &say).await;
        if !seen.allows_failover() {
            return Outcome::Vetoed(seen.to_string());
        }
    }
    let surroundings = Surroundings {
        narrator: Arc::new(say),
        operator: None,
        hook,
    };
    let report = failover::run(config.clone(), &request, surroundings).await;
    if !report.operation.is_empty() {
        let path = report_path(&config, &report.operation);
        let kept = path
            .parent()
            .map_or(Ok(()), std::fs::create_dir_all)
            .and_then(|()| report::save(&report, &path));
        if let Err(error) = kept {
            tracing::error!(cluster = %config.cluster, path = %path.display(), %error, "the report could not be kept");
        }
    }
    tracing::info!(cluster = %config.cluster, operation = %report.operation, "report:\n{}", report::render(&report));
    Outcome::Ended(Box::new(report))
}

/// `<state>/operations/OPERATION/report.json`.
pub(super) fn report_path(config: &ClusterConfig, operation: &str) -> PathBuf {
    config
        .state_dir
        .join("operations")
        .join(operation)
        .join("report.json")
}

/// There is a new primary.
pub(super) fn succeeded(report: &Report) -> bool {
    [ExitCode::Done, ExitCode::DoneNeedsCare]
        .iter()
        .any(|code| code.number() == report.exit_code)
}
