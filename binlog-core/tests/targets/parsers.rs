//! Every parser of an event's body: it reads or refuses, and what it lends lies in the body.

use binlog_core::event::mariadb::{MariaDbGtidEvent, parse_binlog_checkpoint, parse_gtid_list};
use binlog_core::event::query::Query;
use binlog_core::event::table_map::TableMap;
use binlog_core::event::{
    EventHeader, FormatDescription, gtid, heartbeat, payload, previous_gtids, rotate, xid,
};

use super::Scratch;
use super::container::Input;
use super::texts;

/// The target.
pub fn check(input: &Input<'_>, _: &Scratch) {
    let body = input.payload;
    if let Some(header) = EventHeader::parse(body) {
        assert_eq!(header.to_bytes(), body[..19]);
    }
    if let Some(description) = FormatDescription::parse(body) {
        assert!(description.post_header_lengths.len() < body.len());
    }
    if let Some(to) = rotate::parse(body) {
        assert_eq!(rotate::body(&to), body);
        // Offsets are added to: no file is as long as that.
        assert!(i64::try_from(to.offset).is_ok());
    }
    for query in [Query::parse(body), Query::parse_load(body)]
        .into_iter()
        .flatten()
    {
        let _ = query.kind();
        assert!(body.ends_with(query.text));
    }
    if let Some(map) = TableMap::parse(body) {
        assert!(map.database.len() + map.table.len() < body.len());
    }
    for gtid in [gtid::parse(body), gtid::parse_tagged(body)]
        .into_iter()
        .flatten()
    {
        let mut set = binlog_core::GtidSet::default();
        if set.insert(&gtid).is_ok() {
            assert_eq!(set.to_string(), gtid.to_string());
            assert!(set.contains(&gtid) && set.count() == 1);
        }
    }
    if let Some(set) = previous_gtids::parse(body) {
        texts::algebra(&set);
    }
    if let Some(position) = parse_gtid_list(body) {
        texts::mariadb(&position);
    }
    if let Some(parsed) = MariaDbGtidEvent::parse(body, 7) {
        let _ = parsed.standalone();
    }
    let _ = parse_binlog_checkpoint(body);
    let _ = heartbeat::parse(body);
    let _ = payload::compression_type(body);
    let _ = xid::parse_xid(body);
    let _ = xid::parse_xa_prepare(body);
}
