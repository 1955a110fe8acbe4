//! The whole daemon against scripted agents and a scripted primary: what it sees, says and does by itself.

use std::sync::Arc;
use std::time::{Duration, Instant};

use manager::api::{self, Client};
use manager::config;
use manager::daemon::{Daemon, Handle, State, Status};
use manager::guard;
use manager::journal::{self, Hook, NoHook};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use super::cluster::Cluster;
use super::world::{Fault, lock};

const LIMIT: Duration = Duration::from_secs(60);

/// A MySQL port that answers every connection with error 1040: full, but alive.
struct Port(JoinHandle<()>);

impl Port {
    async fn open(address: &str) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        Self(tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let mut packet = vec![0xff, 0x10, 0x04];
                packet.extend(b"Too many connections");
                let mut wire = vec![packet.len() as u8, 0, 0, 0];
                wire.extend(packet);
                // A client that is gone already does not matter.
                let _ = socket.write_all(&wire).await;
            }
        }))
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// A cluster whose primary db1 lives, watched.
pub(crate) struct Watched {
    pub(crate) cluster: Cluster,
    port: Option<Port>,
    daemon: Option<Daemon>,
}

impl Watched {
    pub(crate) async fn start() -> Self {
        Self::with(Cluster::start().await).await
    }

    pub(crate) async fn with(cluster: Cluster) -> Self {
        Self::of(cluster, Arc::new(NoHook)).await
    }

    /// Watches this cluster, with this hook around the writes of the journal.
    pub(crate) async fn of(cluster: Cluster, hook: Arc<dyn Hook>) -> Self {
        {
            let mut world = lock(&cluster.world);
            world.server("db1").alive = true;
            for name in ["db2", "db3"] {
                world.server(name).connected = true;
            }
        }
        let port = Some(Port::open(&cluster.dead).await);
        let mut watched = Self {
            cluster,
            port,
            daemon: None,
        };
        watched.run_with(hook).await;
        watched
    }

    /// Starts a manager and waits until it watches somebody.
    pub(crate) async fn run(&mut self) {
        self.run_with(Arc::new(NoHook)).await;
    }

    async fn run_with(&mut self, hook: Arc<dyn Hook>) {
        self.daemon = Some(Daemon::with_hook(
            vec![(*self.cluster.config).clone()],
            hook,
        ));
        self.until("a primary", |s| s.primary.is_some()).await;
    }

    /// A manager that is there from now on, whatever it sees.
    pub(crate) fn begin(&mut self) {
        self.daemon = Some(Daemon::start(vec![(*self.cluster.config).clone()]));
    }

    /// Ends its manager as SIGKILL would.
    pub(crate) fn end(&mut self) {
        self.daemon = None;
    }

    pub(crate) async fn stop(&mut self) {
        self.daemon.take().unwrap().stop().await;
    }

    fn status(&self) -> Status {
        let daemon = self.daemon.as_ref().unwrap();
        daemon.handles().borrow()[0].status.borrow().clone()
    }

