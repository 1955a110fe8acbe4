//! Option files, read as mysqld itself reads them at its start (MySQL manual, "Using Option Files"; mysys/my_default.c).
//!
//! Guarantees: settings come in the order in which the server takes them, so that the last one counts; a file that the server
//! would read and that cannot be read here is named, never left out silently; includes are bounded in depth.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// How deep files may include files, as in my_default.c.
const DEEPEST: usize = 10;
/// No option file is larger; what is, is none.
const LARGEST: u64 = 16 << 20;

/// One line `name` or `name=value` of a group that the server reads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Setting {
    /// Name with dashes: dashes and underscores are the same to servers.
    pub(super) name: String,
    /// Value without quotes; `None` if there is none.
    pub(super) value: Option<String>,
    /// `FILE:LINE`.
    pub(super) place: String,
}

/// What a list of files says.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Read {
    /// Settings, in order.
    pub(super) settings: Vec<Setting>,
    /// Files that were read.
    pub(super) files: Vec<PathBuf>,
    /// Files that could not be read, with the reason.
    pub(super) unreadable: Vec<String>,
    /// Files that the server leaves out, with the reason.
    pub(super) left_out: Vec<String>,
}

impl Read {
    /// Takes the settings of `groups` from a file; `false` if there is no such file.
    pub(super) fn file(&mut self, path: &Path, groups: &[String]) -> bool {
        self.nested(path, groups, 0)
    }

    fn nested(&mut self, path: &Path, groups: &[String], depth: usize) -> bool {
        let metadata = match fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == ErrorKind::NotFound => return false,
            Err(error) => {
                self.unreadable.push(format!("{}: {error}", path.display()));
                return true;
            }
        };
        if !metadata.is_file() || metadata.len() > LARGEST {
            self.unreadable
                .push(format!("{}: no option file", path.display()));
            return true;
        }
        if metadata.permissions().mode() & 0o002 != 0 {
            self.left_out.push(format!(
                "{}: the server ignores it, since everybody may write to it",
                path.display()
            ));
            return true;
        }
        match fs::read(path) {
            Ok(bytes) => {
                self.files.push(path.to_owned());
                self.text(&String::from_utf8_lossy(&bytes), path, groups, depth);
            }
            Err(error) => self.unreadable.push(format!("{}: {error}", path.display())),
        }
        true
    }

    fn text(&mut self, text: &str, path: &Path, groups: &[String], depth: usize) {
        let mut ours = false;
        for (line, number) in text.lines().zip(1_usize..) {
            let line = line.trim();
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if let Some(directive) = line.strip_prefix('!') {
                self.include(directive, path, groups, depth);
            } else if let Some(rest) = line.strip_prefix('[') {
                let group = rest.split(']').next().unwrap_or_default().trim();
                ours = groups.iter().any(|known| known.eq_ignore_ascii_case(group));
            } else if ours {
                let line = without_comment(line);
                let (name, value) = match line.split_once('=') {
                    Some((name, value)) => (name, Some(unquoted(value.trim()))),
                    None => (line, None),
                };
                self.settings.push(Setting {
                    name: name.trim().replace('_', "-"),
                    value,
                    place: format!("{}:{number}", path.display()),
                });
            }
        }
    }

    fn include(&mut self, directive: &str, path: &Path, groups: &[String], depth: usize) {
        let (word, target) = directive
            .split_once(char::is_whitespace)
            .unwrap_or((directive, ""));
        let target = Path::new(target.trim());
        if depth >= DEEPEST {
            // So does the server, with a warning.
            self.left_out.push(format!(
                "{}: not included, {DEEPEST} files deep",
                target.display()
            ));
        } else if !target.is_absolute() {
            // It counts from wherever the server was started.
            self.unreadable.push(format!(
                "{}, included by {}: relative",
                target.display(),
                path.display()
            ));
        } else if word == "include" {
            self.nested(target, groups, depth + 1);
        } else if word == "includedir" {
            let listed = fs::read_dir(target).and_then(|entries| {
                entries
                    .map(|entry| entry.map(|entry| entry.path()))
                    .collect::<std::io::Result<Vec<_>>>()
            });
            match listed {
                Ok(mut files) => {
                    files.retain(|file| file.extension().is_some_and(|e| e == "cnf"));
                    // In the order of their names.
                    files.sort();
                    for file in files {
                        self.nested(&file, groups, depth + 1);
                    }
                }
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => self
                    .unreadable
                    .push(format!("{}: {error}", target.display())),
            }
        }
    }
}

