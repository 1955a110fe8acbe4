//! What settings of single servers cost in a failover that goes on all the same. Pure.
//!
//! Only what costs something is named: `relay_log_purge=ON`, the default, costs nothing, since agents keep relay logs aside.

use super::Known;
use crate::facts::{Replica, ServerFacts, Settings};

/// One sentence for each, servers in configured order.
pub(super) fn of(known: &Known<'_>) -> Vec<String> {
    let mut all = Vec::new();
    all.extend(of_waiting_for_nobody(known));
    let primary_waits = settings(known, &known.primary.name).and_then(|s| s.semi_sync_source);
    for server in &known.config.servers {
        let name = &server.name;
        if *name == known.primary.name {
            continue;
        }
        let Some(facts) = super::facts(known, name) else {
            continue;
        };
        if let Some(replica) = &facts.replica {
            all.extend(of_replica(name, replica));
        }
        if let Some(settings) = &facts.settings {
            all.extend(of_settings(name, settings));
            all.extend(of_semi_sync(name, settings, primary_waits == Some(true)));
        }
    }
    all
}

fn settings<'a>(known: &'a Known<'_>, server: &str) -> Option<&'a Settings> {
    super::facts(known, server).and_then(|facts: &ServerFacts| facts.settings.as_ref())
}

fn of_replica(name: &str, replica: &Replica) -> Option<String> {
    (replica.delay_s > 0).then(|| {
        format!(
            "{name} is kept {} s behind on purpose: it serves what it has received to the others, nobody waits for it, it \
             becomes the primary only by --new-primary, and a failover brings it to the end like the others",
            replica.delay_s
        )
    })
}

fn of_settings(name: &str, settings: &Settings) -> Vec<String> {
    let mut all = Vec::new();
    if !settings.log_replica_updates {
        all.push(format!(
            "{name} has log_slave_updates=OFF: as the primary it has none of the earlier transactions in its log, so a server \
             that is added or restored later cannot fetch them from it"
        ));
    }
    if settings.relay_log_recovery {
        all.push(format!(
            "{name} has relay_log_recovery=ON: a restart of its mysqld drops what it received and did not execute; its agent \
             keeps that for the others, within relay_keep"
        ));
    }
    let filters: Vec<&str> = settings
        .replicate_filters
        .iter()
        .chain(&settings.binlog_filters)
        .map(String::as_str)
        .collect();
    if !filters.is_empty() {
        all.push(format!(
            "{name} has filters ({}): it becomes the primary only if all other replicas have them, too, or by --new-primary; what \
             they leave out is not on it",
            filters.join(", ")
        ));
    }
    all
}

/// Commits of the present primary wait for replicas: those of the next one should, and for as many.
fn of_semi_sync(name: &str, settings: &Settings, primary_waits: bool) -> Vec<String> {
    let mut all = Vec::new();
    if !primary_waits {
        return all;
    }
    if settings.semi_sync_source.is_none() {
        all.push(format!(
            "commits wait for replicas now, and will not once {name} is the primary: it has no rpl_semi_sync variable of a source \
             (is the plugin installed?)"
        ));
    }
    if settings.semi_sync_replica != Some(true) {
        all.push(format!(
            "commits wait for replicas now, but not for {name}: its own side of semi-synchronous replication is {}",
            if settings.semi_sync_replica.is_none() { "not there" } else { "off" }
        ));
    }
    all
}

/// Replicas are set to acknowledge, and the primary asks for nothing: what a failover switched on a restart has forgotten.
fn of_waiting_for_nobody(known: &Known<'_>) -> Option<String> {
    let primary = &known.primary.name;
    if settings(known, primary)?.semi_sync_source != Some(false) {
        return None;
    }
    let acknowledging: Vec<&str> = known
        .config
        .servers
        .iter()
        .filter(|server| server.name != *primary)
        .filter(|server| {
            settings(known, &server.name).is_some_and(|s| s.semi_sync_replica == Some(true))
        })
        .map(|server| server.name.as_str())
        .collect();
    (!acknowledging.is_empty()).then(|| {
        format!(
            "commits of {primary} wait for nobody, though {} would acknowledge them: its source's side of semi-synchronous \
             replication is off (a restart forgets what a failover has switched on: set it in the option file)",
            acknowledging.join(", ")
        )
    })
}
