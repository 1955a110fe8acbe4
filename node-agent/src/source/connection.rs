//! One connection: login, commands, and the way into a dump.
//!
//! Generic over the stream, so that tests speak to it through memory with a paused clock. Every read or write that
//! has begun has a deadline; the wait for the next command has none and is ended by the stop signal.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use binlog_core::{BinlogFileName, BinlogPosition};
use thiserror::Error;
use tokio::io::{
    AsyncBufReadExt, AsyncRead, AsyncWrite, AsyncWriteExt, BufReader, ReadHalf, WriteHalf,
};
use tokio::time::timeout;
use tracing::{debug, warn};

use super::Shared;
use super::answers::{Answer, GtidPosQuestion, Session};
use super::auth::{AuthPlugin, fresh_scramble};
use super::command::{self, Command};
use super::dump;
use super::feed::chain;
use super::handshake;
use super::packet::{PacketError, frame, read_payload};
use super::response::{ErrorReply, Reply, Rows, ok};

/// Largest payload of a login.
const MAX_LOGIN: usize = 64 * 1024;
/// Largest payload of a command: the GTID set of a replica may have many pieces.
const MAX_COMMAND: usize = 4 * 1024 * 1024;

/// Why a connection ended, other than by the client's wish.
#[derive(Debug, Error)]
pub(super) enum ConnectionError {
    /// The local source is being stopped.
    #[error("local source stopped")]
    Stopped,
    /// The client closed it.
    #[error("closed by the client")]
    ClosedByClient,
    /// The client's bytes are no protocol.
    #[error("unreadable packet")]
    Packet(#[from] PacketError),
    /// The client does not speak this protocol.
    #[error("not a login")]
    NotALogin,
    /// Wrong user or password.
    #[error("access denied")]
    AccessDenied,
    /// A write failed.
    #[error("write failed")]
    Write(#[source] std::io::Error),
    /// The client neither sent nor took a byte for too long.
    #[error("no progress for {0:?}")]
    Stalled(Duration),
    /// An injected fault.
    #[error("cut by an injected fault")]
    Cut,
    /// An event could not be sent to its end.
    #[error("event broken off: {reason}")]
    BrokenOff {
        /// Why.
        reason: String,
    },
}

/// Both directions of a connection.
pub(super) struct Wire<S> {
    pub(super) reader: BufReader<ReadHalf<S>>,
    writer: WriteHalf<S>,
    pub(super) shared: Arc<Shared>,
    /// Sequence id of the next packet.
    pub(super) sequence: u8,
}

impl<S: AsyncRead + AsyncWrite> Wire<S> {
    pub(super) fn new(stream: S, shared: Arc<Shared>) -> Self {
        let (reader, writer) = tokio::io::split(stream);
        Self {
            reader: BufReader::with_capacity(4096, reader),
            writer,
            shared,
            sequence: 0,
        }
    }

    /// Writes all of `bytes`, as long as each write makes progress in time and nobody stops the source.
    pub(super) async fn write(&mut self, mut bytes: &[u8]) -> Result<(), ConnectionError> {
        let limit = self.shared.limits.write_stall;
        while !bytes.is_empty() {
            let written = tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return Err(ConnectionError::Stopped),
                written = timeout(limit, self.writer.write(bytes)) => written,
            };
            let written = written
                .map_err(|_| ConnectionError::Stalled(limit))?
                .map_err(ConnectionError::Write)?;
            if written == 0 {
                return Err(ConnectionError::ClosedByClient);
            }
            bytes = bytes.get(written..).unwrap_or_default();
        }
        Ok(())
    }

    /// Sends payloads as packets that follow the last one read or written.
    pub(super) async fn send(&mut self, payloads: &[Vec<u8>]) -> Result<(), ConnectionError> {
        let mut out = Vec::new();
        for payload in payloads {
            self.sequence = frame(payload, self.sequence, &mut out);
        }
        self.write(&out).await
    }

    /// Waits, without a deadline, until the client says something; then reads it, with one.
    async fn command(&mut self) -> Result<Vec<u8>, ConnectionError> {
        let ready = tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => return Err(ConnectionError::Stopped),
            ready = self.reader.fill_buf() => ready.map(|bytes| !bytes.is_empty()),
        };
        match ready {
            Ok(true) => {}
            Ok(false) => return Err(ConnectionError::ClosedByClient),
            Err(error) => return Err(PacketError::Io(error).into()),
        }
        self.sequence = 0;
        self.payload(self.shared.limits.packet, MAX_COMMAND).await
    }

    async fn payload(&mut self, limit: Duration, size: usize) -> Result<Vec<u8>, ConnectionError> {
        let read = tokio::select! {
            biased;
            () = self.shared.stop.cancelled() => return Err(ConnectionError::Stopped),
            read = timeout(limit, read_payload(&mut self.reader, &mut self.sequence, size)) => read,
        };
        read.map_err(|_| ConnectionError::Stalled(limit))??
            .ok_or(ConnectionError::ClosedByClient)
    }
}

