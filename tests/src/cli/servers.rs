//! Servers for somebody else: fetched into the cache, or run until they are no longer wanted.

use std::io::{self, Read};

use crate::sandbox::accounts::{AGENT, APPLICATION, Account, MONITOR, REPLICATION};
use crate::sandbox::replica;
use crate::sandbox::{Cluster, ClusterSpec, SandboxError, ServerKind, fetch, template};

use super::print;
use super::signals::stop_signals;

pub(super) async fn fetch_all(servers: Vec<ServerKind>) -> Result<(), SandboxError> {
    let kinds = if servers.is_empty() {
        for absent in fetch::Absent::ALL {
            print(&format!("ATTENTION: {}", absent.error()))?;
        }
        ServerKind::ALL.to_vec()
    } else {
        servers
    };
    for kind in kinds {
        let distribution = tokio::task::spawn_blocking(move || {
            let distribution = fetch::ensure(kind)?;
            template::ensure(&distribution)?;
            Ok::<_, SandboxError>(distribution)
        })
        .await
        .map_err(|error| SandboxError::Io {
            action: "fetch",
            path: kind.name().into(),
            source: io::Error::other(error),
        })??;
        print(&format!(
            "{kind}: {} at {}",
            distribution.provenance.version,
            distribution.mysqld.display()
        ))?;
    }
    Ok(())
}

pub(super) async fn up(spec: ClusterSpec) -> Result<(), SandboxError> {
    let mut interrupted = stop_signals()?;
    let cluster = tokio::select! {
        cluster = Cluster::start(spec) => cluster?,
        () = interrupted.wait() => return Ok(()),
    };
    print(&describe(&cluster).await?)?;
    eprintln!("sandbox: running; Enter, end of input or Ctrl-C stops it");
    let (sender, entered) = tokio::sync::oneshot::channel();
    // A thread of its own: tokio's standard input would keep the runtime from ending.
    std::thread::spawn(move || {
        // A byte, the end, or an input that cannot be read: all mean stop.
        let _ = io::stdin().read(&mut [0_u8; 1]);
        let _ = sender.send(());
    });
    tokio::select! {
        _ = entered => {}
        () = interrupted.wait() => {}
    }
    futures::future::try_join_all(cluster.servers().iter().map(|server| server.stop())).await?;
    Ok(())
}

async fn describe(cluster: &Cluster) -> Result<String, SandboxError> {
    let mut servers = Vec::new();
    for server in cluster.servers() {
        let end = replica::binlog_end(server).await?;
        servers.push(serde_json::json!({
            "name": server.name(),
            "host": server.address().to_string(),
            "port": server.port(),
            "server_id": server.server_id(),
            "socket": server.socket(),
            "datadir": server.datadir(),
            "config": server.config_file(),
            "error_log": server.error_log(),
            "binlog": server.binlog_base(),
            "relay_log": server.relay_base(),
            "pid": server.pid(),
            "binlog_file": end.file,
            "binlog_position": end.offset,
        }));
    }
    let account = |account: Account| serde_json::json!({ "user": account.user, "password": account.password });
    let all = serde_json::json!({
        "server": cluster.kind().name(),
        "folder": cluster.dir(),
        "servers": servers,
        "accounts": {
            "root": { "user": "root", "password": "", "through": "socket" },
            "agent": account(AGENT),
            "monitor": account(MONITOR),
            "replication": account(REPLICATION),
            "application": account(APPLICATION),
        },
    });
    Ok(format!("{all:#}"))
}
