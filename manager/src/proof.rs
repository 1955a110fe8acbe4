//! What a failover can prove of itself: a pure judgement over evidence read before any replica state was reset.
//!
//! Proven means: every survivor executed the last whole transaction known anywhere, no transaction lies between two of
//! them, every segment is whole, and the dead primary's disk held nothing beyond. Anything less says what is missing.

use std::fmt;

use binlog_core::{BinlogPosition, GtidSet, Manifest, MariaDbGtidPos, StreamRange};
use serde::{Deserialize, Serialize};

use crate::agents::Logs;
use crate::facts::{Flavor, LastTransaction, LogEndKind};
use crate::plan::{BinlogServerLog, BinlogServerLogs, DeadLog, Piece};

/// Format description and what may stand right after it end before this offset; the first transaction of a log lies
/// beyond its format description, which is 116 bytes long at least.
const FILE_HEAD: u64 = 512;

/// What a survivor showed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SurvivorEvidence {
    /// Name.
    pub server: String,
    /// Executed position in the dead primary's coordinates, before reset or repoint; absent if it was not brought there.
    pub executed: Option<BinlogPosition>,
    /// GTID state at that moment.
    pub gtid: String,
    /// Its own UUID: its own transactions are not the dead primary's.
    pub own_uuid: String,
    /// MySQL: what it alone has, and the dead primary never had.
    #[serde(default)]
    pub errant: String,
    /// Segments as it received them.
    pub received: Vec<Manifest>,
}

/// A piece and what was cut for it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PieceEvidence {
    /// As planned.
    pub piece: Piece,
    /// As cut.
    pub manifest: Manifest,
}

/// Everything the proof stands on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Family of the servers.
    pub flavor: Flavor,
    /// End of the last whole transaction known anywhere.
    pub end: BinlogPosition,
    /// That transaction.
    pub last: Option<LastTransaction>,
    /// Survivors that were to be brought there.
    pub survivors: Vec<SurvivorEvidence>,
    /// Pieces of the missing range.
    pub pieces: Vec<PieceEvidence>,
    /// Copies that the manager walked itself: what they hold, or what is wrong with them.
    pub copies: Vec<(StreamRange, Result<BinlogPosition, String>)>,
    /// The dead primary's log.
    pub dead: DeadLog,
    /// Copies of it at binlog servers.
    #[serde(default)]
    pub binlog_servers: BinlogServerLogs,
    /// Meeting points where both sides' event was compared, and where only continuity is proven.
    pub compared: (usize, usize),
}

/// What is proven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum ProofVerdict {
    /// All survivors hold everything the dead primary's disk held.
    Proven,
    /// All survivors are equal up to here; what the dead primary held beyond is unknown.
    ProvenUpTo {
        /// Position.
        position: BinlogPosition,
    },
    /// Something does not add up.
    NotProven,
}

/// One thing that does not add up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "flaw", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Flaw {
    /// A survivor was not brought to the end.
    #[error("{server} executed {}, the end is {end}", executed.as_ref().map_or_else(|| "an unknown part".to_owned(), ToString::to_string))]
    Behind {
        /// Survivor.
        server: String,
        /// Executed.
        executed: Option<BinlogPosition>,
        /// End.
        end: BinlogPosition,
    },
    /// GTID states differ.
    #[error("GTIDs differ: {server} lacks {missing} of {other}")]
    GtidsDiffer {
        /// One survivor.
        server: String,
        /// Another.
        other: String,
        /// What is missing.
        missing: String,
    },
    /// Two pieces do not meet.
    #[error("pieces do not meet: one ends at {end}, the next begins at {start}")]
    Gap {
        /// End of one.
        end: BinlogPosition,
        /// Start of the next.
        start: BinlogPosition,
    },
    /// A segment lacks a part of its range.
    #[error("segment {range} of {provider} is not whole: {detail}")]
    SegmentNotWhole {
        /// Its range.
        range: StreamRange,
        /// Provider.
        provider: String,
        /// What is wrong.
        detail: String,
    },
    /// A survivor received another segment than was cut.
    #[error(
        "{server} received another segment {range} than was cut (sha256 {found}, cut was {expected})"
    )]
    OtherSegment {
        /// Survivor.
        server: String,
        /// Range.
        range: StreamRange,
        /// Digest of the cut.
        expected: String,
        /// Digest received.
        found: String,
    },
    /// The manager's own walk over its copy contradicts the manifest.
    #[error("the copy of segment {range} on the manager: {detail}")]
    CopyNotWhole {
        /// Range.
        range: StreamRange,
        /// What is wrong.
        detail: String,
    },
    /// The dead primary holds more than was taken.
    #[error("the dead primary's log goes on to {dead_end}, survivors end at {end}")]
    DeadHasMore {
        /// Its end.
        dead_end: BinlogPosition,
        /// Ours.
        end: BinlogPosition,
    },
}

