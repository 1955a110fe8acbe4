//! The answer to `COM_BINLOG_DUMP` and `COM_BINLOG_DUMP_GTID`.
//!
//! In order: an artificial Rotate that names the file and the position; the file's format description; the events as
//! the dead primary wrote them; at each further file again a Rotate and the format description. Where the asked
//! position is beyond 4, the first format description has `created` and `log_pos` zeroed: a `created` time tells
//! the applier that its source restarted, and it would silently roll back the transaction the connection was lost in.
//! A replica that asks by GTIDs gets that transaction again from its beginning, and is told so (see `made`).
//!
//! At the end the connection stays open, with heartbeats: a closed one is asked for again a thousand times in four
//! seconds. What cannot go on ends with error 1236 and the reason, between two events; inside an event the
//! connection is broken off, and the reason follows on the next one.

use std::sync::Arc;
use std::time::Duration;

use binlog_core::BinlogPosition;
use tokio::io::{AsyncBufReadExt, AsyncRead, AsyncWrite, BufReader};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{info, warn};

use super::Shared;
use super::answers::{ReplicaChecksum, Session};
use super::asked::Wanted;
use super::command::DumpRequest;
use super::connection::{ConnectionError, Wire};
use super::fault::FaultAction;
use super::feed::{FeedReader, Growth};
use super::made::{artificial_rotate, format_description, format_description_by_gtid, heartbeat};
use super::packet::{PayloadFramer, PayloadMismatch};
use super::pump::{self, Piece};
use super::response::{ErrorReply, eof};

/// Header of a binary log: the first event starts here.
const FIRST_EVENT: u64 = 4;
/// First byte of a payload that is an event, and neither EOF nor error.
const EVENT_FOLLOWS: u8 = 0;

/// Serves one dump. `Ok(Some(_))`: refused or unable to go on, with the error to send; `Ok(None)`: ended as the client
/// asked (`BINLOG_DUMP_NON_BLOCK`).
pub(super) async fn serve<S: AsyncRead + AsyncWrite>(
    wire: &mut Wire<S>,
    session: &Session,
    request: &DumpRequest,
) -> Result<Option<ErrorReply>, ConnectionError> {
    let ended = match begin(wire, session, request).await {
        Ok(mut dump) => dump.run(wire).await,
        Err(reason) => Err(End::Cannot(reason)),
    };
    let shared = &wire.shared;
    match ended {
        Ok(()) => Ok(None),
        Err(End::Connection(error)) => {
            if let ConnectionError::BrokenOff { reason } = &error {
                shared.fail(reason, true);
            }
            Err(error)
        }
        Err(End::Cannot(reason)) => {
            warn!(replica = %request.server_id, reason, "local source cannot go on");
            shared.fail(&reason, false);
            Ok(Some(ErrorReply::cannot_replay(&reason)))
        }
    }
}

/// How a dump ends, other than by request.
enum End {
    Connection(ConnectionError),
    /// Error 1236 with this reason.
    Cannot(String),
}

impl From<ConnectionError> for End {
    fn from(error: ConnectionError) -> Self {
        Self::Connection(error)
    }
}

/// Finds the asked place; the error is the reason for the replica.
async fn begin<S>(
    wire: &Wire<S>,
    session: &Session,
    request: &DumpRequest,
) -> Result<Dump, String> {
    let shared = Arc::clone(&wire.shared);
    if let Some(reason) = shared.broken() {
        return Err(reason);
    }
    let wanted = Wanted::of(&request.from, session.mariadb_connect_state())?;
    let by_gtid = matches!(wanted, Wanted::Lacking(_));
    let feed = Arc::clone(&shared.feed);
    let mut growth = feed.growth();
    growth.mark_unchanged();
    let last_sent = shared.progress.borrow().last_sent.clone();
    let work = tokio::task::spawn_blocking(move || wanted.open(feed.as_ref(), last_sent.as_ref()));
    let opened = tokio::select! {
        biased;
        () = shared.stop.cancelled() => return Err("the local source is stopped".to_owned()),
        opened = timeout(shared.limits.disk, work) => opened,
    };
    let opened = opened
        .map_err(|_| "the segments could not be opened in time".to_owned())?
        .map_err(|_| "the segments could not be opened".to_owned())?;
    let (asked, reader) = opened?;
    info!(replica = %request.server_id, %asked, "replica replays from the local source");
    shared
        .progress
        .send_modify(|progress| progress.asked_for(asked.clone()));
    let checksum = session.checksum();
    Ok(Dump {
        shared,
        asked: asked.clone(),
        by_gtid,
        position: asked.clone(),
        description: None,
        checksum: checksum == ReplicaChecksum::Crc32,
        replica_checksum: checksum,
        heartbeat_period: session.heartbeat_period(),
        non_block: request.non_block,
        last_send: Instant::now(),
        held: None,
        growth,
        supply: Supply::Flowing(pump::start(reader, asked)),
        backlog: None,
        large: None,
        out: Vec::new(),
    })
}

