//! The stories.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use manager::config::{self, ClusterConfig};
use manager::exit_code::ExitCode;
use manager::failover::{self, Request, Surroundings};
use manager::journal::{self, Hook, NoHook, Record};
use manager::prompt::Operator;
use manager::proof::ProofVerdict;
use manager::report::Report;
use proto::v1::ErrorKind;
use tokio::task::JoinHandle;

use super::fake::FakeAgent;
use super::world::{Fault, Shared, World, lock};

pub(crate) struct Cluster {
    pub(crate) world: Shared,
    pub(crate) config: Arc<ClusterConfig>,
    pub(crate) state: tempfile::TempDir,
    pub(crate) agents: Vec<JoinHandle<()>>,
    pub(crate) dead: String,
    _port_of_dead: tokio::net::TcpSocket,
}

impl Drop for Cluster {
    fn drop(&mut self) {
        for agent in &self.agents {
            agent.abort();
        }
    }
}

/// Limits that no agent reaches by being slow on a busy machine.
pub(crate) const POLICY: &str =
    "failover: { call_timeout: 5s, connect_timeout: 3s, save_timeout: 5s, progress_timeout: 5s }\n";

impl Cluster {
    pub(crate) async fn start() -> Self {
        Self::with(POLICY, &["candidate: preferred", ""]).await
    }

    /// With limits that nothing meets on a busy machine.
    pub(crate) async fn patient() -> Self {
        Self::with("", &["candidate: preferred", ""]).await
    }

    /// db1 is dead and its port refuses; `extra` are further keys of db2 and db3.
    pub(crate) async fn with(policy: &str, extra: &[&str; 2]) -> Self {
        // Nobody listens there, and nobody is given it by chance; whoever asks for it by its number may listen.
        let port_of_dead = tokio::net::TcpSocket::new_v4().unwrap();
        port_of_dead.set_reuseaddr(true).unwrap();
        port_of_dead.bind(([127, 0, 0, 1], 0).into()).unwrap();
        let port = port_of_dead.local_addr().unwrap().port();
        let state = tempfile::tempdir().unwrap();
        let world = World::customer(port, state.path());
        let mut agents = Vec::new();
        let mut servers = String::new();
        for (name, extra) in [("db1", ""), ("db2", extra[0]), ("db3", extra[1])] {
            let (address, serving) = FakeAgent::spawn(world.clone(), name).await;
            agents.push(serving);
            let port = if name == "db1" { port } else { 3306 };
            let host = if name == "db1" { "127.0.0.1" } else { name };
            servers.push_str(&format!(
                "  - {{ name: {name}, host: {host}, port: {port}, agent: '{address}', {extra} }}\n"
            ));
        }
        let text = format!(
            "cluster: app1\nplaintext: true\nmanager_name: m1\nstate_dir: {}\nservers:\n{servers}{policy}",
            state.path().join("state").display()
        );
        let path = state.path().join("app1.yaml");
        std::fs::write(&path, text).unwrap();
        Self {
            world,
            config: Arc::new(config::load(&path).unwrap()),
            state,
            agents,
            dead: format!("127.0.0.1:{port}"),
            _port_of_dead: port_of_dead,
        }
    }

    pub(crate) fn request(&self) -> Request {
        Request {
            dead_primary: self.dead.clone(),
            yes: true,
            ..Request::default()
        }
    }

    pub(crate) async fn run(&self, request: &Request) -> Report {
        self.run_with(request, Arc::new(NoHook), None).await
    }

    pub(crate) async fn run_with(
        &self,
        request: &Request,
        hook: Arc<dyn Hook>,
        operator: Option<&mut dyn Operator>,
    ) -> Report {
        let surroundings = Surroundings {
            narrator: Arc::new(|_: &str| {}),
            operator,
            hook,
        };
        let report = failover::run(self.config.clone(), request, surroundings).await;
        self.until_unlocked().await;
        report
    }