/// The line up to a `#` that is in no quotes and behind no backslash.
fn without_comment(line: &str) -> &str {
    let mut quote = None;
    let mut escaped = false;
    for (at, c) in line.char_indices() {
        match (quote, c) {
            (None, '#') if !escaped => return line[..at].trim_end(),
            (None, '\'' | '"') if !escaped => quote = Some(c),
            (Some(open), _) if c == open && !escaped => quote = None,
            _ => {}
        }
        escaped = c == '\\' && !escaped;
    }
    line
}

fn unquoted(value: &str) -> String {
    ['\'', '"']
        .iter()
        .find_map(|quote| value.strip_prefix(*quote)?.strip_suffix(*quote))
        .unwrap_or(value)
        .to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn groups() -> Vec<String> {
        vec!["mysqld".to_owned(), "server".to_owned()]
    }

    fn said(read: &Read) -> Vec<(&str, Option<&str>)> {
        read.settings
            .iter()
            .map(|s| (s.name.as_str(), s.value.as_deref()))
            .collect()
    }

    #[test]
    fn lines_are_taken_as_the_server_takes_them() {
        let mut read = Read::default();
        let text = "# [mysqld]\nport=1\n[client]\nread_only=1\n[mysqld]\n  read_only = 1  # why\n;x=1\n\
                    skip-name-resolve\nsocket='/a b#c'\n[Server]\nread-only=\"0\"\n[mysqld-8.0]\nread_only=1\n";
        read.text(text, Path::new("/etc/my.cnf"), &groups(), 0);
        assert_eq!(
            said(&read),
            [
                ("read-only", Some("1")),
                ("skip-name-resolve", None),
                ("socket", Some("/a b#c")),
                ("read-only", Some("0")),
            ]
        );
        assert_eq!(read.settings[0].place, "/etc/my.cnf:6");
    }

    #[test]
    fn includes_stand_where_they_stand_and_folders_are_read_by_name() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        fs::create_dir(at("conf.d")).unwrap();
        fs::write(at("conf.d/b.cnf"), "[mysqld]\nread_only=2\n").unwrap();
        fs::write(at("conf.d/a.cnf"), "[mysqld]\nread_only=1\n").unwrap();
        fs::write(at("conf.d/c.ini"), "[mysqld]\nread_only=3\n").unwrap();
        fs::write(at("open.cnf"), "[mysqld]\nread_only=4\n").unwrap();
        fs::set_permissions(at("open.cnf"), fs::Permissions::from_mode(0o666)).unwrap();
        let text = format!(
            "[mysqld]\nread_only=0\n!includedir {}\n!include {}\n!include {}\n!include x.cnf\nread_only=5\n",
            at("conf.d").display(),
            at("open.cnf").display(),
            at("none.cnf").display(),
        );
        fs::write(at("my.cnf"), text).unwrap();
        let mut read = Read::default();
        assert!(read.file(&at("my.cnf"), &groups()));
        assert!(!read.file(&at("none.cnf"), &groups()));
        let values: Vec<_> = said(&read)
            .iter()
            .map(|(_, value)| value.unwrap())
            .collect();
        assert_eq!(values, ["0", "1", "2", "5"]);
        assert_eq!(read.files.len(), 3);
        assert_eq!(read.left_out.len(), 1, "{read:?}");
        assert_eq!(read.unreadable.len(), 1, "{read:?}");
    }

    #[test]
    fn a_file_that_includes_itself_ends() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("my.cnf");
        fs::write(&path, format!("!include {}\n", path.display())).unwrap();
        let mut read = Read::default();
        assert!(read.file(&path, &groups()));
        assert_eq!(read.files.len(), DEEPEST + 1);
    }
}
