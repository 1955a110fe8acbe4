//! MariaDB: between GTIDs and coordinates. An answer is exact or not given.

use crate::error::LogError;
use crate::event::mariadb::{MariaDbGtidEvent, parse_gtid_list};
use crate::event::{EventType, FIRST_EVENT};
use crate::gtid::{MariaDbGtid, MariaDbGtidPos};
use crate::map::{Join, Map, Next, Place};
use crate::position::BinlogPosition;
use crate::transaction::TransactionGtid;

/// Visits the ends of all transactions, in order.
fn transactions(
    map: &Map,
    visit: &mut dyn FnMut(MariaDbGtid, BinlogPosition) -> Next,
) -> Result<(), LogError> {
    for (i, first) in map.pieces.iter().enumerate() {
        // Each contiguous group once, from its first piece.
        if i > 0 && first.join != Join::Broken {
            continue;
        }
        let Some(mark) = first.marks.first() else {
            continue;
        };
        let mut tracker = mark.tracker.clone();
        let mut stopped = false;
        map.walk(
            Place {
                piece: i,
                offset: first.from,
            },
            &mut |piece, event, start| {
                if let Some(TransactionGtid::MariaDb(gtid)) =
                    tracker.feed(event, start).and_then(|ended| ended.gtid)
                {
                    let end = BinlogPosition::new(
                        piece.file.clone(),
                        start + u64::from(event.header.event_size),
                    );
                    if let Next::Stop = visit(gtid, end) {
                        stopped = true;
                        return Ok(Next::Stop);
                    }
                }
                Ok(Next::Go)
            },
        )?;
        if stopped {
            break;
        }
    }
    Ok(())
}

/// Where the transaction with this GTID ends.
pub(crate) fn after_gtid(
    map: &Map,
    wanted: &MariaDbGtid,
) -> Result<Option<BinlogPosition>, LogError> {
    let mut found = None;
    transactions(map, &mut |gtid, end| {
        if gtid == *wanted {
            found = Some(end);
            return Next::Stop;
        }
        Next::Go
    })?;
    Ok(found)
}

/// The coordinates of an executed position.
pub(crate) fn of_position(
    map: &Map,
    executed: &MariaDbGtidPos,
) -> Result<Option<BinlogPosition>, LogError> {
    let mut last_included = None;
    let mut first_excluded = None;
    let mut mixed = false;
    transactions(map, &mut |gtid, end| {
        if executed.includes(&gtid) {
            mixed |= first_excluded.is_some();
            last_included = Some(end);
        } else if first_excluded.is_none() {
            first_excluded = Some(gtid);
        }
        if mixed { Next::Stop } else { Next::Go }
    })?;
    if mixed {
        return Ok(None);
    }
    if last_included.is_some() {
        return Ok(last_included);
    }
    Ok(first_excluded.and_then(|gtid| start_before(map, executed, gtid)))
}

/// The place up to which a replica that executed `executed` lacks nothing, where its domains stand at different places:
/// behind it lies also what it has.
pub(crate) fn low_water_of_position(
    map: &Map,
    executed: &MariaDbGtidPos,
) -> Result<Option<BinlogPosition>, LogError> {
    let mut included = None;
    let mut excluded = None;
    transactions(map, &mut |gtid, end| {
        if executed.includes(&gtid) {
            included = Some(end);
            return Next::Go;
        }
        excluded = Some(gtid);
        Next::Stop
    })?;
    Ok(included.or_else(|| excluded.and_then(|gtid| start_before(map, executed, gtid))))
}

/// The start of the map, if its first transaction, which is this one, follows directly what was executed.
fn start_before(map: &Map, executed: &MariaDbGtidPos, gtid: MariaDbGtid) -> Option<BinlogPosition> {
    let first = map.pieces.first()?;
    let follows = match executed.get(gtid.domain_id) {
        Some(last) => last.seq_no.checked_add(1) == Some(gtid.seq_no),
        None => gtid.seq_no == 1,
    };
    let between = first
        .marks
        .first()
        .is_some_and(|mark| mark.tracker.is_outside());
    (follows && between).then(|| first.start())
}

/// The position of the primary at a place: the list at the head of the file and the GTIDs before the place.
pub(crate) fn position_at(
    map: &Map,
    at: &BinlogPosition,
) -> Result<Option<MariaDbGtidPos>, LogError> {
    // At the start of a file that is not held further, or that was only just opened: the state at the end of the one before.
    let place = map.find(at)?;
    if map.tracker_at(place)?.open_since().is_some() {
        // Whether the open transaction counts depends on who asks.
        return Ok(None);
    }
    let file = map
        .pieces
        .get(place.piece)
        .map_or(&at.file, |piece| &piece.file);
    let Some(head) = map.pieces.iter().position(|piece| {
        piece.file == *file && piece.from == FIRST_EVENT && piece.to > piece.from
    }) else {
        return Ok(None);
    };
    let mut position: Option<MariaDbGtidPos> = None;
    map.walk(
        Place {
            piece: head,
            offset: FIRST_EVENT,
        },
        &mut |piece, event, start| {
            let inside = piece.file == at.file && start < at.offset;
            match event.type_code() {
                // The list is the state at the head of the file, also for a place before the list itself.
                EventType::MARIADB_GTID_LIST if piece.file == *file => {
                    position = parse_gtid_list(event.body())
                }
                EventType::MARIADB_GTID if inside => {
                    if let (Some(position), Some(parsed)) = (
                        &mut position,
                        MariaDbGtidEvent::parse(event.body(), event.header.server_id),
                    ) {
                        position.update(parsed.gtid);
                    }
                }
                EventType::MARIADB_GTID => return Ok(Next::Stop),
                _ => {}
            }
            Ok(if piece.file == *file {
                Next::Go
            } else {
                Next::Stop
            })
        },
    )?;
    Ok(position)
}
