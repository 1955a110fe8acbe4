//! Segments with manifests that anyone may have written: opened only if what they say is true, and then readable whole.

use binlog_core::{Manifest, MariaDbGtid, SegmentChain};
use serde_json::Value;
use sha2::Digest as _;

use super::Scratch;
use super::binary_logs::streamed;
use super::container::{Input, JSON_MARK, REPAIR, split};

/// The target.
pub fn check(input: &Input<'_>, scratch: &Scratch) {
    scratch.clear();
    let texts: Vec<_> = split(input.payload)
        .into_iter()
        .filter_map(|part| part.strip_prefix(&JSON_MARK))
        .collect();
    let mut paths = Vec::new();
    for (i, segment) in input.logs(4, false).into_iter().enumerate() {
        if segment.starts_with(&JSON_MARK) {
            continue;
        }
        let path = scratch.write(&format!("segment{i}"), &segment);
        if let Some(text) = texts.get(paths.len()) {
            let manifest = if input.has(REPAIR) {
                repair(text, &segment)
            } else {
                text.to_vec()
            };
            std::fs::write(Manifest::path_for(&path), manifest).unwrap();
        }
        paths.push(path);
    }
    for path in &paths {
        let _ = SegmentChain::open(std::slice::from_ref(path)).map(readable);
    }
    let _ = SegmentChain::open(&paths).map(readable);
}

/// Size and digest as they are.
fn repair(text: &[u8], segment: &[u8]) -> Vec<u8> {
    let Ok(Value::Object(mut manifest)) = serde_json::from_slice(text) else {
        return text.to_vec();
    };
    manifest.insert("size".to_owned(), Value::from(segment.len()));
    let digest = hex::encode(sha2::Sha256::digest(segment));
    manifest.insert("sha256".to_owned(), Value::from(digest));
    serde_json::to_vec(&manifest).unwrap()
}

/// A chain that was opened is read to its end.
fn readable(chain: SegmentChain) {
    let range = chain.range();
    assert!(range.from <= range.to);
    let whole = chain.whole_end();
    assert!(range.from <= whole, "{whole} in {range}");
    let all = streamed(&chain, &range.from);
    let rest = streamed(&chain, &whole);
    assert!(
        all.ends_with(&rest),
        "from {whole} in {range}: {} and {} events",
        all.len(),
        rest.len()
    );
    let _ = chain
        .mariadb_gtid_pos_at(&whole)
        .map(|position| position.map(|position| chain.position_of_gtid_pos(&position).unwrap()));
    let gtid = MariaDbGtid {
        domain_id: 0,
        server_id: 1,
        seq_no: 3,
    };
    chain.position_after_gtid(&gtid).unwrap();
}
