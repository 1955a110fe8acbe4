//! `binlog_servers`: hosts without a mysqld that keep copies of the primary's binary logs (MHA: `[binlogN]`).
//!
//! They provide events and nothing else: none is ever a candidate, a survivor, or counted in a majority.

use std::collections::BTreeSet;

use super::resolved::{Check, agent_endpoint, plain_name};
use super::{AgentEndpoint, ConfigError, raw};

/// One binlog server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BinlogServerConfig {
    /// Name, as its agent knows it; no server has it.
    pub name: String,
    /// The agent on its host.
    pub agent: AgentEndpoint,
}

/// `names` are those of the servers.
pub(super) fn resolve(
    check: &Check<'_>,
    cluster: &str,
    raw: Vec<raw::BinlogServer>,
    plaintext: bool,
    mut names: BTreeSet<String>,
) -> Result<Vec<BinlogServerConfig>, ConfigError> {
    let mut resolved = Vec::with_capacity(raw.len());
    for (index, one) in raw.into_iter().enumerate() {
        let section = format!("binlog_servers[{index}]");
        let key = format!("{section}.name");
        if !plain_name(&one.name) {
            return Err(check.bad(&key, "a name like binlog1", &one.name));
        }
        if !names.insert(one.name.clone()) {
            let expected = "a name no server and no other binlog server has";
            return Err(check.bad(&key, expected, &one.name));
        }
        let (name, agent) = (&one.name, &one.agent);
        resolved.push(BinlogServerConfig {
            agent: agent_endpoint(
                check,
                &section,
                cluster,
                (name, agent, one.agent_name),
                plaintext,
            )?,
            name: one.name,
        });
    }
    Ok(resolved)
}
