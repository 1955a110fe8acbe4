//! The report as text: MHA's phases with their times, then what an operator wants to know, most important last.

use std::fmt::Write;

use binlog_core::BinlogPosition;

use super::Report;
use crate::execute::StepTiming;
use crate::plan::Phase;
use crate::returned::Found;

const PHASES: [Phase; 9] = [
    Phase::ConfigurationCheck,
    Phase::DeadPrimaryShutdown,
    Phase::LatestReplicas,
    Phase::SavingBinlog,
    Phase::NewPrimary,
    Phase::DiffGeneration,
    Phase::LogApply,
    Phase::ReplicaRecovery,
    Phase::Cleanup,
];

/// Renders the report.
#[must_use]
pub fn render(report: &Report) -> String {
    let mut text = String::new();
    // Writing to a String does not fail.
    let _ = write_all(&mut text, report);
    text
}

fn write_all(out: &mut String, report: &Report) -> std::fmt::Result {
    writeln!(out, "----- Failover Report -----")?;
    writeln!(out)?;
    let to = report
        .new_primary
        .as_ref()
        .map(|n| format!(" to {n}"))
        .unwrap_or_default();
    writeln!(
        out,
        "{}: MySQL primary failover {}{to}{}",
        report.cluster,
        report.dead_primary,
        if report.dry_run { " (dry run)" } else { "" }
    )?;
    if !report.operation.is_empty() {
        writeln!(
            out,
            "operation {}, epoch {}",
            report.operation, report.epoch
        )?;
    }
    if let Some(journal) = &report.journal {
        writeln!(out, "journal {journal}")?;
    }
    if !report.verdict.is_empty() {
        writeln!(out, "{} is {}", report.dead_primary, report.verdict)?;
    }
    if let Some(how) = &report.fence {
        writeln!(out, "its mysqld: {how}")?;
    }
    election(out, report)?;
    positions(out, report)?;
    plan(out, report)?;
    semi_sync(out, report)?;
    timeline(out, report)?;
    recovered(out, report)?;
    proof(out, report)?;
    list(out, "Lost or unknown", &report.lost)?;
    let care: Vec<String> = report
        .care
        .iter()
        .map(|c| format!("{}: {}", c.server, c.why))
        .collect();
    list(out, "Needs care", &care)?;
    list(out, "Remarks", &report.remarks)?;
    by_hand(out, report)?;
    returned(out, report)?;
    writeln!(out)?;
    if let Some(us) = report.writable_after_us {
        writeln!(
            out,
            "open for writes {} after the command started, all done after {}",
            milliseconds(us),
            milliseconds(report.duration_us)
        )?;
    }
    writeln!(out, "{} (exit code {})", report.summary, report.exit_code)
}

fn returned(out: &mut String, report: &Report) -> std::fmt::Result {
    let Some(returned) = &report.returned else {
        return Ok(());
    };
    writeln!(out)?;
    writeln!(out, "{}", returned.sentence())?;
    if let Found::Written(written) = &returned.found {
        for transaction in &written.listed {
            writeln!(out, "  {transaction}")?;
        }
        let unlisted = written
            .transactions
            .saturating_sub(written.listed.len() as u64);
        if unlisted > 0 {
            writeln!(out, "  and {unlisted} more")?;
        }
    }
    Ok(())
}

fn election(out: &mut String, report: &Report) -> std::fmt::Result {
    let Some(election) = &report.election else {
        return Ok(());
    };
    writeln!(out)?;
    writeln!(out, "New primary: {} ({})", election.winner, election.rule)?;
    if let Some(first) = &report.first_choice {
        writeln!(out, "  at first it was {first}; the final facts decided")?;
    }
    for (server, lost) in &election.losers {
        writeln!(out, "  not {server}: {lost}")?;
    }
    for (server, why) in &election.cannot_follow {
        writeln!(out, "  {server}: {why}")?;
    }
    for (server, gtids) in &election.received {
        let latest = if election.latest.contains(server) {
            "received most"
        } else {
            "received"
        };
        writeln!(out, "  by GTIDs {server} had {latest}: {gtids}")?;
    }
    if !report.replicas.is_empty() {
        writeln!(out, "Replicas of it: {}", report.replicas.join(", "))?;
    }
    Ok(())
}

fn positions(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.positions.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(out, "Positions in the log of {}:", report.dead_primary)?;
    let show = |p: &Option<BinlogPosition>| {
        p.as_ref()
            .map_or_else(|| "-".to_owned(), ToString::to_string)
    };
    for (server, p) in &report.positions {
        writeln!(
            out,
            "  {server}: received {}, executed {} before, {} after",
            show(&p.received),
            show(&p.executed_before),
            show(&p.executed_after)
        )?;
    }
    Ok(())
}