    /// The writer thread lets go of a journal a moment after its run has ended; a process would be gone.
    pub(crate) async fn until_unlocked(&self) {
        let deadline = Instant::now() + Duration::from_secs(60);
        while self
            .journals()
            .iter()
            .any(|j| journal::is_running(j).unwrap())
        {
            assert!(Instant::now() < deadline, "the journal stays locked");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }

    pub(crate) fn journals(&self) -> Vec<PathBuf> {
        journal::operations(&self.config.state_dir, "app1").unwrap()
    }

    fn calls(&self) -> Vec<String> {
        lock(&self.world).calls.clone()
    }

    pub(crate) fn called(&self, call: &str) -> usize {
        self.calls().iter().filter(|c| c.starts_with(call)).count()
    }

    pub(crate) fn set_fault(&self, server: &str, call: &'static str, fault: Fault) {
        lock(&self.world).server(server).faults.insert(call, fault);
    }

    /// Nothing was changed anywhere, and nobody holds the cluster.
    pub(crate) fn assert_untouched(&self, story: &str) {
        for server in lock(&self.world).servers.values() {
            assert_eq!(server.holder, None, "{story}: {}", server.name);
            assert!(
                server.read_only || server.name == "db1",
                "{story}: {}",
                server.name
            );
            assert_eq!(server.replicates_from, None, "{story}: {}", server.name);
            assert_eq!(server.held_down_by, "", "{story}: {}", server.name);
            if server.name != "db1" {
                assert!(server.receiver_running, "{story}: {}", server.name);
            }
        }
    }
}

pub(crate) fn code(report: &Report) -> ExitCode {
    ExitCode::ALL
        .into_iter()
        .find(|c| c.number() == report.exit_code)
        .unwrap()
}

#[tokio::test]
async fn customers_scenario_diff_from_leader_tail_from_dead_disk() {
    let cluster = Cluster::start().await;
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(
        code(&report),
        ExitCode::Done,
        "{}",
        manager::report::render(&report)
    );
    let pieces: Vec<String> = report.recovered.iter().map(|r| r.what.clone()).collect();
    assert_eq!(
        pieces,
        [
            "piece 1 [mysql-bin.000001:452, mysql-bin.000001:880) diff, from the relay log of db3",
            "piece 2 [mysql-bin.000001:880, mysql-bin.000001:1308) tail, from the binary log of db1",
        ]
    );
    assert_eq!(report.new_primary.as_deref(), Some("db2"));
    assert_eq!(report.replicas, ["db3"]);
    assert_eq!(report.proof.as_ref().unwrap().verdict, ProofVerdict::Proven);
    let mut world = lock(&cluster.world);
    assert!(!world.server("db2").read_only);
    assert_eq!(world.server("db2").executed, 1308);
    assert_eq!(world.server("db3").executed, 1308);
    assert_eq!(
        world.server("db3").replicates_from,
        Some(("db2".to_owned(), 3306))
    );
    assert!(
        !world.server("db1").held_down_by.is_empty(),
        "the old primary stays down"
    );
    for server in world.servers.values() {
        assert_eq!(server.holder, None, "{} is released", server.name);
    }
    // The leader has the diff itself: only the candidate fetches it.
    let pulls = world
        .calls
        .iter()
        .filter(|c| c.starts_with("PullSegment"))
        .count();
    assert_eq!(pulls, 3);
}

#[tokio::test]
async fn the_tail_is_kept_on_the_manager_with_its_manifest() {
    let cluster = Cluster::start().await;
    let report = cluster.run(&cluster.request()).await;
    let copy = report.recovered[1].copy.as_ref().unwrap();
    let bytes = std::fs::read(copy).unwrap();
    assert_eq!(bytes.len(), 120 + 428, "head of the file and the tail");
    assert!(std::fs::metadata(format!("{copy}.manifest.json")).is_ok());
    assert_eq!(
        std::fs::metadata(copy).unwrap().permissions().mode() & 0o777,
        0o600
    );
}

#[tokio::test]
async fn journal_holds_every_step_before_and_after() {
    let cluster = Cluster::start().await;
    let report = cluster.run(&cluster.request()).await;
    let journals = cluster.journals();
    assert_eq!(journals.len(), 1);
    assert!(!journal::is_running(&journals[0]).unwrap());
    let records = journal::read(&journals[0]).unwrap().records;
    assert!(matches!(records.first(), Some(Record::Begin(b)) if b.dead == "db1" && b.epoch == 1));
    let started = records
        .iter()
        .filter(|r| matches!(r, Record::Started { .. }))
        .count();
    let done = records
        .iter()
        .filter(|r| matches!(r, Record::Done { .. }))
        .count();
    assert_eq!(started, done);
    assert_eq!(started, report.timeline.len());
    assert!(records.iter().any(|r| matches!(r, Record::Plan { .. })));
}

#[tokio::test]
async fn dry_run_changes_nothing_and_names_the_same_pieces() {
    let cluster = Cluster::start().await;
    let mut request = cluster.request();
    request.dry_run = true;
    request.yes = false;
    let dry = cluster.run(&request).await;
    assert_eq!(code(&dry), ExitCode::Done);
    cluster.assert_untouched("dry run");
    assert!(cluster.journals().is_empty());
    assert_eq!(cluster.called("ClaimEpoch"), 0);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(dry.plan.unwrap().pieces, report.plan.unwrap().pieces);
}

#[tokio::test]
async fn refusals_change_nothing() {
    type Prepare = fn(&Cluster, &mut Request);
    let stories: [(&str, Prepare, ExitCode, &str); 12] = [
        (
            "the primary is alive behind its agent",
            |c, _| lock(&c.world).server("db1").alive = true,
            ExitCode::Refused,
            "db1 is isolated",
        ),
        (
            "another server is named",
            |_, r| r.dead_primary = "db3:3306".into(),
            ExitCode::Refused,
            "db3 is a replica of 127.0.0.1:",
        ),
        (
            "an unknown server is named",
            |_, r| r.dead_primary = "db9:3306".into(),
            ExitCode::Usage,
            "no server of the configuration",
        ),
        (
            "a survivor replicates from elsewhere",
            |c, _| {
                let mut world = lock(&c.world);
                world.server("db3").source_port = 9;
            },
            ExitCode::Refused,
            "",
        ),
        (
            "a survivor cannot be observed",
            |c, _| c.set_fault("db3", "ObserveServer", Fault::Dies),
            ExitCode::Refused,
            "db3 cannot be observed",
        ),
        (
            "a survivor is no replica",
            |c, _| lock(&c.world).server("db3").replica = false,
            ExitCode::Refused,
            "db3 is alive and no replica",
        ),
        (
            "nobody is fit",
            |c, _| {
                let mut world = lock(&c.world);
                world.server("db2").log_bin = false;
                world.server("db3").log_bin = false;
            },
            ExitCode::Refused,
            "binary log is off",
        ),
        (
            "the forced server is unfit",
            |c, r| {
                lock(&c.world).server("db3").log_bin = false;
                r.new_primary = Some("db3:3306".into());
            },
            ExitCode::Refused,
            "db3 cannot become the primary: its binary log is off",
        ),
        (
            "the dead one is forced",
            |c, r| r.new_primary = Some(c.dead.clone()),
            ExitCode::Refused,
            "db1 cannot become the primary",
        ),
        (
            "nobody can be asked",
            |_, r| r.yes = false,
            ExitCode::Refused,
            "nobody can be asked",
        ),
        (
            "several channels",
            |c, _| lock(&c.world).server("db2").channels = 2,
            ExitCode::Refused,
            "2 replication channels",
        ),
        (
            "no fence and no majority",
            |c, _| {
                c.agents[0].abort();
                c.set_fault("db3", "GetAgentInfo", Fault::Dies);
            },
            ExitCode::Refused,
            "db3 cannot be observed",
        ),
    ];
    for (story, prepare, expected, text) in stories {
        let cluster = Cluster::start().await;
        // By uuid a replica may know its primary under another address.
        if story == "a survivor replicates from elsewhere" {
            lock(&cluster.world)
                .server("db1")
                .faults
                .insert("ObserveServer", Fault::Dies);
        }
        let mut request = cluster.request();
        prepare(&cluster, &mut request);
        let report = cluster.run(&request).await;
        assert_eq!(code(&report), expected, "{story}: {}", report.summary);
        assert!(report.summary.contains(text), "{story}: {}", report.summary);
        assert!(cluster.journals().is_empty(), "{story}");
        assert_eq!(cluster.called("ClaimEpoch"), 0, "{story}");
        cluster.assert_untouched(story);
    }
}

#[tokio::test]
async fn a_cluster_held_by_another_operation_is_left_alone() {
    let cluster = Cluster::start().await;
    {
        let mut world = lock(&cluster.world);
        for name in ["db1", "db2", "db3"] {
            let server = world.server(name);
            server.epoch = 7;
            server.holder = Some(("op-of-another".into(), "m2".into()));
        }
    }
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Held, "{}", report.summary);
    assert!(
        report.summary.contains("op-of-another of manager m2"),
        "{}",
        report.summary
    );
    assert_eq!(cluster.called("ClaimEpoch"), 0);
    assert_eq!(cluster.called("StopReceiver"), 0);
}

