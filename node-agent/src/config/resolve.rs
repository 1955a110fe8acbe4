//! From the raw configuration to the resolved one: every check that is not a matter of syntax.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::Duration;

use proto::identity::{Identity, Role};
use proto::tls::TlsPaths;

use super::raw::{RawBinlogServer, RawConfig, RawRelayKeep, RawServer, RawTls};
use super::secret::check_private;
use super::{
    BinlogServerConfig, Config, ConfigError, RelayKeep, SecretFile, Security, ServerConfig,
};

const DAY: Duration = Duration::from_secs(86_400);
/// Ten years; beyond it a number of days is a slip of the pen.
const MOST_DAYS: u64 = 3_650;

pub(super) fn resolve(raw: RawConfig, folder: &Path) -> Result<Config, ConfigError> {
    let security = match (raw.tls, raw.plaintext) {
        (Some(tls), false) => Security::Tls(resolve_tls(tls, folder)?),
        (None, true) if raw.listen.ip().is_loopback() => Security::PlainText,
        (None, true) => {
            return Err(ConfigError::PlainTextBeyondLoopback { listen: raw.listen });
        }
        (Some(_), true) | (None, false) => return Err(ConfigError::NoSecurity),
    };
    let keep_days = in_range(
        "segment_keep_days",
        raw.segment_keep_days.into(),
        1,
        MOST_DAYS,
    )?;
    let state_dir = against(folder, raw.state_dir);
    if state_dir.exists() && !state_dir.is_dir() {
        return Err(ConfigError::BadPath {
            key: "state_dir".to_owned(),
            expected: "a directory",
            path: state_dir,
        });
    }
    if raw.servers.is_empty() && raw.binlog_servers.is_empty() {
        return Err(ConfigError::NoServers);
    }
    check_identity("servers", &raw.name, raw.servers.iter().map(|s| &s.cluster))?;
    let of_directories = raw.binlog_servers.iter().map(|b| &b.cluster);
    check_identity("binlog_servers", &raw.name, of_directories)?;
    let mut by_folder: BTreeMap<String, String> = BTreeMap::new();
    let mut servers = Vec::with_capacity(raw.servers.len());
    for (index, server) in raw.servers.into_iter().enumerate() {
        let resolved = resolve_server(server, index, folder, &state_dir)?;
        if let Some(first) = by_folder.insert(folder_name(&resolved.name), resolved.name.clone()) {
            return Err(ConfigError::DuplicateServer {
                first,
                second: resolved.name,
            });
        }
        servers.push(resolved);
    }
    let mut binlog_servers = Vec::with_capacity(raw.binlog_servers.len());
    for (index, binlog_server) in raw.binlog_servers.into_iter().enumerate() {
        let resolved = resolve_binlog_server(binlog_server, index, folder)?;
        if let Some(first) = by_folder.insert(folder_name(&resolved.name), resolved.name.clone()) {
            return Err(ConfigError::DuplicateServer {
                first,
                second: resolved.name,
            });
        }
        binlog_servers.push(resolved);
    }
    Ok(Config {
        name: raw.name,
        listen: raw.listen,
        state_dir,
        security,
        segment_keep: DAY.saturating_mul(u32::try_from(keep_days).unwrap_or(u32::MAX)),
        servers,
        binlog_servers,
        replay_faults: raw.testing.replay_faults,
    })
}

fn resolve_tls(raw: RawTls, folder: &Path) -> Result<TlsPaths, ConfigError> {
    let tls = TlsPaths {
        ca: against(folder, raw.ca),
        cert: against(folder, raw.cert),
        key: against(folder, raw.key),
    };
    open("tls.ca", &tls.ca)?;
    open("tls.cert", &tls.cert)?;
    check_private("tls.key", &tls.key, &open("tls.key", &tls.key)?)?;
    Ok(tls)
}