/// Where events come from at the moment.
enum Supply {
    /// A blocking thread reads.
    Flowing(mpsc::Receiver<Piece>),
    /// Nothing there; the reader waits for the feed to grow.
    Dry(Box<dyn FeedReader>),
    /// Nothing will come any more.
    Exhausted,
}

/// What happened while waiting.
enum Action {
    Stop,
    ClientGone,
    Piece(Option<Piece>),
    Grown,
    Heartbeat,
    /// An injected stall is over.
    Released,
}

struct Dump {
    shared: Arc<Shared>,
    asked: BinlogPosition,
    /// It asked by its GTIDs (MySQL).
    by_gtid: bool,
    /// Where the replica's read position is.
    position: BinlogPosition,
    /// The format description of the file reached, as the feed has it; `None` until the first one was sent.
    description: Option<Vec<u8>>,
    /// Made events need a checksum here.
    checksum: bool,
    replica_checksum: ReplicaChecksum,
    heartbeat_period: Option<Duration>,
    non_block: bool,
    last_send: Instant,
    /// An injected stall: until when, and whether heartbeats stop too.
    held: Option<(Instant, bool)>,
    /// What was seen of it is what held when the present reading started.
    growth: watch::Receiver<Growth>,
    supply: Supply,
    /// Events that wait for an injected stall to end.
    backlog: Option<Piece>,
    /// The large event in the middle of which the stream is, and the position after it.
    large: Option<(PayloadFramer, BinlogPosition)>,
    out: Vec<u8>,
}

impl Dump {
    async fn run<S: AsyncRead + AsyncWrite>(&mut self, wire: &mut Wire<S>) -> Result<(), End> {
        let rotate = self.rotate(&self.asked);
        self.stage(wire, &rotate);
        self.flush(wire).await?;
        loop {
            match self.wait(wire).await {
                Action::Stop => return Err(ConnectionError::Stopped.into()),
                Action::ClientGone => return Err(ConnectionError::ClosedByClient.into()),
                Action::Piece(Some(Piece::Dry(reader))) => {
                    if self.dry(wire, reader).await? {
                        return Ok(());
                    }
                }
                Action::Piece(Some(piece)) => self.piece(wire, piece).await?,
                Action::Piece(None) => {
                    return Err(self.cannot("the reader of the segments ended".to_owned()));
                }
                Action::Grown => self.resume(),
                Action::Heartbeat => self.beat(wire).await?,
                Action::Released => self.held = None,
            }
        }
    }

    /// Waits for whatever comes first. Nothing is changed here, so that being cancelled costs nothing.
    async fn wait<S: AsyncRead + AsyncWrite>(&mut self, wire: &mut Wire<S>) -> Action {
        let Self {
            shared,
            supply,
            backlog,
            growth,
            held,
            ..
        } = self;
        let flowing = held.is_none();
        let waiting = matches!(supply, Supply::Dry(_));
        let silent = matches!(held, Some((_, true)));
        let beat = (self.large.is_none() && !silent)
            .then_some(self.heartbeat_period)
            .flatten()
            .map(|period| self.last_send + period);
        tokio::select! {
            biased;
            () = shared.stop.cancelled() => Action::Stop,
            () = client_gone(&mut wire.reader) => Action::ClientGone,
            () = until(held.map(|(end, _)| end)) => Action::Released,
            piece = next_piece(supply, backlog), if flowing => Action::Piece(piece),
            () = grown(growth), if flowing && waiting => Action::Grown,
            () = until(beat) => Action::Heartbeat,
        }
    }

    async fn piece<S: AsyncRead + AsyncWrite>(
        &mut self,
        wire: &mut Wire<S>,
        piece: Piece,
    ) -> Result<(), End> {
        match piece {
            Piece::FormatDescription {
                bytes,
                after,
                checksum,
            } => self.describe(wire, &bytes, after, checksum)?,
            Piece::Events { bytes, marks } => return self.events(wire, &bytes, marks).await,
            Piece::Large { size, after } => {
                self.require_description()?;
                let mut framer = PayloadFramer::begin(wire.sequence, size.saturating_add(1));
                framer
                    .push(&[EVENT_FOLLOWS], &mut self.out)
                    .map_err(mismatch)?;
                self.large = Some((framer, after));
            }
            Piece::Block(block) => {
                let Some((framer, _)) = &mut self.large else {
                    return Err(self.cannot("a block without its event".to_owned()));
                };
                framer.push(&block, &mut self.out).map_err(mismatch)?;
                self.flush(wire).await?;
                return self.finish_large(wire).await;
            }
            Piece::Jump(to) => self.jump(wire, to)?,
            Piece::Failed(reason) => return Err(self.cannot(reason)),
            Piece::Dry(_) => {}
        }
        self.flush(wire).await
    }