/// The outcome.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Proof {
    /// Verdict.
    pub verdict: ProofVerdict,
    /// Why not, if not.
    pub flaws: Vec<Flaw>,
    /// What it stands on, in sentences.
    pub statements: Vec<String>,
}

impl fmt::Display for ProofVerdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Proven => f.write_str("PROVEN"),
            Self::ProvenUpTo { position } => {
                write!(f, "PROVEN UP TO {position}; unknown beyond")
            }
            Self::NotProven => f.write_str("NOT PROVEN"),
        }
    }
}

/// Judges the evidence.
#[must_use]
pub fn prove(evidence: &Evidence) -> Proof {
    let mut flaws = Vec::new();
    positions(evidence, &mut flaws);
    gtids(evidence, &mut flaws);
    pieces(evidence, &mut flaws);
    received(evidence, &mut flaws);
    copies(evidence, &mut flaws);
    let dead_read_to_its_end = dead(evidence, &mut flaws);
    let verdict = if !flaws.is_empty() {
        ProofVerdict::NotProven
    } else if dead_read_to_its_end {
        ProofVerdict::Proven
    } else {
        ProofVerdict::ProvenUpTo {
            position: evidence.end.clone(),
        }
    };
    Proof {
        verdict,
        flaws,
        statements: statements(evidence),
    }
}

fn positions(evidence: &Evidence, flaws: &mut Vec<Flaw>) {
    for survivor in &evidence.survivors {
        let reached = survivor
            .executed
            .as_ref()
            .is_some_and(|e| *e >= evidence.end);
        if !reached {
            flaws.push(Flaw::Behind {
                server: survivor.server.clone(),
                executed: survivor.executed.clone(),
                end: evidence.end.clone(),
            });
        }
    }
}

fn gtids(evidence: &Evidence, flaws: &mut Vec<Flaw>) {
    for one in &evidence.survivors {
        for other in &evidence.survivors {
            if one.server == other.server || one.executed.is_none() || other.executed.is_none() {
                continue;
            }
            let missing = match evidence.flavor {
                Flavor::Mysql => missing_mysql(one, other),
                Flavor::MariaDb => missing_mariadb(one, other),
            };
            if let Some(missing) = missing {
                flaws.push(Flaw::GtidsDiffer {
                    server: one.server.clone(),
                    other: other.server.clone(),
                    missing,
                });
            }
        }
    }
}

/// What `other` has and `one` lacks, own transactions of `other` aside.
fn missing_mysql(one: &SurvivorEvidence, other: &SurvivorEvidence) -> Option<String> {
    let ours: GtidSet = one.gtid.parse().ok()?;
    let theirs: GtidSet = other.gtid.parse().ok()?;
    let missing = theirs.subtract(&ours);
    let errant: GtidSet = other.errant.parse().ok()?;
    let missing = missing
        .subtract(&missing.written_on(&other.own_uuid))
        .subtract(&errant);
    (!missing.is_empty()).then(|| missing.to_string())
}

