//! What makes a survivor unfit to become the primary, with the facts.

use std::collections::BTreeSet;
use std::fmt;

use binlog_core::BinlogPosition;
use serde::{Deserialize, Serialize};

use super::sets;
use crate::config::{Candidacy, FailoverPolicy};
use crate::facts::{Flavor, ThreadError};
use crate::topology::{Survivor, Topology};

/// One reason against a candidate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "unfit", rename_all = "snake_case")]
#[non_exhaustive]
pub enum Unfit {
    /// `candidate: never`.
    Never,
    /// Without a binary log nobody could replicate from it.
    NoBinlog,
    /// Its applier stopped with an error: it lacks what it received.
    ApplierError {
        /// The error.
        error: ThreadError,
    },
    /// It is kept behind on purpose (`MASTER_DELAY`): what was not executed yet may be what nobody is to execute. Named by
    /// `--new-primary`, it is fit.
    KeptBehind {
        /// The delay in seconds.
        delay_s: u32,
    },
    /// Its applier is too far behind. See [`Behind`] for what is measured.
    Delayed {
        /// What it executed.
        executed: BinlogPosition,
        /// What the latest received.
        latest: BinlogPosition,
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// It is newer than another survivor that will be pointed at the new primary, and could not replicate from it.
    NewerVersion {
        /// Its version.
        own: String,
        /// The oldest.
        oldest: String,
        /// Whose that is.
        #[serde(default)]
        of: String,
    },
    /// Another family than the dead primary.
    OtherFlavor,
    /// It filters what others do not: it would lack data they have. Named by `--new-primary`, it is fit.
    Filtered {
        /// Its filters that another survivor does not have.
        filters: Vec<String>,
        /// That survivor.
        other: String,
    },
    /// It filters, and a server that is left aside may have what it lacks. Named by `--new-primary`, it is fit.
    FilteredAlone {
        /// Its filters.
        filters: Vec<String>,
        /// The server that is left aside.
        aside: String,
    },
    /// It holds transactions that nobody else has.
    Errant {
        /// Their GTIDs.
        gtids: String,
    },
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never => f.write_str("configured as `candidate: never`"),
            Self::NoBinlog => f.write_str("its binary log is off"),
            Self::ApplierError { error } => {
                write!(f, "its applier stopped with error {error}")
            }
            Self::KeptBehind { delay_s } => write!(
                f,
                "it is kept {delay_s} s behind on purpose; it wins only if --new-primary names it"
            ),
            Self::Delayed {
                executed,
                latest,
                limit_bytes,
            } => {
                write!(
                    f,
                    "its applier is too far behind: executed {executed}, latest received {latest}: "
                )?;
                match Behind::between(executed, latest) {
                    Behind::InFile(bytes) => {
                        write!(f, "{bytes} bytes in that file, limit {limit_bytes}")
                    }
                    Behind::NextFile(bytes) => write!(
                        f,
                        "the rest of a file and {bytes} bytes of the next, limit {limit_bytes} of the latter"
                    ),
                    Behind::Files(files) => {
                        write!(
                            f,
                            "{files} files later, limit one file, whatever their sizes"
                        )
                    }
                }
            }
            Self::NewerVersion { own, oldest, of } => {
                let of = if of.is_empty() {
                    "another survivor"
                } else {
                    of
                };
                write!(
                    f,
                    "its version {own} is newer than {oldest} of {of}, which could not replicate from it"
                )
            }
            Self::OtherFlavor => f.write_str("it is of another family than the dead primary"),
            Self::Filtered { filters, other } => {
                write!(
                    f,
                    "it has filters that {other} has not: {}; it wins only if --new-primary names it",
                    filters.join(", ")
                )
            }
            Self::FilteredAlone { filters, aside } => write!(
                f,
                "it has filters: {}; what they leave out may be at {aside}, which is left aside; it wins only if --new-primary names it",
                filters.join(", ")
            ),
            Self::Errant { gtids } => write!(f, "it holds transactions nobody else has: {gtids}"),
        }
    }
}

