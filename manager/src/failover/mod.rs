//! A failover from end to end: observe, judge, elect, claim, freeze, survey, plan, execute, prove, report.
//!
//! Nothing changes before the claim; between the claim and the promotion everything is undone if it cannot be
//! finished; after the promotion there is no way back, and what could not be finished is listed.

mod binlog_servers;
mod earlier;
mod error;
mod freeze;
mod permit;
mod places;
mod prepare;
mod recover;
mod survey;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use error::{FailoverError, StopReason};

use crate::agents::{AgentClient, Context};
use crate::config::{ClusterConfig, ServerConfig};
use crate::elect::Election;
use crate::execute::{self, Narrator, Run, unix_ms};
use crate::exit_code::ExitCode;
use crate::guard::Origin;
use crate::hooks::{self, HookCall};
use crate::journal::{Begin, Hook, Journal, Record};
use crate::observe::Agents;
use crate::plan::{self, Act, AlreadyPromoted, Findings, Phase};
use crate::prompt::Operator;
use crate::record::TakeOver;
use crate::report::Report;
use crate::topology::Topology;
use crate::verdict::Stalled;

/// What the operator asked for.
#[derive(Debug, Clone, Default)]
pub struct Request {
    /// The dead primary: HOST:PORT or its configured name.
    pub dead_primary: String,
    /// A forced new primary.
    pub new_primary: Option<String>,
    /// Only say what would be done.
    pub dry_run: bool,
    /// Do not ask.
    pub yes: bool,
    /// Go on when the dead primary's log cannot be read.
    pub accept_loss: bool,
    /// The operator states that the old primary is off.
    pub primary_is_off: bool,
    /// The operator states that no other manager of the cluster runs any more.
    pub take_over: bool,
    /// Who asks.
    pub origin: Origin,
    /// Go on within the window after the last failover, and after one that was broken off.
    pub ignore_last_failover: bool,
    /// The monitor has found the dead host silent already: it is asked once more, for no longer than this.
    pub silent_host: Option<Duration>,
    /// The monitor has found the server silent already: it is pinged once more, for no longer than this.
    pub silent_server: Option<Duration>,
    /// The monitor has seen the data disk stand still for longer than its limit.
    pub stalled: Option<Stalled>,
    /// What the daemon knows of the dead primary's lease; `None` for everybody else.
    pub lease: Option<LeaseSeen>,
}

/// What a daemon knows of the lease that it held up.
#[derive(Debug, Clone)]
pub struct LeaseSeen {
    /// After this moment it gave no word for the lease any more.
    pub last_word: Instant,
    /// Why the primary's agent, which has to end the lease, may not run.
    pub doubt: Option<String>,
}

/// Who hears, who answers, who watches.
pub struct Surroundings<'a> {
    /// Hears what happens.
    pub narrator: Narrator,
    /// Answers questions; absent if nobody can be asked.
    pub operator: Option<&'a mut dyn Operator>,
    /// Around journal writes.
    pub hook: Arc<dyn Hook>,
}

/// What was found before anything changed.
struct Prepared {
    agents: Agents,
    topology: Topology,
    election: Election,
    epoch: u64,
    take_over: TakeOver,
    /// An earlier run came as far as this; what is left of it is finished.
    promoted: Option<AlreadyPromoted>,
    /// There was an earlier operation for this dead primary.
    repeats: bool,
}

/// Runs a failover. The report says everything; its exit code is the command's.
pub async fn run(
    config: Arc<ClusterConfig>,
    request: &Request,
    surroundings: Surroundings<'_>,
) -> Report {
    let started = Instant::now();
    let mut report = Report::new(&config, request);
    let result = act(config, request, surroundings, started, &mut report).await;
    report.finish(&result, started);
    report
}

