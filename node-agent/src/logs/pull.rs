//! Fetching a segment from another agent: resumes where it stopped, as long as it makes progress.
//!
//! Guarantees: what ends up in the store is, byte for byte, what the call announced (size, sha256, manifest), or the
//! call fails typed and nothing appears. A lost connection is dialled again and the transfer goes on behind the last
//! verified chunk; only the lack of progress ends it, never its length. What the other agent refuses is final. Two
//! transfers of one segment never write at the same time. What an earlier run of the agent left is used, and begun anew
//! if it turns out not to belong to this segment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use binlog_core::{LogError, Manifest};
use proto::channel::{ConnectError, MESSAGE_BYTES, Target, connect};
use proto::status::{AgentError, CallError};
use proto::v1::log_service_client::LogServiceClient;
use proto::v1::{ReadSegmentRequest, SegmentChunk};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

use super::part::{DEPTH, Expected, Part, PartError};
use super::store::{SegmentStore, StoreError, Stored};

#[cfg(test)]
mod scripted;
#[cfg(test)]
mod tests;

/// Longest time for one attempt to connect.
const CONNECT_LIMIT: Duration = Duration::from_secs(3);
/// First wait between attempts; doubled up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(20);
/// Longest wait between attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);
/// Damaged or misplaced chunks in a row, without a good one between, after which the sender is not believed any more.
const MOST_BAD_CHUNKS: u32 = 5;
/// How often a part file that another transfer still holds is looked at again.
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// What to fetch, and from whom.
#[derive(Debug, Clone)]
pub struct Pull {
    /// Whom to dial, and the certificate expected there.
    pub target: Target,
    /// Cluster, as the provider knows it.
    pub cluster: String,
    /// Server name at the provider.
    pub provider_server: String,
    /// Operation.
    pub operation: String,
    /// Segment id, the same on both ends.
    pub id: String,
    /// Size announced, bytes.
    pub size: u64,
    /// Digest announced.
    pub sha256: [u8; 32],
    /// Manifest announced, stored as it is.
    pub manifest_json: Vec<u8>,
    /// Longest time without a chunk.
    pub progress_limit: Duration,
}

/// Why a segment did not arrive.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PullError {
    /// The announcement contradicts itself.
    #[error("the announced manifest says {what} {manifest}, the call says {call}")]
    Announcement {
        /// Which field.
        what: &'static str,
        /// By the manifest.
        manifest: String,
        /// By the call.
        call: String,
    },
    /// The manifest cannot be used.
    #[error("announced manifest")]
    Manifest(#[source] LogError),
    /// The store refused.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What arrived is wrong, or could not be written.
    #[error("segment from {address}")]
    Part {
        /// The providing agent.
        address: String,
        /// What is wrong.
        #[source]
        source: PartError,
    },
    /// The other agent refused.
    #[error("{address} refused")]
    Refused {
        /// The providing agent.
        address: String,
        /// Its answer.
        #[source]
        source: Box<AgentError>,
    },
    /// No connection was made within the limit.
    #[error("{address} cannot be reached; {done} of {size} bytes arrived")]
    Unreachable {
        /// The providing agent.
        address: String,
        /// Bytes that arrived before.
        done: u64,
        /// Bytes in all.
        size: u64,
        /// The last attempt's failure.
        #[source]
        source: ConnectError,
    },
    /// Connected, but no chunk came within the limit.
    #[error("no chunk from {address} for {limit:?}; {done} of {size} bytes arrived; last: {last}")]
    NoProgress {
        /// The providing agent.
        address: String,
        /// The limit.
        limit: Duration,
        /// Bytes that arrived.
        done: u64,
        /// Bytes in all.
        size: u64,
        /// What ended the last attempt.
        last: String,
    },
    /// The disk takes nothing. What was handed to it may still be written, under the part file's lock.
    #[error("the disk took nothing for {limit:?}; {done} of {size} bytes are written")]
    DiskStalled {
        /// The limit.
        limit: Duration,
        /// Bytes that are written.
        done: u64,
        /// Bytes in all.
        size: u64,
    },
    /// Another transfer of the segment has not ended.
    #[error("another transfer of segment {id} still writes; waited {waited:?} for its end")]
    Busy {
        /// The segment.
        id: String,
        /// How long its end was waited for.
        waited: Duration,
    },
    /// The disk task ended without an answer.
    #[error("writing the segment was abandoned")]
    Abandoned,
}

/// How one attempt ended.
enum Attempt {
    /// Nothing more to fetch.
    Full,
    /// The connection was lost or went silent.
    Lost(String),
    /// No connection.
    NotConnected(ConnectError),
    /// A chunk was not what it should be.
    BadChunk(PartError),
}

