//! Where transactions begin and end, of every kind that servers write.

use super::*;
use crate::checksum::ChecksumAlgorithm;
use crate::event::EventHeader;
use crate::testing::{event, query_body, table_map_body};

/// Feeds events of 10 bytes each; yields where transactions ended and whether one is open.
fn run(events: &[(EventType, Vec<u8>)]) -> (Vec<usize>, bool) {
    let mut tracker = Tracker::outside();
    let mut ends = vec![];
    for (i, (type_code, body)) in events.iter().enumerate() {
        let bytes = event(*type_code, 1, 0, 0, body, ChecksumAlgorithm::None);
        let header = EventHeader::parse(&bytes).unwrap();
        let raw = RawEvent {
            offset: 0,
            header,
            bytes: &bytes,
            checksum: ChecksumAlgorithm::None,
        };
        if tracker.feed(&raw, i as u64 * 10).is_some() {
            ends.push(i);
        }
    }
    (ends, tracker.open_since().is_some())
}

fn query(text: &str) -> (EventType, Vec<u8>) {
    (EventType::QUERY, query_body("d", text))
}

fn of(type_code: EventType) -> (EventType, Vec<u8>) {
    (type_code, vec![0; 30])
}

fn rows() -> [(EventType, Vec<u8>); 2] {
    [
        (EventType::TABLE_MAP, table_map_body("d", "t")),
        of(EventType::WRITE_ROWS),
    ]
}

fn mariadb(flags: u8) -> (EventType, Vec<u8>) {
    let mut body = vec![0; 19];
    body[12] = flags;
    (EventType::MARIADB_GTID, body)
}

#[test]
fn transactions_of_mysql_end_where_the_server_says() {
    let [map, row] = rows();
    for (events, ends) in [
        (
            vec![query("BEGIN"), query("insert"), of(EventType::XID)],
            vec![2],
        ),
        (
            vec![query("BEGIN"), map.clone(), row.clone(), query("COMMIT")],
            vec![3],
        ),
        (
            vec![
                query("BEGIN"),
                query("insert"),
                query("ROLLBACK TO `s`"),
                query("ROLLBACK"),
            ],
            vec![3],
        ),
        (
            vec![query("create table a(i int)"), query("drop table a")],
            vec![0, 1],
        ),
        (
            vec![
                of(EventType::INTVAR),
                of(EventType::RAND),
                query("insert"),
                query("insert"),
            ],
            vec![2, 3],
        ),
        (
            vec![of(EventType::GTID), query("create table a(i int)")],
            vec![1],
        ),
        (
            vec![of(EventType::GTID), of(EventType::INTVAR), query("insert")],
            vec![2],
        ),
        (
            vec![
                of(EventType::ANONYMOUS_GTID),
                query("BEGIN"),
                map.clone(),
                row.clone(),
                of(EventType::XID),
            ],
            vec![4],
        ),
        (
            vec![of(EventType::GTID), of(EventType::TRANSACTION_PAYLOAD)],
            vec![1],
        ),
        (
            vec![
                of(EventType::GTID),
                query("XA START X'31',X'',1"),
                map.clone(),
                row.clone(),
                query("XA END X'31',X'',1"),
                of(EventType::XA_PREPARE),
            ],
            vec![5],
        ),
        (
            vec![of(EventType::GTID), query("XA COMMIT X'31',X'',1")],
            vec![1],
        ),
        (
            vec![of(EventType::GTID), query("XA ROLLBACK X'31',X'',1")],
            vec![1],
        ),
        (
            vec![
                of(EventType::GTID),
                query("BEGIN"),
                query("CREATE TABLE `t` (i int) START TRANSACTION"),
                map.clone(),
                row.clone(),
                of(EventType::XID),
            ],
            vec![5],
        ),
        (
            vec![
                of(EventType::GTID),
                query("CREATE TABLE `t` (i int) START TRANSACTION"),
                map.clone(),
                row.clone(),
                of(EventType::XID),
            ],
            vec![4],
        ),
        (
            vec![
                query("BEGIN"),
                of(EventType::BEGIN_LOAD_QUERY),
                of(EventType::EXECUTE_LOAD_QUERY),
                of(EventType::XID),
            ],
            vec![3],
        ),
        (
            vec![
                of(EventType::BEGIN_LOAD_QUERY),
                of(EventType::APPEND_BLOCK),
                of(EventType::EXECUTE_LOAD_QUERY),
            ],
            vec![2],
        ),
        (vec![of(EventType::INCIDENT)], vec![0]),
        (
            vec![
                of(EventType::GTID),
                query("BEGIN"),
                of(EventType::TRANSACTION_CONTEXT),
                of(EventType::VIEW_CHANGE),
                query("COMMIT"),
            ],
            vec![4],
        ),
    ] {
        assert_eq!(run(&events), (ends, false), "{events:?}");
        // One event less and the last transaction is not whole.
        let count = run(&events).0.len();
        assert_eq!(
            run(&events[..events.len() - 1]).0.len() + 1,
            count,
            "{events:?}"
        );
    }
}

