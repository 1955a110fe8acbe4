//! `run`: the daemon, from its configurations to its last sentence.

use std::collections::BTreeSet;
use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::{Args, ValueEnum};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::task::{JoinError, JoinHandle};
use tracing_subscriber::EnvFilter;

use super::Streams;
use crate::api;
use crate::config::{self, ClusterConfig};
use crate::daemon::{self, Daemon};
use crate::exit_code::ExitCode;
use crate::journal::{Hook, fault};
use crate::observe::chain;

/// Watches clusters, fails over when a primary is dead, and goes on with the new one. Ends with SIGTERM or SIGINT; a
/// failover that runs is finished first. SIGHUP reads the configurations again: clusters that were added, removed or changed
/// are started, ended or taken up anew, each after a failover of its own that runs; with any error all stays as it was.
/// `RUST_LOG` sets what is logged (default `info`).
#[derive(Debug, Args)]
pub(super) struct RunArgs {
    /// Configurations of clusters: files, or folders whose *.yaml and *.yml files are taken.
    #[arg(long, required = true, num_args = 1..)]
    config: Vec<PathBuf>,
    /// Unix socket of the commands that talk to this manager; `manager.sock` in the first cluster's state folder by default.
    #[arg(long, value_name = "FILE")]
    socket: Option<PathBuf>,
    /// Form of the log on standard error.
    #[arg(long, value_enum, default_value_t = LogFormat::Text)]
    log_format: LogFormat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LogFormat {
    Text,
    Json,
}

pub(super) fn run(args: RunArgs, streams: &mut Streams<'_>) -> ExitCode {
    let configs = match load_all(&args.config) {
        Ok(configs) => configs,
        Err(why) => {
            // A closed stderr must not change what the command does.
            let _ = writeln!(streams.err, "mha-manager: {why}");
            return ExitCode::Usage;
        }
    };
    let hook = match fault::from_environment() {
        Ok(hook) => hook,
        Err(error) => {
            streams.error(&error);
            return ExitCode::Usage;
        }
    };
    start_logging(args.log_format);
    let runtime = match super::runtime(streams) {
        Ok(runtime) => runtime,
        Err(code) => return code,
    };
    let socket = args.socket.or_else(|| {
        configs
            .first()
            .map(|config| daemon::default_socket(&config.state_dir))
    });
    let served = runtime.block_on(serve(
        configs,
        args.config,
        hook,
        &socket.unwrap_or_default(),
    ));
    match served {
        Ok(()) => ExitCode::Done,
        Err(why) => {
            let _ = writeln!(streams.err, "mha-manager: {why}");
            ExitCode::Failed
        }
    }
}

/// Every configuration is valid and no two are of the same cluster, or nothing starts.
fn load_all(paths: &[PathBuf]) -> Result<Vec<ClusterConfig>, String> {
    let mut files = Vec::new();
    for path in paths {
        if path.is_dir() {
            files.extend(files_of(path)?);
        } else {
            files.push(path.clone());
        }
    }
    if files.is_empty() {
        return Err("no configuration: the folders hold no *.yaml or *.yml file".to_owned());
    }
    let mut configs: Vec<ClusterConfig> = Vec::new();
    let mut clusters = BTreeSet::new();
    for file in files {
        let config = config::load(&file).map_err(|error| chain(&error))?;
        if !clusters.insert(config.cluster.clone()) {
            return Err(format!(
                "{}: cluster: another file configures {} already",
                file.display(),
                config.cluster
            ));
        }
        configs.push(config);
    }
    Ok(configs)
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let unreadable = |error: std::io::Error| format!("{}: {error}", folder.display());
    let mut files = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        if path.extension().is_some_and(|e| e == "yaml" || e == "yml") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

fn start_logging(format: LogFormat) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second subscriber in one process is refused, and the first one goes on.
    let _ = match format {
        LogFormat::Text => builder.try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}

/// State folders exist before anybody writes to them.
fn make_folders(configs: &[ClusterConfig]) -> Result<(), String> {
    for config in configs {
        std::fs::create_dir_all(&config.state_dir)
            .map_err(|error| format!("{}: {error}", config.state_dir.display()))?;
    }
    Ok(())
}

/// Reads everything again; scripts may run meanwhile.
fn read_again(paths: Vec<PathBuf>) -> JoinHandle<Result<Vec<ClusterConfig>, String>> {
    tokio::task::spawn_blocking(move || {
        let configs = load_all(&paths)?;
        make_folders(&configs)?;
        Ok(configs)
    })
}

fn reload(daemon: &mut Daemon, read: Result<Result<Vec<ClusterConfig>, String>, JoinError>) {
    match read.unwrap_or_else(|error| Err(error.to_string())) {
        Ok(configs) => {
            let reloaded = daemon.reload(configs);
            tracing::info!(
                added = reloaded.added.join(", "),
                removed = reloaded.removed.join(", "),
                changed = reloaded.changed.join(", "),
                unchanged = reloaded.unchanged.len(),
                "the configuration was read again"
            );
        }
        Err(why) => tracing::error!(
            "the configuration was read again and is refused, all goes on as before: {why}"
        ),
    }
}

async fn serve(
    configs: Vec<ClusterConfig>,
    paths: Vec<PathBuf>,
    hook: Arc<dyn Hook>,
    socket: &Path,
) -> Result<(), String> {
    let listen = |kind| signal(kind).map_err(|error| format!("a signal handler: {error}"));
    let (mut terminate, mut interrupt, mut hangup): (Signal, Signal, Signal) = (
        listen(SignalKind::terminate())?,
        listen(SignalKind::interrupt())?,
        listen(SignalKind::hangup())?,
    );
    make_folders(&configs)?;
    let listener = api::bind(socket).map_err(|error| chain(&error))?;
    let clusters = configs.len();
    let mut daemon = Daemon::with_hook(configs, hook);
    tracing::info!(clusters, socket = %socket.display(), "watching");
    let (stop, mut stop_asked) = mpsc::channel(1);
    let (end, ended) = oneshot::channel::<()>();
    let serving = tokio::spawn(api::serve(listener, daemon.handles(), stop, async {
        // A sender that is gone wants the end, too.
        let _ = ended.await;
    }));
    let mut reading: Option<JoinHandle<Result<Vec<ClusterConfig>, String>>> = None;
    let mut once_more = false;
    let why = loop {
        let read = async {
            match &mut reading {
                Some(reading) => reading.await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = terminate.recv() => break "SIGTERM",
            _ = interrupt.recv() => break "SIGINT",
            _ = stop_asked.recv() => break "told to stop",
            read = read => {
                reading = None;
                // A signal that came meanwhile may be about a file that had been read already.
                if std::mem::take(&mut once_more) {
                    reading = Some(read_again(paths.clone()));
                } else {
                    reload(&mut daemon, read);
                }
            }
            _ = hangup.recv() => match reading {
                Some(_) => once_more = true,
                None => {
                    tracing::info!("SIGHUP: reading the configuration again");
                    reading = Some(read_again(paths.clone()));
                }
            },
        }
    };
    tracing::info!("{why}: ending");
    // The socket answers until the last failover has ended.
    daemon.stop().await;
    let _ = end.send(());
    // Streams of `status --watch` end with their clusters.
    let _ = tokio::time::timeout(std::time::Duration::from_secs(1), serving).await;
    let _ = std::fs::remove_file(socket);
    tracing::info!("ended");
    Ok(())
}
