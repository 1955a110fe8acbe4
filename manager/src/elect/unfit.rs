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
    /// Its applier is too far behind.
    Delayed {
        /// What it executed.
        executed: BinlogPosition,
        /// What the latest received.
        latest: BinlogPosition,
        /// The limit in bytes within one file.
        limit_bytes: u64,
    },
    /// It is newer than another survivor, which could not replicate from it.
    NewerVersion {
        /// Its version.
        own: String,
        /// The oldest.
        oldest: String,
    },
    /// Another family than the dead primary.
    OtherFlavor,
    /// It filters what others do not: it would lack data they have.
    Filtered {
        /// Its filters that another survivor does not have.
        filters: Vec<String>,
        /// That survivor.
        other: String,
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
            } => write!(
                f,
                "its applier is too far behind: executed {executed}, latest received {latest}, limit {limit_bytes} bytes"
            ),
            Self::NewerVersion { own, oldest } => {
                write!(
                    f,
                    "its version {own} is newer than {oldest} of another survivor"
                )
            }
            Self::OtherFlavor => f.write_str("it is of another family than the dead primary"),
            Self::Filtered { filters, other } => {
                write!(
                    f,
                    "it has filters that {other} has not: {}",
                    filters.join(", ")
                )
            }
            Self::Errant { gtids } => write!(f, "it holds transactions nobody else has: {gtids}"),
        }
    }
}

impl Unfit {
    /// Speaks against a server that an operator names, too.
    pub(super) fn even_if_named(&self) -> bool {
        !matches!(self, Self::KeptBehind { .. })
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
    let files = latest
        .file
        .sequence()
        .saturating_sub(executed.file.sequence());
    let limit = policy.max_delay_bytes;
    let behind = match files {
        0 => latest.offset > executed.offset.saturating_add(limit),
        1 => latest.offset > limit,
        _ => true,
    };
    behind.then(|| Unfit::Delayed {
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

fn version(survivor: &Survivor, topology: &Topology) -> Option<Unfit> {
    let own = survivor.facts.identity.as_ref()?;
    if own.flavor != topology.identity.flavor {
        return Some(Unfit::OtherFlavor);
    }
    let own_major = major_version(&own.version)?;
    let (oldest_major, oldest) = topology
        .survivors
        .iter()
        .filter_map(|s| s.facts.identity.as_ref())
        .filter_map(|i| Some((major_version(&i.version)?, i.version.as_str())))
        .min()?;
    (own_major > oldest_major).then(|| Unfit::NewerVersion {
        own: own.version.clone(),
        oldest: oldest.to_owned(),
    })
}

fn filters(survivor: &Survivor, topology: &Topology) -> Option<Unfit> {
    let own = filters_of(survivor)?;
    topology
        .survivors
        .iter()
        .filter(|other| other.server != survivor.server)
        .find_map(|other| {
            let theirs = filters_of(other)?;
            let extra: Vec<String> = own.difference(&theirs).cloned().collect();
            (!extra.is_empty()).then(|| Unfit::Filtered {
                filters: extra,
                other: other.server.clone(),
            })
        })
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