/// Fetches the segment into the store, unless it is there already. `progress` gets the number of bytes that are done and
/// that of all; neither ever falls, since bytes that were in vain stay in both.
pub async fn pull(
    store: &SegmentStore,
    pull: Pull,
    mut progress: impl FnMut(u64, u64) + Send,
) -> Result<Stored, PullError> {
    check_announcement(&pull)?;
    let mut part = match here_or_part(store, &pull).await? {
        Found::Here(stored) => {
            progress(pull.size, pull.size);
            return Ok(*stored);
        }
        Found::Part(part) => *part,
    };
    // Bytes of an earlier run, which were hashed but never compared with anything.
    let mut inherited = part.length() > 0;
    let mut in_vain = 0;
    loop {
        part = fill(&pull, part, &mut |done| {
            progress(in_vain + done, in_vain + pull.size);
        })
        .await?;
        let manifest_json = pull.manifest_json.clone();
        match on_disk(move || part.finish(&manifest_json)).await? {
            Ok(_) => break,
            Err(error @ PartError::Digest { .. }) if inherited => {
                tracing::warn!(segment = %pull.id, %error, "left by an earlier run; begun anew");
                inherited = false;
                in_vain = pull.size;
                part = open_part(store, &pull)
                    .await?
                    .ok_or_else(|| busy(&pull, Duration::ZERO))?;
            }
            Err(source) => {
                return Err(PullError::Part {
                    address: pull.target.address,
                    source,
                });
            }
        }
    }
    let (store, pull) = (store.clone(), pull);
    Ok(on_disk(move || store.get(&pull.cluster, &pull.operation, &pull.id)).await??)
}

