//! Two agents as processes, and a manager's view of them.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use binlog_core::Manifest;
use node_agent::logs::store::SegmentStore;
use proto::channel::{Target, connect};
use proto::tls::{TlsMaterial, TlsPaths};
use proto::v1;
use proto::v1::epoch_service_client::EpochServiceClient;
use proto::v1::log_service_client::LogServiceClient;
use proto::v1::segment_progress::Event;
use rand::rngs::StdRng;
use rand::{RngCore, SeedableRng};
use sha2::{Digest, Sha256};
use tonic::transport::Channel;

use super::certificates::CLUSTER;
use super::usage::Usage;

const OPERATION: &str = "bench-1";
const ID: &str = "tail-mysql-bin.000001-4";
const EPOCH: u64 = 1;
/// Longest time without progress.
const LIMIT: Duration = Duration::from_secs(30);

/// The segment that is shipped.
#[derive(Clone)]
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) size: u64,
    pub(crate) sha256: [u8; 32],
    manifest_json: Vec<u8>,
}

/// The agents `db1`, which has the segment, and `db2`, which fetches it.
pub(crate) struct Agents {
    provider: Process,
    receiver: Process,
    store: PathBuf,
    segment: Segment,
    runtime: tokio::runtime::Runtime,
    channel: Channel,
}

struct Process {
    child: Child,
    address: SocketAddr,
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn state(folder: &Path, name: &str) -> PathBuf {
    folder.join(name)
}

/// Puts `size` random bytes with their manifest into the store that agent `db1` will open.
pub(crate) fn put_segment(folder: &Path, size: u64) -> Segment {
    let store = SegmentStore::open(state(folder, "db1").join("segments"), LIMIT)
        .expect("the folder is writable");
    store.prepare(CLUSTER, OPERATION).expect("it is empty");
    let path = store.path(OPERATION, ID).expect("a plain name");
    let mut file = std::fs::File::create(&path).expect("the store is writable");
    let mut random = StdRng::seed_from_u64(size);
    let mut digest = Sha256::new();
    let mut buffer = vec![0; 1 << 20];
    for _ in 0..size >> 20 {
        random.fill_bytes(&mut buffer);
        digest.update(&buffer);
        std::io::Write::write_all(&mut file, &buffer).expect("there is space");
    }
    let sha256: [u8; 32] = digest.finalize().into();
    let manifest = serde_json::json!({
        "format_version": Manifest::VERSION,
        "range": {
            "from": {"file": "mysql-bin.000001", "offset": 4},
            "to": {"file": "mysql-bin.000001", "offset": size},
        },
        "extents": [{
            "file": "mysql-bin.000001", "from": 4, "to": size, "segment_offset": 4, "length": size - 4,
        }],
        "events": 1,
        "transactions": 1,
        "whole_end": null,
        "size": size,
        "sha256": hex::encode(sha256),
        "provider": "db1:3306",
        "dropped_bytes": 0,
        "original_format_description": "",
        "made_up_rotates": [],
    });
    let manifest_json = serde_json::to_vec(&manifest).expect("it is JSON");
    std::fs::write(Manifest::path_for(&path), &manifest_json).expect("the store is writable");
    Segment {
        path,
        size,
        sha256,
        manifest_json,
    }
}

impl Agents {
    /// Starts both and claims the cluster on the receiver.
    pub(crate) fn start(folder: &Path, segment: Segment) -> Self {
        let provider = Process::start(folder, "db1");
        let receiver = Process::start(folder, "db2");
        let material = TlsMaterial::load(&TlsPaths {
            ca: folder.join("ca.pem"),
            cert: folder.join("m1.pem"),
            key: folder.join("m1.key"),
        })
        .expect("certificates were written");
        let target = Target {
            address: receiver.address.to_string(),
            tls: Some((material, format!("db2.{CLUSTER}.agent.mha"))),
        };
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let channel = runtime
            .block_on(async {
                let channel = connect(&target, LIMIT).await?;
                EpochServiceClient::new(channel.clone())
                    .claim_epoch(v1::ClaimEpochRequest {
                        cluster: CLUSTER.to_owned(),
                        epoch: EPOCH,
                        operation: OPERATION.to_owned(),
                        manager: "m1".to_owned(),
                        take_over: false,
                    })
                    .await
                    .expect("nobody else has claimed it");
                Ok::<_, proto::channel::ConnectError>(channel)
            })
            .expect("the agent answers");
        Self {
            provider,
            receiver,
            store: state(folder, "db2").join("segments"),
            segment,
            runtime,
            channel,
        }
    }