#[tokio::test]
async fn a_refused_claim_gives_back_what_was_granted() {
    let cluster = Cluster::start().await;
    cluster.set_fault(
        "db3",
        "ClaimEpoch",
        Fault::Fails(ErrorKind::Held, "another was faster"),
    );
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Held, "{}", report.summary);
    assert!(
        report.summary.contains("another was faster"),
        "{}",
        report.summary
    );
    lock(&cluster.world).server("db3").faults.clear();
    cluster.assert_untouched("refused claim");
    assert_eq!(cluster.called("StopReceiver"), 0);
}

struct Answers(Vec<&'static str>);

impl Operator for Answers {
    fn confirm(&mut self, question: &str) -> bool {
        self.line(question).starts_with('y')
    }

    fn line(&mut self, _: &str) -> String {
        if self.0.is_empty() {
            String::new()
        } else {
            self.0.remove(0).to_owned()
        }
    }
}

#[tokio::test]
async fn no_leaves_no_trace_and_another_server_may_be_named() {
    let cluster = Cluster::start().await;
    let mut request = cluster.request();
    request.yes = false;
    for answers in [
        vec!["no"],
        vec!["y", "n"],
        vec!["y", "n", "y", "db3:3306", "n"],
    ] {
        let mut operator = Answers(answers.clone());
        let report = cluster
            .run_with(&request, Arc::new(NoHook), Some(&mut operator))
            .await;
        assert_eq!(code(&report), ExitCode::Failed, "{answers:?}");
        assert!(report.summary.contains("declined"), "{}", report.summary);
        assert!(cluster.journals().is_empty());
        assert_eq!(cluster.called("ClaimEpoch"), 0);
        assert!(!cluster.config.state_dir.exists(), "not even a folder");
    }
    let mut operator = Answers(vec!["y", "n", "y", "db3:3306", "y"]);
    let report = cluster
        .run_with(&request, Arc::new(NoHook), Some(&mut operator))
        .await;
    assert_eq!(
        report.new_primary.as_deref(),
        Some("db3"),
        "{}",
        report.summary
    );
}

#[tokio::test]
async fn dead_host_does_not_answer_proceeds_and_says_what_is_unknown() {
    let cluster = Cluster::start().await;
    cluster.agents[0].abort();
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    let proof = report.proof.unwrap();
    assert!(
        matches!(&proof.verdict, ProofVerdict::ProvenUpTo { position } if position.offset == 880),
        "{:?}",
        proof.verdict
    );
    assert_eq!(report.lost.len(), 1);
    assert_eq!(report.fenced, Some(false));
    assert_eq!(lock(&cluster.world).server("db2").executed, 880);
}

#[tokio::test]
async fn dead_host_does_not_answer_stops_if_the_policy_says_so() {
    let policy = POLICY.replace("failover: {", "failover: { on_unreachable_log: stop,");
    let cluster = Cluster::with(&policy, &["", ""]).await;
    cluster.agents[0].abort();
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Refused, "{}", report.summary);
    cluster.assert_untouched("policy stop");
}

