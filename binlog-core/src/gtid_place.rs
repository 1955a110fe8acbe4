//! Where a server stands in a primary's log by its GTIDs: the last place before which it has every transaction.
//!
//! Needed for replicas that name no position, or an old one: with GTIDs a channel that was pointed elsewhere shows none until it
//! has connected. An answer is proven by what the log says or not given; where events are served from it, a server that has some
//! of them already skips those by their GTIDs.

use std::path::Path;

use crate::error::LogError;
use crate::event::mariadb::parse_gtid_list;
use crate::event::{EventType, FIRST_EVENT, previous_gtids};
use crate::gtid::{GtidSet, GtidState};
use crate::map::{Join, Map, Next, Place};
use crate::mariadb_position;
use crate::position::BinlogPosition;
use crate::reader::{EventReader, Step};
use crate::transaction::TransactionGtid;

/// Events that may stand before the list of GTIDs at the head of a file: the format description, and what encrypts.
const HEAD_EVENTS: usize = 4;

/// What the head of a file says of all files before it: Previous_gtids or Gtid_list. `None` if it says nothing.
pub(crate) fn head(path: &Path) -> Result<Option<GtidState>, LogError> {
    let mut reader = EventReader::open(path)?;
    for _ in 0..HEAD_EVENTS {
        let Step::Event(event) = reader.step()? else {
            break;
        };
        match event.type_code() {
            EventType::PREVIOUS_GTIDS => {
                return Ok(previous_gtids::parse(event.body()).map(GtidState::MySql));
            }
            EventType::MARIADB_GTID_LIST => {
                return Ok(parse_gtid_list(event.body()).map(GtidState::MariaDb));
            }
            _ => {}
        }
    }
    Ok(None)
}

/// The place in a map of a binary log that begins with a file whose head `held` covers.
pub(crate) fn in_binary_log(
    map: &Map,
    held: &GtidState,
) -> Result<Option<BinlogPosition>, LogError> {
    let first = Place {
        piece: 0,
        offset: FIRST_EVENT,
    };
    match held {
        GtidState::MySql(set) => behind(map, first, set),
        GtidState::MariaDb(position) => {
            if map.last_transaction().is_none() {
                return Ok(map.pieces.first().map(|piece| piece.start()));
            }
            mariadb_position::of_position(map, position)
        }
    }
}

/// The place in relay logs of a replica that has executed `owner`. What their newest contiguous part holds is there to be
/// served; everything before it the owner has executed, or holds in an older part.
pub(crate) fn in_relay_logs(
    map: &Map,
    held: &GtidState,
    owner: &GtidState,
) -> Result<Option<BinlogPosition>, LogError> {
    let (held, owner) = match (held, owner) {
        (GtidState::MariaDb(position), _) => {
            return mariadb_position::of_position(map, position);
        }
        (GtidState::MySql(held), GtidState::MySql(owner)) => (held, owner),
        (GtidState::MySql(_), GtidState::MariaDb(_)) => return Ok(None),
    };
    let begins = |i: usize| {
        map.pieces
            .get(i)
            .is_some_and(|piece| i == 0 || piece.join == Join::Broken)
    };
    let Some(newest) = (0..map.pieces.len()).rfind(|i| begins(*i)) else {
        return Ok(None);
    };
    let mut older = owner.clone();
    for i in (0..newest).filter(|i| begins(*i)) {
        older = older.union(&gtids(map, at_piece(map, i))?);
    }
    let place = at_piece(map, newest);
    let before = older.subtract(&gtids(map, place)?);
    if !held.contains_set(&before) {
        return Ok(None);
    }
    behind(map, place, held)
}

fn at_piece(map: &Map, piece: usize) -> Place {
    Place {
        piece,
        offset: map.pieces.get(piece).map_or(FIRST_EVENT, |p| p.from),
    }
}

/// MySQL GTIDs of all whole transactions from a place on, to the end of what is contiguous with it.
pub(crate) fn gtids(map: &Map, place: Place) -> Result<GtidSet, LogError> {
    let mut found = GtidSet::default();
    let mut tracker = map.tracker_at(place)?;
    map.walk(place, &mut |_, event, start| {
        if let Some(TransactionGtid::MySql(gtid)) =
            tracker.feed(event, start).and_then(|ended| ended.gtid)
        {
            // A number out of range is no GTID of a server.
            let _ = found.insert(&gtid);
        }
        Ok(Next::Go)
    })?;
    Ok(found)
}

/// The end of the last transaction from `place` on before which `held` lacks none; `place` itself if it lacks the first.
/// `None` if a transaction without a GTID comes first, or `place` may lie inside one.
fn behind(map: &Map, place: Place, held: &GtidSet) -> Result<Option<BinlogPosition>, LogError> {
    let mut reached = map
        .pieces
        .get(place.piece)
        .map(|piece| BinlogPosition::new(piece.file.clone(), place.offset));
    let mut tracker = map.tracker_at(place)?;
    let mut between = tracker.is_outside();
    map.walk(place, &mut |piece, event, start| {
        let type_code = event.type_code();
        between |= matches!(type_code, EventType::GTID | EventType::GTID_TAGGED);
        let ended = tracker.feed(event, start);
        between |= tracker.is_outside() && ended.is_none();
        let Some(ended) = ended else {
            return Ok(Next::Go);
        };
        match ended.gtid {
            Some(TransactionGtid::MySql(gtid)) if between && held.contains(&gtid) => {
                let end = start + u64::from(event.header.event_size);
                reached = Some(BinlogPosition::new(piece.file.clone(), end));
                Ok(Next::Go)
            }
            Some(TransactionGtid::MySql(_)) if between => Ok(Next::Stop),
            _ => {
                reached = None;
                Ok(Next::Stop)
            }
        }
    })?;
    Ok(reached)
}
