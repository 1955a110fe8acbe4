//! Whether the next start of a server makes it read-only: what its configuration says, not what is set now.
//!
//! The question is about the next start, so the files are read as they are now, not as they were when mysqld started; which
//! files those are is told by the command line and the environment of the process that runs. Three answers: yes, no, and
//! unknown where a file that counts cannot be read or nobody can tell which files count. Settings count in the order in which a
//! server takes them: option files, command line, and on MySQL 8.0 and later what SET PERSIST has stored.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use proto::v1;

use super::ServerVersion;
use super::option_files::{Read, Setting};
use super::process::Mysqld;

/// Where SET PERSIST stores values, in the data directory.
const PERSISTED: &str = "mysqld-auto.cnf";

/// Yes, no, or not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    /// Yes.
    Yes,
    /// No.
    No,
    /// It cannot be told.
    Unknown,
}

/// The answer and what it rests on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Configured {
    /// Whether the next start makes the server read-only.
    pub answer: Answer,
    /// Which place says so, or why it cannot be told.
    pub evidence: String,
}

impl Configured {
    /// It cannot be told.
    pub fn unknown(why: impl Into<String>) -> Self {
        Self {
            answer: Answer::Unknown,
            evidence: why.into(),
        }
    }
}

impl From<Configured> for v1::ConfiguredReadOnly {
    fn from(configured: Configured) -> Self {
        let answer = match configured.answer {
            Answer::Yes => v1::Answer::Yes,
            Answer::No => v1::Answer::No,
            Answer::Unknown => v1::Answer::Unknown,
        };
        Self {
            answer: answer.into(),
            evidence: configured.evidence,
        }
    }
}

/// How a server was started, and what it is.
#[derive(Debug, Clone)]
pub struct Start {
    /// Arguments after the program.
    pub arguments: Vec<String>,
    /// Its environment; `None` if the kernel does not show it.
    pub environment: Option<BTreeMap<String, String>>,
    /// Its data directory.
    pub datadir: PathBuf,
    /// Its version.
    pub version: ServerVersion,
}

impl Start {
    /// Of a process that runs.
    pub fn of(mysqld: &Mysqld, datadir: &Path, version: ServerVersion) -> Self {
        Self {
            arguments: mysqld.arguments(),
            environment: mysqld.environment(),
            datadir: datadir.to_owned(),
            version,
        }
    }

    fn variable(&self, name: &str) -> Option<&str> {
        let value = self.environment.as_ref()?.get(name)?;
        (!value.is_empty()).then_some(value.as_str())
    }

    /// Groups of option files that such a server reads (`load_default_groups` in mysqld.cc), with their suffix.
    fn groups(&self, suffix: Option<&str>) -> Vec<String> {
        let (major, minor) = (self.version.major, self.version.minor);
        let mut groups = vec![
            "mysqld".to_owned(),
            "server".to_owned(),
            format!("mysqld-{major}.{minor}"),
        ];
        if self.version.is_mariadb() {
            groups.extend(["mariadb", "mariadbd", "client-server", "galera"].map(str::to_owned));
            groups.push(format!("mariadb-{major}.{minor}"));
            groups.push(format!("mariadbd-{major}.{minor}"));
        }
        if let Some(suffix) = suffix {
            let with: Vec<String> = groups.iter().map(|g| format!("{g}{suffix}")).collect();
            groups.extend(with);
        }
        groups
    }
}

/// What stands at the head of a command line and decides which files are read.
#[derive(Debug, Default)]
struct Head<'a> {
    no_defaults: bool,
    file: Option<&'a str>,
    extra: Option<&'a str>,
    suffix: Option<&'a str>,
}

/// Reads the configuration. Blocks for a few small files.
pub fn read_only(start: &Start) -> Configured {
    let (head, rest) = head(&start.arguments);
    let mut read = Read::default();
    if let Err(why) = files(start, &head, &mut read) {
        return Configured::unknown(why);
    }
    read.settings
        .extend(rest.iter().filter_map(|a| of_command_line(a)));
    let persisted = if head.no_defaults || start.version.is_mariadb() {
        Ok(Vec::new())
    } else {
        persisted(&start.datadir, &read.settings)
    };
    conclude(start, &read, persisted)
}

