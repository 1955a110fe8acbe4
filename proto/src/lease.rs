//! Leases, as values and their conversions; see [`crate::convert`] for the rules.

use std::collections::BTreeSet;
use std::num::NonZeroU64;
use std::time::Duration;

use crate::convert::{Context, ConvertError, convert, millis, name};
use crate::v1;

/// How long a lease lasts after the last one was heard who holds it up.
pub const TTL: Duration = Duration::from_millis(1500);
/// From so many agents on a primary has a lease.
pub const FEWEST_AGENTS: usize = 3;

/// Who the primary is, as an agent has stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Assigned {
    /// Server name of the primary.
    pub primary: String,
    /// Epoch of the operation that said so.
    pub epoch: NonZeroU64,
    /// That operation.
    pub operation: String,
    /// The manager whose word holds the lease up; empty where nobody's does.
    pub manager: String,
    /// The primary's agent was told to hold a lease.
    pub lease: bool,
    /// All agents of the cluster.
    pub agents: Vec<LeaseAgent>,
}

/// An agent, as the others dial it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LeaseAgent {
    /// Its name, as in its certificate.
    pub name: String,
    /// `host:port`.
    pub address: String,
}

/// A validated `AssignPrimaryRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssignOrder {
    /// Context; its server is one of the called agent's.
    pub context: Context,
    /// Server name of the primary.
    pub primary: String,
    /// All agents of the cluster; names are unique.
    pub agents: Vec<LeaseAgent>,
    /// The manager whose word holds the lease up.
    pub manager: String,
    /// With a lease, where there are enough agents for one.
    pub lease: bool,
    /// The server of the call was replaced as the primary.
    pub replaced: bool,
}

/// A validated `RenewLeaseRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RenewOrder {
    /// Cluster.
    pub cluster: String,
    /// The primary.
    pub server: String,
    /// Epoch of its assignment.
    pub epoch: NonZeroU64,
    /// Boot id of the agent's host.
    pub boot_id: String,
    /// When the agent sent the newest state that the manager received.
    pub seen: Duration,
    /// The manager.
    pub manager: String,
}

/// A validated `VouchRequest`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VouchOrder {
    /// Cluster.
    pub cluster: String,
    /// The primary.
    pub primary: String,
    /// Epoch of its assignment.
    pub epoch: NonZeroU64,
}

fn epoch(number: u64, field: &'static str) -> Result<NonZeroU64, ConvertError> {
    NonZeroU64::new(number).ok_or_else(|| ConvertError::new(field, "missing"))
}

impl TryFrom<v1::LeaseAgent> for LeaseAgent {
    type Error = ConvertError;

    fn try_from(agent: v1::LeaseAgent) -> Result<Self, ConvertError> {
        Ok(Self {
            name: name(agent.name, "LeaseAgent.name")?,
            address: name(agent.address, "LeaseAgent.address")?,
        })
    }
}

impl From<&LeaseAgent> for v1::LeaseAgent {
    fn from(agent: &LeaseAgent) -> Self {
        Self {
            name: agent.name.clone(),
            address: agent.address.clone(),
        }
    }
}

impl TryFrom<v1::Assignment> for Assigned {
    type Error = ConvertError;

    fn try_from(a: v1::Assignment) -> Result<Self, ConvertError> {
        Ok(Self {
            primary: name(a.primary, "Assignment.primary")?,
            epoch: epoch(a.epoch, "Assignment.epoch")?,
            operation: a.operation,
            manager: a.manager,
            lease: a.lease,
            agents: a
                .agents
                .into_iter()
                .map(LeaseAgent::try_from)
                .collect::<Result<_, _>>()?,
        })
    }
}

impl From<&Assigned> for v1::Assignment {
    fn from(a: &Assigned) -> Self {
        Self {
            primary: a.primary.clone(),
            epoch: a.epoch.get(),
            operation: a.operation.clone(),
            manager: a.manager.clone(),
            lease: a.lease,
            agents: a.agents.iter().map(Into::into).collect(),
        }
    }
}

impl TryFrom<v1::AssignPrimaryRequest> for AssignOrder {
    type Error = ConvertError;

    fn try_from(r: v1::AssignPrimaryRequest) -> Result<Self, ConvertError> {
        let agents = r
            .agents
            .into_iter()
            .map(LeaseAgent::try_from)
            .collect::<Result<Vec<_>, ConvertError>>()?;
        let names: BTreeSet<&str> = agents.iter().map(|agent| agent.name.as_str()).collect();
        // One that is listed twice would count twice towards a majority.
        if names.len() != agents.len() || agents.is_empty() {
            return Err(ConvertError::new(
                "AssignPrimaryRequest.agents",
                format!("{} agents with {} names", agents.len(), names.len()),
            ));
        }
        Ok(Self {
            context: convert(r.context, "AssignPrimaryRequest.context")?,
            primary: name(r.primary, "AssignPrimaryRequest.primary")?,
            agents,
            manager: name(r.manager, "AssignPrimaryRequest.manager")?,
            lease: !r.without_lease,
            replaced: r.replaced,
        })
    }
}

