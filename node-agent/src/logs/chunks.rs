//! Reading a stored segment as chunks with checksums: the providing end of a transfer.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use proto::channel::CHUNK_BYTES;
use proto::v1::SegmentChunk;
use tokio::sync::mpsc;

use super::store::Stored;
use crate::state::durable::DurableError;

/// Chunks read ahead of the network.
const DEPTH: usize = 6;

/// Why a segment cannot be read from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The offset lies behind the end.
    #[error("offset {offset} is beyond the end of segment {}, which has {size} bytes", path.display())]
    BeyondEnd {
        /// The segment.
        path: PathBuf,
        /// What was asked for.
        offset: u64,
        /// Size of the segment.
        size: u64,
    },
    /// The file ends before the size its manifest states.
    #[error("segment {} ends at {found} instead of {size}", path.display())]
    Short {
        /// The segment.
        path: PathBuf,
        /// Size by the manifest.
        size: u64,
        /// Where the file ends.
        found: u64,
    },
    /// The file system refused.
    #[error(transparent)]
    Durable(#[from] DurableError),
}

/// Reads `segment` from `offset` to its end in a blocking task; the stream ends early only with an error. Dropping the
/// receiver ends the reading.
///
/// # Errors
/// [`ReadError::BeyondEnd`]; an offset equal to the size gives an empty stream.
pub fn read(
    segment: &Stored,
    offset: u64,
) -> Result<mpsc::Receiver<Result<SegmentChunk, ReadError>>, ReadError> {
    let size = segment.manifest.size;
    let path = segment.path.clone();
    if offset > size {
        return Err(ReadError::BeyondEnd { path, offset, size });
    }
    let (sender, receiver) = mpsc::channel(DEPTH);
    tokio::task::spawn_blocking(move || {
        if let Err(error) = send_all(&path, offset, size, &sender) {
            // A reader that is gone needs no error.
            let _ = sender.blocking_send(Err(error));
        }
    });
    Ok(receiver)
}

fn send_all(
    path: &Path,
    mut offset: u64,
    size: u64,
    sender: &mpsc::Sender<Result<SegmentChunk, ReadError>>,
) -> Result<(), ReadError> {
    let file = File::open(path).map_err(DurableError::io("open", path))?;
    while offset < size {
        let left = usize::try_from(size - offset).unwrap_or(usize::MAX);
        let mut buffer = vec![0; left.min(CHUNK_BYTES)];
        let got =
            read_at_most(&file, &mut buffer, offset).map_err(DurableError::io("read", path))?;
        if got < buffer.len() {
            return Err(ReadError::Short {
                path: path.to_path_buf(),
                size,
                found: offset + got as u64,
            });
        }
        let chunk = SegmentChunk {
            offset,
            crc32: crc32fast::hash(&buffer),
            data: Bytes::from(buffer),
        };
        if sender.blocking_send(Ok(chunk)).is_err() {
            return Ok(());
        }
        offset += got as u64;
    }
    Ok(())
}

/// Fills `buffer` from `offset` on; less only at the end of the file.
fn read_at_most(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut filled = 0;
    while let Some(rest) = buffer.get_mut(filled..).filter(|rest| !rest.is_empty()) {
        match file.read_at(rest, offset + filled as u64) {
            Ok(0) => break,
            Ok(count) => filled += count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