/// Splits off the options that must stand first.
fn head(arguments: &[String]) -> (Head<'_>, &[String]) {
    let mut head = Head::default();
    let mut taken = 0;
    for argument in arguments {
        if argument == "--no-defaults" {
            head.no_defaults = true;
        } else if let Some(file) = argument.strip_prefix("--defaults-file=") {
            head.file = Some(file);
        } else if let Some(file) = argument.strip_prefix("--defaults-extra-file=") {
            head.extra = Some(file);
        } else if let Some(suffix) = argument.strip_prefix("--defaults-group-suffix=") {
            head.suffix = Some(suffix);
        } else {
            break;
        }
        taken += 1;
    }
    (head, arguments.get(taken..).unwrap_or_default())
}

fn files(start: &Start, head: &Head<'_>, read: &mut Read) -> Result<(), String> {
    if head.no_defaults {
        return Ok(());
    }
    let groups = start.groups(head.suffix.or_else(|| start.variable("MYSQL_GROUP_SUFFIX")));
    if let Some(file) = head.file {
        let path = absolute(file)?;
        if !read.file(path, &groups) {
            return Err(format!(
                "{file}, which it was started with, is not there any more"
            ));
        }
        return Ok(());
    }
    for path in default_files(start) {
        read.file(&path, &groups);
    }
    if let Some(extra) = head.extra {
        read.file(absolute(extra)?, &groups);
    }
    if let Some(home) = start.variable("HOME") {
        read.file(&Path::new(home).join(".my.cnf"), &groups);
    }
    Ok(())
}

/// A name that a server was given counts from where it was started, which nobody can tell any more.
fn absolute(file: &str) -> Result<&Path, String> {
    let path = Path::new(file);
    if path.is_absolute() {
        Ok(path)
    } else {
        Err(format!(
            "it was started with {file}, a relative name, and in which folder is not known"
        ))
    }
}

/// Where a server looks by itself. The third place is fixed when a server is built (`SYSCONFDIR`); those of the usual
/// packages and of the source's default are tried.
fn default_files(start: &Start) -> Vec<PathBuf> {
    let mut folders: Vec<PathBuf> = [
        "/etc",
        "/etc/mysql",
        "/usr/etc",
        "/usr/local/etc",
        "/usr/local/mysql/etc",
    ]
    .map(PathBuf::from)
    .to_vec();
    let home = start
        .variable("MARIADB_HOME")
        .filter(|_| start.version.is_mariadb())
        .or_else(|| start.variable("MYSQL_HOME"));
    // mysqld_safe sets it to the base directory.
    let basedir = start
        .arguments
        .iter()
        .rev()
        .find_map(|a| a.strip_prefix("--basedir="))
        .filter(|_| start.environment.is_none());
    folders.extend(home.or(basedir).map(PathBuf::from));
    let mut seen = Vec::new();
    for folder in folders {
        // One folder may have two names.
        let known = folder.canonicalize().unwrap_or_else(|_| folder.clone());
        if !seen.iter().any(|(_, k)| *k == known) {
            seen.push((folder, known));
        }
    }
    seen.into_iter().map(|(f, _)| f.join("my.cnf")).collect()
}

fn of_command_line(argument: &str) -> Option<Setting> {
    let option = argument.strip_prefix("--")?;
    let (name, value) = match option.split_once('=') {
        Some((name, value)) => (name, Some(value.to_owned())),
        None => (option, None),
    };
    Some(Setting {
        name: name.replace('_', "-"),
        value,
        place: format!("its command line ({argument})"),
    })
}

/// Settings of SET PERSIST, which a server takes last of all.
fn persisted(datadir: &Path, settings: &[Setting]) -> Result<Vec<Setting>, String> {
    let off = settings
        .iter()
        .rev()
        .find(|s| s.name.trim_start_matches("loose-") == "persisted-globals-load")
        .and_then(|s| flag(s.value.as_deref()));
    if off == Some(false) {
        return Ok(Vec::new());
    }
    let path = datadir.join(PERSISTED);
    let text = match std::fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(format!("{}: {error}", path.display())),
    };
    let json: serde_json::Value =
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", path.display()))?;
    let mut found = Vec::new();
    collect(&json, &path, &mut found);
    Ok(found)
}

