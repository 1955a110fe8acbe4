//! A proxy that puts a `created` time back into format descriptions, as a source would send them that does not know.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use binlog_core::EventType;
use binlog_core::checksum::crc32;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::Trouble;

/// Any time will do: what counts is that it is one.
const TIME: [u8; 4] = 1_700_000_000_u32.to_le_bytes();
/// Type code, behind the timestamp of an event.
const TYPE: usize = 4;
/// `created`: header 19, version of the format 2, version of the server 50.
const CREATED: std::ops::Range<usize> = 71..75;

/// The proxy; it ends with the value.
pub(super) struct Tamper {
    port: u16,
    changed: Arc<AtomicU64>,
    serving: JoinHandle<()>,
}

impl Tamper {
    /// Listens on loopback in front of `target`, a port there.
    pub(super) async fn start(target: u16) -> Result<Self, Trouble> {
        let lacks = |_| Trouble::lacks("a free port on loopback");
        let listener = TcpListener::bind("127.0.0.1:0").await.map_err(lacks)?;
        let port = listener.local_addr().map_err(lacks)?.port();
        let changed = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&changed);
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if let Ok(server) = TcpStream::connect(("127.0.0.1", target)).await {
                    tokio::spawn(pass(client, server, Arc::clone(&counter)));
                }
            }
        });
        Ok(Self {
            port,
            changed,
            serving,
        })
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    /// Format descriptions changed so far.
    pub(super) fn changed(&self) -> u64 {
        self.changed.load(Ordering::Relaxed)
    }
}

impl Drop for Tamper {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(client: TcpStream, server: TcpStream, changed: Arc<AtomicU64>) {
    let (mut from_client, mut to_client) = client.into_split();
    let (mut from_server, mut to_server) = server.into_split();
    let backward = async {
        // One packet after the other: its length in three bytes, its number, its payload.
        let mut head = [0_u8; 4];
        while from_server.read_exact(&mut head).await.is_ok() {
            let length = u32::from_le_bytes([head[0], head[1], head[2], 0]);
            let mut payload = vec![0; length as usize];
            if from_server.read_exact(&mut payload).await.is_err() {
                return;
            }
            if put_back(&mut payload) {
                changed.fetch_add(1, Ordering::Relaxed);
            }
            let packet = [&head[..], &payload].concat();
            if to_client.write_all(&packet).await.is_err() {
                return;
            }
        }
    };
    let forward = async {
        // Its end is the end of the connection, which the other direction notices as well.
        let _ = tokio::io::copy(&mut from_client, &mut to_server).await;
    };
    tokio::select! {
        () = backward => {}
        () = forward => {}
    }
}

/// Changes a format description without `created`; the checksum is made anew, the size stays.
fn put_back(payload: &mut [u8]) -> bool {
    let Some((0, event)) = payload
        .split_first_mut()
        .map(|(first, rest)| (*first, rest))
    else {
        return false;
    };
    let is_one = event.get(TYPE) == Some(&EventType::FORMAT_DESCRIPTION.0);
    let Some(created) = event.get_mut(CREATED).filter(|_| is_one) else {
        return false;
    };
    if created != [0; 4] {
        return false;
    }
    created.copy_from_slice(&TIME);
    if let Some((content, stored)) = event.split_last_chunk_mut::<4>() {
        *stored = crc32(content).to_le_bytes();
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_format_descriptions_without_a_time_are_changed() {
        let mut payload = vec![0_u8; 120];
        payload[1 + TYPE] = EventType::FORMAT_DESCRIPTION.0;
        assert!(put_back(&mut payload));
        assert_eq!(payload[72..76], TIME);
        let sum = crc32(&payload[1..116]).to_le_bytes();
        assert_eq!(payload[116..], sum);
        assert!(!put_back(&mut payload), "it has one already");
        let mut other = vec![0_u8; 120];
        assert!(!put_back(&mut other));
        assert!(!put_back(&mut [0, 1, 2]));
    }
}
