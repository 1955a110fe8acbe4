//! A report as a file: whole or not there.

use std::io::Write;
use std::path::Path;

use super::Report;

/// Writes the report as JSON: temporary file, fsync, rename, fsync of the folder.
///
/// # Errors
/// I/O.
pub fn save(report: &Report, path: &Path) -> std::io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".new");
    let mut file = std::fs::File::create(&temporary)?;
    serde_json::to_writer_pretty(&mut file, report)?;
    file.write_all(b"\n")?;
    file.sync_all()?;
    std::fs::rename(&temporary, path)?;
    let dir = match path.parent() {
        Some(dir) if !dir.as_os_str().is_empty() => dir,
        _ => Path::new("."),
    };
    std::fs::File::open(dir)?.sync_all()
}
