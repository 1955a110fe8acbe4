//! A proof holds for whole evidence and for nothing less.

use super::*;
use crate::plan::PieceId;
use crate::testing::{at, holds, range, uuid};

fn manifest(text: &str, sha256: &str) -> Manifest {
    let range = range(text);
    let length = range.to.offset - range.from.offset;
    Manifest {
        format_version: 1,
        starts: Default::default(),
        extents: vec![binlog_core::ManifestExtent {
            file: range.from.file.clone(),
            from: range.from.offset,
            to: range.to.offset,
            segment_offset: 120,
            length,
        }],
        events: 4,
        transactions: 2,
        whole_end: Some(range.to.clone()),
        size: 120 + length,
        sha256: sha256.to_owned(),
        provider: "db1".into(),
        dropped_bytes: 0,
        original_format_description: String::new(),
        made_up_rotates: vec![],
        range,
    }
}

fn piece(id: u32, provider: &str, logs: Logs, text: &str, sha256: &str) -> PieceEvidence {
    PieceEvidence {
        piece: Piece {
            id: PieceId(id),
            provider: provider.into(),
            logs,
            range: range(text),
        },
        manifest: manifest(text, sha256),
    }
}

fn survivor(n: u32, executed: &str, received: &[Manifest]) -> SurvivorEvidence {
    SurvivorEvidence {
        server: format!("db{n}"),
        executed: Some(at(executed)),
        gtid: String::new(),
        own_uuid: uuid(n),
        errant: String::new(),
        received: received.to_vec(),
    }
}

fn whole() -> Evidence {
    let pieces = vec![
        piece(0, "db3", Logs::Relay, "1:452 1:880", "aa"),
        piece(1, "db1", Logs::Binary, "1:880 1:1308", "bb"),
    ];
    let cut: Vec<Manifest> = pieces.iter().map(|p| p.manifest.clone()).collect();
    Evidence {
        flavor: Flavor::Mysql,
        end: at("1:1308"),
        last: None,
        survivors: vec![
            survivor(2, "1:1308", &cut),
            survivor(3, "2:4", cut.get(1..).unwrap()),
        ],
        pieces,
        copies: vec![(range("1:880 1:1308"), Ok(at("1:1308")))],
        dead: DeadLog::Read {
            survey: Box::new(holds(&["1:452 1:1308"], Some("1:1308"))),
        },
        binlog_servers: BinlogServerLogs::new(),
        compared: (2, 0),
    }
}

#[test]
fn whole_evidence_is_proof() {
    let proof = prove(&whole());
    assert_eq!(proof.verdict, ProofVerdict::Proven, "{:?}", proof.flaws);
    assert!(
        proof
            .statements
            .iter()
            .any(|s| s.contains("the last whole one on the dead primary's disk"))
    );
}

#[test]
fn an_unread_dead_log_is_proof_up_to_the_end() {
    for dead in [
        DeadLog::Unreachable { why: "gone".into() },
        DeadLog::GivenUp {
            why: "corrupt".into(),
        },
    ] {
        let mut evidence = whole();
        evidence.dead = dead;
        let proof = prove(&evidence);
        assert_eq!(
            proof.verdict,
            ProofVerdict::ProvenUpTo {
                position: at("1:1308")
            }
        );
        assert!(
            proof
                .statements
                .iter()
                .any(|s| s.contains("unknown beyond"))
        );
    }
    let mut evidence = whole();
    if let DeadLog::Read { survey } = &mut evidence.dead {
        survey.end.as_mut().unwrap().kind = LogEndKind::Corrupt;
    }
    assert!(matches!(
        prove(&evidence).verdict,
        ProofVerdict::ProvenUpTo { .. }
    ));
}

type Change = fn(&mut Evidence);

