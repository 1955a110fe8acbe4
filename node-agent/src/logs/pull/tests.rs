//! A pull against a provider that lies, breaks off, stalls or is slow, chunk by chunk.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use proto::channel::{CHUNK_BYTES, Target};
use proto::v1::SegmentChunk;
use rand::rngs::StdRng;
use rand::seq::index::sample;
use rand::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};

use super::scripted::{Act, Scripted, chunk};
use super::*;

/// Nine whole chunks and a piece.
const SIZE: usize = 9 * CHUNK_BYTES + 4_321;
/// Chunks of the segment.
const CHUNKS: usize = SIZE.div_ceil(CHUNK_BYTES);
/// Longest time without a chunk, unless a test says otherwise.
const LIMIT: Duration = Duration::from_secs(60);

/// A receiver's store, and a segment as it is announced to it.
struct World {
    _folder: tempfile::TempDir,
    store: SegmentStore,
    bytes: Vec<u8>,
    pull: Pull,
}

impl World {
    fn new(address: std::net::SocketAddr, bytes: Vec<u8>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = SegmentStore::open(folder.path().join("segments"), LIMIT).unwrap();
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        let to = bytes.len();
        let manifest = serde_json::json!({
            "format_version": 1,
            "range": {
                "from": {"file": "mysql-bin.000001", "offset": 4},
                "to": {"file": "mysql-bin.000001", "offset": to},
            },
            "extents": [{
                "file": "mysql-bin.000001", "from": 4, "to": to, "segment_offset": 4, "length": to - 4,
            }],
            "events": 1,
            "transactions": 1,
            "whole_end": null,
            "size": to,
            "sha256": hex::encode(sha256),
            "provider": "db1:3306",
            "dropped_bytes": 0,
            "original_format_description": "",
            "made_up_rotates": [],
        });
        let pull = Pull {
            target: Target {
                address: address.to_string(),
                tls: None,
            },
            cluster: "app1".to_owned(),
            provider_server: "db1:3306".to_owned(),
            operation: "op-1".to_owned(),
            id: "tail".to_owned(),
            size: to as u64,
            sha256,
            manifest_json: serde_json::to_vec(&manifest).unwrap(),
            progress_limit: LIMIT,
        };
        Self {
            _folder: folder,
            store,
            bytes,
            pull,
        }
    }

    fn segment(&self) -> PathBuf {
        self.store.path("op-1", "tail").unwrap()
    }

    fn part(&self) -> PathBuf {
        super::super::store::part_path(&self.segment())
    }

    async fn pull(&self) -> Result<Stored, PullError> {
        pull(&self.store, self.pull.clone(), |_, _| {}).await
    }

    fn assert_arrived(&self) {
        assert!(std::fs::read(self.segment()).unwrap() == self.bytes);
        assert!(!self.part().exists());
    }

    /// Only the first `whole` chunks are there, and only as a part.
    fn assert_part(&self, whole: usize) {
        assert!(std::fs::read(self.part()).unwrap() == self.bytes[..whole * CHUNK_BYTES]);
        assert!(!self.segment().exists());
        assert!(!Manifest::path_for(&self.segment()).exists());
    }
}

fn random(seed: u64) -> Vec<u8> {
    let mut bytes = vec![0; SIZE];
    StdRng::seed_from_u64(seed).fill_bytes(&mut bytes);
    bytes
}

/// All chunks of `bytes` from `offset` on.
fn rest(bytes: &[u8], offset: u64) -> Vec<SegmentChunk> {
    let from = usize::try_from(offset).unwrap();
    bytes[from..]
        .chunks(CHUNK_BYTES)
        .enumerate()
        .map(|(number, data)| chunk(from + number * CHUNK_BYTES, data))
        .collect()
}

fn acts(chunks: impl IntoIterator<Item = SegmentChunk>) -> Vec<Act> {
    chunks.into_iter().map(Act::Chunk).collect()
}

/// Offsets of chunk numbers.
fn at(chunks: &[usize]) -> Vec<u64> {
    chunks.iter().map(|n| (n * CHUNK_BYTES) as u64).collect()
}

