//! The door of a server's host: everything that reaches the server by TCP passes through it.
//!
//! The gate listens on the server's public address and port, the server itself on a hidden address with the same port,
//! so nobody sees the difference. It understands the binary log dump well enough to stop a replica's stream right after
//! a given event, inside a transaction if wanted: a replica's lag is a value here, exact and repeatable, while its I/O
//! thread runs as it does in production. It can also refuse all connections (a dead host's kernel) or fall silent (a
//! host that is gone).
//!
//! An encrypted or compressed connection passes as it is; a replica that uses one cannot be held.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

use super::error::SandboxError;

/// A place in the primary's binary log, as a replica's stream meets it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct StreamPoint {
    /// File name; names of one server differ in their number only, so longer is later.
    file: (usize, String),
    /// Offset in bytes.
    offset: u64,
}

impl StreamPoint {
    /// The place at `offset` of `file`.
    pub fn new(file: &str, offset: u64) -> Self {
        Self {
            file: (file.len(), file.to_owned()),
            offset,
        }
    }
}

/// What the gate does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Lets them through.
    #[default]
    Open,
    /// Ends them and refuses new ones.
    Refusing,
    /// Keeps them and moves no byte.
    Silent,
    /// Ends them and answers new ones with error 1129, as a server does that has blocked the caller's host.
    Blocking,
}

#[derive(Debug, Clone, Default)]
struct State {
    mode: Mode,
    holds: BTreeMap<u32, StreamPoint>,
}

/// A gate in front of one server. Closed when dropped.
#[derive(Debug)]
pub struct Gate {
    state: watch::Sender<State>,
    task: JoinHandle<()>,
}

impl Gate {
    /// Listens on `public` and connects to `target` for each connection.
    pub async fn start(public: SocketAddr, target: SocketAddr) -> Result<Self, SandboxError> {
        let listener = bind(public).await?;
        let (state, watcher) = watch::channel(State::default());
        let task = tokio::spawn(serve(listener, public, target, watcher));
        Ok(Self { state, task })
    }

    /// Changes what happens to connections, those that exist included.
    pub fn set_mode(&self, mode: Mode) {
        self.state.send_modify(|state| state.mode = mode);
    }

    /// The replica with this server id gets no event that ends beyond `point`.
    pub fn hold(&self, server_id: u32, point: StreamPoint) {
        self.state.send_modify(|state| {
            state.holds.insert(server_id, point);
        });
    }

    /// The replica gets everything again.
    pub fn release(&self, server_id: u32) {
        self.state.send_modify(|state| {
            state.holds.remove(&server_id);
        });
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn bind(address: SocketAddr) -> Result<TcpListener, SandboxError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| SandboxError::Io {
            action: "listen on",
            path: address.to_string().into(),
            source,
        })
}