/// Receives until the part is full.
async fn fill(
    pull: &Pull,
    mut part: Part,
    progress: &mut (impl FnMut(u64) + Send),
) -> Result<Part, PullError> {
    let address = pull.target.address.clone();
    let mut last_progress = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut bad_chunks = 0;
    while !part.is_full() {
        let before = part.length();
        let (returned, attempt) = attempt(pull, part, &mut last_progress, progress).await?;
        part = returned;
        let moved = part.length() > before;
        if moved {
            pause = FIRST_PAUSE;
            bad_chunks = 0;
        }
        let why = match attempt {
            Attempt::Full => continue,
            Attempt::BadChunk(source) => {
                bad_chunks += 1;
                tracing::warn!(%address, segment = %pull.id, error = %source, "bad chunk");
                if bad_chunks >= MOST_BAD_CHUNKS || matches!(source, PartError::Durable(_)) {
                    return Err(PullError::Part { address, source });
                }
                source.to_string()
            }
            Attempt::NotConnected(source) => {
                if last_progress.elapsed() + pause >= pull.progress_limit {
                    return Err(PullError::Unreachable {
                        address,
                        done: part.length(),
                        size: pull.size,
                        source,
                    });
                }
                crate::error::chain(&source)
            }
            Attempt::Lost(why) => why,
        };
        tracing::info!(%address, segment = %pull.id, done = part.length(), size = pull.size, why, "transfer interrupted; going on");
        if last_progress.elapsed() + pause >= pull.progress_limit {
            return Err(PullError::NoProgress {
                address,
                limit: pull.progress_limit,
                done: part.length(),
                size: pull.size,
                last: why,
            });
        }
        sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
    Ok(part)
}

fn check_announcement(pull: &Pull) -> Result<(), PullError> {
    let manifest = Manifest::from_json(&pull.manifest_json, std::path::Path::new(&pull.id))
        .map_err(PullError::Manifest)?;
    if manifest.size != pull.size {
        return Err(PullError::Announcement {
            what: "size",
            manifest: manifest.size.to_string(),
            call: pull.size.to_string(),
        });
    }
    let sha256 = hex::encode(pull.sha256);
    if !manifest.sha256.eq_ignore_ascii_case(&sha256) {
        return Err(PullError::Announcement {
            what: "sha256",
            manifest: manifest.sha256,
            call: sha256,
        });
    }
    Ok(())
}

/// The very segment, left by an earlier call or cut by this agent itself.
fn already_here(store: &SegmentStore, pull: &Pull) -> Result<Option<Stored>, PullError> {
    match store.get(&pull.cluster, &pull.operation, &pull.id) {
        Ok(stored) if stored.manifest_json == pull.manifest_json => Ok(Some(stored)),
        // Another one under the same name, or a damaged one: it is replaced.
        Ok(_) | Err(StoreError::Unknown { .. } | StoreError::BadManifest { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// What there is of the segment.
enum Found {
    /// All of it.
    Here(Box<Stored>),
    /// A part file, possibly empty, that nobody else writes.
    Part(Box<Part>),
}

/// Looks for the segment and its part file. One that another transfer holds is waited for: the work of a call that was
/// given up ends as soon as what was handed to the disk is written.
async fn here_or_part(store: &SegmentStore, pull: &Pull) -> Result<Found, PullError> {
    let began = Instant::now();
    loop {
        let (looked_in, wanted) = (store.clone(), pull.clone());
        if let Some(stored) = on_disk(move || already_here(&looked_in, &wanted)).await?? {
            return Ok(Found::Here(Box::new(stored)));
        }
        if let Some(part) = open_part(store, pull).await? {
            return Ok(Found::Part(Box::new(part)));
        }
        if began.elapsed() >= pull.progress_limit {
            return Err(busy(pull, began.elapsed()));
        }
        sleep(LOCK_PAUSE).await;
    }
}

fn busy(pull: &Pull, waited: Duration) -> PullError {
    PullError::Busy {
        id: pull.id.clone(),
        waited,
    }
}

/// `None` if another transfer holds the part file.
async fn open_part(store: &SegmentStore, pull: &Pull) -> Result<Option<Part>, PullError> {
    let (store, pull) = (store.clone(), pull.clone());
    on_disk(move || {
        store.prepare(&pull.cluster, &pull.operation)?;
        let path = store.path(&pull.operation, &pull.id)?;
        let expected = Expected {
            size: pull.size,
            sha256: pull.sha256,
        };
        let Some(part) = Part::open(&path, expected).map_err(StoreError::from)? else {
            return Ok(None);
        };
        store.require_space(pull.size.saturating_sub(part.length()))?;
        Ok(Some(part))
    })
    .await?
}

/// Runs disk work in a blocking task.
async fn on_disk<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, PullError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| PullError::Abandoned)
}

/// Connects, asks for what is missing, and takes what comes.
async fn attempt(
    pull: &Pull,
    part: Part,
    last_progress: &mut Instant,
    progress: &mut (impl FnMut(u64) + Send),
) -> Result<(Part, Attempt), PullError> {
    let left = |since: Instant| pull.progress_limit.saturating_sub(since.elapsed());
    let channel = match connect(&pull.target, left(*last_progress).min(CONNECT_LIMIT)).await {
        Ok(channel) => channel,
        Err(error) => return Ok((part, Attempt::NotConnected(error))),
    };
    let mut client = LogServiceClient::new(channel).max_decoding_message_size(MESSAGE_BYTES);
    let request = ReadSegmentRequest {
        cluster: pull.cluster.clone(),
        server: pull.provider_server.clone(),
        operation: pull.operation.clone(),
        segment_id: pull.id.clone(),
        offset: part.length(),
    };
    let mut stream = match timeout(left(*last_progress), client.read_segment(request)).await {
        Ok(Ok(response)) => response.into_inner(),
        Ok(Err(status)) => return lost_or_refused(pull, part, &status),
        Err(_) => return Ok((part, Attempt::Lost("no answer".to_owned()))),
    };
    let written = Arc::new(AtomicU64::new(part.length()));
    let (to_disk, from_network) = mpsc::channel::<SegmentChunk>(DEPTH);
    let counter = Arc::clone(&written);
    let disk = tokio::task::spawn_blocking(move || part.receive(from_network, &counter));
    let stalled = |written: &AtomicU64| PullError::DiskStalled {
        limit: pull.progress_limit,
        done: written.load(Ordering::Relaxed),
        size: pull.size,
    };
    let ended = loop {
        match timeout(left(*last_progress), stream.message()).await {
            Ok(Ok(Some(chunk))) => {
                match timeout(pull.progress_limit, to_disk.send(chunk)).await {
                    Ok(Ok(())) => {}
                    // Closed: the disk side has refused a chunk and says why when it is joined.
                    Ok(Err(_)) => break Ok(()),
                    Err(_) => return Err(stalled(&written)),
                }
                *last_progress = Instant::now();
                progress(written.load(Ordering::Relaxed));
            }
            Ok(Ok(None)) => break Ok(()),
            Ok(Err(status)) => break Err(Some(status)),
            Err(_) => break Err(None),
        }
    };
    drop(to_disk);
    let (part, received) = timeout(pull.progress_limit, disk)
        .await
        .map_err(|_| stalled(&written))?
        .map_err(|_| PullError::Abandoned)?;
    progress(part.length());
    if let Err(error) = received {
        return Ok((part, Attempt::BadChunk(error)));
    }
    match ended {
        Ok(()) if part.is_full() => Ok((part, Attempt::Full)),
        Ok(()) => Ok((part, Attempt::Lost("the stream ended early".to_owned()))),
        Err(Some(status)) => lost_or_refused(pull, part, &status),
        Err(None) => Ok((part, Attempt::Lost("no chunk came".to_owned()))),
    }
}

fn lost_or_refused(
    pull: &Pull,
    part: Part,
    status: &tonic::Status,
) -> Result<(Part, Attempt), PullError> {
    match CallError::from_status(&pull.target.address, status) {
        CallError::Agent(source) => Err(PullError::Refused {
            address: pull.target.address.clone(),
            source: Box::new(source),
        }),
        lost => Ok((part, Attempt::Lost(lost.to_string()))),
    }
}
