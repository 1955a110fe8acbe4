//! Transfers between agents as processes: killed and started again on either side, and a disk that takes no more.
//!
//! What a test in one process cannot show: that the part file alone is enough to go on, and that a kill at any moment
//! leaves no segment that is not whole.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use binlog_core::Manifest;
use node_agent::logs::store::SegmentStore;
use proto::channel::{CHUNK_BYTES, Target, connect};
use proto::status::CallError;
use proto::v1;
use proto::v1::epoch_service_client::EpochServiceClient;
use proto::v1::log_service_client::LogServiceClient;
use proto::v1::segment_progress::Event;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};
use tonic::transport::Channel;

const OPERATION: &str = "op-1";
const ID: &str = "tail-mysql-bin.000001-4";
const SIZE: usize = 5_000_011;
/// Longest wait for anything.
const SOON: Duration = Duration::from_secs(60);

/// An agent of a host whose mysqld is down, as a process; killed when dropped.
struct Agent {
    child: Child,
    address: SocketAddr,
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Agent {
    /// Starts the agent `name` with its state in `folder`; again, if it ran before. No file of it can grow beyond
    /// `largest_file` bytes.
    fn start(folder: &Path, name: &str, largest_file: Option<usize>) -> Self {
        let config = folder.join(format!("{name}.yaml"));
        let text = format!(
            "name: {name}\nlisten: 127.0.0.1:0\nstate_dir: {name}\nplaintext: true\nservers:\n  - {{ name: '{name}:3306', cluster: app1, socket: no.sock, datadir: {name} }}\n"
        );
        fs::write(&config, text).unwrap();
        fs::create_dir_all(folder.join(name)).unwrap();
        let program = env!("CARGO_BIN_EXE_mha-node-agent");
        let mut command = match largest_file {
            None => Command::new(program),
            Some(bytes) => {
                // In blocks of 512 bytes, as POSIX has it. The signal would end the process, where a full disk does not.
                let script = format!(
                    "trap '' XFSZ; ulimit -f {}; exec \"$0\" \"$@\"",
                    bytes / 512
                );
                let mut shell = Command::new("sh");
                shell.args(["-c", &script, program]);
                shell
            }
        };
        let mut child = command
            .args(["--log-format", "json", "run", "--config"])
            .arg(&config)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(child.stderr.take().unwrap());
        let mut all = String::new();
        let address = loop {
            let start = all.len();
            assert!(said.read_line(&mut all).unwrap() > 0, "it ended:\n{all}");
            let line: serde_json::Value = serde_json::from_str(&all[start..]).unwrap_or_default();
            if line["fields"]["message"] == "serving" {
                break line["fields"]["address"].as_str().unwrap().parse().unwrap();
            }
        };
        thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { child, address }
    }

    async fn dial(&self) -> Channel {
        let target = Target {
            address: self.address.to_string(),
            tls: None,
        };
        connect(&target, SOON).await.unwrap()
    }
}

/// Passes bytes between receiver and provider, which may move; gets stuck behind so many bytes until it is released.
struct Relay {
    address: SocketAddr,
    provider: Arc<Mutex<SocketAddr>>,
    released: Arc<AtomicBool>,
    /// Bytes of the provider passed on, per connection.
    passed: Arc<Mutex<Vec<usize>>>,
}

impl Relay {
    fn start(provider: SocketAddr, stuck_behind: usize) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = Self {
            address: listener.local_addr().unwrap(),
            provider: Arc::new(Mutex::new(provider)),
            released: Arc::default(),
            passed: Arc::default(),
        };
        let (provider, passed) = (Arc::clone(&relay.provider), Arc::clone(&relay.passed));
        let released = Arc::clone(&relay.released);
        thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let address = *provider.lock().unwrap();
                // A provider that is down: the client's connection is closed at once.
                let Ok(server) = TcpStream::connect(address) else {
                    continue;
                };
                let (number, limit) = {
                    let mut passed = passed.lock().unwrap();
                    let limit = stuck_behind - passed.iter().sum::<usize>().min(stuck_behind);
                    passed.push(0);
                    (passed.len() - 1, limit)
                };
                let limit = if released.load(Ordering::SeqCst) {
                    usize::MAX
                } else {
                    limit
                };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                thread::spawn(move || pass(from, to, usize::MAX, |_| {}));
                let passed = Arc::clone(&passed);
                thread::spawn(move || {
                    pass(server, client, limit, |count| {
                        passed.lock().unwrap()[number] += count;
                    });
                });
            }
        });
        relay
    }

    fn release(&self) {
        self.released.store(true, Ordering::SeqCst);
    }

    /// When so much of the segment was there the last connection was made: what was passed on twice stays under one chunk
    /// and the protocol's own.
    fn assert_went_on(&self, part: usize) {
        let passed = self.passed.lock().unwrap();
        assert!(passed.len() > 1, "{passed:?}");
        assert!(
            *passed.last().unwrap() <= SIZE - part + CHUNK_BYTES + (32 << 10),
            "{part} of {SIZE} were there, then {passed:?}"
        );
    }
}