/// Domains that both know; a domain only one ever saw began before the other was made.
fn missing_mariadb(one: &SurvivorEvidence, other: &SurvivorEvidence) -> Option<String> {
    let ours: MariaDbGtidPos = one.gtid.parse().ok()?;
    let theirs: MariaDbGtidPos = other.gtid.parse().ok()?;
    let missing: Vec<String> = theirs
        .iter()
        .filter(|t| ours.get(t.domain_id).is_some_and(|o| o.seq_no < t.seq_no))
        .map(|t| t.to_string())
        .collect();
    (!missing.is_empty()).then(|| missing.join(","))
}

fn pieces(evidence: &Evidence, flaws: &mut Vec<Flaw>) {
    for pair in evidence.pieces.windows(2) {
        if let [one, next] = pair
            && one.piece.range.to != next.piece.range.from
        {
            flaws.push(Flaw::Gap {
                end: one.piece.range.to.clone(),
                start: next.piece.range.from.clone(),
            });
        }
    }
    if let Some(last) = evidence.pieces.last()
        && last.piece.range.to < evidence.end
    {
        flaws.push(Flaw::Gap {
            end: last.piece.range.to.clone(),
            start: evidence.end.clone(),
        });
    }
    for (number, piece) in evidence.pieces.iter().enumerate() {
        let is_last = number + 1 == evidence.pieces.len();
        if let Some(detail) = not_whole(&piece.piece, &piece.manifest, evidence.flavor, is_last) {
            flaws.push(Flaw::SegmentNotWhole {
                range: piece.piece.range.clone(),
                provider: piece.piece.provider.clone(),
                detail,
            });
        }
    }
}

/// The extents of a segment cover its range without a gap, in the stream and in the file.
///
/// Relay logs lack what the primary writes at the head of a file (Previous_gtids, Gtid_list, ..) and a Stop or Rotate
/// at its end; a hole anywhere else is a missing transaction. The primary's own log has no holes at all.
///
/// Only the last piece must end with a whole transaction: where the logs of a provider have a hole inside one, the next piece
/// goes on inside it.
fn not_whole(piece: &Piece, manifest: &Manifest, flavor: Flavor, is_last: bool) -> Option<String> {
    let planned = &piece.range;
    let whole = manifest.whole_end.as_ref().filter(|_| is_last);
    let whole = whole.unwrap_or(&manifest.range.to);
    if manifest.range.from != planned.from || *whole < planned.to {
        return Some(format!(
            "it holds {} up to {whole}, planned was {planned}",
            manifest.range
        ));
    }
    let mut at = manifest.range.from.clone();
    for extent in &manifest.extents {
        let start = BinlogPosition::new(extent.file.clone(), extent.from);
        let at_head = piece.logs == Logs::Relay && at.file == start.file && at.offset <= FILE_HEAD;
        let next_file = start.file == at.file.next() && start.offset <= FILE_HEAD;
        if start != at && !at_head && !next_file {
            return Some(format!("after {at} it goes on at {start}"));
        }
        // A MariaDB source sends Annotate_rows only on request; nothing else is ever left out inside a file.
        let may_be_sparse =
            piece.logs == Logs::Relay && (flavor == Flavor::MariaDb || start.offset <= FILE_HEAD);
        let missing = extent
            .to
            .saturating_sub(extent.from)
            .saturating_sub(extent.length);
        if missing > 0 && !may_be_sparse {
            return Some(format!(
                "{missing} bytes are missing between {start} and {}",
                extent.to
            ));
        }
        at = BinlogPosition::new(extent.file.clone(), extent.to);
    }
    let rotated = at.file.next() == whole.file && whole.offset <= FILE_HEAD;
    (at < *whole && !rotated).then(|| format!("its extents end at {at}, not at {whole}"))
}

fn received(evidence: &Evidence, flaws: &mut Vec<Flaw>) {
    for survivor in &evidence.survivors {
        for got in &survivor.received {
            let cut = evidence
                .pieces
                .iter()
                .find(|p| p.manifest.range.from == got.range.from);
            let expected = cut.map(|c| c.manifest.sha256.as_str()).unwrap_or_default();
            if cut.is_none_or(|c| {
                c.manifest.sha256 != got.sha256 || c.manifest.transactions != got.transactions
            }) {
                flaws.push(Flaw::OtherSegment {
                    server: survivor.server.clone(),
                    range: got.range.clone(),
                    expected: expected.to_owned(),
                    found: got.sha256.clone(),
                });
            }
        }
    }
}