async fn act(
    config: Arc<ClusterConfig>,
    request: &Request,
    mut surroundings: Surroundings<'_>,
    started: Instant,
    report: &mut Report,
) -> Result<ExitCode, FailoverError> {
    let say = surroundings.narrator.clone();
    say(Phase::ConfigurationCheck.heading());
    let dead = prepare::configured(&config, &request.dead_primary)?.clone();
    let mut forced = request
        .new_primary
        .as_deref()
        .map(|wanted| prepare::configured(&config, wanted).map(|s| s.name.clone()))
        .transpose()?;
    let mut prepared = prepare::prepare(&config, &dead, forced.as_deref(), request).await?;
    report.observed(&prepared.topology, &prepared.election);
    narrate_observed(&say, &prepared);
    if request.dry_run {
        let plan = prepare::dry_plan(&config, &prepared, request).await?;
        report.planned(&plan.0, &plan.1);
        return Ok(ExitCode::Done);
    }
    if prepared.promoted.is_none() {
        permit::permit(&config, &dead, request)?;
    }
    if !request.yes {
        let operator =
            surroundings
                .operator
                .take()
                .ok_or_else(|| crate::topology::Refusal::NobodyToAsk {
                    dead: dead.name.clone(),
                })?;
        (prepared, forced) = prepare::ask(
            &config,
            &dead,
            forced.as_deref(),
            request,
            prepared,
            operator,
        )
        .await?;
        report.observed(&prepared.topology, &prepared.election);
    }
    let operation = operation_id();
    let journal = Journal::create(
        &config.state_dir,
        &config.cluster,
        &operation,
        surroundings.hook.clone(),
    )?;
    report.operation(&operation, prepared.epoch, &journal.path());
    let run = Run::new(
        config.clone(),
        Context {
            cluster: config.cluster.clone(),
            operation,
            epoch: prepared.epoch,
        },
        prepared.agents.clone(),
        journal,
        prepared.topology.identity.clone(),
        started,
        say,
    );
    run.journal
        .append(&Record::Begin(Box::new(begin(
            &run, &dead, &prepared, request,
        ))))
        .await?;
    let result = change(&run, &dead, forced.as_deref(), request, prepared, report).await;
    report.timeline(run.timeline());
    if matches!(result, Err(FailoverError::NotUndone(_))) && run.hooks_ran() {
        report.remarks(vec![
            "what hooks did outside (address, power) is not undone: see to it by hand".to_owned(),
        ]);
    }
    report.finish(&result, started);
    send_report(&run, &dead, &result, report).await;
    let code = result
        .as_ref()
        .map_or_else(FailoverError::exit_code, |code| *code);
    let summary = match &result {
        Ok(code) => code.meaning().to_owned(),
        Err(error) => crate::observe::chain(error),
    };
    // A journal that cannot be written any more must not hide how the operation ended.
    let _ = run
        .journal
        .append(&Record::End {
            unix_ms: unix_ms(),
            exit_code: code.number(),
            summary,
        })
        .await;
    result
}

/// `report_script`, whenever phase 2 was reached. Whatever comes of it, the operation ends as it would have.
async fn send_report(
    run: &Run,
    dead: &ServerConfig,
    result: &Result<ExitCode, FailoverError>,
    report: &mut Report,
) {
    let reached_phase_2 = !matches!(
        result,
        Err(FailoverError::Claim(_) | FailoverError::Journal(_))
    );
    if !reached_phase_2 || !run.config.hooks.has(hooks::Hook::ReportScript) {
        return;
    }
    let call = HookCall::SendReport {
        server: dead.name.clone(),
        new_primary: report.new_primary.clone(),
        replicas: report.replicas.clone(),
        succeeded: matches!(result, Ok(ExitCode::Done)),
        body: crate::report::render(report),
    };
    let failed = match execute::single(run, vec![Act::RunHook { call }]).await {
        Ok(results) => results
            .into_failed()
            .next()
            .map(|(_, error)| crate::observe::chain(&error)),
        Err(error) => Some(crate::observe::chain(&error)),
    };
    report.timeline(run.timeline());
    if let Some(why) = failed {
        report.remarks(vec![format!(
            "nobody was told by {}: {why}",
            hooks::Hook::ReportScript
        )]);
    }
}

/// Everything from the claim on.
async fn change(
    run: &Run,
    dead: &ServerConfig,
    forced: Option<&str>,
    request: &Request,
    prepared: Prepared,
    report: &mut Report,
) -> Result<ExitCode, FailoverError> {
    let survivors = survivor_clients(run, &prepared);
    let dead_client = run.agents.of(dead).cloned().map(Arc::new);
    let dead_client = dead_client.filter(|d| {
        // Several servers may share an agent, which is claimed once.
        !survivors.iter().any(|s| s.endpoint() == d.endpoint())
    });
    let dead_shares_agent = prepared.topology.dead_agent_answers && dead_client.is_none();
    let take_over = &prepared.take_over;
    let mut claimed = execute::claim(run, &survivors, dead_client.as_ref(), take_over).await?;
    claimed.dead |= dead_shares_agent;
    let result = async {
        let prepared = if prepared.repeats {
            earlier::take_up(run).await;
            prepare::once_more(&run.config, dead, forced, request, prepared).await?
        } else {
            prepared
        };
        let claimed = (&claimed, survivors.len());
        recover::recover(run, dead, forced, request, prepared, claimed, report).await
    }
    .await;
    (run.narrator)(Phase::Cleanup.heading());
    match execute::release(run).await {
        Ok(kept) => report.claims_kept(kept),
        Err(error) => {
            if result.is_ok() {
                return Err(error.into());
            }
        }
    }
    result
}