impl From<&AssignOrder> for v1::AssignPrimaryRequest {
    fn from(o: &AssignOrder) -> Self {
        Self {
            context: Some((&o.context).into()),
            primary: o.primary.clone(),
            agents: o.agents.iter().map(Into::into).collect(),
            manager: o.manager.clone(),
            without_lease: !o.lease,
            replaced: o.replaced,
        }
    }
}

impl TryFrom<v1::RenewLeaseRequest> for RenewOrder {
    type Error = ConvertError;

    fn try_from(r: v1::RenewLeaseRequest) -> Result<Self, ConvertError> {
        Ok(Self {
            cluster: name(r.cluster, "RenewLeaseRequest.cluster")?,
            server: name(r.server, "RenewLeaseRequest.server")?,
            epoch: epoch(r.epoch, "RenewLeaseRequest.epoch")?,
            boot_id: r.boot_id,
            seen: Duration::from_millis(r.seen_boottime_ms),
            manager: name(r.manager, "RenewLeaseRequest.manager")?,
        })
    }
}

impl From<&RenewOrder> for v1::RenewLeaseRequest {
    fn from(o: &RenewOrder) -> Self {
        Self {
            cluster: o.cluster.clone(),
            server: o.server.clone(),
            epoch: o.epoch.get(),
            boot_id: o.boot_id.clone(),
            seen_boottime_ms: millis(o.seen),
            manager: o.manager.clone(),
        }
    }
}

impl TryFrom<v1::VouchRequest> for VouchOrder {
    type Error = ConvertError;

    fn try_from(r: v1::VouchRequest) -> Result<Self, ConvertError> {
        Ok(Self {
            cluster: name(r.cluster, "VouchRequest.cluster")?,
            primary: name(r.primary, "VouchRequest.primary")?,
            epoch: epoch(r.epoch, "VouchRequest.epoch")?,
        })
    }
}

impl From<&VouchOrder> for v1::VouchRequest {
    fn from(o: &VouchOrder) -> Self {
        Self {
            cluster: o.cluster.clone(),
            primary: o.primary.clone(),
            epoch: o.epoch.get(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assign() -> v1::AssignPrimaryRequest {
        let agent = |name: &str| v1::LeaseAgent {
            name: name.into(),
            address: format!("{name}:7306"),
        };
        v1::AssignPrimaryRequest {
            context: Some(v1::CallContext {
                cluster: "app1".into(),
                server: "db1:3306".into(),
                operation: "op-1".into(),
                epoch: 1,
                deadline_ms: 1000,
            }),
            primary: "db2:3306".into(),
            agents: vec![agent("db1"), agent("db2"), agent("db3")],
            manager: "m1".into(),
            without_lease: false,
            replaced: true,
        }
    }

    #[test]
    fn an_assignment_round_trips_and_nobody_counts_twice() {
        let value = AssignOrder::try_from(assign()).unwrap();
        assert_eq!(v1::AssignPrimaryRequest::from(&value), assign());
        type Spoil = fn(&mut v1::AssignPrimaryRequest);
        let cases: [(&str, Spoil); 7] = [
            ("context", |r| r.context = None),
            ("primary", |r| r.primary.clear()),
            ("agents", |r| r.agents.clear()),
            ("agents", |r| r.agents[1].name = "db1".into()),
            ("name", |r| r.agents[1].name.clear()),
            ("address", |r| r.agents[1].address.clear()),
            ("manager", |r| r.manager.clear()),
        ];
        for (field, spoil) in cases {
            let mut wire = assign();
            spoil(&mut wire);
            let error = AssignOrder::try_from(wire).unwrap_err();
            assert!(error.field.ends_with(field), "{error}");
        }
    }

    #[test]
    fn renewals_and_vouchings_round_trip_and_need_an_epoch() {
        let renew = v1::RenewLeaseRequest {
            cluster: "app1".into(),
            server: "db1:3306".into(),
            epoch: 3,
            boot_id: "b".into(),
            seen_boottime_ms: 77,
            manager: "m1".into(),
        };
        let value = RenewOrder::try_from(renew.clone()).unwrap();
        assert_eq!(v1::RenewLeaseRequest::from(&value), renew);
        assert!(RenewOrder::try_from(v1::RenewLeaseRequest { epoch: 0, ..renew }).is_err());
        let vouch = v1::VouchRequest {
            cluster: "app1".into(),
            primary: "db1:3306".into(),
            epoch: 3,
        };
        let value = VouchOrder::try_from(vouch.clone()).unwrap();
        assert_eq!(v1::VouchRequest::from(&value), vouch);
        assert!(VouchOrder::try_from(v1::VouchRequest { epoch: 0, ..vouch }).is_err());
    }
}
