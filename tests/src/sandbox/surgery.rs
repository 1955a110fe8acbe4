//! Edits of a stopped replica's files, as an administrator does them with an editor.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use super::error::SandboxError;
use super::replica::LogPlace;
use super::server::Server;

/// Cuts a relay log of the stopped replica at `offset`, and removes the later ones, index entries included.
pub fn cut_relay_log(server: &Server, relay: &LogPlace) -> Result<(), SandboxError> {
    let base = server.relay_base();
    let folder = base.parent().unwrap_or(Path::new("/"));
    let path = folder.join(&relay.file);
    let file = File::options()
        .write(true)
        .open(&path)
        .map_err(SandboxError::io("open", &path))?;
    file.set_len(relay.offset)
        .map_err(SandboxError::io("cut", &path))?;
    file.sync_all().map_err(SandboxError::io("sync", &path))?;

    let index = PathBuf::from(format!("{}.index", base.display()));
    let text = fs::read_to_string(&index).map_err(SandboxError::io("read", &index))?;
    let mut kept = String::new();
    for line in text.lines() {
        let name = Path::new(line)
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if (name.len(), name.as_str()) <= (relay.file.len(), relay.file.as_str()) {
            kept.push_str(line);
            kept.push('\n');
        } else {
            let later = folder.join(&name);
            fs::remove_file(&later).map_err(SandboxError::io("remove", &later))?;
        }
    }
    fs::write(&index, kept).map_err(SandboxError::io("write", &index))
}

/// Sets the received position in `master.info` of the stopped replica (its second and third line).
pub fn set_received(server: &Server, read: &LogPlace) -> Result<(), SandboxError> {
    edit(
        &server.datadir().join("master.info"),
        &[(1, read.file.clone()), (2, read.offset.to_string())],
    )
}

/// Sets the executed position in `relay-log.info` of the stopped replica, in its relay log and in its source's log.
pub fn set_executed(
    server: &Server,
    relay: &LogPlace,
    executed: &LogPlace,
) -> Result<(), SandboxError> {
    edit(
        &server.datadir().join("relay-log.info"),
        &[
            (1, format!("./{}", relay.file)),
            (2, relay.offset.to_string()),
            (3, executed.file.clone()),
            (4, executed.offset.to_string()),
        ],
    )
}

/// Replaces lines, counted from 0; the first one of these files is a count of lines since 5.6.
fn edit(path: &Path, changes: &[(usize, String)]) -> Result<(), SandboxError> {
    let text = fs::read_to_string(path).map_err(SandboxError::io("read", path))?;
    let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
    let format = |detail: String| SandboxError::Format {
        path: path.to_owned(),
        wanted: "an info file with a count of lines first",
        detail,
    };
    if lines
        .first()
        .is_none_or(|count| count.parse::<u32>().is_err())
    {
        return Err(format(format!("{:?}", lines.first())));
    }
    for (number, value) in changes {
        let line = lines
            .get_mut(*number)
            .ok_or_else(|| format(format!("no line {}", number + 1)))?;
        line.clone_from(value);
    }
    fs::write(path, lines.join("\n") + "\n").map_err(SandboxError::io("write", path))
}
