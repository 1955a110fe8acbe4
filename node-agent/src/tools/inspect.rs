//! `inspect`: what is in log files.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use binlog_core::{
    BinlogFileName, EventLine, FileKind, Inspection, LogEnd, LogError, TransactionRef,
};
use serde::{Serialize, Serializer};
use serde_json::Value;

use super::report::Text;
use super::{Outcome, ToolError};
use crate::cli::Format;
use crate::error::{Exit, chain};

/// How much is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Show {
    /// Everything but single events.
    All,
    /// One line for each file.
    Verdict,
    /// Every event too, as the files are read.
    Events(Format),
}

/// What is in each file.
#[derive(Debug, Serialize)]
pub struct Inspected {
    /// In the order given.
    pub files: Vec<InspectedFile>,
    #[serde(skip)]
    show: Show,
}

/// What is in one file, or why it cannot be read.
#[derive(Debug)]
pub struct InspectedFile {
    /// The file.
    pub path: PathBuf,
    /// Its contents.
    pub result: Result<Inspection, ToolError>,
}

impl InspectedFile {
    fn exit(&self) -> Exit {
        match &self.result {
            Ok(inspection) if inspection.is_damaged() => Exit::CorruptLog,
            Ok(_) => Exit::Done,
            Err(error) => error.exit(),
        }
    }

    /// In one word: `ok`, `torn`, `corrupt`, `unreadable`.
    fn verdict(&self) -> &'static str {
        match &self.result {
            Ok(inspection) if inspection.is_damaged() => "corrupt",
            Ok(inspection) if matches!(inspection.end, LogEnd::Torn { .. }) => "torn",
            Ok(_) => "ok",
            Err(error) if error.exit() == Exit::CorruptLog => "corrupt",
            Err(_) => "unreadable",
        }
    }
}

impl Serialize for InspectedFile {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut value = match &self.result {
            Ok(inspection) => {
                serde_json::to_value(inspection).map_err(serde::ser::Error::custom)?
            }
            Err(error) => serde_json::json!({ "file": self.path, "error": error.to_json() }),
        };
        if let Value::Object(fields) = &mut value {
            fields.insert("verdict".to_owned(), self.verdict().into());
        }
        value.serialize(serializer)
    }
}

/// Inspects files one after the other; a file that cannot be read does not keep the others from being inspected.
///
/// # Errors
/// Only where the events that [`Show::Events`] asks for cannot be printed.
pub fn inspect(
    files: &[PathBuf],
    first_file: Option<&BinlogFileName>,
    show: Show,
) -> Result<Outcome<Inspected>, ToolError> {
    let mut inspected = Vec::with_capacity(files.len());
    for path in files {
        let mut printed = Ok(());
        let result = match show {
            Show::Events(format) => list(path, first_file, format, &mut printed),
            Show::All | Show::Verdict => binlog_core::inspect(path, first_file, None),
        };
        printed.map_err(|source| ToolError::Output {
            action: "write to",
            path: PathBuf::from("stdout"),
            source,
        })?;
        inspected.push(InspectedFile {
            path: path.clone(),
            result: result.map_err(ToolError::Log),
        });
    }
    Ok(Outcome::Done(Inspected {
        files: inspected,
        show,
    }))
}

fn list(
    path: &Path,
    first_file: Option<&BinlogFileName>,
    format: Format,
    printed: &mut std::io::Result<()>,
) -> Result<Inspection, LogError> {
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    if format == Format::Text {
        let columns = "    offset  type                              server id     log_pos        size  flags";
        *printed = writeln!(out, "{}\n{columns}", path.display());
    }
    let result = binlog_core::inspect(
        path,
        first_file,
        Some(&mut |event| {
            if printed.is_ok() {
                *printed = line(&mut out, path, event, format);
            }
        }),
    );
    if printed.is_ok() {
        *printed = out.flush();
    }
    result
}

fn line(
    out: &mut impl std::io::Write,
    path: &Path,
    event: &EventLine,
    format: Format,
) -> std::io::Result<()> {
    match format {
        Format::Text => writeln!(
            out,
            "{:>10}  {:<32}  {:>10}  {:>10}  {:>10}  {:#06x}",
            event.offset, event.name, event.server_id, event.log_pos, event.size, event.flags
        ),
        Format::Json => {
            let mut value = serde_json::to_value(event)?;
            if let Value::Object(fields) = &mut value {
                fields.insert("file".to_owned(), path.to_string_lossy().into());
            }
            writeln!(out, "{value}")
        }
    }
}