fn copies(evidence: &Evidence, flaws: &mut Vec<Flaw>) {
    for (range, walked) in &evidence.copies {
        let detail = match walked {
            Ok(whole_end) if *whole_end == range.to => continue,
            Ok(whole_end) => format!("its last whole transaction ends at {whole_end}"),
            Err(detail) => detail.clone(),
        };
        flaws.push(Flaw::CopyNotWhole {
            range: range.clone(),
            detail,
        });
    }
}

/// Whether nothing can be unknown beyond the end.
fn dead(evidence: &Evidence, flaws: &mut Vec<Flaw>) -> bool {
    let Some(survey) = evidence.dead.survey() else {
        return false;
    };
    if let Some(last) = &survey.last_transaction
        && last.end > evidence.end
    {
        flaws.push(Flaw::DeadHasMore {
            dead_end: last.end.clone(),
            end: evidence.end.clone(),
        });
    }
    survey
        .end
        .as_ref()
        .is_some_and(|e| e.kind != LogEndKind::Corrupt)
}

fn statements(evidence: &Evidence) -> Vec<String> {
    let mut said = Vec::new();
    said.push(match &evidence.last {
        Some(last) => format!("the last whole transaction known anywhere {last}"),
        None => format!("everything known ends at {}", evidence.end),
    });
    for survivor in &evidence.survivors {
        let executed = survivor.executed.as_ref().map_or_else(
            || "was not brought to the end".to_owned(),
            |e| format!("executed {e} of the dead primary's log"),
        );
        let gtid = if survivor.gtid.is_empty() {
            String::new()
        } else {
            format!(", GTIDs {}", survivor.gtid)
        };
        said.push(format!("{} {executed}{gtid}", survivor.server));
    }
    let transactions: u64 = evidence
        .pieces
        .iter()
        .map(|p| p.manifest.transactions)
        .sum();
    if !evidence.pieces.is_empty() {
        said.push(format!(
            "{} segments, {transactions} transactions, contiguous and whole by their manifests",
            evidence.pieces.len()
        ));
    }
    for (range, walked) in &evidence.copies {
        if walked.is_ok() {
            said.push(format!(
                "the manager's copy of {range} was walked: every checksum and every position is right"
            ));
        }
    }
    let (same, alone) = evidence.compared;
    if same > 0 {
        said.push(format!(
            "{same} meeting points of two logs: the event before each is the same"
        ));
    }
    if alone > 0 {
        said.push(format!(
            "{alone} meeting points without a common event: continuity alone"
        ));
    }
    said.push(match &evidence.dead {
        DeadLog::Read { survey } => match (&survey.end, &survey.last_transaction) {
            (Some(end), Some(last)) if last.end == evidence.end => {
                format!("it is the last whole one on the dead primary's disk, whose log is {end}")
            }
            (Some(end), _) => {
                format!("the dead primary's disk holds no later transaction; its log is {end}")
            }
            (None, _) => "the dead primary's disk holds no log".to_owned(),
        },
        DeadLog::Unreachable { why } => {
            format!("host unreachable: unknown beyond {} ({why})", evidence.end)
        }
        DeadLog::GivenUp { why } => format!(
            "the dead primary's log was given up: unknown beyond {} ({why})",
            evidence.end
        ),
    });
    if evidence.dead.survey().is_none() {
        said.extend(evidence.binlog_servers.iter().map(of_copies));
    }
    said
}

/// What a binlog server can say of a log that nobody could read: never that there was no more.
fn of_copies((server, log): (&String, &BinlogServerLog)) -> String {
    match log {
        BinlogServerLog::Verified { .. } => {
            format!("binlog server {server} {log}; what the primary had not sent to it is unknown")
        }
        BinlogServerLog::Unusable { .. } => {
            format!("binlog server {server} {log}; what it alone may hold is unknown")
        }
    }
}

#[cfg(test)]
mod tests;
