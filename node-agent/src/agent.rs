//! The running agent: its parts, put together once, and the work it does without being asked.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use proto::tls::TlsMaterial;
use proto::watch::{Cause, Watched};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::address::{self, ServerAddress};
use crate::config::{BinlogServerConfig, Config, ConfigError, SecretFile, Security, ServerConfig};
use crate::error::Error;
use crate::fence::Fence;
use crate::guard::{self, Guard};
use crate::lease::{self, Assignment, ServerLease, Vouched};
use crate::logs::keep::{self, RelayKeeper, RelayLocation};
use crate::logs::store::SegmentStore;
use crate::mysqld::configured::{self, Configured, Start};
use crate::mysqld::{self, Endpoint, Observed, Remembered, SqlError};
use crate::replication::facts::ChannelFacts;
use crate::replication::{self, ChannelRecord, Local, observed_as_original};
use crate::resumed;
use crate::state::durable;
use crate::state::epoch::EpochStore;
use crate::state::flight::Flights;
use crate::watch::{self, ServerWatch, Standing};

/// Log walks, cuts and reads of segments at one time: enough to keep a disk busy, few enough to leave it to mysqld.
const DISK_TASKS: usize = 4;
/// How often the segment store is looked through for old operations.
const AGE_OUT_INTERVAL: Duration = Duration::from_secs(3600);

/// How often a living server is asked what it says of itself.
const REFRESH_INTERVAL: Duration = Duration::from_secs(2);
/// Longest wait for each of its answers.
const REFRESH_LIMIT: Duration = Duration::from_secs(2);

/// One agent.
#[derive(Debug)]
pub struct Agent {
    /// Its configuration.
    pub config: Config,
    /// Its certificates; `None` for plain text.
    pub tls: Option<TlsMaterial>,
    /// Boot id of the host's kernel; empty where the kernel does not tell.
    pub boot_id: String,
    /// Who may change which cluster.
    pub epochs: EpochStore,
    /// When it last vouched for a primary.
    pub vouched: Vouched,
    /// Work in progress.
    pub flights: Flights,
    /// Segments.
    pub segments: SegmentStore,
    /// Servers by name.
    pub servers: BTreeMap<String, Arc<LocalServer>>,
    /// Permits for heavy disk work.
    pub disk: Arc<Semaphore>,
    /// Fires when the agent shuts down: streams that have no end of their own end then.
    pub stopping: CancellationToken,
}

/// One local server and what the agent keeps of it.
#[derive(Debug)]
pub struct LocalServer {
    /// Its configuration.
    pub config: ServerConfig,
    /// Holds it down.
    pub fence: Arc<Fence>,
    /// Keeps it read-only once it is deposed.
    pub guard: Arc<Guard>,
    /// Its lease, if it is the primary.
    pub lease: Arc<ServerLease>,
    /// The address that moves with the primary, if its server is or was one.
    pub address: Arc<ServerAddress>,
    /// Keeps its relay logs.
    pub keeper: Arc<RelayKeeper>,
    /// Watches its mysqld.
    pub watch: ServerWatch,
}

