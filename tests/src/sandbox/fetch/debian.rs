//! MariaDB, MySQL 9.7 and a library from the Debian archive, with apt's state, lists and cache in a private folder.
//!
//! apt-get runs as the present user and touches nothing of the system: it reads which archive the machine uses, then
//! works on a sources list of its own. `/dev/null` as dpkg's status file makes it ignore what is installed, so the
//! packages of the wanted release come whatever release the machine runs.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use super::{Package, mib, package};
use crate::sandbox::error::SandboxError;
use crate::sandbox::progress;
use crate::sandbox::tool::{APT_GET, DPKG};

const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// A server in a release of Debian.
#[derive(Debug)]
pub(super) struct Source {
    /// What it is, for progress and errors.
    product: &'static str,
    /// Suite of the archive.
    release: &'static str,
    /// The package whose version is that of the server.
    server: &'static str,
    /// The version that is wanted begins so.
    line: &'static str,
    packages: Packages,
    /// Megabytes to fetch, about.
    mib: u32,
}

#[derive(Debug)]
enum Packages {
    /// These, beside libraries that the machine has.
    Named(&'static [&'static str]),
    /// The server's package and, of those it depends on, the ones whose names begin so: names of libraries change with
    /// their interfaces.
    Closure(&'static [&'static str]),
}

/// MariaDB 10.11 of Debian 12.
pub(super) const MARIADB_1011: Source = Source {
    product: "MariaDB 10.11",
    release: "bookworm",
    server: "mariadb-server",
    line: "10.11",
    packages: Packages::Named(&[
        "mariadb-server-core",
        "mariadb-server",
        "liburing2",
        "libnuma1",
        "libaio1",
    ]),
    mib: 11,
};

/// MariaDB 10.5 of Debian 11, with every library it needs, the C library and its loader included.
pub(super) const MARIADB_105: Source = Source {
    product: "MariaDB 10.5",
    release: "bullseye",
    server: "mariadb-server-10.5",
    line: "10.5",
    packages: Packages::Named(&[
        "mariadb-server-core-10.5",
        "mariadb-server-10.5",
        "libaio1",
        "libbz2-1.0",
        "libc6",
        "libcap2",
        "libcrypt1",
        "libgcc-s1",
        "libgcrypt20",
        "libgpg-error0",
        "liblz4-1",
        "liblzma5",
        "libpcre2-8-0",
        "libsnappy1v5",
        "libssl1.1",
        "libstdc++6",
        "libsystemd0",
        "libzstd1",
        "zlib1g",
    ]),
    mib: 18,
};

/// MariaDB 11.8 of Debian 13, with every library it needs, the C library and its loader included.
pub(super) const MARIADB_118: Source = Source {
    product: "MariaDB 11.8",
    release: "trixie",
    server: "mariadb-server",
    line: "11.8",
    packages: Packages::Named(&[
        "mariadb-server-core",
        "mariadb-server",
        "libaio1t64",
        "libc6",
        "libcap2",
        "libcrypt1",
        "libgcc-s1",
        "liblz4-1",
        "libnuma1",
        "libpcre2-8-0",
        "libssl3t64",
        "libstdc++6",
        "libsystemd0",
        "liburing2",
        "libzstd1",
        "zlib1g",
    ]),
    mib: 19,
};

/// The libaio that servers of other registries lack, under the name they know.
pub(super) const LIBAIO: Source = Source {
    product: "libaio",
    release: "bookworm",
    server: "libaio1",
    line: "0.3",
    packages: Packages::Named(&["libaio1"]),
    mib: 1,
};

/// MySQL 9.7 of Debian unstable, with every library it needs, the C library and its loader included.
pub(super) const MYSQL_97: Source = Source {
    product: "MySQL 9.7",
    release: "unstable",
    server: "mysql-server-core",
    line: "9.7",
    packages: Packages::Closure(&[
        "libaio1",
        "libc6",
        "libgcc-s1",
        "libgoogle-perftools4",
        "libicu",
        "liblz4-1",
        "liblzma5",
        "libnuma1",
        "libprotobuf-lite",
        "libssl3",
        "libstdc++6",
        "libtcmalloc-minimal4",
        "libunwind8",
        "libxxhash0",
        "libzstd1",
        "zlib1g",
    ]),
    mib: 42,
};