impl Text for Inspected {
    fn text(&self, out: &mut String) {
        for file in &self.files {
            match (&file.result, self.show) {
                (Err(error), _) => {
                    let path = file.path.display();
                    let _ = writeln!(out, "{path}: {}: {}", file.verdict(), chain(error));
                }
                (Ok(inspection), Show::Verdict) => {
                    let _ = writeln!(
                        out,
                        "{}: {}: {}",
                        file.path.display(),
                        file.verdict(),
                        verdict(inspection)
                    );
                }
                (Ok(inspection), _) => all(inspection, file.verdict(), out),
            }
        }
    }

    /// The worst of all files: damage before what cannot be read.
    fn exit(&self) -> Exit {
        let exits: Vec<Exit> = self.files.iter().map(InspectedFile::exit).collect();
        [Exit::CorruptLog, Exit::Failed]
            .into_iter()
            .find(|exit| exits.contains(exit))
            .unwrap_or(Exit::Done)
    }
}

fn verdict(inspection: &Inspection) -> String {
    let mismatch = inspection
        .manifest
        .as_ref()
        .and_then(|manifest| manifest.mismatch.as_ref());
    if let Some(mismatch) = mismatch {
        return mismatch.clone();
    }
    let mut text = format!(
        "{} events, {} with a right checksum, {} without one, ends at {}",
        inspection.events,
        inspection.checksums_verified,
        inspection.without_checksum,
        inspection.end
    );
    if !inspection.holes.is_empty() {
        let _ = write!(text, ", {} holes", inspection.holes.len());
    }
    text
}

fn all(inspection: &Inspection, verdict: &str, out: &mut String) {
    let kind = match inspection.kind {
        FileKind::BinaryLog => "binary log",
        FileKind::RelayLog => "relay log",
        FileKind::Segment => "segment",
    };
    let file = inspection.file.display();
    let _ = writeln!(out, "file          {file}");
    let _ = writeln!(out, "kind          {kind}, {} bytes", inspection.size);
    for format in &inspection.formats {
        let _ = writeln!(
            out,
            "format        at {}: server {} id {}, checksum {}",
            format.offset, format.server_version, format.server_id, format.checksum
        );
    }
    for extent in &inspection.extents {
        let _ = writeln!(out, "extent        {extent}");
    }
    if !inspection.primary_file_known && !inspection.extents.is_empty() {
        let _ = writeln!(
            out,
            "              (nothing tells the primary's file: --first-file names it)"
        );
    }
    for hole in &inspection.holes {
        let _ = writeln!(out, "hole          {hole}");
    }
    let transactions = &inspection.transactions;
    let _ = writeln!(out, "transactions  {}", transactions.count);
    for (name, transaction) in [("first", &transactions.first), ("last", &transactions.last)] {
        if let Some(transaction) = transaction {
            let _ = writeln!(out, "  {name:<5}       {}", described(transaction));
        }
    }
    if let Some(open) = &transactions.open_since {
        let _ = writeln!(out, "  open        since {open}, not ended");
    }
    let _ = writeln!(out, "events        {}", inspection.events);
    for count in &inspection.types {
        let name = &count.name;
        let _ = writeln!(
            out,
            "  {name:<32}  {:>10}  {:>14} bytes",
            count.events, count.bytes
        );
    }
    let _ = writeln!(
        out,
        "checksums     {} right, {} events without one",
        inspection.checksums_verified, inspection.without_checksum
    );
    if let Some(manifest) = &inspection.manifest {
        if let Some(range) = &manifest.range {
            let _ = writeln!(out, "manifest      {range}, from {}", manifest.provider);
        }
        match &manifest.mismatch {
            Some(mismatch) => {
                let _ = writeln!(out, "              {mismatch}");
            }
            None => {
                let _ = writeln!(out, "              size and sha256 are right");
            }
        }
    }
    let _ = writeln!(out, "ends          {}", inspection.end);
    let _ = writeln!(out, "verdict       {verdict}");
}

fn described(transaction: &TransactionRef) -> String {
    let mut text = format!("ends at {}", transaction.end);
    if let Some(gtid) = &transaction.gtid {
        let _ = write!(text, ", GTID {gtid}");
    }
    if let Some(xid) = transaction.xid {
        let _ = write!(text, ", XID {xid}");
    }
    text
}
