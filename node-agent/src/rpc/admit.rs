//! What every handler checks first: whose cluster, which server, and for a change the stored epoch.

use std::sync::Arc;

use proto::convert::{Context, required};
use proto::status::AgentError;
use proto::v1::{CallContext, ErrorKind};
use tonic::Request;

use super::authorise::Caller;
use super::failure::on_wire;
use crate::agent::{Agent, LocalServer};
use crate::config::BinlogServerConfig;

/// The caller, as the table let it in.
pub(super) fn caller<T>(request: &Request<T>) -> Result<Caller, AgentError> {
    // Only a service that was not put behind the table has none: refused like any unknown call.
    request
        .extensions()
        .get::<Caller>()
        .cloned()
        .ok_or_else(|| {
            AgentError::new(
                ErrorKind::NotAuthorised,
                "the call did not pass the table of roles",
            )
        })
}

/// A read of one server: the caller is for its cluster.
pub(super) fn read(
    agent: &Agent,
    caller: &Caller,
    cluster: &str,
    server: &str,
) -> Result<Arc<LocalServer>, AgentError> {
    caller.require(cluster)?;
    let found = agent.servers.get(server).ok_or_else(|| {
        AgentError::new(ErrorKind::UnknownServer, "this agent has no such server")
            .with_server(server)
    })?;
    // One message for both, so that a certificate of one cluster learns nothing of another's servers.
    if found.config.cluster != cluster {
        return Err(
            AgentError::new(ErrorKind::UnknownServer, "this agent has no such server")
                .with_server(server),
        );
    }
    Ok(Arc::clone(found))
}

/// The binlog server of this name: the caller is for its cluster. `None` if the name is no binlog server's of that cluster.
pub(super) fn binlog_server(
    agent: &Agent,
    caller: &Caller,
    cluster: &str,
    name: &str,
) -> Result<Option<BinlogServerConfig>, AgentError> {
    caller.require(cluster)?;
    let found = agent.binlog_server(name);
    Ok(found.filter(|found| found.cluster == cluster).cloned())
}

/// Something that cuts from a binlog server's copies: the (epoch, operation) of the call is the stored pair.
pub(super) fn cut_copies(
    agent: &Agent,
    caller: &Caller,
    context: Context,
    binlog_server: BinlogServerConfig,
) -> Result<Admitted<BinlogServerConfig>, AgentError> {
    caller.require(&context.cluster)?;
    agent.epochs.check(&context).map_err(on_wire)?;
    Ok(Admitted {
        context,
        server: binlog_server,
        claimed: true,
    })
}

/// A change of one server: additionally the (epoch, operation) of the call is the stored pair.
pub(super) fn change<T>(
    agent: &Agent,
    request: &Request<T>,
    context: Option<CallContext>,
) -> Result<Admitted, AgentError> {
    let caller = caller(request)?;
    let context = Context::try_from(required(context, "context")?)?;
    let server = read(agent, &caller, &context.cluster, &context.server)?;
    agent.epochs.check(&context).map_err(on_wire)?;
    Ok(Admitted {
        context,
        server,
        claimed: true,
    })
}

/// Something that changes nothing but this agent's own store: of a deposed server any operation may ask it, so that what a
/// primary wrote after it was replaced can be read without disturbing who holds the cluster now.
pub(super) fn save<T>(
    agent: &Agent,
    request: &Request<T>,
    context: Option<CallContext>,
) -> Result<Admitted, AgentError> {
    let caller = caller(request)?;
    let context = Context::try_from(required(context, "context")?)?;
    let server = read(agent, &caller, &context.cluster, &context.server)?;
    let claimed = server.guard.order().is_none();
    if claimed {
        agent.epochs.check(&context).map_err(on_wire)?;
    }
    Ok(Admitted {
        context,
        server,
        claimed,
    })
}

/// A change that was let in.
#[derive(Debug)]
pub(super) struct Admitted<S = Arc<LocalServer>> {
    /// Its context.
    pub(super) context: Context,
    /// Its server.
    pub(super) server: S,
    /// Its operation holds the cluster, and must go on holding it.
    pub(super) claimed: bool,
}
