//! A primary whose next binary log file has another number than its own history would give it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::sandbox::replica;
use crate::sandbox::{Cluster, SandboxError};

/// Has the primary begin the file with this number, as a server does that has written all the files before it, and lets
/// the replicas follow from there. Nothing may have been written yet that is to be kept in a log.
pub async fn renumber(cluster: &Cluster, number: u32) -> Result<(), SandboxError> {
    cluster.wait_caught_up().await?;
    for server in cluster.replicas() {
        server.exec_all(&["STOP SLAVE", "RESET SLAVE"]).await?;
    }
    let primary = cluster.primary();
    primary.exec("RESET MASTER").await?;
    primary.stop().await?;

    // A server takes the highest number it finds and begins the next one when it starts.
    let base = primary.binlog_base();
    let before = number.saturating_sub(1);
    rename(&base, 1, before).map_err(SandboxError::io("renumber", &base))?;
    primary.start().await?;

    let end = replica::binlog_end(primary).await?;
    for server in cluster.replicas() {
        server
            .exec_all(&[
                &format!(
                    "CHANGE MASTER TO MASTER_LOG_FILE='{}', MASTER_LOG_POS=4",
                    end.file
                ),
                "START SLAVE",
            ])
            .await?;
    }
    cluster.wait_caught_up().await
}

fn rename(base: &Path, from: u32, to: u32) -> io::Result<()> {
    let folder = base.parent().unwrap_or(base);
    let stem = base.file_name().unwrap_or_default().to_string_lossy();
    let name = |number: u32| format!("{stem}.{number:06}");
    fs::rename(folder.join(name(from)), folder.join(name(to)))?;
    fs::write(
        PathBuf::from(format!("{}.index", base.display())),
        format!("./{}\n", name(to)),
    )
}
