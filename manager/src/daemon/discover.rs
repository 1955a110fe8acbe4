//! Who the primary is: asked, never configured. Pure.
//!
//! The primary is the one configured server that all replicas have as their source, whether it lives or not: a manager
//! that starts beside a dead primary must find it.

use std::collections::BTreeSet;

use crate::config::{ClusterConfig, ServerConfig};
use crate::facts::Replica;
use crate::observe::ServerView;
use crate::topology::{same_address, source_address};

/// Why no primary is known.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Undiscovered {
    /// Nobody could be asked.
    #[error("no agent answers")]
    Nobody,
    /// No server replicates.
    #[error("no server that can be asked is a replica")]
    NoReplica,
    /// A replica follows a stranger.
    #[error("{server} replicates from {found}, which is no server of the configuration")]
    Stranger {
        /// The replica.
        server: String,
        /// Its source.
        found: String,
    },
    /// Replicas disagree.
    #[error("replicas follow different servers: {}", .0.join(", "))]
    Several(Vec<String>),
    /// The source of all is a replica itself.
    #[error("{primary} is the source of all others and a replica of {of} itself")]
    Chain {
        /// The source.
        primary: String,
        /// Its own source.
        of: String,
    },
}

/// Finds the primary. Servers that were deposed count only where they follow it.
pub(crate) fn discover<'c>(
    config: &'c ClusterConfig,
    views: &[ServerView],
    deposed: &BTreeSet<String>,
) -> Result<&'c ServerConfig, Undiscovered> {
    let known: Vec<(&str, Option<&Replica>)> = views
        .iter()
        .filter_map(|view| {
            let facts = view.facts.as_ref().ok()?;
            // During a replay the channel points at the local source.
            let replica = facts
                .replica
                .as_ref()
                .filter(|_| facts.unfinished_replay.is_none());
            Some((view.server.as_str(), replica))
        })
        .collect();
    if known.is_empty() {
        return Err(Undiscovered::Nobody);
    }
    let mut sources: Vec<&ServerConfig> = Vec::new();
    for (server, replica) in &known {
        let Some(replica) = replica else { continue };
        match source_of(config, views, replica) {
            Some(source) if sources.iter().any(|s| s.name == source.name) => {}
            Some(source) => sources.push(source),
            None if deposed.contains(*server) => {}
            None => {
                return Err(Undiscovered::Stranger {
                    server: (*server).to_owned(),
                    found: source_address(replica).to_string(),
                });
            }
        }
    }
    // One that was deposed may still be the source of nobody but another deposed one.
    if sources.len() > 1 {
        sources.retain(|source| !deposed.contains(&source.name));
    }
    match sources.as_slice() {
        [] => Err(Undiscovered::NoReplica),
        [primary] => {
            let own = known
                .iter()
                .find(|(server, _)| *server == primary.name)
                .and_then(|(_, replica)| *replica);
            match own {
                None => Ok(primary),
                Some(replica) => Err(Undiscovered::Chain {
                    primary: primary.name.clone(),
                    of: source_address(replica).to_string(),
                }),
            }
        }
        several => Err(Undiscovered::Several(
            several.iter().map(|s| s.name.clone()).collect(),
        )),
    }
}

/// The same. Where no server replicates, there are two and one is dead: the other, if it was named the primary and is open
/// for writes.
pub(super) fn discover_or_named<'c>(
    config: &'c ClusterConfig,
    views: &[ServerView],
    deposed: &BTreeSet<String>,
    named: Option<&str>,
) -> Result<&'c ServerConfig, Undiscovered> {
    let found = discover(config, views, deposed);
    let Err(Undiscovered::NoReplica) = found else {
        return found;
    };
    let is_open = |view: &&ServerView| {
        let settings = view.facts.as_ref().ok().and_then(|f| f.settings.as_ref());
        Some(view.server.as_str()) == named && settings.is_some_and(|s| !s.read_only)
    };
    let open = views.iter().find(is_open);
    open.and_then(|view| config.servers.iter().find(|s| s.name == view.server))
        .ok_or(Undiscovered::NoReplica)
}