/// Downloads and unpacks into `folder`. The packages themselves are not kept.
pub(super) fn fetch(source: &Source, folder: &Path) -> Result<Vec<Package>, SandboxError> {
    let started = Instant::now();
    let apt = Apt::new(source, &folder.join("apt"))?;
    progress(&format!(
        "reading the package lists of Debian {} from the Debian archive (about 10 MiB)",
        source.release
    ));
    apt.run("update", &[])?;
    let wanted = match source.packages {
        Packages::Named(names) => names.iter().map(|name| (*name).to_owned()).collect(),
        Packages::Closure(prefixes) => {
            let plan = apt.run(
                "install",
                &["--simulate", "--no-install-recommends", source.server],
            )?;
            closure(&plan, source.server, prefixes)
        }
    };
    progress(&format!(
        "fetching {} from the Debian archive (about {} MiB)",
        wanted.join(" "),
        source.mib
    ));
    let names: Vec<&str> = wanted.iter().map(String::as_str).collect();
    apt.run("download", &names)?;

    let mut found = Vec::new();
    for path in apt.downloaded()? {
        let mut unpack = DPKG.command();
        unpack.arg("-x").arg(&path).arg(folder);
        DPKG.run(unpack, "unpack a server", Duration::from_secs(120))?;
        found.push(package(&path)?);
    }
    check_line(source, &found)?;
    fs::remove_dir_all(&apt.folder).map_err(SandboxError::io("remove", &apt.folder))?;
    let bytes = found.iter().map(|package| package.bytes).sum();
    progress(&format!(
        "fetched {} packages, {} in {:.1} s",
        found.len(),
        mib(bytes),
        started.elapsed().as_secs_f64()
    ));
    Ok(found)
}

/// The packages to take of a plan, which has lines like `Inst libicu78 (78.3-2 Debian:unstable [amd64])`.
fn closure(plan: &str, server: &str, prefixes: &[&str]) -> Vec<String> {
    plan.lines()
        .filter_map(|line| line.strip_prefix("Inst ")?.split(' ').next())
        .filter(|name| *name == server || prefixes.iter().any(|prefix| name.starts_with(prefix)))
        .map(str::to_owned)
        .collect()
}

/// The file names carry the version: `mariadb-server_1%3a10.11.18-0+deb12u1_amd64.deb`.
fn check_line(source: &Source, found: &[Package]) -> Result<(), SandboxError> {
    let version = found
        .iter()
        .find_map(|package| package.file.strip_prefix(source.server)?.strip_prefix('_'))
        .map(|rest| rest.split_once("%3a").map_or(rest, |(_, version)| version))
        .unwrap_or("nothing");
    if version.starts_with(&format!("{}.", source.line)) {
        return Ok(());
    }
    Err(SandboxError::WrongLine {
        package: source.server.to_owned(),
        wanted: source.line.to_owned(),
        found: version.to_owned(),
    })
}

/// apt-get with private folders.
struct Apt {
    folder: PathBuf,
    purpose: String,
}

impl Apt {
    fn new(source: &Source, folder: &Path) -> Result<Self, SandboxError> {
        for name in ["lists/partial", "cache/archives/partial", "packages"] {
            let path = folder.join(name);
            fs::create_dir_all(&path).map_err(SandboxError::io("create", &path))?;
        }
        let signed_by = if Path::new(KEYRING).exists() {
            format!("[signed-by={KEYRING}] ")
        } else {
            String::new()
        };
        let lines: Vec<String> = archives(source.release)?
            .iter()
            .map(|(uri, suite)| format!("deb {signed_by}{uri} {suite} main\n"))
            .collect();
        let path = folder.join("sources.list");
        fs::write(&path, lines.concat()).map_err(SandboxError::io("write", &path))?;
        Ok(Self {
            folder: folder.to_owned(),
            purpose: format!("fetch {}", source.product),
        })
    }

    fn command(&self) -> Command {
        let mut command = APT_GET.command();
        let at = |name: &str| self.folder.join(name).display().to_string();
        for option in [
            format!("Dir::State={}", at("")),
            format!("Dir::State::lists={}", at("lists")),
            "Dir::State::status=/dev/null".to_owned(),
            format!("Dir::Cache={}", at("cache")),
            format!("Dir::Etc::sourcelist={}", at("sources.list")),
            "Dir::Etc::sourceparts=/dev/null".to_owned(),
            // As root apt would hand the download to its own user, who cannot write here.
            "APT::Sandbox::User=".to_owned(),
            "APT::Architecture=amd64".to_owned(),
            "APT::Architectures=amd64".to_owned(),
            "Acquire::Languages=none".to_owned(),
            "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false".to_owned(),
            "Acquire::IndexTargets::deb::CNF::DefaultEnabled=false".to_owned(),
            "Acquire::Retries=3".to_owned(),
            // Hooks of the system's configuration belong to system-wide updates.
            "APT::Update::Post-Invoke=".to_owned(),
            "APT::Update::Post-Invoke-Success=".to_owned(),
            "DPkg::Post-Invoke=".to_owned(),
        ] {
            command.arg("-o").arg(option);
        }
        command.current_dir(self.folder.join("packages"));
        command
    }

    fn run(&self, verb: &str, arguments: &[&str]) -> Result<String, SandboxError> {
        let mut command = self.command();
        command.arg("-q").arg(verb).args(arguments);
        APT_GET.run(command, &self.purpose, Duration::from_secs(600))
    }

