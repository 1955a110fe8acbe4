//! Where a server keeps its files, and who it is: asked while it lives, remembered for when it does not.
//!
//! `<state>/servers/NAME/remembered.json` is replaced whenever an observation learnt something else. After the server
//! died it is the only way to its logs, so nothing in it is guessed: a path that the server did not say is absent.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::observe::Identity;
use super::variables::Variables;
use crate::state::durable::{self, DurableError};

/// Files and identity of one server, as it said itself. All paths are absolute.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Data directory.
    pub datadir: PathBuf,
    /// Directory and base name of the binary log; `None` if it is off.
    pub log_bin_basename: Option<PathBuf>,
    /// Index of the binary log.
    pub log_bin_index: Option<PathBuf>,
    /// Directory and base name of the relay logs.
    pub relay_log_basename: Option<PathBuf>,
    /// Index of the relay logs.
    pub relay_log_index: Option<PathBuf>,
    /// `relay-log.info`; exists only with a FILE repository.
    pub relay_log_info_file: PathBuf,
    /// `master.info`; exists only with a FILE repository.
    pub master_info_file: PathBuf,
    /// Pid file.
    pub pid_file: Option<PathBuf>,
    /// Who the server is.
    pub identity: Identity,
    /// Its receiver was semi-synchronous when it last ran: the primary waited for it. See [`super::semi_sync`].
    #[serde(default)]
    pub semi_sync: bool,
}

impl Remembered {
    /// Name of the file in a server's state folder.
    pub const FILE: &'static str = "remembered.json";

    /// From a living server's variables. `command_line` is that of its process, where one could be read: 5.6 to 10.x
    /// show the name of `master.info` nowhere else.
    pub fn from_variables(
        variables: &Variables,
        identity: Identity,
        command_line: &[String],
    ) -> Self {
        let datadir = identity.datadir.clone();
        let at = |name: &str| match variables.text(name) {
            "" => None,
            path => Some(datadir.join(path)),
        };
        let relay_log_basename = at("relay_log_basename").or_else(|| at("relay_log"));
        Self {
            log_bin_basename: identity.log_bin_basename.clone(),
            log_bin_index: at("log_bin_index").or_else(|| {
                identity
                    .log_bin_basename
                    .as_deref()
                    .map(|base| with_suffix(base, ".index"))
            }),
            relay_log_index: at("relay_log_index").or_else(|| {
                relay_log_basename
                    .as_deref()
                    .map(|base| with_suffix(base, ".index"))
            }),
            relay_log_basename,
            relay_log_info_file: at("relay_log_info_file")
                .unwrap_or_else(|| datadir.join("relay-log.info")),
            master_info_file: datadir.join(
                option_of(command_line, "master-info-file").unwrap_or("master.info".to_owned()),
            ),
            pid_file: at("pid_file"),
            datadir,
            identity,
            semi_sync: false,
        }
    }

    /// Reads what was remembered in this state folder; `None` if nothing was.
    pub fn load(folder: &Path) -> Result<Option<Self>, DurableError> {
        durable::read_json(&folder.join(Self::FILE))
    }

    /// Stores it, unless it already says the same. Blocks for up to two syncs.
    pub fn store(&self, folder: &Path) -> Result<(), DurableError> {
        // What cannot be read is replaced: the living server knows better.
        if matches!(Self::load(folder), Ok(Some(known)) if known == *self) {
            return Ok(());
        }
        durable::create_private_directory(folder)?;
        durable::write_json(&folder.join(Self::FILE), self)
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

/// Value of `--NAME=value`, where dashes and underscores are the same, as for servers; the last one counts.
fn option_of(command_line: &[String], name: &str) -> Option<String> {
    command_line
        .iter()
        .rev()
        .filter_map(|argument| argument.strip_prefix("--")?.split_once('='))
        .find(|(key, _)| key.replace('_', "-") == name)
        .map(|(_, value)| value.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mysqld::ServerVersion;

    fn identity() -> Identity {
        Identity {
            version: ServerVersion::parse("5.6.24-log").unwrap(),
            server_id: 2,
            server_uuid: "u".to_owned(),
            hostname: "db2".to_owned(),
            port: 3306,
            datadir: PathBuf::from("/data"),
            log_bin_basename: Some(PathBuf::from("/data/mysql-bin")),
            gtid_mode: "OFF".to_owned(),
            binlog_checksum: "CRC32".to_owned(),
        }
    }

    #[test]
    fn relative_names_count_from_the_data_directory_and_nothing_is_guessed() {
        let variables = Variables::of(&[
            ("log_bin_index", "/other/binlog.index"),
            ("relay_log", "relay"),
            ("pid_file", ""),
        ]);
        let arguments = ["mysqld".to_owned(), "--master_info_file=m.info".to_owned()];
        let remembered = Remembered::from_variables(&variables, identity(), &arguments);
        assert_eq!(
            remembered.log_bin_index.unwrap(),
            Path::new("/other/binlog.index")
        );
        assert_eq!(
            remembered.relay_log_basename.unwrap(),
            Path::new("/data/relay")
        );
        assert_eq!(
            remembered.relay_log_index.unwrap(),
            Path::new("/data/relay.index")
        );
        assert_eq!(
            remembered.relay_log_info_file,
            Path::new("/data/relay-log.info")
        );
        assert_eq!(remembered.master_info_file, Path::new("/data/m.info"));
        assert_eq!(remembered.pid_file, None);
    }

    #[test]
    fn it_is_kept_and_a_damaged_one_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("servers/db2_3306");
        let remembered = Remembered::from_variables(&Variables::default(), identity(), &[]);
        assert_eq!(Remembered::load(&folder).unwrap(), None);
        remembered.store(&folder).unwrap();
        assert_eq!(Remembered::load(&folder).unwrap(), Some(remembered.clone()));
        std::fs::write(folder.join(Remembered::FILE), b"{").unwrap();
        assert!(Remembered::load(&folder).is_err());
        remembered.store(&folder).unwrap();
        assert_eq!(Remembered::load(&folder).unwrap(), Some(remembered));
    }
}
