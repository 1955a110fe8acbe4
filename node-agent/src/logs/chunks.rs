//! Reading a stored segment as chunks with checksums: the providing end of a transfer.
//!
//! The reading is ahead of the network by a few chunks, whose buffers go round: new memory for each chunk, zeroed and
//! faulted in, would be a fifth of the provider's work.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use bytes::{Bytes, BytesMut};
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
    let mut buffers = Buffers::default();
    while offset < size {
        let left = usize::try_from(size - offset).unwrap_or(usize::MAX);
        let mut buffer = buffers.take(left.min(CHUNK_BYTES));
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
            data: buffers.lend(buffer),
        };
        if sender.blocking_send(Ok(chunk)).is_err() {
            return Ok(());
        }
        offset += got as u64;
    }
    Ok(())
}

/// Buffers of one reading, oldest first. A chunk's buffer is free again as soon as the chunk is encoded.
#[derive(Default)]
struct Buffers {
    lent: VecDeque<Bytes>,
}

impl Buffers {
    /// As many as can be waiting, and one that is being encoded.
    const MOST: usize = DEPTH + 2;

    /// A buffer of `length` bytes, whatever they are.
    fn take(&mut self, length: usize) -> BytesMut {
        if self.lent.len() >= Self::MOST
            && let Some(Ok(mut buffer)) = self.lent.pop_front().map(Bytes::try_into_mut)
        {
            buffer.resize(length, 0);
            return buffer;
        }
        BytesMut::zeroed(length)
    }

    /// The buffer's bytes to send; remembered, to be taken again.
    fn lend(&mut self, buffer: BytesMut) -> Bytes {
        let bytes = buffer.freeze();
        self.lent.push_back(bytes.clone());
        bytes
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_buffer_is_taken_again_only_when_its_chunk_is_gone() {
        let mut buffers = Buffers::default();
        let mut sent = VecDeque::new();
        let mut places = std::collections::BTreeSet::new();
        for number in 0..100_u8 {
            let mut buffer = buffers.take(1000);
            buffer.fill(number);
            places.insert(buffer.as_ptr() as usize);
            sent.push_back((number, buffers.lend(buffer)));
            if sent.len() > DEPTH {
                let (number, chunk) = sent.pop_front().unwrap();
                assert!(chunk.iter().all(|byte| *byte == number));
            }
        }
        assert_eq!(places.len(), Buffers::MOST);
        // A reader that holds on to its chunks gets new ones.
        for number in 0..20 {
            let mut buffer = buffers.take(1000);
            buffer.fill(number);
            sent.push_back((number, buffers.lend(buffer)));
        }
        for (number, chunk) in sent {
            assert!(chunk.iter().all(|byte| *byte == number));
        }
        assert_eq!(buffers.take(7).len(), 7);
        assert!(buffers.lent.len() <= Buffers::MOST);
    }
}