    fn downloaded(&self) -> Result<Vec<PathBuf>, SandboxError> {
        let folder = self.folder.join("packages");
        let mut paths = Vec::new();
        for entry in fs::read_dir(&folder).map_err(SandboxError::io("list", &folder))? {
            let path = entry.map_err(SandboxError::io("list", &folder))?.path();
            if path.extension().is_some_and(|extension| extension == "deb") {
                paths.push(path);
            }
        }
        paths.sort();
        Ok(paths)
    }
}

/// The Debian archives to use, as (URI, suite): `MHA_SANDBOX_DEBIAN_MIRROR`, else those of this machine.
fn archives(release: &str) -> Result<Vec<(String, String)>, SandboxError> {
    if let Ok(uri) = std::env::var("MHA_SANDBOX_DEBIAN_MIRROR") {
        return Ok(vec![(uri, release.to_owned())]);
    }
    let mut list = APT_GET.command();
    list.args([
        "indextargets",
        "--format",
        "$(REPO_URI)|$(RELEASE)",
        "Created-By: Packages",
    ]);
    let text = APT_GET.run(
        list,
        "find the Debian archive that this machine uses",
        Duration::from_secs(30),
    )?;
    let configured: Vec<(&str, &str)> = text
        .lines()
        .filter_map(|line| line.split_once('|'))
        .collect();
    let found = choose(&configured, release);
    if found.is_empty() {
        return Err(SandboxError::NoDebianArchive {
            found: text.trim().replace('\n', ", "),
        });
    }
    Ok(found)
}

/// Archives of the wanted release if the machine has them, else the machine's Debian archives with that release.
/// Unstable has no security archive.
fn choose(configured: &[(&str, &str)], release: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = Vec::new();
    for (uri, suite) in configured {
        let path = uri.trim_end_matches('/');
        let suite = if suite.split('-').next() == Some(release) {
            (*suite).to_owned()
        } else if path.ends_with("/debian") {
            release.to_owned()
        } else if path.ends_with("/debian-security") && release != "unstable" {
            format!("{release}-security")
        } else {
            continue;
        };
        let archive = ((*uri).to_owned(), suite);
        if !found.contains(&archive) {
            found.push(archive);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(uri, suite)| ((*uri).to_owned(), (*suite).to_owned()))
            .collect()
    }

    #[test]
    fn archives_of_the_release_are_taken_as_they_are() {
        let machine = [
            ("http://a.example/debian/", "bookworm"),
            ("http://a.example/debian-security/", "bookworm-security"),
            ("http://b.example/tools", "stable"),
        ];
        assert_eq!(choose(&machine, "bookworm"), owned(&machine[..2]));
    }

    #[test]
    fn another_debian_release_lends_its_archive() {
        let machine = [
            ("http://a.example/debian/", "trixie"),
            ("http://a.example/debian/", "trixie-updates"),
            ("http://a.example/debian-security/", "trixie-security"),
        ];
        let wanted = [
            ("http://a.example/debian/", "bookworm"),
            ("http://a.example/debian-security/", "bookworm-security"),
        ];
        assert_eq!(choose(&machine, "bookworm"), owned(&wanted));
        let unstable = [("http://a.example/debian/", "unstable")];
        assert_eq!(choose(&machine, "unstable"), owned(&unstable));
    }

    #[test]
    fn a_machine_without_debian_has_none() {
        let machine = [("http://a.example/ubuntu", "noble")];
        assert_eq!(choose(&machine, "bookworm"), owned(&[]));
    }

    #[test]
    fn of_what_a_server_depends_on_libraries_are_taken() {
        let plan = "NOTE: This is only a simulation!\n\
                    Inst libc6 (2.43-7 Debian:unstable [amd64]) []\n\
                    Inst perl-base (5.42.3-1 Debian:unstable [amd64])\n\
                    Inst libicu78 (78.3-2 Debian:unstable [amd64])\n\
                    Inst mysql-server-core (9.7.4-2 Debian:unstable [amd64])\n\
                    Conf libc6 (2.43-7 Debian:unstable [amd64])\n";
        assert_eq!(
            closure(plan, "mysql-server-core", &["libc6", "libicu"]),
            ["libc6", "libicu78", "mysql-server-core"]
        );
    }

    #[test]
    fn a_line_that_moved_on_is_named() {
        let package = |file: &str| Package {
            file: file.to_owned(),
            bytes: 1,
            sha256: String::new(),
        };
        let check = |file: &str| check_line(&MARIADB_1011, &[package(file)]);
        check("mariadb-server_1%3a10.11.18-0+deb12u1_amd64.deb").unwrap();
        check_line(&MYSQL_97, &[package("mysql-server-core_9.7.4-2_amd64.deb")]).unwrap();
        let error = check("mariadb-server_1%3a11.8.6-1_amd64.deb").unwrap_err();
        assert_eq!(
            error.to_string(),
            "the archive offers mariadb-server 11.8.6-1_amd64.deb, wanted a version of the line 10.11"
        );
    }
}