#[tokio::test]
async fn dead_host_falls_silent_after_the_claim() {
    let cluster = Cluster::start().await;
    cluster.set_fault("db1", "SurveyLogs", Fault::Silent);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(cluster.called("SurveyLogs db1"), 3, "three tries");
    assert!(matches!(
        report.proof.unwrap().verdict,
        ProofVerdict::ProvenUpTo { .. }
    ));
}

#[tokio::test]
async fn dead_log_unreadable_stops_and_undoes_unless_the_loss_is_accepted() {
    for kind in [
        ErrorKind::LogUnreadable,
        ErrorKind::LogCorrupt,
        ErrorKind::DiskFull,
    ] {
        for call in ["SurveyLogs", "SaveBinaryLogs"] {
            let cluster = Cluster::start().await;
            cluster.set_fault("db1", call, Fault::Fails(kind, "cannot be read"));
            let report = cluster.run(&cluster.request()).await;
            assert_eq!(
                code(&report),
                ExitCode::Failed,
                "{call}: {}",
                report.summary
            );
            assert!(
                report.summary.contains("/data/mysql-bin.000001:4"),
                "names the path: {}",
                report.summary
            );
            cluster.assert_untouched(call);
            let mut request = cluster.request();
            request.accept_loss = true;
            let report = cluster.run(&request).await;
            assert_eq!(code(&report), ExitCode::Done, "{call}: {}", report.summary);
            assert!(!report.lost.is_empty());
            assert_eq!(lock(&cluster.world).server("db3").executed, 880);
        }
    }
}