impl Unfit {
    /// Speaks against a server that an operator names, too.
    pub(super) fn even_if_named(&self) -> bool {
        !matches!(
            self,
            Self::KeptBehind { .. } | Self::Filtered { .. } | Self::FilteredAlone { .. }
        )
    }
}

/// All reasons against a survivor.
pub(super) fn reasons(
    survivor: &Survivor,
    candidacy: Candidacy,
    latest: Option<&BinlogPosition>,
    topology: &Topology,
    policy: &FailoverPolicy,
) -> Vec<Unfit> {
    let mut found = Vec::new();
    if candidacy == Candidacy::Never {
        found.push(Unfit::Never);
    }
    if !survivor.facts.settings.as_ref().is_some_and(|s| s.log_bin) {
        found.push(Unfit::NoBinlog);
    }
    if let Some(error) = survivor.applier_failed() {
        found.push(Unfit::ApplierError {
            error: error.clone(),
        });
    }
    match survivor.replica.delay_s {
        0 => found.extend(delayed(survivor, latest, policy)),
        delay_s => found.push(Unfit::KeptBehind { delay_s }),
    }
    found.extend(version(survivor, topology));
    found.extend(filters(survivor, topology));
    found.extend(errant(survivor, topology));
    found
}

/// How far one position is behind another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Behind {
    /// So many bytes, in one file.
    InFile(u64),
    /// The rest of a file, whose size nobody has said, and so many bytes of the next.
    NextFile(u64),
    /// The later one is in a file so many later, two at least: how much lies between is not known.
    Files(u64),
}

impl Behind {
    fn between(executed: &BinlogPosition, latest: &BinlogPosition) -> Self {
        let files = latest
            .file
            .sequence()
            .saturating_sub(executed.file.sequence());
        match files {
            0 => Self::InFile(latest.offset.saturating_sub(executed.offset)),
            1 => Self::NextFile(latest.offset),
            files => Self::Files(files),
        }
    }
}

/// The latest is more than the limit ahead in the same file, or reads two files later or more.
///
/// Differs from MHA: there one file later is enough, so that a rotation of the primary's log a moment before its death
/// excludes every replica that is not the latest. Here the part of the later file is measured against the limit.
fn delayed(
    survivor: &Survivor,
    latest: Option<&BinlogPosition>,
    policy: &FailoverPolicy,
) -> Option<Unfit> {
    let (executed, latest) = (survivor.replica.executed.as_ref()?, latest?);
    // A replay that was interrupted is part of this failover, not a lag.
    if !policy.check_delay || survivor.facts.unfinished_replay.is_some() {
        return None;
    }
    let limit = policy.max_delay_bytes;
    let too_far = match Behind::between(executed, latest) {
        Behind::InFile(bytes) | Behind::NextFile(bytes) => bytes > limit,
        Behind::Files(_) => true,
    };
    // Named by position alone, `latest` may be before what this one executed.
    (too_far && executed < latest).then(|| Unfit::Delayed {
        executed: executed.clone(),
        latest: latest.clone(),
        limit_bytes: policy.max_delay_bytes,
    })
}

/// Major version: the first two numbers of `@@version`.
pub(crate) fn major_version(version: &str) -> Option<(u32, u32)> {
    let version = version.strip_prefix("5.5.5-").unwrap_or(version);
    let mut numbers = version.split(['.', '-']).map(str::parse::<u32>);
    match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    }
}

/// A survivor counts if this failover points it at the new primary. One whose applier failed stays as it is: it cannot win, and if
/// it alone spoke against all newer servers, nobody could (it is named by [`cannot_follow`] instead).
fn version(survivor: &Survivor, topology: &Topology) -> Option<Unfit> {
    let own = survivor.facts.identity.as_ref()?;
    if own.flavor != topology.identity.flavor {
        return Some(Unfit::OtherFlavor);
    }
    let own_major = major_version(&own.version)?;
    let (oldest_major, oldest, of) = topology
        .survivors
        .iter()
        .filter(|s| s.applier_failed().is_none())
        .filter_map(|s| Some((s.facts.identity.as_ref()?, s.server.as_str())))
        .filter(|(identity, _)| identity.flavor == own.flavor)
        .filter_map(|(i, of)| Some((major_version(&i.version)?, i.version.as_str(), of)))
        .min_by_key(|(major, _, _)| *major)?;
    (own_major > oldest_major).then(|| Unfit::NewerVersion {
        own: own.version.clone(),
        oldest: oldest.to_owned(),
        of: of.to_owned(),
    })
}