/// The same bytes with one bit changed, under the checksum of the right ones.
fn damaged(chunk: &SegmentChunk, at: usize) -> SegmentChunk {
    let mut data = chunk.data.to_vec();
    data[at] ^= 0x20;
    SegmentChunk {
        data: data.into(),
        ..chunk.clone()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_broken_between_chunks_goes_on_at_the_next_one() {
    let bytes = random(1);
    let mut random = StdRng::seed_from_u64(7);
    // Every chunk once, and the place before the first and behind the last: nothing is asked for twice.
    let mut breaks = sample(&mut random, CHUNKS + 1, CHUNKS).into_vec();
    breaks.sort_unstable();
    let (served, stops) = (bytes.clone(), breaks.clone());
    let provider = Scripted::start(move |call, offset| {
        let done = usize::try_from(offset).unwrap().div_ceil(CHUNK_BYTES);
        let mut acts = acts(rest(&served, offset));
        if let Some(stop) = stops.get(call) {
            acts.truncate(stop - done);
            acts.push(Act::Break);
        }
        acts
    })
    .await;
    let world = World::new(provider.address, bytes);
    world.pull().await.unwrap();
    world.assert_arrived();
    // A break behind the last chunk is not even noticed.
    breaks.retain(|stop| *stop < CHUNKS);
    let asked = [&[0], breaks.as_slice()].concat();
    assert_eq!(provider.offsets(), at(&asked));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_chunk_is_asked_for_again_and_never_written() {
    let bytes = random(2);
    for (first_bad, flipped) in [(0, 0), (4, CHUNK_BYTES - 1), (CHUNKS - 1, 4_000)] {
        let served = bytes.clone();
        let provider = Scripted::start(move |call, offset| {
            let mut chunks = rest(&served, offset);
            if call == 0 {
                chunks[first_bad] = damaged(&chunks[first_bad], flipped);
            }
            acts(chunks)
        })
        .await;
        let world = World::new(provider.address, bytes.clone());
        world.pull().await.unwrap();
        world.assert_arrived();
        assert_eq!(provider.offsets(), at(&[0, first_bad]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_of_nothing_but_wrong_chunks_is_given_up() {
    let bytes = random(3);
    type Spoil = fn(&SegmentChunk) -> SegmentChunk;
    let spoils: [(&str, Spoil); 6] = [
        ("has CRC-32", |c| damaged(c, 17)),
        ("does not fit", |c| {
            chunk(usize::try_from(c.offset).unwrap() + 1, &c.data)
        }),
        ("does not fit", |c| {
            chunk(usize::try_from(c.offset).unwrap() - CHUNK_BYTES, &c.data)
        }),
        ("does not fit", |c| {
            chunk(usize::try_from(c.offset).unwrap(), &[])
        }),
        ("does not fit", |c| {
            chunk(usize::try_from(c.offset).unwrap(), &vec![0; SIZE])
        }),
        ("does not fit", |c| SegmentChunk {
            offset: u64::MAX,
            ..c.clone()
        }),
    ];
    for (said, spoil) in spoils {
        let served = bytes.clone();
        let provider = Scripted::start(move |call, offset| {
            let mut chunks = rest(&served, offset);
            let bad = if call == 0 { 2 } else { 0 };
            chunks[bad] = spoil(&chunks[bad]);
            acts(chunks)
        })
        .await;
        let world = World::new(provider.address, bytes.clone());
        let error = world.pull().await.unwrap_err();
        let PullError::Part { source, .. } = &error else {
            panic!("{error}");
        };
        assert!(source.to_string().contains(said), "{source}");
        world.assert_part(2);
        assert_eq!(provider.offsets(), at(&[0, 2, 2, 2, 2]));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_ends_in_good_order_but_early_is_no_whole_segment() {
    let bytes = random(4);
    let served = bytes.clone();
    let provider = Scripted::start(move |call, offset| {
        let mut chunks = rest(&served, offset);
        if call < 3 {
            chunks.truncate(call);
        }
        acts(chunks)
    })
    .await;
    let world = World::new(provider.address, bytes.clone());
    world.pull().await.unwrap();
    world.assert_arrived();
    assert_eq!(provider.offsets(), at(&[0, 0, 1, 3]));

    let served = bytes.clone();
    let provider = Scripted::start(move |_, offset| {
        let left = 3 - usize::try_from(offset).unwrap() / CHUNK_BYTES;
        acts(rest(&served, offset).into_iter().take(left))
    })
    .await;
    let mut world = World::new(provider.address, bytes);
    world.pull.progress_limit = Duration::from_secs(3);
    let error = world.pull().await.unwrap_err();
    let PullError::NoProgress { done, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(done, 3 * CHUNK_BYTES as u64);
    world.assert_part(3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changes_between_two_connections_is_found_out_by_the_digest() {
    let (before, after) = (random(5), random(6));
    let (first, second) = (before.clone(), after.clone());
    let provider = Scripted::start(move |call, offset| {
        if call == 0 {
            let mut acts = acts(rest(&first, offset).into_iter().take(4));
            acts.push(Act::Break);
            acts
        } else {
            acts(rest(&second, offset))
        }
    })
    .await;
    let world = World::new(provider.address, before);
    let error = world.pull().await.unwrap_err();
    assert!(
        matches!(
            &error,
            PullError::Part {
                source: PartError::Digest { .. },
                ..
            }
        ),
        "{error}"
    );
    assert!(!world.segment().exists() && !world.part().exists());
    assert_eq!(provider.offsets(), at(&[0, 4]));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_earlier_run_left_is_used_or_replaced_but_never_trusted() {
    let (bytes, other) = (random(7), random(8));
    let mut torn = bytes[..5 * CHUNK_BYTES].to_vec();
    // What a power cut leaves: the length was written, the last pages were not.
    torn[4 * CHUNK_BYTES..].fill(0);
    let longer = [bytes.as_slice(), b"x"].concat();
    for (left, asked) in [
        (&bytes[..5 * CHUNK_BYTES], at(&[5])),
        (&bytes[..CHUNK_BYTES + 1], vec![CHUNK_BYTES as u64 + 1]),
        (&bytes[..], vec![]),
        (&torn[..], at(&[5, 0])),
        (&other[..], at(&[0])),
        (&longer[..], at(&[0])),
    ] {
        let served = bytes.clone();
        let provider = Scripted::start(move |_, offset| acts(rest(&served, offset))).await;
        let world = World::new(provider.address, bytes.clone());
        world.store.prepare("app1", "op-1").unwrap();
        std::fs::write(world.part(), left).unwrap();
        // A manifest without its segment vouches for nothing, even the right one.
        let manifest = Manifest::path_for(&world.segment());
        std::fs::write(manifest, &world.pull.manifest_json).unwrap();
        world.pull().await.unwrap();
        world.assert_arrived();
        assert_eq!(provider.offsets(), asked, "{} bytes were left", left.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_under_a_name_that_was_taken_never_has_the_manifest_of_the_other() {
    let (bytes, other) = (random(11), random(12));
    let served = bytes.clone();
    let provider = Scripted::start(move |_, offset| acts(rest(&served, offset))).await;
    let world = World::new(provider.address, bytes);
    let manifest_of_other = World::new(provider.address, other.clone())
        .pull
        .manifest_json;
    let manifest = Manifest::path_for(&world.segment());
    world.store.prepare("app1", "op-1").unwrap();
    // The step between the two cannot be done: nothing may vouch for what is there.
    std::fs::create_dir(world.segment()).unwrap();
    std::fs::write(&manifest, &manifest_of_other).unwrap();
    let error = world.pull().await.unwrap_err();
    assert!(
        matches!(
            &error,
            PullError::Part {
                source: PartError::Durable(_),
                ..
            }
        ),
        "{error}"
    );
    assert!(!manifest.exists());
    // It can again, and the other one is there whole: all that arrived is still there, and replaces it.
    std::fs::remove_dir(world.segment()).unwrap();
    std::fs::write(world.segment(), other).unwrap();
    std::fs::write(&manifest, manifest_of_other).unwrap();
    world.pull().await.unwrap();
    world.assert_arrived();
    assert!(std::fs::read(manifest).unwrap() == world.pull.manifest_json);
    assert_eq!(provider.offsets(), at(&[0]));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_limit_is_of_the_time_without_progress_and_not_of_the_whole() {
    let bytes = random(9);
    let limit = Duration::from_secs(3);
    let served = bytes.clone();
    let provider = Scripted::start(move |_, offset| {
        rest(&served, offset)
            .into_iter()
            .flat_map(|chunk| [Act::Wait(limit / 4), Act::Chunk(chunk)])
            .collect()
    })
    .await;
    let mut world = World::new(provider.address, bytes.clone());
    world.pull.progress_limit = limit;
    let began = Instant::now();
    world.pull().await.unwrap();
    assert!(began.elapsed() > 2 * limit, "{:?}", began.elapsed());
    world.assert_arrived();

    let served = bytes.clone();
    let provider = Scripted::start(move |_, offset| {
        let mut acts = acts(rest(&served, offset).into_iter().take(2));
        acts.push(Act::Stall);
        acts
    })
    .await;
    let mut world = World::new(provider.address, bytes);
    world.pull.progress_limit = limit;
    let began = Instant::now();
    let error = world.pull().await.unwrap_err();
    let PullError::NoProgress { done, .. } = error else {
        panic!("{error}");
    };
    assert_eq!(done, 2 * CHUNK_BYTES as u64);
    assert!(began.elapsed() >= limit, "{:?}", began.elapsed());
    assert!(began.elapsed() < 20 * limit, "{:?}", began.elapsed());
    world.assert_part(2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_transfer_of_the_segment_waits_for_the_end_of_the_first() {
    let bytes = random(10);
    let served = bytes.clone();
    let provider = Scripted::start(move |_, offset| acts(rest(&served, offset))).await;
    let mut world = World::new(provider.address, bytes.clone());
    world.pull.progress_limit = Duration::from_millis(300);
    world.store.prepare("app1", "op-1").unwrap();
    // As the disk task of a call that was given up: it holds the part file and still writes.
    let expected = Expected {
        size: world.pull.size,
        sha256: world.pull.sha256,
    };
    let part = Part::open(&world.segment(), expected).unwrap().unwrap();
    let error = world.pull().await.unwrap_err();
    assert!(matches!(error, PullError::Busy { .. }), "{error}");
    assert!(provider.offsets().is_empty());

    world.pull.progress_limit = LIMIT;
    let (to_disk, chunks) = mpsc::channel(DEPTH);
    let writing = tokio::task::spawn_blocking(move || {
        drop(part.receive(chunks, &Arc::default()));
    });
    let late = async {
        sleep(Duration::from_millis(100)).await;
        let first = rest(&bytes, 0).swap_remove(0);
        to_disk.send(first).await.unwrap();
        drop(to_disk);
        writing.await.unwrap();
    };
    let (pulled, ()) = tokio::join!(world.pull(), late);
    pulled.unwrap();
    world.assert_arrived();
    assert_eq!(provider.offsets(), at(&[1]));
}
