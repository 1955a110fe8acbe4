//! What the proof is worth: with the evidence of a real failover it holds, and without one of its transactions it fails.

use std::path::{Path, PathBuf};

use binlog_core::{BinlogPosition, Manifest, SegmentChain};
use manager::facts::Flavor;
use manager::journal::{self, Record, StepOutcome};
use manager::proof::{Evidence, PieceEvidence, ProofVerdict, SurvivorEvidence, prove};
use sha2::{Digest, Sha256};
use tests::on_every_form;
use tests::sandbox::error::chain;
use tests::sandbox::replica::LogPlace;
use tests::scenario::{
    Act, Ended, Expected, Failure, Form, Lag, Plan, Scene, expect, expect_eq, files,
};

on_every_form! {
    a_segment_that_lacks_one_transaction_is_no_proof
}

async fn a_segment_that_lacks_one_transaction_is_no_proof(form: Form) -> Result<(), Failure> {
    let mut scene = Scene::open(form.cluster()).await?;
    let plan = Plan {
        batches: vec![vec![Act::Rows(1)]; 4],
        lags: vec![Lag::behind(1); 3],
    };
    let played = scene.play(&plan).await?;
    let (ended, _) = scene.survives(&Expected::all()).await?;

    let (evidence, copy) = evidence(form, &ended)?;
    let proof = prove(&evidence);
    expect_eq(
        "verdict on the evidence as it was",
        &proof.verdict,
        &ProofVerdict::Proven,
    )?;

    let (from, to) = (played.place(2)?, played.place(3)?);
    let broken = files::scratch()?;
    for lie in [Lie::Extents, Lie::Length, Lie::All] {
        let without = without(&evidence, &copy, (from, to), lie, broken.path())?;
        let proof = prove(&without);
        expect(
            proof.verdict == ProofVerdict::NotProven && !proof.flaws.is_empty(),
            format!("verdict without the transaction [{from}, {to}), {lie:?}"),
            "not proven, and why",
            format!("{proof:?}"),
        )?;
    }
    Ok(())
}

/// What the manifest of the shortened segment says of what it lacks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lie {
    /// The truth: two extents with a hole between them.
    Extents,
    /// One extent that has fewer bytes than its range.
    Length,
    /// That it is whole.
    All,
}

/// The evidence of a run that recovered one segment, from its journal, and the manager's copy of that segment.
fn evidence(form: Form, ended: &Ended) -> Result<(Evidence, PathBuf), Failure> {
    let journal = ended.report.journal.clone().unwrap_or_default();
    let records = journal::read(Path::new(&journal))
        .map_err(|error| missing(&journal, chain(&error)))?
        .records;
    let (mut found, mut cut, mut copied) = (None, None, None);
    for record in records {
        match record {
            Record::Plan { holdings, plan, .. } => found = Some((holdings, plan)),
            Record::Done { outcome, .. } => match *outcome {
                StepOutcome::Cut { manifest, .. } => cut = Some(manifest),
                StepOutcome::Copied { path, .. } => copied = Some(PathBuf::from(path)),
                _ => {}
            },
            _ => {}
        }
    }
    let Some(((holdings, plan), manifest, copy)) = found
        .zip(cut)
        .zip(copied)
        .map(|((found, cut), copied)| (found, cut, copied))
    else {
        return Err(missing(&journal, "no plan, cut and copy".to_owned()));
    };
    let survivors = ended
        .report
        .positions
        .iter()
        .map(|(server, positions)| SurvivorEvidence {
            server: server.clone(),
            executed: positions.executed_after.clone(),
            gtid: positions.gtid_after.clone(),
            own_uuid: String::new(),
            errant: String::new(),
            received: vec![manifest.clone()],
        })
        .collect();
    let evidence = Evidence {
        flavor: if form.kind.is_mariadb() {
            Flavor::MariaDb
        } else {
            Flavor::Mysql
        },
        end: plan.frontier.end.clone(),
        last: plan.frontier.last.clone(),
        survivors,
        pieces: plan
            .pieces
            .iter()
            .map(|piece| PieceEvidence {
                piece: piece.clone(),
                manifest: manifest.clone(),
            })
            .collect(),
        copies: vec![(manifest.range.clone(), walk(&copy))],
        dead: holdings.dead.clone(),
        binlog_servers: holdings.binlog_servers.clone(),
        compared: (1, 0),
    };
    Ok((evidence, copy))
}

fn missing(journal: &str, found: String) -> Failure {
    Failure::Unexpected {
        what: format!("the journal {journal}"),
        expected: "a plan, one cut and one copy".to_owned(),
        found,
    }
}

/// As the manager walks its copies.
fn walk(segment: &Path) -> Result<BinlogPosition, String> {
    SegmentChain::open(&[segment.to_owned()])
        .map(|chain| chain.whole_end())
        .map_err(|error| chain(&error))
}

/// The evidence of a run in which everybody got the segment without this transaction.
fn without(
    evidence: &Evidence,
    copy: &Path,
    (from, to): (&LogPlace, &LogPlace),
    lie: Lie,
    folder: &Path,
) -> Result<Evidence, Failure> {
    let mut broken = evidence.clone();
    for piece in &mut broken.pieces {
        let segment = folder.join(format!("{lie:?}"));
        piece.manifest = shorten(
            &piece.manifest,
            copy,
            (from.offset, to.offset),
            lie,
            &segment,
        )?;
        for survivor in &mut broken.survivors {
            survivor.received = vec![piece.manifest.clone()];
        }
        broken.copies = vec![(piece.manifest.range.clone(), walk(&segment))];
    }
    Ok(broken)
}

fn shorten(
    manifest: &Manifest,
    copy: &Path,
    (from, to): (u64, u64),
    lie: Lie,
    segment: &Path,
) -> Result<Manifest, Failure> {
    let Some(extent) = manifest
        .extents
        .iter()
        .find(|extent| extent.from <= from && to <= extent.to)
        .cloned()
    else {
        return Err(Failure::Unexpected {
            what: "the extents of the segment".to_owned(),
            expected: format!("one with [{from}, {to})"),
            found: format!("{:?}", manifest.extents),
        });
    };
    let start = extent.segment_offset + (from - extent.from);
    files::cut_out(copy, start..start + (to - from), segment)?;
    let bytes = files::read(segment)?;

    let mut short = manifest.clone();
    short.transactions -= 1;
    short.size = bytes.len() as u64;
    short.sha256 = hex::encode(Sha256::digest(&bytes));
    let mut rest = extent.clone();
    let mut first = extent.clone();
    match lie {
        Lie::All => short.transactions += 1,
        Lie::Length => first.length -= to - from,
        Lie::Extents => {
            (first.to, first.length) = (from, from - extent.from);
            (rest.from, rest.length) = (to, extent.to - to);
            rest.segment_offset = start;
            short.extents.retain(|other| *other != extent);
            short.extents.extend([first.clone(), rest]);
        }
    }
    if lie == Lie::Length {
        short.extents.retain(|other| *other != extent);
        short.extents.push(first);
    }
    files::write(&Manifest::path_for(segment), &short.to_json())?;
    Ok(short)
}
