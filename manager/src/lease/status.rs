//! How the lease of the watched primary is, for operators. Pure.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Told, ToldLease, agents, wanted};
use crate::config::{ClusterConfig, ServerConfig};
use crate::guard::moment;

/// Who holds a lease up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldUpBy {
    /// Epoch in which the primary was named.
    pub epoch: u64,
    /// The manager whose word counts.
    pub manager: String,
    /// It was heard within the lease's time.
    pub manager_heard: bool,
    /// Agents that vouch, the primary's own counted.
    pub vouching: u32,
    /// Agents of the cluster; a majority of them holds the lease up.
    pub agents: u32,
}

/// How it is; moments by the clock of the primary's host, milliseconds since the Unix epoch.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum LeaseStatus {
    /// The configuration wants none.
    Off {
        /// Why.
        why: String,
    },
    /// Nobody can say.
    Unknown {
        /// Why.
        why: String,
    },
    /// Held: the server may take writes.
    Held {
        /// Since when.
        since_unix_ms: u64,
        /// Until when, if neither the manager nor a majority of the agents is heard any more.
        until_unix_ms: u64,
        /// Who holds it up.
        by: HeldUpBy,
    },
    /// Lost: the server is kept read-only until it is held again.
    Lost {
        /// Since when.
        since_unix_ms: u64,
        /// Who is heard all the same.
        by: HeldUpBy,
    },
}

impl LeaseStatus {
    /// The same but for the end, which moves all the time.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        let still = |status: &Self| match status.clone() {
            Self::Held {
                since_unix_ms, by, ..
            } => Self::Held {
                since_unix_ms,
                until_unix_ms: 0,
                by,
            },
            other => other,
        };
        still(self) == still(other)
    }
}

impl fmt::Display for HeldUpBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            manager,
            vouching,
            agents,
            ..
        } = self;
        if self.manager_heard {
            write!(f, "manager {manager} and {vouching} of {agents} agents")
        } else {
            write!(
                f,
                "{vouching} of {agents} agents, manager {manager} is not heard"
            )
        }
    }
}

impl fmt::Display for LeaseStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off { why } => write!(f, "none: {why}"),
            Self::Unknown { why } => write!(f, "not known: {why}"),
            Self::Held {
                since_unix_ms,
                until_unix_ms,
                by,
            } => write!(
                f,
                "held since {} by {by}, epoch {}; without them until {}",
                moment(*since_unix_ms),
                by.epoch,
                moment(*until_unix_ms)
            ),
            Self::Lost { since_unix_ms, by } => write!(
                f,
                "LOST since {}: the server is read-only until a majority of the agents vouches ({by}), epoch {}",
                moment(*since_unix_ms),
                by.epoch
            ),
        }
    }
}

/// Says it from what the primary's agent told last; `None`: its stream is not open.
#[must_use]
pub fn status(config: &ClusterConfig, primary: &ServerConfig, told: Option<&Told>) -> LeaseStatus {
    let unknown = |why: String| LeaseStatus::Unknown { why };
    let Some(told) = told else {
        return unknown(format!("the agent of {} is not heard", primary.name));
    };
    let assigned = told.assignment.as_ref();
    let by = || HeldUpBy {
        epoch: assigned.map_or(0, |a| a.epoch.get()),
        manager: assigned.map_or_else(String::new, |a| a.manager.clone()),
        manager_heard: told.manager_heard,
        vouching: told.vouching,
        agents: u32::try_from(assigned.map_or(0, |a| a.agents.len())).unwrap_or(u32::MAX),
    };
    match told.lease {
        ToldLease::Held {
            since_unix_ms,
            until_unix_ms,
        } => LeaseStatus::Held {
            since_unix_ms,
            until_unix_ms,
            by: by(),
        },
        ToldLease::Lost { since_unix_ms } => LeaseStatus::Lost {
            since_unix_ms,
            by: by(),
        },
        ToldLease::None if wanted(config) => {
            unknown(format!("{} was not named the primary yet", primary.name))
        }
        ToldLease::None => LeaseStatus::Off {
            why: match agents(config).len() {
                few if few < super::FEWEST_AGENTS => {
                    format!("{few} agents, and it takes {}", super::FEWEST_AGENTS)
                }
                _ => "switched off by the configuration".to_owned(),
            },
        },
    }
}

#[cfg(test)]
mod tests {
    use proto::lease::Assigned;

    use super::*;
    use crate::lease::LeaseMode;
    use crate::testing::config;

    #[test]
    fn operators_see_who_holds_it_up_until_when_and_since_when_it_is_lost() {
        let three = config(3);
        let two = config(2);
        let mut off = config(3);
        off.lease = LeaseMode::Off;
        let primary = three.servers.first().unwrap();
        let base = Told {
            boot_id: "b".to_owned(),
            sent: None,
            epoch: 5,
            held_by: None,
            of_record: None,
            assignment: Some(Assigned {
                primary: "db1".to_owned(),
                epoch: 5.try_into().unwrap(),
                operation: "assign-5".to_owned(),
                manager: "m1".to_owned(),
                lease: true,
                agents: agents(&three),
            }),
            manager_heard: true,
            vouching: 3,
            lease: ToldLease::Held {
                since_unix_ms: 1_000,
                until_unix_ms: 61_500,
            },
        };
        let alone = Told {
            manager_heard: false,
            vouching: 1,
            lease: ToldLease::Lost {
                since_unix_ms: 61_500,
            },
            ..base.clone()
        };
        let none = Told {
            assignment: None,
            lease: ToldLease::None,
            ..base.clone()
        };
        let cases = [
            (
                &three,
                Some(&base),
                "held since 1970-01-01T00:00:01Z by manager m1 and 3 of 3 agents, epoch 5; without them until 1970-01-01T00:01:01Z",
            ),
            (
                &three,
                Some(&alone),
                "LOST since 1970-01-01T00:01:01Z: the server is read-only until a majority of the agents vouches (1 of 3 agents, manager m1 is not heard), epoch 5",
            ),
            (
                &three,
                Some(&none),
                "not known: db1 was not named the primary yet",
            ),
            (&three, None, "not known: the agent of db1 is not heard"),
            (&two, Some(&none), "none: 2 agents, and it takes 3"),
            (&off, Some(&none), "none: switched off by the configuration"),
        ];
        for (config, told, expected) in cases {
            assert_eq!(status(config, primary, told).to_string(), expected);
        }
        let renewed = Told {
            lease: ToldLease::Held {
                since_unix_ms: 1_000,
                until_unix_ms: 61_750,
            },
            ..base.clone()
        };
        let of = |told| status(&three, primary, Some(told));
        assert!(of(&base).is_like(&of(&renewed)));
        assert!(!of(&base).is_like(&of(&alone)));
        let json = serde_json::to_value(of(&base)).unwrap();
        assert_eq!(json["state"], "held");
        assert_eq!(json["by"]["vouching"], 3);
    }
}