#[tokio::test]
async fn dead_log_corrupt_before_its_end_stops_unless_accepted() {
    let cluster = Cluster::start().await;
    lock(&cluster.world).server("db1").corrupt_at = Some(1094);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Failed, "{}", report.summary);
    assert!(
        report.summary.contains("corrupt at mysql-bin.000001:1094"),
        "{}",
        report.summary
    );
    cluster.assert_untouched("corrupt");
    let mut request = cluster.request();
    request.accept_loss = true;
    let report = cluster.run(&request).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(lock(&cluster.world).server("db2").executed, 1094);
    assert!(matches!(
        report.proof.unwrap().verdict,
        ProofVerdict::ProvenUpTo { .. }
    ));
}

#[tokio::test]
async fn slow_agents_are_waited_for() {
    let cluster = Cluster::start().await;
    for call in ["SurveyLogs", "SaveBinaryLogs", "HoldDown"] {
        cluster.set_fault("db1", call, Fault::Slow(Duration::from_millis(400)));
    }
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(report.proof.unwrap().verdict, ProofVerdict::Proven);
}

#[tokio::test]
async fn divergent_histories_stop_the_run_and_everything_is_undone() {
    let cluster = Cluster::start().await;
    lock(&cluster.world).server("db1").diverged = true;
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Failed, "{}", report.summary);
    assert!(
        report
            .summary
            .contains("divergence before mysql-bin.000001:849"),
        "{}",
        report.summary
    );
    cluster.assert_untouched("divergence");
}

#[tokio::test]
async fn a_segment_with_a_missing_transaction_is_not_proven() {
    let cluster = Cluster::start().await;
    {
        let mut world = lock(&cluster.world);
        world.server("db1").drops_a_transaction = true;
        world.server("db3").received = 452;
        world.server("db3").executed = 452;
    }
    let report = cluster.run(&cluster.request()).await;
    let proof = report.proof.as_ref().unwrap();
    assert_eq!(proof.verdict, ProofVerdict::NotProven, "{proof:?}");
    assert_eq!(code(&report), ExitCode::DoneNeedsCare);
}

#[tokio::test]
async fn a_survivor_that_cannot_apply_is_left_and_listed() {
    let cluster = Cluster::start().await;
    cluster.set_fault(
        "db3",
        "ApplyLogs",
        Fault::Fails(ErrorKind::Replication, "duplicate key"),
    );
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::DoneNeedsCare, "{}", report.summary);
    assert_eq!(report.new_primary.as_deref(), Some("db2"));
    assert!(
        report
            .care
            .iter()
            .any(|c| c.server == "db3" && c.why.contains("duplicate key"))
    );
    assert_eq!(lock(&cluster.world).server("db3").replicates_from, None);
}

#[tokio::test]
async fn the_winner_fails_and_another_is_elected() {
    for call in ["ApplyLogs", "Promote", "PullSegment"] {
        let cluster = Cluster::start().await;
        cluster.set_fault(
            "db2",
            call,
            Fault::Fails(ErrorKind::Replication, "it broke"),
        );
        let report = cluster.run(&cluster.request()).await;
        assert_eq!(
            code(&report),
            ExitCode::DoneNeedsCare,
            "{call}: {}",
            report.summary
        );
        assert_eq!(report.new_primary.as_deref(), Some("db3"), "{call}");
        assert_eq!(report.first_choice.as_deref(), Some("db2"), "{call}");
        assert!(report.care.iter().any(|c| c.server == "db2"), "{call}");
        assert!(!lock(&cluster.world).server("db3").read_only, "{call}");
        assert!(lock(&cluster.world).server("db2").read_only, "{call}");
    }
}

#[tokio::test]
async fn a_failed_applier_is_not_elected_not_touched_but_provides() {
    let cluster = Cluster::start().await;
    {
        let mut world = lock(&cluster.world);
        let db3 = world.server("db3");
        db3.applier_running = false;
        db3.applier_errno = 1062;
    }
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::DoneNeedsCare, "{}", report.summary);
    assert_eq!(report.new_primary.as_deref(), Some("db2"));
    assert!(
        report
            .care
            .iter()
            .any(|c| c.server == "db3" && c.why.contains("1062"))
    );
    assert!(report.recovered[0].what.contains("relay log of db3"));
    assert_eq!(cluster.called("ApplyLogs db3"), 0);
    assert_eq!(cluster.called("Repoint db3"), 0);
    assert_eq!(lock(&cluster.world).server("db3").executed, 452);
}