/// Serves one connection to its end.
pub(super) async fn serve<S: AsyncRead + AsyncWrite + Send>(
    stream: S,
    shared: Arc<Shared>,
) -> Result<(), ConnectionError> {
    let mut wire = Wire::new(stream, shared);
    log_in(&mut wire).await?;
    let mut session = Session::default();
    loop {
        let payload = wire.command().await?;
        let command = command::parse(&payload);
        debug!(?command, "replica speaks to the local source");
        let reply = match command {
            Command::Quit => return Ok(()),
            Command::Acknowledge | Command::RegisterReplica => Reply::Ok,
            Command::SetOption => Reply::Eof,
            Command::Reset => {
                session.reset();
                Reply::Ok
            }
            Command::Query(text) => match session.answer(&wire.shared.answers, &text) {
                Answer::Reply(reply) => reply,
                Answer::GtidPos(question) => Reply::Rows(gtid_pos(&wire, question).await),
            },
            Command::Dump(request) => {
                if let Some(refused) = dump::serve(&mut wire, &session, &request).await? {
                    Reply::Error(refused)
                } else {
                    continue;
                }
            }
            Command::Unknown(code) => Reply::Error(ErrorReply::unknown_command(code)),
        };
        wire.send(&reply.payloads()).await?;
    }
}

async fn log_in<S: AsyncRead + AsyncWrite>(wire: &mut Wire<S>) -> Result<(), ConnectionError> {
    let limit = wire.shared.limits.login;
    match timeout(limit, authenticate(wire)).await {
        Ok(done) => done,
        Err(_) => Err(ConnectionError::Stalled(limit)),
    }
}

async fn authenticate<S: AsyncRead + AsyncWrite>(
    wire: &mut Wire<S>,
) -> Result<(), ConnectionError> {
    let shared = Arc::clone(&wire.shared);
    let plugin = shared.plugin;
    let connection_id = shared.connection_ids.fetch_add(1, Ordering::Relaxed);
    let scramble = fresh_scramble();
    let greeting = handshake::greeting(&shared.greeting_version, connection_id, &scramble, plugin);
    wire.send(&[greeting]).await?;
    let payload = wire.payload(shared.limits.login, MAX_LOGIN).await?;
    let Some(login) = handshake::parse_login(&payload) else {
        wire.send(&[ErrorReply::bad_handshake().payload()]).await?;
        return Err(ConnectionError::NotALogin);
    };
    let same_plugin = login
        .plugin
        .is_none_or(|named| named == plugin.name().as_bytes());
    let proven = if same_plugin {
        plugin.verify(&shared.account.password, &scramble, login.response)
    } else {
        let scramble = fresh_scramble();
        wire.send(&[handshake::auth_switch(plugin, &scramble)])
            .await?;
        let response = wire.payload(shared.limits.login, MAX_LOGIN).await?;
        plugin.verify(&shared.account.password, &scramble, &response)
    };
    if !proven || login.user != shared.account.user.as_bytes() {
        let user: String = String::from_utf8_lossy(login.user)
            .chars()
            .take(32)
            .collect();
        shared
            .progress
            .send_modify(|progress| progress.refused_logins += 1);
        wire.send(&[ErrorReply::access_denied(&user).payload()])
            .await?;
        return Err(ConnectionError::AccessDenied);
    }
    if plugin == AuthPlugin::CachingSha2 {
        wire.send(&[handshake::FAST_AUTH_SUCCESS.to_vec()]).await?;
    }
    wire.send(&[ok()]).await
}

/// The exact GTID position there, or the empty string: the replica stores the answer in `gtid_slave_pos`, so a guess
/// would make it skip or repeat transactions later.
async fn gtid_pos<S>(wire: &Wire<S>, question: GtidPosQuestion) -> Rows {
    let exact = match question.file.parse::<BinlogFileName>() {
        Ok(file) => exact_gtid_pos(&wire.shared, BinlogPosition::new(file, question.offset)).await,
        Err(_) => String::new(),
    };
    Rows {
        columns: vec![question.column],
        rows: vec![vec![Some(exact)]],
    }
}

async fn exact_gtid_pos(shared: &Arc<Shared>, at: BinlogPosition) -> String {
    let feed = Arc::clone(&shared.feed);
    let place = at.clone();
    let work = tokio::task::spawn_blocking(move || feed.mariadb_gtid_pos_at(&place));
    match timeout(shared.limits.disk, work).await {
        Ok(Ok(Ok(Some(pos)))) => pos.to_string(),
        Ok(Ok(Ok(None))) => String::new(),
        Ok(Ok(Err(error))) => {
            warn!(%at, error = chain(&error), "GTID position unknown: answering none");
            String::new()
        }
        Ok(Err(_)) | Err(_) => {
            warn!(%at, "GTID position not found in time: answering none");
            String::new()
        }
    }
}
