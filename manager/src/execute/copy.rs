//! The manager's own copy of a segment: `<state>/operations/OPERATION/SEGMENT` with its manifest beside it.

use std::fs::{DirBuilder, File, OpenOptions};
use std::io::{BufWriter, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use binlog_core::{BinlogPosition, SegmentChain};
use sha2::{Digest, Sha256};

use super::{Run, StepError};
use crate::agents::{AgentClient, Context, SegmentRef};
use crate::observe::chain as chain_of;

/// Folder of the copies of an operation.
pub(crate) fn folder(state_dir: &Path, operation: &str) -> PathBuf {
    state_dir.join("operations").join(operation)
}

/// Copies a segment; says also what its walk found.
pub(super) async fn keep(
    run: &Run,
    server: &str,
    segment: &SegmentRef,
) -> Result<(PathBuf, Result<BinlogPosition, String>), StepError> {
    let dir = folder(&run.config.state_dir, &run.context.operation);
    let stall = run.config.failover.save_timeout;
    let client = run.client(server)?;
    let path = fetch(client, &run.context, server, segment, &dir, stall).await?;
    let walked = walk(path.clone()).await;
    Ok((path, walked))
}

/// Copies a segment to `dir`; it appears under its name only when it is whole and its digest is right.
pub(crate) async fn fetch(
    client: &AgentClient,
    context: &Context,
    server: &str,
    segment: &SegmentRef,
    dir: &Path,
    stall: Duration,
) -> Result<PathBuf, StepError> {
    let path = dir.join(&segment.id);
    let temporary = dir.join(format!("{}.new", segment.id));
    let failed = |source| StepError::Copy {
        path: temporary.clone(),
        source,
    };
    let mut writer = BufWriter::with_capacity(1 << 20, create(dir, &temporary).map_err(failed)?);
    let mut digest = Sha256::new();
    client
        .read_segment(context, server, segment, stall, |bytes| {
            digest.update(bytes);
            writer.write_all(bytes)
        })
        .await?;
    let found = hex::encode(digest.finalize());
    if found != segment.manifest.sha256 {
        return Err(StepError::WrongCopy {
            server: "the manager".to_owned(),
            provider: server.to_owned(),
            expected: segment.manifest.sha256.clone(),
            found,
        });
    }
    let manifest = path.with_file_name(format!("{}.manifest.json", segment.id));
    finish(
        writer,
        &temporary,
        &path,
        &manifest,
        &segment.wire.manifest_json,
        dir,
    )
    .map_err(failed)?;
    Ok(path)
}

/// Walks the copy: digest, every checksum, every position. Says where its last whole transaction ends.
async fn walk(path: PathBuf) -> Result<BinlogPosition, String> {
    let walked = tokio::task::spawn_blocking(move || {
        SegmentChain::open(&[path])
            .map(|chain| chain.whole_end())
            .map_err(|error| chain_of(&error))
    });
    // A panic of the walker proves nothing either.
    walked.await.unwrap_or_else(|error| Err(error.to_string()))
}

fn create(dir: &Path, path: &Path) -> std::io::Result<File> {
    DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)
}

fn finish(
    writer: BufWriter<File>,
    temporary: &Path,
    path: &Path,
    manifest: &Path,
    manifest_json: &[u8],
    dir: &Path,
) -> std::io::Result<()> {
    let file = writer
        .into_inner()
        .map_err(std::io::IntoInnerError::into_error)?;
    file.sync_all()?;
    std::fs::rename(temporary, path)?;
    let mut side = create(dir, temporary)?;
    side.write_all(manifest_json)?;
    side.sync_all()?;
    std::fs::rename(temporary, manifest)?;
    File::open(dir)?.sync_all()
}