fn plan(out: &mut String, report: &Report) -> std::fmt::Result {
    let Some(plan) = &report.plan else {
        return Ok(());
    };
    if !report.dry_run {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(out, "Everything known ends at {}.", plan.frontier.end)?;
    for piece in &plan.pieces {
        writeln!(out, "  {piece}")?;
    }
    writeln!(out, "Steps:")?;
    for step in &plan.steps {
        let after: Vec<String> = step.after.iter().map(|s| s.0.to_string()).collect();
        let after = if after.is_empty() {
            String::new()
        } else {
            format!(" (after {})", after.join(", "))
        };
        writeln!(out, "  {:>3} {}{after}", step.id.0, step.act)?;
    }
    Ok(())
}

fn semi_sync(out: &mut String, report: &Report) -> std::fmt::Result {
    let Some(semi_sync) = report.plan.as_ref().and_then(|p| p.semi_sync.as_ref()) else {
        return Ok(());
    };
    writeln!(out)?;
    writeln!(out, "Semi-synchronous replication: {semi_sync}")
}

fn timeline(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.timeline.is_empty() {
        return Ok(());
    }
    for phase in PHASES {
        let mut steps: Vec<&StepTiming> = report
            .timeline
            .iter()
            .filter(|t| t.phase == phase)
            .collect();
        steps.sort_by_key(|t| t.started_us);
        let (Some(first), Some(last)) = (
            steps.iter().map(|t| t.started_us).min(),
            steps.iter().map(|t| t.finished_us).max(),
        ) else {
            continue;
        };
        writeln!(out)?;
        writeln!(
            out,
            "{} [{} .. {}]",
            phase.heading(),
            milliseconds(first),
            milliseconds(last)
        )?;
        for t in steps {
            let state = if t.ok { "ok" } else { "FAILED" };
            let note = if t.note.is_empty() {
                String::new()
            } else {
                format!(" - {}", t.note)
            };
            writeln!(
                out,
                "  {:>10} +{:<9} {} {state}{note}",
                milliseconds(t.started_us),
                milliseconds(t.finished_us.saturating_sub(t.started_us)),
                t.act
            )?;
        }
    }
    Ok(())
}

fn recovered(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.recovered.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(out, "Recovered:")?;
    for r in &report.recovered {
        writeln!(
            out,
            "  {}: {} transactions, {} bytes, segment {}",
            r.what, r.transactions, r.bytes, r.segment
        )?;
        if r.dropped_bytes > 0 {
            writeln!(
                out,
                "    {} bytes of an unfinished transaction at its end were left out",
                r.dropped_bytes
            )?;
        }
        if let Some(copy) = &r.copy {
            writeln!(out, "    copy on the manager: {copy}")?;
        }
    }
    Ok(())
}

fn proof(out: &mut String, report: &Report) -> std::fmt::Result {
    let Some(proof) = &report.proof else {
        return Ok(());
    };
    writeln!(out)?;
    writeln!(out, "Proof: {}", proof.verdict)?;
    for statement in &proof.statements {
        writeln!(out, "  {statement}")?;
    }
    for flaw in &proof.flaws {
        writeln!(out, "  NOT: {flaw}")?;
    }
    Ok(())
}

fn list(out: &mut String, heading: &str, lines: &[String]) -> std::fmt::Result {
    if lines.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(out, "{heading}:")?;
    for line in lines {
        writeln!(out, "  {line}")?;
    }
    Ok(())
}

/// The segments are ordinary binary logs: whoever must, can finish with the server's own tools.
fn by_hand(out: &mut String, report: &Report) -> std::fmt::Result {
    if report.care.is_empty() || report.recovered.is_empty() {
        return Ok(());
    }
    writeln!(out)?;
    writeln!(
        out,
        "To finish a server by hand, give it what it lacks from the segments (binary logs, in this order) on its agent's host:"
    )?;
    for r in &report.recovered {
        writeln!(
            out,
            "  mysqlbinlog STATE_DIR/segments/{}/{} | mysql   # {}",
            report.operation, r.segment, r.what
        )?;
    }
    writeln!(
        out,
        "starting at its own executed position (--start-position), then point it at the new primary."
    )
}

fn milliseconds(us: u64) -> String {
    format!("{}.{:01} ms", us / 1000, us % 1000 / 100)
}