    pub(crate) async fn until(&self, what: &str, test: impl Fn(&Status) -> bool) -> Status {
        let started = Instant::now();
        loop {
            let status = self.status();
            if test(&status) {
                return status;
            }
            assert!(started.elapsed() < LIMIT, "no {what}: {status:#?}");
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// For so long nothing begins.
    async fn nothing_for(&self, span: Duration) {
        let before = self.cluster.journals().len();
        tokio::time::sleep(span).await;
        assert_eq!(
            self.cluster.journals().len(),
            before,
            "{:#?}",
            self.status()
        );
    }

    /// mysqld of db1 ends, and its port with it.
    pub(crate) fn kill(&mut self) {
        self.port = None;
        lock(&self.cluster.world).server("db1").alive = false;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_dies_is_replaced_and_a_second_death_is_refused_across_a_restart() {
    let mut watched = Watched::start().await;
    watched
        .until("state 0", |s| {
            s.state == State::PingOk && s.primary.as_deref() == Some("db1")
        })
        .await;
    watched.kill();
    let done = watched
        .until("new primary", |s| s.primary.as_deref() == Some("db2"))
        .await;
    assert_eq!(done.deposed, ["db1".to_owned()].into());
    assert!(
        done.sentence.contains("instead of db1"),
        "{}",
        done.sentence
    );
    assert!(!lock(&watched.cluster.world).server("db2").read_only);
    let operations = watched.cluster.state.path().join("state/operations");
    let reports = std::fs::read_dir(operations).unwrap().count();
    assert_eq!(reports, 1, "the report is kept");

    // The new primary dies, too.
    lock(&watched.cluster.world).server("db2").alive = false;
    let refused = watched
        .until("refusal", |s| s.state == State::FailoverError)
        .await;
    assert!(
        refused.sentence.contains("none may follow within 8h"),
        "{}",
        refused.sentence
    );
    assert!(
        refused.sentence.contains("server dead"),
        "{}",
        refused.sentence
    );

    // A manager that is started again knows it, too.
    watched.stop().await;
    watched.run().await;
    watched
        .until("refusal", |s| {
            s.sentence.contains("none may follow within 8h")
        })
        .await;
    assert_eq!(watched.cluster.journals().len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_primary_that_only_the_manager_cannot_reach_is_isolated() {
    let mut watched = Watched::start().await;
    // Its agent is cut off, too; the replicas' agents reach it.
    {
        let mut world = lock(&watched.cluster.world);
        world.server("db1").silent = true;
        for name in ["db2", "db3"] {
            world.server(name).reaches_primary = true;
        }
    }
    watched.port = None;
    let seen = watched
        .until("verdict", |s| s.sentence.contains("isolated"))
        .await;
    assert_eq!(seen.state, State::PingFailing);
    watched.nothing_for(Duration::from_secs(4)).await;

    // Nobody reaches it any more: dead after all.
    {
        let mut world = lock(&watched.cluster.world);
        world.server("db1").alive = false;
        for name in ["db2", "db3"] {
            world.server(name).reaches_primary = false;
            world.server(name).connected = false;
        }
    }
    watched
        .until("new primary", |s| s.primary.as_deref() == Some("db2"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paused_cluster_is_watched_and_left_alone_until_it_is_resumed() {
    let mut watched = Watched::start().await;
    let socket = watched
        .cluster
        .state
        .path()
        .join("state")
        .join("manager.sock");
    std::fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let listener = api::bind(&socket).unwrap();
    assert!(api::bind(&socket).is_err(), "one manager per socket");
    let (stop, _asked) = tokio::sync::mpsc::channel(1);
    let handles = watched.daemon.as_ref().unwrap().handles();
    let serving = tokio::spawn(api::serve(listener, handles, stop, std::future::pending()));
    let mut client = Client::connect(&socket).await.unwrap();
    let mode =
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&socket).unwrap().permissions());
    assert_eq!(mode & 0o777, 0o600);

    client.pause("app1", "alice").await.unwrap();
    assert!(client.pause("app2", "alice").await.is_err());
    watched.kill();
    let refused = watched
        .until("refusal", |s| s.sentence.contains("is paused"))
        .await;
    assert!(
        refused.paused && refused.sentence.contains("by alice"),
        "{refused:?}"
    );
    watched.nothing_for(Duration::from_secs(1)).await;
    let explanation = loop {
        if let Ok(json) = client.explain("app1").await {
            break String::from_utf8(json).unwrap();
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    assert!(explanation.contains("\"primary\":\"db1\""), "{explanation}");

    assert!(client.resume("app1").await.unwrap());
    watched
        .until("new primary", |s| s.primary.as_deref() == Some("db2"))
        .await;
    let shown = client.status("app1").await.unwrap();
    assert_eq!(shown.clusters[0].primary, "db2");
    assert_eq!(shown.clusters[0].deposed, ["db1"]);
    let mut changes = client.watch("app1").await.unwrap();
    assert_eq!(
        changes.message().await.unwrap().unwrap().clusters[0].primary,
        "db2"
    );
    assert_eq!(client.acknowledge("app1").await.unwrap().len(), 1);
    assert!(client.acknowledge("app1").await.unwrap().is_empty());
    serving.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manager_that_starts_beside_a_dead_primary_finds_and_replaces_it() {
    let mut watched = Watched::start().await;
    watched.stop().await;
    watched.kill();
    watched.begin();
    watched
        .until("new primary", |s| s.primary.as_deref() == Some("db2"))
        .await;
    for path in watched.cluster.journals() {
        assert!(!journal::read(&path).unwrap().records.is_empty());
    }
}

/// The same handle: the cluster's task has not changed.
fn same(one: &Handle, other: &Handle) -> bool {
    one.status.same_channel(&other.status)
}

fn handle(watched: &Watched) -> Handle {
    let handles = watched.daemon.as_ref().unwrap().handles();
    let handles = handles.borrow();
    handles[0].clone()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_configuration_is_taken_up_and_what_is_unchanged_is_not_disturbed() {
    let mut watched = Watched::start().await;
    let first = handle(&watched);
    let config = (*watched.cluster.config).clone();
    let reloaded = watched
        .daemon
        .as_mut()
        .unwrap()
        .reload(vec![config::load(&config.file).unwrap()]);
    assert_eq!(reloaded.unchanged, ["app1"]);
    assert!(same(&first, &handle(&watched)));

    let mut other = config.clone();
    other.monitor.readiness_interval = Duration::from_secs(1);
    let reloaded = watched.daemon.as_mut().unwrap().reload(vec![other.clone()]);
    assert_eq!(reloaded.changed, ["app1"]);
    let mut handles = watched.daemon.as_ref().unwrap().handles();
    let taken_up = handles.wait_for(|all| !all.is_empty() && !same(&first, &all[0]));
    tokio::time::timeout(LIMIT, taken_up)
        .await
        .unwrap()
        .unwrap();
    watched
        .until("the primary again", |s| {
            s.primary.as_deref() == Some("db1") && s.state == State::PingOk
        })
        .await;

    let reloaded = watched.daemon.as_mut().unwrap().reload(vec![]);
    assert_eq!(reloaded.removed, ["app1"]);
    let gone = handles.wait_for(|all| all.is_empty());
    tokio::time::timeout(LIMIT, gone).await.unwrap().unwrap();
    let reloaded = watched.daemon.as_mut().unwrap().reload(vec![other]);
    assert_eq!(reloaded.added, ["app1"]);
    watched
        .until("a primary", |s| s.primary.as_deref() == Some("db1"))
        .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_configuration_waits_for_the_failover_that_runs() {
    let mut watched = Watched::start().await;
    let slow = Fault::Slow(Duration::from_millis(500));
    watched.cluster.set_fault("db2", "Promote", slow);
    let first = handle(&watched);
    watched.kill();
    watched
        .until("a failover", |s| s.state == State::FailoverRunning)
        .await;
    let mut other = (*watched.cluster.config).clone();
    other.monitor.readiness_interval = Duration::from_secs(1);
    watched.daemon.as_mut().unwrap().reload(vec![other]);
    let mut handles = watched.daemon.as_ref().unwrap().handles();
    let taken_up = handles.wait_for(|all| !same(&first, &all[0]));
    tokio::time::timeout(LIMIT, taken_up)
        .await
        .unwrap()
        .unwrap();
    // The old task has seen the failover through, and the new one goes on with its outcome.
    let last = first.status.borrow().clone();
    assert!(last.sentence.contains("instead of db1"), "{last:?}");
    watched
        .until("the new primary", |s| s.primary.as_deref() == Some("db2"))
        .await;
    let journals = watched.cluster.journals();
    assert_eq!(journals.len(), 1);
    let past = guard::of_cluster(&watched.cluster.config.state_dir, "app1").unwrap();
    assert!(past[0].opened_after_ms.is_some_and(|ms| ms >= 500));
    assert!(
        past[0].replay.is_some_and(|(bytes, _)| bytes > 0),
        "{past:?}"
    );
    let records = journal::read(&journals[0]).unwrap().records;
    assert!(
        matches!(
            records.last(),
            Some(journal::Record::End { exit_code: 0, .. })
        ),
        "{:?}",
        records.last()
    );
}
