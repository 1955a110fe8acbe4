//! `run`: the agent as a process, from its configuration to its last call.

use std::path::Path;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use crate::agent::Agent;
use crate::config::Config;
use crate::error::Error;
use crate::rpc;
use crate::state::durable;
use crate::state::lock::StateLock;

/// How long blocking tasks may go on after the last call; a stalled disk must not keep the process.
const RUNTIME_LIMIT: Duration = Duration::from_secs(5);

/// Serves until SIGTERM or SIGINT.
///
/// # Errors
/// Configuration, certificates, state or address that cannot be used.
pub fn run(config: &Path) -> Result<(), Error> {
    let config = Config::load(config)?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|source| Error::Setup {
            what: "the runtime",
            source,
        })?;
    let served = runtime.block_on(serve(config));
    runtime.shutdown_timeout(RUNTIME_LIMIT);
    served
}

async fn serve(config: Config) -> Result<(), Error> {
    let handler = |kind| {
        signal(kind).map_err(|source| Error::Setup {
            what: "a signal handler",
            source,
        })
    };
    let mut terminate = handler(SignalKind::terminate())?;
    let mut interrupt = handler(SignalKind::interrupt())?;
    let address = config.listen;
    let listening = |source| Error::Listen { address, source };
    durable::create_private_directory(&config.state_dir)?;
    let _lock = StateLock::take(&config.state_dir)?;
    let agent = Agent::open(config)?;
    // Holds are enforced before anybody can ask.
    let stop = CancellationToken::new();
    agent.start_background(&stop);
    // Nor is anybody answered before what living servers say of their files is remembered: whoever calls may do so because
    // one of them is about to die.
    agent.first_look().await;
    let listener = TcpListener::bind(address).await.map_err(listening)?;
    tracing::info!(
        agent = agent.config.name,
        address = %listener.local_addr().map_err(listening)?,
        servers = agent.servers.len(),
        tls = agent.tls.is_some(),
        "serving"
    );
    let served = rpc::serve(agent, listener, async {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: shutting down"),
            _ = interrupt.recv() => tracing::info!("SIGINT: shutting down"),
        }
    })
    .await;
    stop.cancel();
    served
}