impl Agent {
    /// Reads the state of earlier runs; nothing is started yet.
    ///
    /// # Errors
    /// Certificates or state that cannot be read.
    pub fn open(config: Config) -> Result<Arc<Self>, Error> {
        let tls = match &config.security {
            Security::Tls(paths) => Some(TlsMaterial::load(paths)?),
            Security::PlainText => None,
        };
        durable::create_private_directory(&config.state_dir)?;
        let epochs = EpochStore::open(&config.epochs_dir(), config.clusters())?;
        let segments = SegmentStore::open(config.segments_dir(), config.segment_keep)?;
        let mut servers = BTreeMap::new();
        for server in &config.servers {
            let opened = LocalServer::open(server.clone(), &config.name)?;
            servers.insert(server.name.clone(), Arc::new(opened));
        }
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|text| text.trim().to_owned())
            .unwrap_or_default();
        Ok(Arc::new(Self {
            config,
            tls,
            boot_id,
            epochs,
            vouched: Vouched::default(),
            flights: Flights::default(),
            segments,
            servers,
            disk: Arc::new(Semaphore::new(DISK_TASKS)),
            stopping: CancellationToken::new(),
        }))
    }

    /// Starts what the agent does unasked, until `stop`: enforces holds, keeps deposed servers read-only, keeps leases,
    /// addresses and relay logs, ends what interrupted replays left deferred, refreshes what is remembered, watches the servers, drops old segments.
    pub fn start_background(self: &Arc<Self>, stop: &CancellationToken) {
        for (name, server) in &self.servers {
            tokio::spawn(Arc::clone(&server.fence).enforce(stop.clone()));
            tokio::spawn(keep::watch::run(
                Arc::clone(&server.keeper),
                name.clone(),
                stop.clone(),
            ));
            tokio::spawn(refresh(Arc::clone(server), stop.clone()));
            tokio::spawn(resumed::run(
                Arc::clone(self),
                Arc::clone(server),
                stop.clone(),
            ));
            tokio::spawn(guard::enforce(Arc::clone(server), stop.clone()));
            tokio::spawn(lease::run(
                Arc::clone(self),
                Arc::clone(server),
                stop.clone(),
            ));
            tokio::spawn(address::enforce(
                Arc::clone(self),
                Arc::clone(server),
                stop.clone(),
            ));
            watch::start(server, stop);
        }
        tokio::spawn(age_out(Arc::clone(self), stop.clone()));
    }

    /// Asks all servers once, at the same time; ends within [`REFRESH_LIMIT`] for each answer of a living server, at once
    /// where none listens.
    pub async fn first_look(&self) {
        let asking = self.servers.values().map(|server| async move {
            if let Err(error) = server.refresh(REFRESH_LIMIT).await {
                tracing::warn!(
                    server = server.config.name,
                    error = crate::error::chain(&error),
                    "the server cannot be asked"
                );
            }
        });
        futures::future::join_all(asking).await;
    }

    /// What this agent sees and knows of one of its servers now.
    pub fn watched(&self, server: &LocalServer, cause: Cause) -> Watched {
        let process = server.watch.facts().process;
        let standing = Standing {
            guard: server.guard.told(&process),
            lease: server.lease.told(lease::vouches_for_itself(self, server)),
            assignment: server.lease.assignment().and_then(|made| made.told()),
            held_down_by: server.fence.hold().map(|hold| hold.operation),
            // An unreadable epoch is told to whoever claims; here the cluster just has none.
            stored: self
                .epochs
                .stored(&server.config.cluster)
                .unwrap_or_default(),
        };
        server
            .watch
            .watched(&server.config.name, &self.boot_id, standing, cause)
    }

    /// The binlog server of this name, if this host has one.
    pub fn binlog_server(&self, name: &str) -> Option<&BinlogServerConfig> {
        self.config.binlog_servers.iter().find(|b| b.name == name)
    }

    /// Tells who watches servers of this cluster that something changed beside them: epoch, hold.
    pub fn nudge(&self, cluster: &str) {
        for server in self.servers.values() {
            if server.config.cluster == cluster {
                server.watch.nudge();
            }
        }
    }

    /// Who the primary of a cluster is, by the newest assignment of any of its servers here.
    pub fn assignment(&self, cluster: &str) -> Option<Assignment> {
        self.servers
            .values()
            .filter(|server| server.config.cluster == cluster)
            .filter_map(|server| server.lease.assignment())
            .max_by_key(|made| made.epoch)
    }

    /// Runs heavy disk work in a blocking task, a few at a time. `None` if the task was abandoned, which only a panic
    /// or the end of the runtime do.
    pub async fn on_disk<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        let permit = Arc::clone(&self.disk).acquire_owned().await.ok()?;
        tokio::task::spawn_blocking(move || {
            let done = work();
            drop(permit);
            done
        })
        .await
        .ok()
    }
}