#[tokio::test]
async fn an_agent_that_dies_in_a_replay_and_comes_back_goes_on() {
    let cluster = Cluster::start().await;
    cluster.set_fault("db2", "ApplyLogs", Fault::DiesOnce);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(report.new_primary.as_deref(), Some("db2"));
}

#[tokio::test]
async fn a_lost_answer_to_make_writable_is_unknown_never_a_second_primary() {
    let cluster = Cluster::start().await;
    cluster.set_fault("db2", "MakeWritable", Fault::Dies);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(
        code(&report),
        ExitCode::OutcomeUnknown,
        "{}",
        report.summary
    );
    assert_eq!(cluster.called("MakeWritable db3"), 0);
    assert_eq!(cluster.called("Promote db3"), 0);
}

#[tokio::test]
async fn purged_relay_logs_are_replaced_by_the_dead_disk() {
    let cluster = Cluster::start().await;
    {
        let mut world = lock(&cluster.world);
        let db3 = world.server("db3");
        db3.held_from = 880;
        db3.executed = 880;
    }
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done, "{}", report.summary);
    assert_eq!(report.recovered.len(), 1);
    assert!(
        report.recovered[0]
            .what
            .contains("[mysql-bin.000001:452, mysql-bin.000001:1308) tail")
    );
}

#[tokio::test]
async fn a_part_that_nobody_holds_stops_the_run_naming_it() {
    let cluster = Cluster::start().await;
    cluster.agents[0].abort();
    {
        let mut world = lock(&cluster.world);
        let db3 = world.server("db3");
        db3.held_from = 880;
        db3.executed = 880;
    }
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Failed, "{}", report.summary);
    assert!(
        report
            .summary
            .contains("no provider holds [mysql-bin.000001:452, mysql-bin.000001:880)"),
        "{}",
        report.summary
    );
    cluster.assert_untouched("not held");
}

#[tokio::test]
async fn ignore_fail_leaves_a_server_aside() {
    let cluster = Cluster::with(POLICY, &["candidate: preferred", "ignore_fail: true"]).await;
    cluster.set_fault("db3", "ObserveServer", Fault::Dies);
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::DoneNeedsCare, "{}", report.summary);
    assert!(report.care.iter().any(|c| c.server == "db3"));
    assert_eq!(lock(&cluster.world).server("db2").executed, 1308);
}

/// Stops the run at the n-th journal write, before or after it.
#[tokio::test]
async fn three_servers_that_answer_are_done_before_any_limit() {
    let cluster = Cluster::start().await;
    let began = Instant::now();
    let report = cluster.run(&cluster.request()).await;
    assert_eq!(code(&report), ExitCode::Done);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(5), "{took:?}");
}

#[tokio::test]
async fn a_second_run_finishes_what_the_first_left_behind() {
    let cluster = Cluster::start().await;
    cluster.set_fault(
        "db3",
        "ApplyLogs",
        Fault::Fails(ErrorKind::MysqldDown, "mysqld is gone"),
    );
    let first = cluster.run(&cluster.request()).await;
    assert_eq!(code(&first), ExitCode::DoneNeedsCare, "{}", first.summary);
    lock(&cluster.world).server("db3").faults.clear();
    let second = cluster.run(&cluster.request()).await;
    assert_eq!(code(&second), ExitCode::Done, "{}", second.summary);
    assert_eq!(second.new_primary.as_deref(), Some("db2"));
    assert_eq!(second.replicas, ["db3"]);
    assert_eq!(cluster.called("Promote"), 1);
    assert_eq!(lock(&cluster.world).server("db3").executed, 1308);
    let third = cluster.run(&cluster.request()).await;
    assert_eq!(
        code(&third),
        ExitCode::Done,
        "nothing is left to do: {}",
        third.summary
    );
}

#[tokio::test]
async fn a_hold_is_ended_on_request_and_only_then() {
    let cluster = Cluster::start().await;
    cluster.run(&cluster.request()).await;
    assert!(!lock(&cluster.world).server("db1").held_down_by.is_empty());
    let dead = cluster.config.find("db1").unwrap();
    assert!(
        manager::release::release_hold(&cluster.config, dead)
            .await
            .unwrap()
    );
    assert!(lock(&cluster.world).server("db1").held_down_by.is_empty());
    assert!(
        !manager::release::release_hold(&cluster.config, dead)
            .await
            .unwrap()
    );
    assert_eq!(lock(&cluster.world).server("db1").holder, None);
}