    /// A format description: of the file the replica asked for, or of the next one.
    fn describe<S>(
        &mut self,
        wire: &mut Wire<S>,
        bytes: &[u8],
        after: BinlogPosition,
        checksum: bool,
    ) -> Result<(), End> {
        if checksum && self.replica_checksum == ReplicaChecksum::Unaware {
            return Err(self.cannot(format!(
                "events of {} have checksums, which this replica does not know",
                after.file
            )));
        }
        let first = self.description.is_none();
        let inside = first && self.asked.offset > FIRST_EVENT;
        if !first || after.file != self.asked.file {
            // As a server does between files, whether or not the file before ended with a Rotate of its own.
            let start = BinlogPosition::new(after.file.clone(), FIRST_EVENT);
            let rotate = self.rotate(&start);
            self.stage(wire, &rotate);
        }
        let made = if first && self.by_gtid {
            format_description_by_gtid(bytes)
        } else {
            format_description(bytes, inside)
        };
        self.stage(wire, &made);
        self.description = Some(bytes.to_vec());
        self.checksum = checksum;
        self.sent(after, 1);
        Ok(())
    }

    /// The stream goes on further in the same file. A replica counts its read position by the sizes of events, so it has
    /// to be told, or it would ask again at a wrong place. After any Rotate it wants a format description.
    fn jump<S>(&mut self, wire: &mut Wire<S>, to: BinlogPosition) -> Result<(), End> {
        self.require_description()?;
        let rotate = self.rotate(&to);
        self.stage(wire, &rotate);
        if let Some(description) = &self.description {
            let description = format_description(description, true);
            self.stage(wire, &description);
        }
        self.position = to;
        Ok(())
    }

    async fn events<S: AsyncRead + AsyncWrite>(
        &mut self,
        wire: &mut Wire<S>,
        bytes: &[u8],
        marks: Vec<(usize, BinlogPosition)>,
    ) -> Result<(), End> {
        self.require_description()?;
        let mut rest = bytes;
        let mut count = 0;
        let mut last = None;
        let mut marks = marks.into_iter();
        while let Some((size, after)) = marks.next() {
            let Some((event, later)) = rest.split_at_checked(size) else {
                return Err(self.cannot("an event beyond its batch".to_owned()));
            };
            rest = later;
            self.stage(wire, event);
            count += 1;
            last = Some(after);
            if self.shared.faults.any_left() {
                // One by one, so that a fault strikes where it was asked for.
                self.flush(wire).await?;
                if let Some(after) = last.take() {
                    self.sent(after, 1);
                    count = 0;
                }
                self.fault()?;
                if self.held.is_some() {
                    let bytes = rest.to_vec();
                    let marks = marks.collect();
                    self.backlog = Some(Piece::Events { bytes, marks });
                    return Ok(());
                }
            }
        }
        self.flush(wire).await?;
        if let Some(after) = last {
            self.sent(after, count);
        }
        Ok(())
    }

    /// After each block of a large event: is it complete?
    async fn finish_large<S: AsyncRead + AsyncWrite>(
        &mut self,
        wire: &mut Wire<S>,
    ) -> Result<(), End> {
        let complete = matches!(&self.large, Some((framer, _)) if framer.is_complete());
        let Some((framer, after)) = self.large.take_if(|_| complete) else {
            return Ok(());
        };
        wire.sequence = framer.finish(&mut self.out).map_err(mismatch)?;
        self.flush(wire).await?;
        self.sent(after, 1);
        self.fault()
    }

    /// The reader has nothing. True if the dump ends here.
    async fn dry<S: AsyncRead + AsyncWrite>(
        &mut self,
        wire: &mut Wire<S>,
        reader: Box<dyn FeedReader>,
    ) -> Result<bool, End> {
        if self.growth.has_changed().unwrap_or(false) {
            // It grew, or was declared complete, after this reading started: read once more.
            self.supply = Supply::Dry(reader);
            self.resume();
            return Ok(false);
        }
        let growth = self.growth.borrow().clone();
        match growth {
            Growth::Failed(reason) => Err(self.cannot(reason)),
            Growth::Complete if self.non_block => {
                wire.send(&[eof()]).await?;
                Ok(true)
            }
            Growth::Complete => {
                self.supply = Supply::Exhausted;
                Ok(false)
            }
            Growth::Growing(_) => {
                self.supply = Supply::Dry(reader);
                Ok(false)
            }
        }
    }