/// Passes on at most `limit` bytes; the rest is taken and dropped. The end is passed on in any case.
fn pass(mut from: TcpStream, mut to: TcpStream, limit: usize, told: impl Fn(usize)) {
    let mut left = limit;
    let mut buffer = vec![0; 16 << 10];
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        let count = count.min(left);
        left -= count;
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
        told(count);
    }
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}

struct World {
    folder: tempfile::TempDir,
    bytes: Vec<u8>,
    segment: v1::SegmentInfo,
}

impl World {
    /// A segment in the store that agent `db1` will open.
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut bytes = vec![0; SIZE];
        StdRng::seed_from_u64(1).fill_bytes(&mut bytes);
        let sha256: [u8; 32] = Sha256::digest(&bytes).into();
        let manifest = serde_json::json!({
            "format_version": 1,
            "range": {
                "from": {"file": "mysql-bin.000001", "offset": 4},
                "to": {"file": "mysql-bin.000001", "offset": SIZE},
            },
            "extents": [{
                "file": "mysql-bin.000001", "from": 4, "to": SIZE, "segment_offset": 4, "length": SIZE - 4,
            }],
            "events": 1,
            "transactions": 1,
            "whole_end": null,
            "size": SIZE,
            "sha256": hex::encode(sha256),
            "provider": "db1:3306",
            "dropped_bytes": 0,
            "original_format_description": "",
            "made_up_rotates": [],
        });
        let manifest_json = serde_json::to_vec(&manifest).unwrap();
        let store = SegmentStore::open(folder.path().join("db1/segments"), SOON).unwrap();
        store.prepare("app1", OPERATION).unwrap();
        let path = store.path(OPERATION, ID).unwrap();
        fs::write(&path, &bytes).unwrap();
        fs::write(Manifest::path_for(&path), &manifest_json).unwrap();
        Self {
            folder,
            bytes,
            segment: v1::SegmentInfo {
                id: ID.to_owned(),
                size: SIZE as u64,
                sha256: sha256.to_vec().into(),
                manifest_json: manifest_json.into(),
            },
        }
    }

    fn start(&self, name: &str) -> Agent {
        Agent::start(self.folder.path(), name, None)
    }

    fn arriving(&self) -> PathBuf {
        self.folder
            .path()
            .join("db2/segments")
            .join(OPERATION)
            .join(ID)
    }

    fn part_length(&self) -> usize {
        let part = self.arriving().with_file_name(format!("{ID}.part"));
        fs::metadata(part).map_or(0, |metadata| usize::try_from(metadata.len()).unwrap())
    }

    /// Waits until the disk holds all whole chunks among so many bytes, which is then mid-transfer.
    fn wait_for_part(&self, bytes: usize) -> usize {
        let began = Instant::now();
        let whole = bytes / (CHUNK_BYTES + 1024) * CHUNK_BYTES;
        while self.part_length() < whole {
            assert!(began.elapsed() < SOON, "{} of {whole}", self.part_length());
            thread::sleep(Duration::from_millis(5));
        }
        self.part_length()
    }

    fn assert_arrived(&self) {
        assert!(fs::read(self.arriving()).unwrap() == self.bytes);
        assert_eq!(
            fs::read(Manifest::path_for(&self.arriving())).unwrap(),
            self.segment.manifest_json
        );
        assert_eq!(
            self.part_length(),
            0,
            "the part file has become the segment"
        );
    }

    fn assert_only_part(&self) {
        assert!(!self.arriving().exists());
        assert!(!Manifest::path_for(&self.arriving()).exists());
    }

    async fn pull(&self, receiver: Channel, from: SocketAddr) -> Result<(), CallError> {
        let request = v1::PullSegmentRequest {
            context: Some(v1::CallContext {
                cluster: "app1".to_owned(),
                server: "db2:3306".to_owned(),
                operation: OPERATION.to_owned(),
                epoch: 1,
                deadline_ms: 60_000,
            }),
            address: from.to_string(),
            certificate_name: "db1".to_owned(),
            segment: Some(self.segment.clone()),
            provider_server: "db1:3306".to_owned(),
        };
        let outcome = async {
            let mut stream = LogServiceClient::new(receiver)
                .pull_segment(request)
                .await?
                .into_inner();
            let mut last = None;
            while let Some(message) = stream.message().await? {
                last = message.event;
            }
            Ok::<_, tonic::Status>(last)
        };
        match outcome.await {
            Ok(Some(Event::Done(_))) => Ok(()),
            Ok(other) => panic!("{other:?}"),
            Err(status) => Err(CallError::from_status("db2", &status)),
        }
    }
}