async fn serve(
    first: TcpListener,
    public: SocketAddr,
    target: SocketAddr,
    mut state: watch::Receiver<State>,
) {
    let mut listener = Some(first);
    // Aborts all connections when the gate is dropped.
    let mut connections = JoinSet::new();
    let mut last = Mode::Open;
    loop {
        let mode = state.borrow_and_update().mode;
        if mode != last && matches!(mode, Mode::Refusing | Mode::Blocking) {
            connections.abort_all();
        }
        last = mode;
        if mode == Mode::Refusing {
            listener = None;
        } else if listener.is_none() {
            // Nobody else takes the address: the network is ours. A failure shows as refused connections.
            listener = bind(public).await.ok();
        }
        tokio::select! {
            changed = state.changed() => if changed.is_err() { return },
            accepted = accept(listener.as_ref()) => {
                if let Some(client) = accepted {
                    connections.spawn(connection(client, target, state.clone()));
                }
            }
            // Collects those that have ended.
            Some(_) = connections.join_next() => {}
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> Option<TcpStream> {
    match listener {
        Some(listener) => listener.accept().await.ok().map(|(stream, _)| stream),
        None => std::future::pending().await,
    }
}

async fn connection(mut client: TcpStream, target: SocketAddr, mut state: watch::Receiver<State>) {
    if state.borrow().mode == Mode::Blocking {
        // A caller that has gone misses nothing.
        let _ = client.write_all(&blocked_packet()).await;
        return;
    }
    // Also a server that is gone must not be seen to be gone.
    not_silent(&mut state).await;
    // Either failing means the connection is over for both ends, which is all a gate can say.
    let Ok(server) = TcpStream::connect(target).await else {
        return;
    };
    let _ = (client.set_nodelay(true), server.set_nodelay(true));
    let (client_read, client_write) = client.into_split();
    let (server_read, server_write) = server.into_split();
    let asked = Asked::default();
    tokio::select! {
        _ = requests(client_read, server_write, &asked, state.clone()) => {}
        _ = answers(server_read, client_write, &asked, state) => {}
    }
}

/// What the client of a connection has asked for so far.
#[derive(Debug, Default)]
struct Asked {
    /// The server id of the replica that asked for the log; 0 if nobody did.
    replica: AtomicU32,
    /// Nothing behind this can be understood: it is encrypted or compressed.
    opaque: AtomicBool,
    /// Each event comes behind two bytes of semi-synchronous replication.
    semi_sync: AtomicBool,
}

/// Waits while the gate is silent.
async fn not_silent(state: &mut watch::Receiver<State>) {
    // An error means the gate is gone, and this task with it.
    let _ = state.wait_for(|state| state.mode != Mode::Silent).await;
}

/// One packet of the client/server protocol: its header and payload.
async fn packet(from: &mut OwnedReadHalf, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    let mut header = [0_u8; 4];
    from.read_exact(&mut header).await?;
    payload(from, header, buffer).await
}

/// The same, behind its header.
async fn payload(
    from: &mut OwnedReadHalf,
    header: [u8; 4],
    buffer: &mut Vec<u8>,
) -> std::io::Result<()> {
    let [a, b, c, _] = header;
    let length = usize::from(a) | usize::from(b) << 8 | usize::from(c) << 16;
    buffer.clear();
    buffer.extend_from_slice(&header);
    buffer.resize(4 + length, 0);
    if let Some(payload) = buffer.get_mut(4..) {
        from.read_exact(payload).await?;
    }
    Ok(())
}

/// Passes bytes that are not understood.
async fn raw(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut buffer = vec![0; 16 << 10];
    loop {
        let read = from.read(&mut buffer).await?;
        let Some(bytes) = buffer.get(..read).filter(|bytes| !bytes.is_empty()) else {
            return Ok(());
        };
        not_silent(&mut state).await;
        to.write_all(bytes).await?;
    }
}

/// SSLRequest: what a client sends instead of its login, the capability CLIENT_SSL among its flags.
fn is_ssl_request(packet: &[u8]) -> bool {
    const CLIENT_SSL: u32 = 0x800;
    const LENGTH: usize = 32;
    let Some((header, payload)) = packet.split_at_checked(4) else {
        return false;
    };
    let flags = payload.first_chunk().copied().map(u32::from_le_bytes);
    header.last() == Some(&1)
        && payload.len() == LENGTH
        && flags.is_some_and(|flags| flags & CLIENT_SSL != 0)
}

/// A login that asks for compression: CLIENT_COMPRESS or CLIENT_ZSTD_COMPRESSION_ALGORITHM among its flags.
fn is_compressed_login(packet: &[u8]) -> bool {
    const COMPRESSED: u32 = 0x20 | 1 << 26;
    let Some((header, payload)) = packet.split_at_checked(4) else {
        return false;
    };
    let flags = payload.first_chunk().copied().map(u32::from_le_bytes);
    header.last() == Some(&1) && flags.is_some_and(|flags| flags & COMPRESSED != 0)
}

/// COM_QUERY `SET @rpl_semi_sync_slave= 1`, or with the new name: what a semi-synchronous replica says before its dump.
fn asks_for_semi_sync(packet: &[u8]) -> bool {
    const COM_QUERY: u8 = 3;
    let Some((&COM_QUERY, text)) = packet.get(4..).and_then(<[u8]>::split_first) else {
        return false;
    };
    // Newer replicas put the number of their query attributes before it.
    String::from_utf8_lossy(text).contains("SET @rpl_semi_sync_")
}

/// What MySQL 5.6 sends instead of a greeting: header, 0xff, error number u16, text.
fn blocked_packet() -> Vec<u8> {
    const ER_HOST_IS_BLOCKED: u16 = 1129;
    let text = b"Host '127.0.0.1' is blocked because of many connection errors; unblock with 'mysqladmin flush-hosts'";
    let mut payload = vec![0xff];
    payload.extend(ER_HOST_IS_BLOCKED.to_le_bytes());
    payload.extend(text);
    let length = u8::try_from(payload.len()).unwrap_or(u8::MAX);
    [vec![length, 0, 0, 0], payload].concat()
}

/// COM_BINLOG_DUMP: command 0x12, position u32, flags u16, server id u32, file name; COM_BINLOG_DUMP_GTID: command 0x1e,
/// flags u16, server id u32, and more.
fn dumping_replica(packet: &[u8]) -> Option<u32> {
    let payload = packet.get(4..)?;
    let server_id = match (packet.get(3)?, payload.first()?) {
        (0, 0x12) => payload.get(7..11)?,
        (0, 0x1e) => payload.get(3..7)?,
        _ => return None,
    };
    Some(u32::from_le_bytes(server_id.try_into().ok()?))
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: &Asked,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    let mut first = true;
    loop {
        packet(&mut from, &mut buffer).await?;
        if let Some(server_id) = dumping_replica(&buffer) {
            asked.replica.store(server_id, Ordering::SeqCst);
        }
        if asks_for_semi_sync(&buffer) {
            asked.semi_sync.store(true, Ordering::SeqCst);
        }
        // Known before the server can answer.
        let is_first = std::mem::take(&mut first);
        let opaque = is_first && (is_ssl_request(&buffer) || is_compressed_login(&buffer));
        asked.opaque.fetch_or(opaque, Ordering::SeqCst);
        not_silent(&mut state).await;
        to.write_all(&buffer).await?;
        if opaque {
            return raw(from, to, state).await;
        }
    }
}

/// The stream of one dump: which file it is in, and whether the next packet begins an event.
#[derive(Default)]
struct Stream {
    file: String,
    continued: bool,
    semi_sync: bool,
}

impl Stream {
    /// The end of the event that this packet begins; `None` for what takes no place in the log.
    fn event_end(&mut self, packet: &[u8]) -> Option<StreamPoint> {
        let payload = packet.get(4..)?;
        let begins = !std::mem::replace(&mut self.continued, payload.len() == 0xff_ffff);
        if !begins || payload.first() != Some(&0) {
            return None;
        }
        // Behind OK, of semi-synchronous replication: a magic byte, and whether an answer is wanted.
        let event = match payload.get(1..)? {
            [0xef, _, event @ ..] if self.semi_sync => event,
            event => event,
        };
        // Header: timestamp u32, type u8, server id u32, size u32, log_pos u32, flags u16.
        let kind = *event.get(4)?;
        let log_pos = u32::from_le_bytes(event.get(13..17)?.try_into().ok()?);
        let end = (log_pos != 0).then(|| StreamPoint::new(&self.file, u64::from(log_pos)));
        if kind == ROTATE_EVENT {
            // Position u64, then the next file's name, then possibly a checksum.
            self.file = file_name(event.get(27..)?)?;
        }
        end
    }
}

const ROTATE_EVENT: u8 = 4;

/// The file name at the start of `bytes`, which end with a checksum or not. A name ends with at least six digits and a
/// checksum has four bytes, so ten bytes after the dot tell that it is there.
fn file_name(bytes: &[u8]) -> Option<String> {
    const CHECKSUM: usize = 4;
    const DIGITS: usize = 6;
    let dot = bytes.iter().position(|byte| *byte == b'.')?;
    let after = bytes.len() - dot - 1;
    let end = if after >= DIGITS + CHECKSUM {
        bytes.len() - CHECKSUM
    } else {
        bytes.len()
    };
    String::from_utf8(bytes.get(..end)?.to_vec()).ok()
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    asked: &Asked,
    mut state: watch::Receiver<State>,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    let mut stream = Stream::default();
    loop {
        let mut header = [0_u8; 4];
        from.read_exact(&mut header).await?;
        if asked.opaque.load(Ordering::SeqCst) {
            not_silent(&mut state).await;
            to.write_all(&header).await?;
            return raw(from, to, state).await;
        }
        payload(&mut from, header, &mut buffer).await?;
        let server_id = asked.replica.load(Ordering::SeqCst);
        stream.semi_sync = asked.semi_sync.load(Ordering::SeqCst);
        if server_id != 0
            && let Some(end) = stream.event_end(&buffer)
        {
            // An error means the gate is gone, and this task with it.
            let _ = state
                .wait_for(|state| state.holds.get(&server_id).is_none_or(|held| end <= *held))
                .await;
        }
        not_silent(&mut state).await;
        to.write_all(&buffer).await?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(kind: u8, log_pos: u32, body: &[u8]) -> Vec<u8> {
        let size = u32::try_from(19 + body.len()).unwrap();
        let mut packet = vec![0, 0, 0, 1, 0, 0, 0, 0, 0, kind, 1, 0, 0, 0];
        packet.extend(size.to_le_bytes());
        packet.extend(log_pos.to_le_bytes());
        packet.extend([0, 0]);
        packet.extend(body);
        packet
    }

    #[test]
    fn the_end_of_an_event_names_the_file_of_the_last_rotate() {
        let mut stream = Stream::default();
        let rotate = [&8_u64.to_le_bytes()[..], b"mysql-bin.000007", b"1234"].concat();
        assert_eq!(stream.event_end(&event(ROTATE_EVENT, 0, &rotate)), None);
        assert_eq!(
            stream.event_end(&event(2, 452, b"")),
            Some(StreamPoint::new("mysql-bin.000007", 452))
        );
        let plain = [&4_u64.to_le_bytes()[..], b"mysql-bin.1000000"].concat();
        assert_eq!(
            stream.event_end(&event(ROTATE_EVENT, 500, &plain)),
            Some(StreamPoint::new("mysql-bin.000007", 500))
        );
        assert_eq!(
            stream.event_end(&event(2, 4, b"")),
            Some(StreamPoint::new("mysql-bin.1000000", 4))
        );
    }

    #[test]
    fn an_event_of_a_semi_synchronous_stream_is_behind_two_bytes() {
        let mut packet = event(2, 452, b"");
        packet.splice(5..5, [0xef, 1]);
        let mut stream = Stream {
            file: "b.000001".to_owned(),
            semi_sync: true,
            ..Stream::default()
        };
        assert_eq!(
            stream.event_end(&packet),
            Some(StreamPoint::new("b.000001", 452))
        );
        let told = b"\x1b\0\0\0\x03SET @rpl_semi_sync_slave= 1";
        assert!(asks_for_semi_sync(told));
        let newer = b"\x1d\0\0\0\x03\0\x01SET @rpl_semi_sync_replica= 1";
        assert!(asks_for_semi_sync(newer));
        assert!(!asks_for_semi_sync(b"\x09\0\0\0\x03SELECT 1"));
    }

    #[test]
    fn a_request_for_tls_is_told_from_a_login() {
        let mut request = vec![32, 0, 0, 1, 0, 0x08];
        request.resize(36, 0);
        assert!(is_ssl_request(&request));
        let mut login = request.clone();
        login.extend(b"user\0");
        assert!(!is_ssl_request(&login));
        assert!(!is_ssl_request(&[1, 0, 0, 1, 0]));
    }

    #[test]
    fn a_login_that_asks_for_compression_is_told_from_others() {
        let login = |flags: u32| [&[36, 0, 0, 1][..], &flags.to_le_bytes(), b"rest"].concat();
        assert!(is_compressed_login(&login(0x0000_0220)));
        assert!(is_compressed_login(&login(0x0400_0200)));
        assert!(!is_compressed_login(&login(0x0000_0200)));
        assert!(!is_compressed_login(&[1, 0, 0, 1, 0x20]));
    }

    #[test]
    fn a_longer_number_is_later() {
        assert!(StreamPoint::new("b.999999", 900) < StreamPoint::new("b.1000000", 4));
        assert!(StreamPoint::new("b.000001", 5) > StreamPoint::new("b.000001", 4));
    }

    #[test]
    fn a_dump_names_its_replica() {
        let mut request = vec![27, 0, 0, 0, 0x12];
        request.extend(4_u32.to_le_bytes());
        request.extend([0, 0]);
        request.extend(3_u32.to_le_bytes());
        request.extend(b"mysql-bin.000001");
        assert_eq!(dumping_replica(&request), Some(3));
        assert_eq!(dumping_replica(&[1, 0, 0, 0, 0x0e]), None);
        let by_gtid = [7, 0, 0, 0, 0x1e, 0, 0, 3, 0, 0, 0];
        assert_eq!(dumping_replica(&by_gtid), Some(3));
    }
}