/// Agents of the survivors (and of a server promoted earlier) in configured order, each once.
fn survivor_clients(run: &Run, prepared: &Prepared) -> Vec<Arc<AgentClient>> {
    let topology = &prepared.topology;
    let takes_part = |name: &String| {
        topology.survivors.iter().any(|s| s.server == *name)
            || topology.following.contains(name)
            || prepared
                .promoted
                .as_ref()
                .is_some_and(|p| p.server == *name)
    };
    let mut clients: Vec<Arc<AgentClient>> = Vec::new();
    for server in run.config.servers.iter().filter(|s| takes_part(&s.name)) {
        if let Some(client) = run.agents.of(server)
            && !clients.iter().any(|c| c.endpoint() == client.endpoint())
        {
            clients.push(Arc::new(client.clone()));
        }
    }
    clients
}

/// Agent address by server.
fn agent_addresses(config: &ClusterConfig) -> BTreeMap<String, String> {
    config
        .servers
        .iter()
        .map(|s| (s.name.clone(), s.agent.address.clone()))
        .collect()
}

fn begin(run: &Run, dead: &ServerConfig, prepared: &Prepared, request: &Request) -> Begin {
    Begin {
        format_version: 1,
        program: env!("CARGO_PKG_VERSION").to_owned(),
        unix_ms: unix_ms(),
        cluster: run.context.cluster.clone(),
        operation: run.context.operation.clone(),
        epoch: prepared.epoch,
        manager: run.config.manager_name.clone(),
        dead: dead.name.clone(),
        dead_address: dead.address.clone(),
        forced: request.new_primary.clone(),
        accept_loss: request.accept_loss,
        agents: agent_addresses(&run.config),
    }
}

/// `failover-20261122T140000123Z-1a2b3c4d`: sorts by time, to the millisecond, since a manager that is restarted by a
/// supervisor begins the next one within the same second; unique by chance.
fn operation_id() -> String {
    let now = time::OffsetDateTime::now_utc();
    let unique = uuid::Uuid::new_v4().simple().to_string();
    format!(
        "failover-{:04}{:02}{:02}T{:02}{:02}{:02}{:03}Z-{}",
        now.year(),
        u8::from(now.month()),
        now.day(),
        now.hour(),
        now.minute(),
        now.second(),
        now.millisecond(),
        unique.get(..8).unwrap_or(&unique)
    )
}

fn narrate_observed(say: &Narrator, prepared: &Prepared) {
    let topology = &prepared.topology;
    say(&format!(
        "  {} is {}: {}",
        topology.dead, topology.verdict, topology.evidence.ping
    ));
    for survivor in &topology.survivors {
        let position = |p: &Option<binlog_core::BinlogPosition>| {
            p.as_ref()
                .map_or_else(|| "nothing".to_owned(), ToString::to_string)
        };
        say(&format!(
            "  {} received {}, executed {}",
            survivor.server,
            position(&survivor.replica.read),
            position(&survivor.replica.executed)
        ));
    }
    say(&format!(
        "  new primary would be {} ({})",
        prepared.election.winner, prepared.election.rule
    ));
}

/// Undo, after freezing and before anything irreversible.
async fn undo(run: &Run, topology: &Topology, held: bool) -> Result<bool, FailoverError> {
    let mut acts: Vec<Act> = topology
        .survivors
        .iter()
        .map(|s| Act::ResumeReplication {
            server: s.server.clone(),
        })
        .collect();
    if held {
        acts.push(Act::ReleaseHold {
            server: topology.dead.clone(),
        });
    }
    let results = execute::single(run, acts).await?;
    let mut undone = results.failed().next().is_none();
    // After the hold: an agent brings no address up at a deposed server.
    if run.has_dropped_address() {
        let back = Act::TakeAddress {
            server: topology.dead.clone(),
            holder_fenced: true,
        };
        let results = execute::single(run, vec![back]).await?;
        undone &= results.failed().next().is_none();
    }
    Ok(undone)
}

/// Makes a plan of what was found.
fn make_plan(
    config: &ClusterConfig,
    topology: &Topology,
    election: &Election,
    holdings: &plan::Holdings,
    promoted: Option<&AlreadyPromoted>,
    (await_lease, assign): (bool, &[String]),
    holder_fenced: bool,
) -> Result<plan::Plan, plan::PlanError> {
    let mut agents = agent_addresses(config);
    let of_binlog_servers = config.binlog_servers.iter();
    agents.extend(of_binlog_servers.map(|b| (b.name.clone(), b.agent.address.clone())));
    plan::make(Findings {
        topology,
        election,
        holdings,
        agents: &agents,
        promoted,
        address_script: config.hooks.has(hooks::Hook::MasterIpFailoverScript),
        await_lease,
        assign,
        virtual_ip: config
            .virtual_ip
            .as_ref()
            .map(|_| plan::VirtualIpFinding { holder_fenced }),
    })
}
