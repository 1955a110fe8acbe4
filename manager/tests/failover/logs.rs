//! Real binary logs, byte for byte as MySQL 5.6 writes them, small: the customer's scenario with its offsets.

use std::io::Write;
use std::path::Path;

const MAGIC: [u8; 4] = [0xfe, b'b', b'i', b'n'];

/// Name of the primary's only file.
pub(crate) const FILE: &str = "mysql-bin.000001";

/// Ends of transactions: the format description ends at 120, `create table` at 238, each insert is 214 bytes long.
pub(crate) const BOUNDARIES: [u64; 7] = [120, 238, 452, 666, 880, 1094, 1308];

fn event(type_code: u8, flags: u16, at: u64, body: &[u8]) -> Vec<u8> {
    let size = 19 + body.len() + 4;
    let mut bytes = Vec::with_capacity(size);
    bytes.extend(1_700_000_000u32.to_le_bytes()); // timestamp
    bytes.push(type_code);
    bytes.extend(1u32.to_le_bytes()); // server_id
    bytes.extend((size as u32).to_le_bytes()); // event_size
    bytes.extend((at as u32 + size as u32).to_le_bytes()); // log_pos
    bytes.extend(flags.to_le_bytes());
    bytes.extend(body);
    bytes.extend(crc32fast::hash(&bytes).to_le_bytes());
    bytes
}

fn format_description() -> Vec<u8> {
    let mut body = 4u16.to_le_bytes().to_vec(); // binlog_version
    let mut version = b"5.6.24-log".to_vec();
    version.resize(50, 0);
    body.extend(version);
    body.extend(1_700_000_000u32.to_le_bytes()); // created
    body.push(19); // header length
    body.extend([
        56, 13, 0, 8, 0, 18, 0, 4, 4, 4, 4, 18, 0, 0, 92, 0, 4, 26, 8, 0, 0, 0, 8, 8, 8, 2, 0, 0,
        0, 10, 10, 10, 25, 25, 0,
    ]);
    body.push(1); // checksum algorithm CRC32
    // The in-use flag would say that the server crashed; its checksum is computed without it.
    event(15, 0, 4, &body)
}

fn query(at: u64, text: &str) -> Vec<u8> {
    let mut body = Vec::new();
    body.extend(7u32.to_le_bytes()); // thread id
    body.extend(0u32.to_le_bytes()); // exec time
    body.push(0); // length of database
    body.extend(0u16.to_le_bytes()); // error code
    body.extend(0u16.to_le_bytes()); // length of status variables
    body.push(0); // end of database
    body.extend(text.as_bytes());
    event(2, 0, at, &body)
}

fn padded(text: &str, length: usize) -> String {
    format!("{text:length$}")
}

/// The primary's log up to `end`; `salt` makes another history of the same shape.
pub(crate) fn binary_log(end: u64, salt: u8) -> Vec<u8> {
    let mut log = MAGIC.to_vec();
    log.extend(format_description());
    assert_eq!(log.len(), 120);
    log.extend(query(
        120,
        &padded("create table sbtest.b(id int,name varchar(10))", 81),
    ));
    for (index, at) in BOUNDARIES[1..6].iter().enumerate() {
        assert_eq!(log.len() as u64, *at);
        log.extend(query(*at, "BEGIN"));
        let insert = format!("insert into sbtest.b values({index},'{salt}')");
        log.extend(query(*at + 42, &padded(&insert, 104)));
        log.extend(event(16, 0, *at + 42 + 141, &(index as u64).to_le_bytes()));
    }
    assert_eq!(log.len(), 1308);
    log.truncate(end as usize);
    log
}

/// Puts a log of its own into a folder and names its base. Whoever reads the log meanwhile sees the old file or the new
/// one, never a part.
pub(crate) fn write(folder: &Path, bytes: &[u8]) -> std::path::PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    let mut file = tempfile::NamedTempFile::new_in(folder).unwrap();
    file.write_all(bytes).unwrap();
    file.persist(folder.join(FILE)).unwrap();
    folder.join("mysql-bin")
}