#[test]
fn groups_of_mariadb_end_where_their_flags_say() {
    let [map, row] = rows();
    let query_compressed = of(EventType::MARIADB_QUERY_COMPRESSED);
    for (events, ends) in [
        (vec![mariadb(0x01), query("create table a(i int)")], vec![1]),
        (
            vec![mariadb(0x01), of(EventType::INTVAR), query("insert")],
            vec![2],
        ),
        (vec![mariadb(0x29), query_compressed.clone()], vec![1]),
        (
            vec![
                mariadb(0x0c),
                query("insert"),
                query("insert"),
                of(EventType::XID),
            ],
            vec![3],
        ),
        (
            vec![
                mariadb(0x0c),
                of(EventType::MARIADB_ANNOTATE_ROWS),
                map.clone(),
                row.clone(),
                of(EventType::XID),
            ],
            vec![4],
        ),
        (
            vec![mariadb(0x08), query("insert"), query("COMMIT")],
            vec![2],
        ),
        (
            vec![mariadb(0x0c), query_compressed, of(EventType::XID)],
            vec![2],
        ),
        (
            vec![
                mariadb(0x4c),
                map,
                row,
                query("XA END X'31',X'',1"),
                of(EventType::XA_PREPARE),
            ],
            vec![4],
        ),
        (vec![mariadb(0x8c), query("XA COMMIT X'31',X'',1")], vec![1]),
    ] {
        assert_eq!(run(&events), (ends, false), "{events:?}");
        assert!(run(&events[..events.len() - 1]).1, "{events:?}");
    }
}

#[test]
fn bookkeeping_is_no_transaction_and_a_new_file_ends_a_broken_one() {
    let keep = [
        EventType::PREVIOUS_GTIDS,
        EventType::MARIADB_GTID_LIST,
        EventType::MARIADB_BINLOG_CHECKPOINT,
        EventType::STOP,
        EventType::ROTATE,
    ];
    assert_eq!(run(&keep.map(of)), (vec![], false));
    let mut broken = Tracker::outside();
    for (type_code, body) in [query("BEGIN"), of(EventType::FORMAT_DESCRIPTION)] {
        let bytes = event(type_code, 1, 0, 0, &body, ChecksumAlgorithm::None);
        let header = EventHeader::parse(&bytes).unwrap();
        broken.feed(
            &RawEvent {
                offset: 0,
                header,
                bytes: &bytes,
                checksum: ChecksumAlgorithm::None,
            },
            0,
        );
    }
    assert!(broken.is_outside());
}

#[test]
fn the_state_survives_a_manifest() {
    for state in [
        StartState::Between,
        StartState::UntilCommit,
        StartState::Undecided,
        StartState::UntilStatement,
        StartState::Unknown,
    ] {
        assert_eq!(Tracker::resume(state, 4).start_state(), state);
    }
}