fn resolve_server(
    raw: RawServer,
    index: usize,
    folder: &Path,
    state_dir: &Path,
) -> Result<ServerConfig, ConfigError> {
    let key = |name: &str| format!("servers[{index}].{name}");
    check_server_name(&key("name"), &raw.name)?;
    if raw.password_file.is_some() && raw.user.is_none() {
        return Err(ConfigError::Incomplete {
            key: key("password_file"),
            needs: "user",
        });
    }
    if raw.replication_password_file.is_some() && raw.replication_user.is_none() {
        return Err(ConfigError::Incomplete {
            key: key("replication_password_file"),
            needs: "replication_user",
        });
    }
    let secret = |name: &str, path: Option<PathBuf>| -> Result<Option<SecretFile>, ConfigError> {
        let Some(path) = path else { return Ok(None) };
        let file = SecretFile::new(key(name), against(folder, path));
        file.read()?;
        Ok(Some(file))
    };
    let datadir = raw.datadir.map(|path| against(folder, path));
    if let Some(path) = datadir.as_ref().filter(|path| !path.is_dir()) {
        return Err(ConfigError::BadPath {
            key: key("datadir"),
            expected: "a directory",
            path: path.clone(),
        });
    }
    Ok(ServerConfig {
        state_dir: state_dir.join("servers").join(folder_name(&raw.name)),
        socket: against(folder, raw.socket),
        user: raw.user,
        password_file: secret("password_file", raw.password_file)?,
        replication_user: raw.replication_user,
        replication_password_file: secret(
            "replication_password_file",
            raw.replication_password_file,
        )?,
        datadir,
        relay_keep: resolve_relay_keep(raw.relay_keep, &key("relay_keep"))?,
        disk_probe: match raw.disk_probe_ms {
            0 => None,
            found => {
                let ms = in_range(&key("disk_probe_ms"), found.into(), 100, 60_000)?;
                Some(Duration::from_millis(ms))
            }
        },
        name: raw.name,
        cluster: raw.cluster,
    })
}

fn resolve_binlog_server(
    raw: RawBinlogServer,
    index: usize,
    folder: &Path,
) -> Result<BinlogServerConfig, ConfigError> {
    check_server_name(&format!("binlog_servers[{index}].name"), &raw.name)?;
    Ok(BinlogServerConfig {
        name: raw.name,
        cluster: raw.cluster,
        directory: against(folder, raw.directory),
    })
}

fn resolve_relay_keep(raw: Option<RawRelayKeep>, key: &str) -> Result<RelayKeep, ConfigError> {
    let mut keep = RelayKeep::default();
    let Some(raw) = raw else { return Ok(keep) };
    if let Some(percent) = raw.percent_of_disk {
        in_range(&format!("{key}.percent_of_disk"), percent.into(), 1, 90)?;
        keep.percent_of_disk = percent;
    }
    if let Some(days) = raw.days {
        in_range(&format!("{key}.days"), days.into(), 1, MOST_DAYS)?;
        keep.age = DAY.saturating_mul(days);
    }
    Ok(keep)
}

/// Name of a server's state folder: `:` is awkward in paths that end up in PATH-like lists.
fn folder_name(server: &str) -> String {
    server.replace(':', "_")
}

fn against(folder: &Path, path: PathBuf) -> PathBuf {
    // The agent never changes its working directory, but messages and /proc comparisons want absolute paths.
    let joined = folder.join(path);
    std::path::absolute(&joined).unwrap_or(joined)
}

fn open(key: &str, path: &Path) -> Result<File, ConfigError> {
    File::open(path).map_err(|source| ConfigError::File {
        key: key.to_owned(),
        path: path.to_path_buf(),
        source,
    })
}

fn in_range(key: &str, found: u64, minimum: u64, maximum: u64) -> Result<u64, ConfigError> {
    if (minimum..=maximum).contains(&found) {
        return Ok(found);
    }
    Err(ConfigError::OutOfRange {
        key: key.to_owned(),
        found,
        minimum,
        maximum,
    })
}

/// Agent and cluster names stand in certificates: the certificate's own rules decide.
fn check_identity<'a>(
    section: &str,
    name: &str,
    clusters: impl Iterator<Item = &'a String>,
) -> Result<(), ConfigError> {
    for (index, cluster) in clusters.enumerate() {
        Identity::new(cluster, Role::Agent, name).map_err(|source| ConfigError::BadIdentity {
            keys: format!("name and {section}[{index}].cluster"),
            source,
        })?;
    }
    Ok(())
}

fn check_server_name(key: &str, name: &str) -> Result<(), ConfigError> {
    let well_formed = !name.is_empty()
        && name.len() <= 63
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name
            .chars()
            .all(|c| c.is_ascii_alphanumeric() || "-._:".contains(c));
    if well_formed {
        return Ok(());
    }
    Err(ConfigError::BadName {
        key: key.to_owned(),
        expected: "1 to 63 letters, digits, '-', '.', '_' or ':', a letter or digit first",
        found: name.to_owned(),
    })
}
