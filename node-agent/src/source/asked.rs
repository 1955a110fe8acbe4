//! Finds the place a replica asked for: by file and offset, or by what it has.
//!
//! `COM_BINLOG_DUMP` carries the low 32 bits of the offset, although a transaction may reach beyond 4 GiB. The asked
//! offset is then one of several, 4 GiB apart, of which hardly more than one is an event boundary. If more than one
//! is, the last position sent decides, since a replica asks again for what it received last; without one, the dump
//! is refused: a wrong guess would apply half a transaction.

use binlog_core::{BinlogFileName, BinlogPosition, GtidSet, MariaDbGtidPos, StreamRange};

use super::by_gtid;
use super::command::From;
use super::feed::{EventFeed, FeedReader, chain};

/// The first event starts here.
const FIRST_EVENT: u64 = 4;
/// Distance of the offsets that share their low 32 bits.
const WRAP: u64 = 1 << 32;
/// Offsets tried in a file whose size the feed does not tell: up to 16 GiB.
const TRIED: u64 = 4;

/// How a replica names what it wants to be served.
#[derive(Debug)]
pub(super) enum Wanted {
    /// MariaDB: what follows this position.
    After(MariaDbGtidPos),
    /// MySQL: what it has not got.
    Lacking(GtidSet),
    /// What follows this place, of whose offset only the low 32 bits are known.
    At(BinlogFileName, u32),
}

impl Wanted {
    /// What a request means; `connect_state` is what a MariaDB replica in GTID mode set before it. The error is the reason
    /// for the replica.
    pub(super) fn of(from: &From, connect_state: Option<&str>) -> Result<Self, String> {
        match (from, connect_state) {
            (From::Gtids(held), _) => Ok(Self::Lacking(held.clone())),
            (From::Place { .. }, Some(state)) => state
                .parse()
                .map(Self::After)
                .map_err(|error| format!("no usable GTID position was asked for: {error}")),
            (From::Place { file, offset_low }, None) => file
                .parse()
                .map(|file| Self::At(file, *offset_low))
                .map_err(|error| format!("no usable binary log file name was asked for: {error}")),
        }
    }

    /// Opens the feed there. The error is the reason for the replica.
    pub(super) fn open(
        &self,
        feed: &dyn EventFeed,
        last_sent: Option<&BinlogPosition>,
    ) -> Result<(BinlogPosition, Box<dyn FeedReader>), String> {
        match self {
            Self::After(executed) => open_after(feed, executed),
            Self::Lacking(held) => by_gtid::open(feed, held),
            Self::At(file, low) => open(feed, file, *low, last_sent),
        }
    }
}

/// Opens the feed at a place.
fn open(
    feed: &dyn EventFeed,
    file: &BinlogFileName,
    offset_low: u32,
    last_sent: Option<&BinlogPosition>,
) -> Result<(BinlogPosition, Box<dyn FeedReader>), String> {
    let low = BinlogPosition::new(file.clone(), u64::from(offset_low));
    if low.offset < FIRST_EVENT {
        return Err(format!("asked for {low}: no event starts before offset 4"));
    }
    let held = feed.range();
    let mut found: Vec<(BinlogPosition, Box<dyn FeedReader>)> = Vec::new();
    let mut refusal = None;
    for place in candidates(&low, &held) {
        match feed.open(&place) {
            Ok(reader) => found.push((place, reader)),
            // Of the other places nobody but us speaks.
            Err(error) if place == low => refusal = Some(chain(&error)),
            Err(_) => {}
        }
    }
    if found.len() > 1 {
        let known = last_sent.filter(|last| last.file == *file);
        found = known
            .and_then(|last| found.into_iter().rfind(|(place, _)| place <= last))
            .into_iter()
            .collect();
    }
    match found.pop() {
        Some(only) => Ok(only),
        None => Err(refusal.unwrap_or_else(|| {
            if held.from <= low && low <= held.to {
                format!("asked for {low}: several events 4 GiB apart start there")
            } else {
                format!("asked for {low}, but the segments cover {held}")
            }
        })),
    }
}

/// Opens the feed after what a MariaDB replica in GTID mode executed. A connection that was lost inside a transaction is
/// served from the start of the transaction, as by any source: the replica skips what it has of it.
fn open_after(
    feed: &dyn EventFeed,
    executed: &MariaDbGtidPos,
) -> Result<(BinlogPosition, Box<dyn FeedReader>), String> {
    let place = feed
        .position_of_gtid_pos(executed)
        .map_err(|error| chain(&error))?
        .ok_or_else(|| {
            format!(
                "asked from GTID position '{executed}', which the segments of {} do not connect to",
                feed.range()
            )
        })?;
    let reader = feed.open(&place).map_err(|error| chain(&error))?;
    Ok((place, reader))
}

/// Places in the range with these low 32 bits, lowest first.
fn candidates(low: &BinlogPosition, held: &StreamRange) -> Vec<BinlogPosition> {
    let tried = if low.file == held.to.file {
        held.to.offset / WRAP + 1
    } else {
        TRIED
    };
    (0..tried)
        .filter_map(|wraps| low.offset.checked_add(wraps.checked_mul(WRAP)?))
        .map(|offset| BinlogPosition::new(low.file.clone(), offset))
        .filter(|place| held.from <= *place && *place <= held.to)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(low: &str, from: &str, to: &str) -> Vec<u64> {
        let held = StreamRange::new(from.parse().unwrap(), to.parse().unwrap());
        candidates(&low.parse().unwrap(), &held)
            .into_iter()
            .map(|place| place.offset)
            .collect()
    }

    #[test]
    fn places_share_their_low_bits_and_lie_in_the_range() {
        assert_eq!(
            places("b.000001:452", "b.000001:120", "b.000001:880"),
            [452]
        );
        assert_eq!(
            places("b.000001:880", "b.000001:120", "b.000001:880"),
            [880]
        );
        assert!(places("b.000001:881", "b.000001:120", "b.000001:880").is_empty());
        assert!(places("b.000009:4", "b.000001:120", "b.000001:880").is_empty());
        assert_eq!(
            places("b.000001:500", "b.000001:600", "b.000001:9000000000"),
            [500 + WRAP, 500 + 2 * WRAP]
        );
        assert_eq!(
            places("b.000001:500", "b.000001:4", "b.000002:900"),
            [500, 500 + WRAP, 500 + 2 * WRAP, 500 + 3 * WRAP]
        );
    }
}
