//! Round trip, torn tails, damage, locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::execute::unix_ms;
use crate::plan::{Act, Step, StepId};

fn end(n: u8) -> Record {
    Record::End {
        unix_ms: u64::from(n),
        exit_code: n,
        summary: format!("record {n}\nwith a second line"),
    }
}

fn started(server: &str) -> Record {
    Record::Started {
        unix_ms: unix_ms(),
        stage: 1,
        step: Step {
            id: StepId(3),
            act: Act::StopReceiver {
                server: server.to_owned(),
            },
            after: vec![StepId(1)],
        },
    }
}

async fn written(dir: &Path, records: &[Record]) -> PathBuf {
    let journal = Journal::create(dir, "app1", "op-1", Arc::new(NoHook)).unwrap();
    for record in records {
        journal.append(record).await.unwrap();
    }
    journal.path()
}

#[tokio::test]
async fn records_come_back_as_written() {
    let dir = tempfile::tempdir().unwrap();
    let records = [started("db1"), end(1), end(2)];
    let path = written(dir.path(), &records).await;
    let read = read(&path).unwrap();
    assert_eq!(read.records, records);
    assert_eq!(read.torn_at, None);
    assert_eq!(operations(dir.path(), "app1").unwrap(), [path]);
    assert!(operations(dir.path(), "app2").unwrap().is_empty());
}

#[tokio::test]
async fn every_torn_tail_is_tolerated_and_located() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), &[end(1), end(2)]).await;
    let whole = std::fs::read(&path).unwrap();
    let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
    for length in 0..whole.len() {
        let torn = dir.path().join("torn.journal");
        std::fs::write(&torn, &whole[..length]).unwrap();
        let read = read(&torn).unwrap();
        let expected = if length < first { 0 } else { 1 };
        assert_eq!(read.records.len(), expected, "{length}");
        let torn_at = match length {
            0 => None,
            l if l < first => Some(0),
            l if l == first => None,
            _ => Some(first as u64),
        };
        assert_eq!(read.torn_at, torn_at, "{length}");
    }
}

#[tokio::test]
async fn a_changed_byte_before_the_end_is_damage() {
    let dir = tempfile::tempdir().unwrap();
    let path = written(dir.path(), &[end(1), end(2)]).await;
    let whole = std::fs::read(&path).unwrap();
    for at in 0..whole.len() {
        let mut bytes = whole.clone();
        bytes[at] ^= 0x01;
        let damaged = dir.path().join("damaged.journal");
        std::fs::write(&damaged, &bytes).unwrap();
        match read(&damaged) {
            Err(JournalError::Damaged { .. }) => {}
            // The last end of line is all that may be missing without being damage.
            Ok(read) => assert!(
                read.torn_at.is_some() && at == whole.len() - 1,
                "byte {at} was changed and nobody noticed"
            ),
            Err(other) => panic!("{at}: {other}"),
        }
    }
}

#[tokio::test]
async fn an_operation_is_running_as_long_as_its_journal_is_open() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::create(dir.path(), "app1", "op-1", Arc::new(NoHook)).unwrap();
    let path = journal.path();
    assert!(is_running(&path).unwrap());
    assert!(matches!(
        Journal::create(dir.path(), "app1", "op-1", Arc::new(NoHook)),
        Err(JournalError::Io { .. })
    ));
    drop(journal);
    let mut tries = 0;
    while is_running(&path).unwrap() {
        tries += 1;
        assert!(tries < 5000, "the lock is never released");
        tokio::time::sleep(std::time::Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn records_of_many_tasks_are_all_there() {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::create(dir.path(), "app1", "op-1", Arc::new(NoHook)).unwrap();
    let records: Vec<Record> = (0..100).map(end).collect();
    futures::future::join_all(records.iter().map(|r| journal.append(r)))
        .await
        .into_iter()
        .collect::<Result<Vec<()>, _>>()
        .unwrap();
    let read = read(&journal.path()).unwrap().records;
    assert_eq!(read.len(), 100);
    for record in &records {
        assert!(read.contains(record));
    }
}

struct StopAt(usize, AtomicUsize);

impl Hook for StopAt {
    fn before(&self, _: &Record) -> bool {
        self.1.fetch_add(1, Ordering::SeqCst) != self.0
    }

    fn after(&self, _: &Record) -> bool {
        true
    }
}

#[tokio::test]
async fn a_hook_that_stops_before_a_write_leaves_no_record() {
    let dir = tempfile::tempdir().unwrap();
    let hook = Arc::new(StopAt(1, AtomicUsize::new(0)));
    let journal = Journal::create(dir.path(), "app1", "op-1", hook).unwrap();
    journal.append(&end(0)).await.unwrap();
    assert!(matches!(
        journal.append(&end(1)).await,
        Err(JournalError::Closed { .. })
    ));
    assert_eq!(read(&journal.path()).unwrap().records, [end(0)]);
}