/// Survivors that are left as they are, and why they could not simply follow this new primary once they are mended.
pub(super) fn cannot_follow(topology: &Topology, winner: &str) -> Vec<(String, String)> {
    let mut survivors = topology.survivors.iter();
    let Some(new) = survivors.find(|s| s.server == winner) else {
        return Vec::new();
    };
    let left_alone = topology
        .survivors
        .iter()
        .filter(|s| s.server != winner && s.applier_failed().is_some());
    left_alone
        .filter_map(|s| {
            let why = too_old(s, new).or_else(|| not_logged(new))?;
            Some((s.server.clone(), why))
        })
        .collect()
}

fn too_old(survivor: &Survivor, new: &Survivor) -> Option<String> {
    let own = survivor.facts.identity.as_ref()?;
    let newer = new.facts.identity.as_ref()?;
    let too_old =
        own.flavor == newer.flavor && major_version(&own.version)? < major_version(&newer.version)?;
    too_old.then(|| {
        format!(
            "its version {} is older than {} of {}, which it could not follow once it is mended",
            own.version, newer.version, new.server
        )
    })
}

/// What it lacks was written by the dead primary, and a new one with `log_slave_updates=OFF` has none of that in its log.
fn not_logged(new: &Survivor) -> Option<String> {
    let settings = new.facts.settings.as_ref()?;
    (!settings.log_replica_updates).then(|| {
        format!(
            "what it lacks is not in the log of {}, which has log_slave_updates=OFF: once it is mended it needs the segments first",
            new.server
        )
    })
}

/// Every other replica must have these filters, too: what one of them has and this one not would be lost. Of a replica that is left
/// aside nobody knows; an earlier primary that is, is none.
fn filters(survivor: &Survivor, topology: &Topology) -> Option<Unfit> {
    let own = filters_of(survivor)?;
    if own.is_empty() {
        return None;
    }
    let others = topology.survivors.iter();
    let lacking = others
        .filter(|other| other.server != survivor.server)
        .find_map(|other| {
            let theirs = filters_of(other)?;
            let extra: Vec<String> = own.difference(&theirs).cloned().collect();
            (!extra.is_empty()).then(|| Unfit::Filtered {
                filters: extra,
                other: other.server.clone(),
            })
        });
    lacking.or_else(|| {
        let mut aside = topology.left_aside.iter();
        let aside = aside.find(|left| !left.deposed)?;
        Some(Unfit::FilteredAlone {
            filters: own.into_iter().collect(),
            aside: aside.server.clone(),
        })
    })
}

/// All filters of this survivor.
pub(super) fn filters_at(topology: &Topology, server: &str) -> Vec<String> {
    let mut survivors = topology.survivors.iter();
    let survivor = survivors.find(|s| s.server == server);
    survivor
        .and_then(filters_of)
        .map(|filters| filters.into_iter().collect())
        .unwrap_or_default()
}

fn filters_of(survivor: &Survivor) -> Option<BTreeSet<String>> {
    let settings = survivor.facts.settings.as_ref()?;
    Some(
        settings
            .replicate_filters
            .iter()
            .chain(&settings.binlog_filters)
            .cloned()
            .collect(),
    )
}

/// Only where GTIDs decide about positions: elsewhere a replica's own local statements are harmless.
fn errant(survivor: &Survivor, topology: &Topology) -> Option<Unfit> {
    if !survivor.replica.gtid_position {
        return None;
    }
    let gtids = match topology.identity.flavor {
        Flavor::Mysql => sets::errant(survivor, topology)?.to_string(),
        Flavor::MariaDb => sets::errant_mariadb(survivor)?,
    };
    (!gtids.is_empty()).then_some(Unfit::Errant { gtids })
}
