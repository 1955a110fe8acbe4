//! One initialised data directory per server version: built once by the server's own bootstrap, copied per test.
//!
//! What is in it: the system tables, and `root@localhost` without a password as the only account.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::cache;
use super::error::SandboxError;
use super::fetch::{Distribution, ServerKind};
use super::options::{INNODB_LOG_FILE_SIZE, run_as_root_option};
use super::tool;

/// Grows when the recipe below changes, so that an old template is not used.
const RECIPE: u32 = 1;

/// The template folder for this server, built if the cache lacks it.
pub fn ensure(distribution: &Distribution) -> Result<PathBuf, SandboxError> {
    let name = format!("{}-r{RECIPE}", distribution.kind);
    let folder = cache::root()?.join("templates").join(&name);
    if folder.exists() {
        return Ok(folder);
    }
    let _lock = cache::lock(&format!("template-{name}"))?;
    if !folder.exists() {
        let started = Instant::now();
        super::progress(&format!(
            "initialising a data directory of {}",
            distribution.kind
        ));
        cache::build(&folder, |scratch| bootstrap(distribution, scratch))?;
        super::progress(&format!(
            "initialised in {:.1} s",
            started.elapsed().as_secs_f64()
        ));
    }
    Ok(folder)
}

/// The SQL files that make the system tables, in the order of the server's own installer; none where the server makes
/// them itself.
fn system_sql(kind: ServerKind) -> &'static [&'static str] {
    match kind {
        ServerKind::MySql57 | ServerKind::MySql80 | ServerKind::MySql97 => &[],
        ServerKind::MySql56 => &["mysql_system_tables.sql", "mysql_system_tables_data.sql"],
        // The sys schema came with 10.6, and the files have got MariaDB's name since.
        ServerKind::MariaDb105 => &[
            "mysql_system_tables.sql",
            "mysql_performance_tables.sql",
            "mysql_system_tables_data.sql",
            "fill_help_tables.sql",
            "maria_add_gis_sp_bootstrap.sql",
        ],
        ServerKind::MariaDb118 => &[
            "mariadb_system_tables.sql",
            "mariadb_performance_tables.sql",
            "mariadb_system_tables_data.sql",
            "fill_help_tables.sql",
            "maria_add_gis_sp_bootstrap.sql",
            "mariadb_sys_schema.sql",
        ],
        ServerKind::MariaDb1011 => &[
            "mysql_system_tables.sql",
            "mysql_performance_tables.sql",
            "mysql_system_tables_data.sql",
            "fill_help_tables.sql",
            "maria_add_gis_sp_bootstrap.sql",
            "mysql_sys_schema.sql",
        ],
    }
}

/// Does what `mysql_install_db` and `mariadb-install-db --auth-root-authentication-method=normal --skip-test-db` do;
/// the scripts themselves call programs of client packages that are not needed for anything else.
fn bootstrap(distribution: &Distribution, datadir: &Path) -> Result<(), SandboxError> {
    if system_sql(distribution.kind).is_empty() {
        return initialize(distribution, datadir);
    }
    let parent = datadir.parent().unwrap_or(datadir);
    let mut script = tempfile::NamedTempFile::new_in(parent)
        .map_err(SandboxError::io("create a file in", parent))?;
    write_script(distribution, script.as_file_mut())
        .map_err(SandboxError::io("write", script.path()))?;

    let mut command = installer(distribution, "--bootstrap", datadir);
    command
        .arg(format!("--tmpdir={}", datadir.display()))
        .arg(format!("--innodb-log-file-size={INNODB_LOG_FILE_SIZE}"))
        .arg("--max-allowed-packet=8M");
    tool::run(command, Some(script.path()), Duration::from_secs(120))?;
    Ok(())
}

/// The server's own `--initialize-insecure`, without the UUID that it makes: each copy makes one of its own.
fn initialize(distribution: &Distribution, datadir: &Path) -> Result<(), SandboxError> {
    let mut command = installer(distribution, "--initialize-insecure", datadir);
    command.arg("--innodb-doublewrite=0");
    command.arg(if distribution.kind == ServerKind::MySql97 {
        format!("--innodb-redo-log-capacity={INNODB_LOG_FILE_SIZE}")
    } else {
        format!("--innodb-log-file-size={INNODB_LOG_FILE_SIZE}")
    });
    tool::run(command, None, Duration::from_secs(300))?;
    let uuid = datadir.join("auto.cnf");
    fs::remove_file(&uuid).map_err(SandboxError::io("remove", &uuid))
}

fn installer(distribution: &Distribution, mode: &str, datadir: &Path) -> Command {
    let mut command = distribution.command();
    command
        .arg("--no-defaults")
        .arg(mode)
        .args(run_as_root_option())
        .arg(format!("--basedir={}", distribution.basedir.display()))
        .arg(format!(
            "--lc-messages-dir={}",
            distribution.share.display()
        ))
        .arg(format!("--datadir={}", datadir.display()))
        .args([
            "--innodb-flush-log-at-trx-commit=0",
            "--innodb-use-native-aio=0",
        ]);
    if let Some(plugins) = &distribution.plugin_dir {
        command.arg(format!("--plugin-dir={}", plugins.display()));
    }
    command
}

fn write_script(distribution: &Distribution, script: &mut File) -> std::io::Result<()> {
    // In bootstrap mode each statement ends with its line.
    writeln!(script, "CREATE DATABASE mysql;\nUSE mysql;")?;
    if distribution.kind.is_mariadb() {
        writeln!(script, "SET @auth_root_socket=NULL;")?;
    }
    for name in system_sql(distribution.kind) {
        script.write_all(&fs::read(distribution.share.join(name))?)?;
        writeln!(script)?;
    }
    if !distribution.kind.is_mariadb() {
        // The installer's anonymous accounts and its root accounts for other host names.
        writeln!(
            script,
            "DELETE FROM mysql.user WHERE user='' OR host<>'localhost';"
        )?;
        writeln!(script, "DELETE FROM mysql.db;")?;
        writeln!(
            script,
            "DELETE FROM mysql.proxies_priv WHERE host<>'localhost';"
        )?;
    }
    Ok(())
}