    /// Where the provider listens.
    pub(crate) fn provider_address(&self) -> SocketAddr {
        self.provider.address
    }

    /// Where the segment arrives.
    pub(crate) fn received(&self) -> PathBuf {
        self.store.join(OPERATION).join(ID)
    }

    /// One transfer; the receiver dials the provider at `address`.
    pub(crate) fn pull(&self, address: SocketAddr) {
        let request = v1::PullSegmentRequest {
            context: Some(v1::CallContext {
                cluster: CLUSTER.to_owned(),
                server: "db2:3306".to_owned(),
                operation: OPERATION.to_owned(),
                epoch: EPOCH,
                deadline_ms: u32::try_from(LIMIT.as_millis()).expect("seconds").into(),
            }),
            address: address.to_string(),
            certificate_name: "db1".to_owned(),
            segment: Some(v1::SegmentInfo {
                id: ID.to_owned(),
                size: self.segment.size,
                sha256: self.segment.sha256.to_vec().into(),
                manifest_json: self.segment.manifest_json.clone().into(),
            }),
            provider_server: "db1:3306".to_owned(),
        };
        let mut client = LogServiceClient::new(self.channel.clone());
        let last = self.runtime.block_on(async {
            let mut stream = client.pull_segment(request).await?.into_inner();
            let mut last = None;
            while let Some(message) = stream.message().await? {
                last = message.event;
            }
            Ok::<_, tonic::Status>(last)
        });
        let last = last.expect("the transfer succeeds");
        assert!(matches!(last, Some(Event::Done(_))), "{last:?}");
    }

    pub(crate) fn provider_usage(&self) -> Usage {
        Usage::of(self.provider.child.id())
    }

    pub(crate) fn receiver_usage(&self) -> Usage {
        Usage::of(self.receiver.child.id())
    }
}

impl Process {
    /// Starts the shipped program, in the state of a host whose mysqld is down, and waits until it serves.
    fn start(folder: &Path, name: &str) -> Self {
        let config = folder.join(format!("{name}.yaml"));
        let text = format!(
            "name: {name}
listen: 127.0.0.1:0
state_dir: {name}
tls: {{ ca: ca.pem, cert: {name}.pem, key: {name}.key }}
servers:
  - {{ name: '{name}:3306', cluster: {CLUSTER}, socket: no.sock, datadir: {name}-data }}
"
        );
        std::fs::create_dir(folder.join(format!("{name}-data"))).expect("the folder is writable");
        std::fs::write(&config, text).expect("the folder is writable");
        let mut child = Command::new(env!("CARGO_BIN_EXE_mha-node-agent"))
            .args(["--log-format", "json", "run", "--config"])
            .arg(&config)
            .current_dir(folder)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("cargo has built it");
        let mut said = BufReader::new(child.stderr.take().expect("it is piped"));
        let address = serving_address(&mut said);
        // Somebody must take what it says, or it stops when the pipe is full.
        std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
        Self { child, address }
    }
}

/// The address in the line that says `serving`.
fn serving_address(said: &mut impl BufRead) -> SocketAddr {
    let mut all = String::new();
    loop {
        let start = all.len();
        let count = said.read_line(&mut all).expect("UTF-8");
        assert!(count > 0, "the agent ended:\n{all}");
        let line: serde_json::Value = serde_json::from_str(&all[start..]).unwrap_or_default();
        if line["fields"]["message"] == "serving" {
            let address = line["fields"]["address"].as_str();
            return address
                .and_then(|address| address.parse().ok())
                .expect("it says where it serves");
        }
    }
}