/// The file's groups differ by version; a variable is an object with a `Value` in any of them.
fn collect(json: &serde_json::Value, path: &Path, found: &mut Vec<Setting>) {
    let Some(object) = json.as_object() else {
        return;
    };
    for (name, inner) in object {
        match inner.get("Value").and_then(serde_json::Value::as_str) {
            Some(value) => found.push(Setting {
                name: name.replace('_', "-"),
                value: Some(value.to_owned()),
                place: format!("SET PERSIST ({})", path.display()),
            }),
            None => collect(inner, path, found),
        }
    }
}

fn conclude(start: &Start, read: &Read, persisted: Result<Vec<Setting>, String>) -> Configured {
    let mut trouble = read.unreadable.clone();
    let persisted = persisted.unwrap_or_else(|why| {
        trouble.push(why);
        Vec::new()
    });
    let settings: Vec<&Setting> = read.settings.iter().chain(&persisted).collect();
    let (read_only, super_read_only) = (
        last(&settings, "read-only", "read-o"),
        last(&settings, "super-read-only", "super-r"),
    );
    if !trouble.is_empty() {
        return Configured::unknown(format!("cannot be read: {}", trouble.join("; ")));
    }
    for (setting, said) in [&read_only, &super_read_only].into_iter().flatten() {
        if said.is_none() {
            return Configured::unknown(format!("{} is no value that is known", shown(setting)));
        }
    }
    let says = |found: &Option<(&Setting, Option<bool>)>, wanted: bool| {
        found
            .as_ref()
            .filter(|(_, said)| *said == Some(wanted))
            .map(|(setting, _)| shown(setting))
    };
    // super_read_only brings read_only with it.
    if let Some(evidence) = says(&super_read_only, true).or_else(|| says(&read_only, true)) {
        return Configured {
            answer: Answer::Yes,
            evidence,
        };
    }
    if let Some(evidence) = says(&read_only, false) {
        return Configured {
            answer: Answer::No,
            evidence,
        };
    }
    let files: Vec<String> = read.files.iter().map(|f| f.display().to_string()).collect();
    let mut evidence = if files.is_empty() {
        "no option file and nothing on its command line".to_owned()
    } else {
        format!("not in {}, nor on its command line", files.join(", "))
    };
    if !read.left_out.is_empty() {
        evidence.push_str(&format!(" ({})", read.left_out.join("; ")));
    }
    if start.environment.is_none() && head(&start.arguments).0.file.is_none() {
        return Configured::unknown(format!(
            "{evidence}; its environment, which may name another file, cannot be read"
        ));
    }
    Configured {
        answer: Answer::No,
        evidence,
    }
}

fn shown(setting: &Setting) -> String {
    let name = setting.name.replace('-', "_");
    match &setting.value {
        _ if setting.place.starts_with("its command line") => setting.place.clone(),
        Some(value) => format!("{name}={value} at {}", setting.place),
        None => format!("{name} at {}", setting.place),
    }
}

/// The last setting of an option, under all the forms that servers accept, and what it says; options may be cut short as long
/// as they stay unambiguous.
fn last<'a>(
    settings: &[&'a Setting],
    name: &str,
    shortest: &str,
) -> Option<(&'a Setting, Option<bool>)> {
    settings.iter().rev().find_map(|setting| {
        let given = setting.name.trim_start_matches("loose-");
        let is = |given: &str| given.starts_with(shortest) && name.starts_with(given);
        if is(given) {
            return Some((*setting, flag(setting.value.as_deref())));
        }
        let (switch, given) = given.split_once('-')?;
        let on = match switch {
            "enable" => true,
            "skip" | "disable" => false,
            _ => return None,
        };
        is(given).then_some((*setting, Some(on)))
    })
}

/// What a server takes a value of a switch for.
fn flag(value: Option<&str>) -> Option<bool> {
    match value.map(str::to_ascii_lowercase).as_deref() {
        None | Some("1" | "on" | "true") => Some(true),
        // MariaDB 12 has further ways to forbid writes.
        Some("no_lock" | "no_lock_no_admin") => Some(true),
        Some("0" | "off" | "false") => Some(false),
        Some(_) => None,
    }
}

#[cfg(test)]
mod tests;