#[test]
fn table_of_flaws() {
    fn piece_mut(e: &mut Evidence, n: usize) -> &mut PieceEvidence {
        e.pieces.get_mut(n).unwrap()
    }
    fn survivor_mut(e: &mut Evidence, n: usize) -> &mut SurvivorEvidence {
        e.survivors.get_mut(n).unwrap()
    }
    let table: &[(&str, Change, &str)] = &[
        (
            "a survivor is behind",
            |e| survivor_mut(e, 1).executed = Some(at("1:1094")),
            "db3 executed mysql-bin.000001:1094, the end is mysql-bin.000001:1308",
        ),
        (
            "a survivor's position is unknown",
            |e| survivor_mut(e, 0).executed = None,
            "db2 executed an unknown part",
        ),
        (
            "a piece is missing in the middle",
            |e| {
                piece_mut(e, 0).piece.range = range("1:452 1:666");
                piece_mut(e, 0).manifest = manifest("1:452 1:666", "aa");
            },
            "pieces do not meet",
        ),
        (
            "the last piece ends early",
            |e| e.end = at("1:1522"),
            "pieces do not meet",
        ),
        (
            "a transaction is missing in the tail",
            |e| {
                let extents = &mut piece_mut(e, 1).manifest.extents;
                let mut second = extents.first().unwrap().clone();
                extents.first_mut().unwrap().to = 900;
                extents.first_mut().unwrap().length = 20;
                second.from = 1114;
                second.length = 194;
                extents.push(second);
            },
            "after mysql-bin.000001:900 it goes on at mysql-bin.000001:1114",
        ),
        (
            "bytes are missing in the tail",
            |e| piece_mut(e, 1).manifest.extents.first_mut().unwrap().length -= 214,
            "214 bytes are missing",
        ),
        (
            "bytes are missing in a diff of MySQL",
            |e| {
                piece_mut(e, 0).piece.range = range("1:600 1:880");
                piece_mut(e, 0).manifest = manifest("1:600 1:880", "aa");
                piece_mut(e, 0).manifest.extents.first_mut().unwrap().length -= 100;
            },
            "100 bytes are missing",
        ),
        (
            "the extents end early",
            |e| {
                let extent = piece_mut(e, 1).manifest.extents.first_mut().unwrap();
                extent.to = 1094;
                extent.length = 214;
            },
            "its extents end at mysql-bin.000001:1094",
        ),
        (
            "the last piece ends inside a transaction",
            |e| piece_mut(e, 1).manifest.whole_end = Some(at("1:1094")),
            "up to mysql-bin.000001:1094, planned was",
        ),
        (
            "another segment arrived",
            |e| survivor_mut(e, 0).received.first_mut().unwrap().sha256 = "cc".into(),
            "db2 received another segment",
        ),
        (
            "a segment with fewer transactions arrived",
            |e| {
                survivor_mut(e, 0)
                    .received
                    .first_mut()
                    .unwrap()
                    .transactions = 1
            },
            "db2 received another segment",
        ),
        (
            "the manager's walk found damage",
            |e| e.copies = vec![(range("1:880 1:1308"), Err("bad checksum at 900".into()))],
            "the copy of segment [mysql-bin.000001:880, mysql-bin.000001:1308) on the manager: bad checksum",
        ),
        (
            "the manager's walk ends early",
            |e| e.copies = vec![(range("1:880 1:1308"), Ok(at("1:1094")))],
            "its last whole transaction ends at mysql-bin.000001:1094",
        ),
        (
            "the dead log goes on",
            |e| {
                e.dead = DeadLog::Read {
                    survey: Box::new(holds(&["1:452 1:1522"], Some("1:1522"))),
                }
            },
            "the dead primary's log goes on to mysql-bin.000001:1522",
        ),
        (
            "GTID sets differ",
            |e| {
                survivor_mut(e, 0).gtid = format!("{}:1-5", uuid(1));
                survivor_mut(e, 1).gtid = format!("{}:1-3:5", uuid(1));
            },
            "db3 lacks 00000001-0000-0000-0000-000000000000:4 of db2",
        ),
        (
            "MariaDB positions differ",
            |e| {
                e.flavor = Flavor::MariaDb;
                survivor_mut(e, 0).gtid = "0-1-5,7-1-1".into();
                survivor_mut(e, 1).gtid = "0-1-4".into();
            },
            "db3 lacks 0-1-5 of db2",
        ),
    ];
    for (story, change, expected) in table {
        let mut evidence = whole();
        change(&mut evidence);
        let proof = prove(&evidence);
        assert_eq!(proof.verdict, ProofVerdict::NotProven, "{story}");
        let flaws: Vec<String> = proof.flaws.iter().map(ToString::to_string).collect();
        assert!(flaws.join("; ").contains(expected), "{story}: {flaws:?}");
    }
}

#[test]
fn what_is_no_flaw() {
    let table: &[(&str, Change)] = &[
        ("own transactions of a survivor", |e| {
            for s in &mut e.survivors {
                s.gtid = format!("{}:1-5,{}:1-2", uuid(1), s.own_uuid);
            }
        }),
        ("tagged transactions of a survivor", |e| {
            for s in &mut e.survivors {
                s.gtid = format!("{}:1-5,{}:app:1-2", uuid(1), s.own_uuid);
            }
        }),
        ("transactions that the primary never had", |e| {
            let first = e.survivors.first_mut().unwrap();
            first.gtid = format!("{}:1-5,{}:1", uuid(1), uuid(99));
            first.errant = format!("{}:1", uuid(99));
            for s in e.survivors.iter_mut().skip(1) {
                s.gtid = format!("{}:1-5", uuid(1));
            }
        }),
        ("MariaDB relay logs lack Annotate_rows", |e| {
            e.flavor = Flavor::MariaDb;
            e.pieces
                .first_mut()
                .unwrap()
                .manifest
                .extents
                .first_mut()
                .unwrap()
                .length -= 50;
        }),
        ("a relay log lacks the head of a file", |e| {
            let first = e.pieces.first_mut().unwrap();
            first.piece.range = range("1:120 1:880");
            first.manifest = manifest("1:120 1:880", "aa");
            first.manifest.extents.first_mut().unwrap().from = 151;
            first.manifest.extents.first_mut().unwrap().length -= 31;
            let got = e.survivors.first_mut().unwrap();
            *got.received.first_mut().unwrap() = first.manifest.clone();
        }),
        (
            "a piece that the next one continues inside a transaction",
            |e| {
                let first = e.pieces.first_mut().unwrap();
                first.manifest.whole_end = Some(at("1:666"));
                *e.survivors[0].received.first_mut().unwrap() = first.manifest.clone();
            },
        ),
        ("nothing had to be cut", |e| {
            e.pieces.clear();
            e.copies.clear();
            for s in &mut e.survivors {
                s.received.clear();
            }
        }),
    ];
    for (story, change) in table {
        let mut evidence = whole();
        change(&mut evidence);
        let proof = prove(&evidence);
        assert_eq!(
            proof.verdict,
            ProofVerdict::Proven,
            "{story}: {:?}",
            proof.flaws
        );
    }
}