async fn claim(channel: &Channel) {
    EpochServiceClient::new(channel.clone())
        .claim_epoch(v1::ClaimEpochRequest {
            cluster: "app1".to_owned(),
            epoch: 1,
            operation: OPERATION.to_owned(),
            manager: "m1".to_owned(),
            take_over: false,
        })
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_killed_in_the_middle_goes_on_from_there_when_it_is_back() {
    let world = World::new();
    let provider = world.start("db1");
    let receiver = world.start("db2");
    let relay = Relay::start(provider.address, 2_345_678);
    let channel = receiver.dial().await;
    claim(&channel).await;
    let restart = async {
        let part = tokio::task::block_in_place(|| world.wait_for_part(2_345_678));
        drop(provider);
        let provider = tokio::task::block_in_place(|| world.start("db1"));
        *relay.provider.lock().unwrap() = provider.address;
        relay.release();
        (part, provider)
    };
    let (pulled, (part, _provider)) = tokio::join!(world.pull(channel, relay.address), restart);
    pulled.unwrap();
    world.assert_arrived();
    relay.assert_went_on(part);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_killed_in_the_middle_goes_on_from_its_part_file_when_asked_again() {
    let world = World::new();
    let provider = world.start("db1");
    let receiver = world.start("db2");
    let relay = Relay::start(provider.address, 3_456_789);
    let channel = receiver.dial().await;
    claim(&channel).await;
    let kill = async {
        let part = tokio::task::block_in_place(|| world.wait_for_part(3_456_789));
        drop(receiver);
        part
    };
    let (lost, part) = tokio::join!(world.pull(channel, relay.address), kill);
    let error = lost.unwrap_err();
    assert!(matches!(error, CallError::Lost { .. }), "{error}");
    world.assert_only_part();
    relay.release();
    // The epoch is on its disk, too: nobody claims again.
    let receiver = world.start("db2");
    world
        .pull(receiver.dial().await, relay.address)
        .await
        .unwrap();
    world.assert_arrived();
    relay.assert_went_on(part);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_takes_no_more_ends_the_call_and_loses_nothing() {
    let world = World::new();
    let provider = world.start("db1");
    // Inside a chunk: the kernel takes a part of it.
    let full = 7 * CHUNK_BYTES + 100 * 512;
    let receiver = Agent::start(world.folder.path(), "db2", Some(full));
    let relay = Relay::start(provider.address, usize::MAX);
    let channel = receiver.dial().await;
    claim(&channel).await;
    let error = world.pull(channel, relay.address).await.unwrap_err();
    let CallError::Agent(refused) = &error else {
        panic!("{error}");
    };
    assert_eq!(refused.kind, v1::ErrorKind::Io, "{error}");
    assert!(error.to_string().contains("write"), "{error}");
    world.assert_only_part();
    assert_eq!(world.part_length(), full);
    // There is room again.
    drop(receiver);
    let receiver = world.start("db2");
    world
        .pull(receiver.dial().await, relay.address)
        .await
        .unwrap();
    world.assert_arrived();
    relay.assert_went_on(full);
}