impl LocalServer {
    /// Reads what earlier runs kept of a server; `agent` is this agent's name.
    ///
    /// # Errors
    /// State that cannot be read.
    pub fn open(config: ServerConfig, agent: &str) -> Result<Self, Error> {
        durable::create_private_directory(&config.state_dir)?;
        let fence = Fence::open(config.name.clone(), &config.state_dir)?;
        let guard = Guard::open(&config.state_dir, fence.hold().as_ref())?;
        let lease = ServerLease::open(&config.state_dir, &config.name, agent)?;
        let address = ServerAddress::open(config.name.clone(), &config.state_dir)?;
        let keeper = RelayKeeper::open(&config.state_dir, config.relay_keep)?;
        let server = Self {
            fence: Arc::new(fence),
            guard: Arc::new(guard),
            lease: Arc::new(lease),
            address: Arc::new(address),
            keeper: Arc::new(keeper),
            watch: ServerWatch::new(),
            config,
        };
        if let Some(location) = server.remembered().as_ref().and_then(relay_location) {
            server.keeper.learn_location(location);
        }
        Ok(server)
    }

    /// What the server last said of itself; `None` if it never answered this agent, or the memory is damaged.
    pub fn remembered(&self) -> Option<Remembered> {
        Remembered::load(&self.config.state_dir).unwrap_or_else(|error| {
            tracing::warn!(
                server = self.config.name,
                error = crate::error::chain(&error),
                "remembered facts cannot be read"
            );
            None
        })
    }

    /// Data directory: configured, else remembered.
    pub fn datadir(&self) -> Option<PathBuf> {
        self.config
            .datadir
            .clone()
            .or_else(|| self.remembered().map(|known| known.datadir))
    }

    /// Pid file, where one was learnt.
    pub fn pid_file(&self) -> Option<PathBuf> {
        self.remembered().and_then(|known| known.pid_file)
    }

    /// The server as replication control sees it.
    ///
    /// # Errors
    /// A password file that cannot be read any more.
    pub fn local(&self) -> Result<Local, ConfigError> {
        let replication_password = self
            .config
            .replication_password_file
            .as_ref()
            .map(SecretFile::read)
            .transpose()?;
        Ok(Local {
            endpoint: Endpoint::from_config(&self.config)?,
            state_folder: self.config.state_dir.clone(),
            replication_user: self.config.replication_user.clone(),
            replication_password,
            protect: Arc::clone(&self.keeper) as Arc<_>,
        })
    }

    /// Asks the server everything, and completes the answers by what the agent knows of its channel.
    ///
    /// # Errors
    /// A password file cannot be read any more. A server that does not answer is no error.
    pub async fn observe(&self, limit: Duration) -> Result<(Observed, ChannelFacts), ConfigError> {
        let local = self.local()?;
        let asked = Instant::now();
        let mut observed = self.ask(limit).await?;
        let facts = replication::facts::complete(&local, &mut observed, limit).await;
        self.tell_parts(&observed, asked);
        Ok((observed, facts))
    }

    /// Whether the next start of mysqld makes it read-only.
    pub async fn configured_read_only(self: &Arc<Self>) -> Configured {
        let server = Arc::clone(self);
        let read = tokio::task::spawn_blocking(move || {
            let Some(known) = server.remembered() else {
                return Configured::unknown("the server was never seen alive by its agent");
            };
            let pid_file = known.pid_file.as_deref();
            match mysqld::process::find(&known.datadir, pid_file) {
                Ok(Some(running)) => {
                    let version = known.identity.version.clone();
                    configured::read_only(&Start::of(&running, &known.datadir, version))
                }
                Ok(None) => Configured::unknown(
                    "mysqld does not run: what it will be started with cannot be told",
                ),
                Err(error) => Configured::unknown(crate::error::chain(&error)),
            }
        });
        read.await
            .unwrap_or_else(|_| Configured::unknown("the reading was abandoned"))
    }