/// By address, or by the UUID that the server itself reports.
fn source_of<'c>(
    config: &'c ClusterConfig,
    views: &[ServerView],
    replica: &Replica,
) -> Option<&'c ServerConfig> {
    let address = source_address(replica);
    let by_address = config
        .servers
        .iter()
        .find(|server| same_address(&server.address, &address));
    by_address.or_else(|| {
        let uuid = replica.source_uuid.as_str();
        let named = views.iter().find(|view| {
            let identity = view.facts.as_ref().ok().and_then(|f| f.identity.as_ref());
            !uuid.is_empty() && identity.is_some_and(|i| i.server_uuid.eq_ignore_ascii_case(uuid))
        })?;
        config.servers.iter().find(|s| s.name == named.server)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facts::ServerFacts;
    use crate::observe::Unknown;
    use crate::testing::{config, snapshot, uuid};

    fn facts(views: &mut [ServerView], n: usize) -> &mut ServerFacts {
        views.get_mut(n).unwrap().facts.as_mut().unwrap()
    }

    type Change = fn(&mut Vec<ServerView>);

    #[test]
    fn table_of_clusters() {
        let table: &[(&str, Change, Result<&str, &str>)] = &[
            ("a dead primary", |_| {}, Ok("db1")),
            (
                "its agent is gone too",
                |v| {
                    v.get_mut(0).unwrap().facts = Err(Unknown::NotAtAgent);
                },
                Ok("db1"),
            ),
            (
                "known by another address",
                |v| {
                    for n in [1, 2] {
                        facts(v, n).replica.as_mut().unwrap().source_host = "alias".into();
                    }
                },
                Ok("db1"),
            ),
            (
                "nobody answers",
                |v| {
                    for view in v {
                        view.facts = Err(Unknown::NotAtAgent);
                    }
                },
                Err("no agent answers"),
            ),
            (
                "no replica",
                |v| {
                    for n in [1, 2] {
                        facts(v, n).replica = None;
                    }
                },
                Err("is a replica"),
            ),
            (
                "a stranger",
                |v| {
                    let replica = facts(v, 2).replica.as_mut().unwrap();
                    replica.source_host = "db9".into();
                    replica.source_uuid = uuid(9);
                },
                Err("db3 replicates from db9:3306"),
            ),
            (
                "two sources",
                |v| {
                    let replica = facts(v, 2).replica.as_mut().unwrap();
                    replica.source_host = "db2".into();
                },
                Err("db1, db2"),
            ),
            (
                "a chain",
                |v| {
                    facts(v, 0).replica = Some(crate::testing::replica("1:4", "1:4"));
                    facts(v, 0).replica.as_mut().unwrap().source_host = "db2".into();
                    facts(v, 1).replica = None;
                    facts(v, 2).replica = None;
                },
                Ok("db2"),
            ),
        ];
        for (story, change, expected) in table {
            let config = config(3);
            let mut views = snapshot(&[("1:452", "1:452"), ("1:880", "1:880")]).servers;
            change(&mut views);
            let found = discover(&config, &views, &BTreeSet::new());
            match (expected, found) {
                (Ok(name), Ok(found)) => assert_eq!(found.name, *name, "{story}"),
                (Err(words), Err(why)) => {
                    assert!(why.to_string().contains(words), "{story}: {why}");
                }
                (_, found) => panic!("{story}: {found:?}"),
            }
        }
    }

    #[test]
    fn without_a_replica_the_named_one_is_the_primary_if_it_is_open() {
        let config = config(2);
        let mut views = snapshot(&[("1:4", "1:4")]).servers;
        let found = |views: &[ServerView], named: Option<&str>| {
            discover_or_named(&config, views, &BTreeSet::new(), named)
                .map(|server| server.name.clone())
                .ok()
        };
        assert_eq!(found(&views, Some("db2")).as_deref(), Some("db1"));
        facts(&mut views, 1).replica = None;
        assert_eq!(found(&views, Some("db2")), None, "read-only");
        facts(&mut views, 1).settings.as_mut().unwrap().read_only = false;
        assert_eq!(found(&views, Some("db2")).as_deref(), Some("db2"));
        assert_eq!(found(&views, None), None);
        views.remove(1);
        assert_eq!(found(&views, Some("db2")), None, "not seen");
    }

    #[test]
    fn a_deposed_primary_that_still_has_a_follower_does_not_confuse() {
        let config = config(4);
        let mut views = snapshot(&[("1:4", "1:4"), ("1:4", "1:4"), ("1:4", "1:4")]).servers;
        facts(&mut views, 1).replica = None;
        facts(&mut views, 2).replica.as_mut().unwrap().source_host = "db2".into();
        let deposed = ["db1".to_owned()].into();
        assert_eq!(discover(&config, &views, &deposed).unwrap().name, "db2");
        assert!(discover(&config, &views, &BTreeSet::new()).is_err());
    }
}