    /// The feed has grown: ask the waiting reader again.
    fn resume(&mut self) {
        if let Supply::Dry(reader) = std::mem::replace(&mut self.supply, Supply::Exhausted) {
            self.growth.mark_unchanged();
            let at = self.position.clone();
            self.supply = Supply::Flowing(pump::start(reader, at));
        }
    }

    async fn beat<S: AsyncRead + AsyncWrite>(&mut self, wire: &mut Wire<S>) -> Result<(), End> {
        let beat = heartbeat(self.shared.server_id, &self.position, self.checksum);
        self.last_send = Instant::now();
        if let Some(beat) = beat {
            self.stage(wire, &beat);
            self.flush(wire).await?;
            self.shared
                .progress
                .send_modify(|progress| progress.heartbeats += 1);
        }
        Ok(())
    }

    fn fault(&mut self) -> Result<(), End> {
        let (length, silent) = match self.shared.faults.between_events() {
            None => return Ok(()),
            Some(FaultAction::Cut) => return Err(self.cut()),
            Some(FaultAction::Stall(length)) => (length, false),
            Some(FaultAction::Freeze(length)) => (length, true),
        };
        self.held = Some((Instant::now() + length, silent));
        Ok(())
    }

    fn cut(&self) -> End {
        self.shared
            .progress
            .send_modify(|progress| progress.cuts += 1);
        ConnectionError::Cut.into()
    }

    /// Appends one event to what is to be sent.
    fn stage<S>(&mut self, wire: &mut Wire<S>, event: &[u8]) {
        let mut payload = PayloadFramer::begin(wire.sequence, event.len() as u64 + 1);
        // Announced and pushed are the same bytes, so no step can refuse.
        let framed = payload
            .push(&[EVENT_FOLLOWS], &mut self.out)
            .and_then(|()| payload.push(event, &mut self.out))
            .and_then(|()| payload.finish(&mut self.out));
        if let Ok(next) = framed {
            wire.sequence = next;
        }
    }

    async fn flush<S: AsyncRead + AsyncWrite>(&mut self, wire: &mut Wire<S>) -> Result<(), End> {
        let out = std::mem::take(&mut self.out);
        let mut rest = out.as_slice();
        while !rest.is_empty() {
            let allowed = self.shared.faults.allowance(rest.len());
            let Some((now, later)) = rest.split_at_checked(allowed).filter(|_| allowed > 0) else {
                self.shared.faults.cut_done();
                return Err(self.cut());
            };
            wire.write(now).await?;
            self.shared.faults.wrote(now.len());
            self.last_send = Instant::now();
            self.shared
                .progress
                .send_modify(|progress| progress.sent_bytes += now.len() as u64);
            rest = later;
        }
        // The buffer is kept for its capacity, which the largest batch bounds.
        self.out = out;
        self.out.clear();
        Ok(())
    }

    /// `count` events up to `after` have been sent.
    fn sent(&mut self, after: BinlogPosition, count: u64) {
        for _ in 0..count {
            self.shared.faults.sent_event();
        }
        self.position = after.clone();
        self.shared.progress.send_modify(|progress| {
            progress.sent_events += count;
            progress.last_sent = Some(after);
        });
    }

    fn rotate(&self, to: &BinlogPosition) -> Vec<u8> {
        artificial_rotate(self.shared.server_id, to, self.checksum)
    }

    fn require_description(&self) -> Result<(), End> {
        if self.description.is_some() {
            return Ok(());
        }
        Err(self.cannot(format!(
            "no format description before the events from {}",
            self.asked
        )))
    }

    /// Between two events the replica is told; inside one only a broken connection keeps it from taking the rest for
    /// the event.
    fn cannot(&self, reason: String) -> End {
        if self.large.is_some() {
            return ConnectionError::BrokenOff { reason }.into();
        }
        End::Cannot(reason)
    }
}

fn mismatch(error: PayloadMismatch) -> End {
    let reason = error.to_string();
    ConnectionError::BrokenOff { reason }.into()
}

async fn next_piece(supply: &mut Supply, backlog: &mut Option<Piece>) -> Option<Piece> {
    if backlog.is_some() {
        return backlog.take();
    }
    match supply {
        Supply::Flowing(pieces) => pieces.recv().await,
        Supply::Dry(_) | Supply::Exhausted => std::future::pending().await,
    }
}

async fn grown(growth: &mut watch::Receiver<Growth>) {
    // The feed is gone only if the source is: nothing to wake up for.
    if growth.changed().await.is_err() {
        std::future::pending().await
    }
}

async fn until(end: Option<Instant>) {
    match end {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Returns when the client closed the connection; whatever it says meanwhile is of no interest.
async fn client_gone<R: AsyncRead + Unpin>(reader: &mut BufReader<R>) {
    loop {
        let length = match reader.fill_buf().await {
            Ok([]) | Err(_) => return,
            Ok(bytes) => bytes.len(),
        };
        reader.consume(length);
    }
}