    /// Asks the server everything for the sake of what is remembered of it; gives back why it did not answer.
    ///
    /// # Errors
    /// A password file cannot be read any more.
    async fn refresh(&self, limit: Duration) -> Result<Option<SqlError>, ConfigError> {
        let asked = Instant::now();
        let mut observed = self.ask(limit).await?;
        if let Ok(alive) = &mut observed.sql
            && let Some(status) = &mut alive.replica
        {
            match ChannelRecord::load(&self.config.state_dir) {
                Ok(Some(record)) => observed_as_original(status, &record),
                Ok(None) => {}
                Err(error) => tracing::warn!(
                    server = self.config.name,
                    error = crate::error::chain(&error),
                    "the channel record cannot be read"
                ),
            }
        }
        self.tell_parts(&observed, asked);
        Ok(observed.sql.err())
    }

    async fn ask(&self, limit: Duration) -> Result<Observed, ConfigError> {
        let endpoint = Endpoint::from_config(&self.config)?;
        let folder = &self.config.state_dir;
        let datadir = self.config.datadir.as_deref();
        // A record that cannot be read is told of where it is needed.
        let record = ChannelRecord::load(folder).ok().flatten();
        let replay = record.as_ref().and_then(|record| record.replay.as_ref());
        let replay_user = replay.map(|replay| replay.user.as_str());
        Ok(mysqld::observe(&endpoint, folder, datadir, replay_user, limit).await)
    }

    /// Tells the watch that the server's files are known, and the keeper where the relay logs are and whose stream they
    /// hold. A channel that points at a local source must show as its original by now: the relay logs of a replay are the
    /// original's stream.
    fn tell_parts(&self, observed: &Observed, asked: Instant) {
        let Ok(alive) = &observed.sql else { return };
        self.watch.server_told();
        if let Some(location) = relay_location(&alive.remembered) {
            self.keeper.learn_location(location);
        }
        if let Some(status) = &alive.replica {
            self.keeper.learn_source(status.into(), asked);
        }
    }
}

fn relay_location(known: &Remembered) -> Option<RelayLocation> {
    let basename = known.relay_log_basename.as_deref()?;
    RelayLocation::new(basename, known.relay_log_index.clone())
}

/// Keeps what is remembered fresh while the server lives.
async fn refresh(server: Arc<LocalServer>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(REFRESH_INTERVAL);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut was_alive = None;
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let trouble = match server.refresh(REFRESH_LIMIT).await {
            Ok(error) => error.map(|error| crate::error::chain(&error)),
            Err(error) => Some(crate::error::chain(&error)),
        };
        // One line per change, not one per tick.
        if was_alive != Some(trouble.is_none()) {
            was_alive = Some(trouble.is_none());
            match trouble {
                None => tracing::info!(server = server.config.name, "mysqld answers"),
                Some(error) => {
                    tracing::warn!(server = server.config.name, error, "mysqld does not answer");
                }
            }
        }
    }
}

async fn age_out(agent: Arc<Agent>, stop: CancellationToken) {
    let mut tick = tokio::time::interval(AGE_OUT_INTERVAL);
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            _ = tick.tick() => {}
        }
        let holding: Vec<String> = agent
            .config
            .clusters()
            .into_iter()
            .filter_map(|cluster| agent.epochs.stored(cluster).ok()?.holder)
            .map(|holder| holder.operation)
            .collect();
        let store = agent.segments.clone();
        let dropped = agent
            .on_disk(move || {
                store.age_out(SystemTime::now(), |operation| {
                    holding.iter().any(|held| held == operation)
                })
            })
            .await;
        match dropped {
            Some(Ok(operations)) => {
                for operation in operations {
                    tracing::info!(operation, "old segments dropped");
                }
            }
            Some(Err(error)) => {
                tracing::warn!(
                    error = crate::error::chain(&error),
                    "old segments are not dropped"
                );
            }
            None => return,
        }
    }
}
