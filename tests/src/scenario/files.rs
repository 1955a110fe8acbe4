//! Log files on disk, as an administrator sees them.

use std::fs;
use std::io::Write;
use std::ops::Range;
use std::path::Path;

use crate::sandbox::cache::copy_tree;
use crate::sandbox::{Cluster, SandboxError};

/// Names of the files `BASE.DIGITS` beside `base`, in order of their names.
pub fn numbered(base: &Path) -> Result<Vec<String>, SandboxError> {
    let folder = base.parent().unwrap_or(base);
    let stem = format!(
        "{}.",
        base.file_name().unwrap_or_default().to_string_lossy()
    );
    let mut names = starting_with(folder, &stem)?;
    names.retain(|name| {
        name.strip_prefix(&stem)
            .is_some_and(|rest| rest.bytes().all(|byte| byte.is_ascii_digit()))
    });
    Ok(names)
}

/// Names in a folder that begin with `prefix`, in order.
pub fn starting_with(folder: &Path, prefix: &str) -> Result<Vec<String>, SandboxError> {
    let mut names = Vec::new();
    for entry in fs::read_dir(folder).map_err(SandboxError::io("list", folder))? {
        let entry = entry.map_err(SandboxError::io("list", folder))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(prefix) {
            names.push(name);
        }
    }
    names.sort();
    Ok(names)
}

/// Writes `text` behind what a file has.
pub fn append(file: &Path, text: &str) -> Result<(), SandboxError> {
    fs::OpenOptions::new()
        .append(true)
        .open(file)
        .and_then(|mut opened| opened.write_all(text.as_bytes()))
        .map_err(SandboxError::io("append to", file))
}

/// All bytes of a file.
pub fn read(file: &Path) -> Result<Vec<u8>, SandboxError> {
    fs::read(file).map_err(SandboxError::io("read", file))
}

/// Writes a file.
pub fn write(file: &Path, bytes: &[u8]) -> Result<(), SandboxError> {
    fs::write(file, bytes).map_err(SandboxError::io("write", file))
}

/// Takes a file away.
pub fn remove(file: &Path) -> Result<(), SandboxError> {
    fs::remove_file(file).map_err(SandboxError::io("remove", file))
}

/// Copies a file without these bytes of it.
pub fn cut_out(from: &Path, range: Range<u64>, to: &Path) -> Result<(), SandboxError> {
    let kept: Vec<u8> = read(from)?
        .into_iter()
        .zip(0_u64..)
        .filter(|(_, at)| !range.contains(at))
        .map(|(byte, _)| byte)
        .collect();
    write(to, &kept)
}

/// Copies a file.
pub fn copy(from: &Path, to: &Path) -> Result<(), SandboxError> {
    fs::copy(from, to)
        .map(|_| ())
        .map_err(SandboxError::io("copy to", to))
}

/// A folder of the test, removed with the value.
pub fn scratch() -> Result<tempfile::TempDir, SandboxError> {
    let parent = std::env::temp_dir();
    tempfile::tempdir().map_err(SandboxError::io("create a folder in", &parent))
}

/// Makes a folder.
pub fn create(folder: &Path) -> Result<(), SandboxError> {
    fs::create_dir(folder).map_err(SandboxError::io("create", folder))
}

/// Copies what explains a failure: the program's configurations, journals and logs, and of each server its configuration,
/// error log, binary logs and relay logs. The tables are not among them.
pub fn keep(cluster: &Cluster, target: &Path) -> Result<(), SandboxError> {
    let mha = cluster.dir().join("mha");
    if mha.exists() {
        copy_tree(&mha, &target.join("mha"))?;
    }
    for server in cluster.servers() {
        let folder = target.join(server.name());
        fs::create_dir_all(&folder).map_err(SandboxError::io("create", &folder))?;
        let mut wanted = vec![server.config_file(), server.error_log()];
        for base in [server.binlog_base(), server.relay_base()] {
            let parent = base.parent().unwrap_or(&base);
            let names = numbered(&base)?;
            wanted.extend(names.iter().map(|name| parent.join(name)));
        }
        for file in wanted {
            copy(&file, &folder.join(file.file_name().unwrap_or_default()))?;
        }
    }
    Ok(())
}
