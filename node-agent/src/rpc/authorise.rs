//! Who may call what: one table, checked before any handler runs.
//!
//! Guarantees: a call that is not in the table is refused, so that a new method cannot be forgotten into being open; a
//! handler learns the caller only through [`Caller`], which holds just those identities whose role may make this very
//! call, and asks it for the cluster. Without TLS (loopback only, by configuration) everybody on the host is trusted.

use std::convert::Infallible;
use std::sync::Arc;
use std::task::{Context, Poll};

use proto::identity::{Identity, IdentityError, Role, identities_of};
use proto::status::AgentError;
use proto::v1::ErrorKind;
use tonic::Status;
use tonic::body::Body;
use tonic::codegen::{BoxFuture, Service, http};
use tonic::server::NamedService;
use tonic::transport::server::{TcpConnectInfo, TlsConnectInfo};

/// Changes a server or the cluster's holder.
const CHANGES: &[Role] = &[Role::Manager];
/// Reads facts.
const READS: &[Role] = &[Role::Manager, Role::Observer];
/// Tells who the agent is.
const GREETS: &[Role] = &[Role::Manager, Role::Observer, Role::Agent];
/// Hands out data of the logs.
const SHIPS: &[Role] = &[Role::Manager, Role::Agent];

/// Says whether another server may go on as the primary.
const VOUCHES: &[Role] = &[Role::Manager, Role::Agent];

/// Every method and the roles that may call it.
pub(super) const METHODS: &[(&str, &[Role])] = &[
    ("/mha.v1.AgentService/GetAgentInfo", GREETS),
    ("/mha.v1.AgentService/ObserveServer", READS),
    ("/mha.v1.EpochService/ClaimEpoch", CHANGES),
    ("/mha.v1.EpochService/ReleaseEpoch", CHANGES),
    ("/mha.v1.FenceService/HoldDown", CHANGES),
    ("/mha.v1.FenceService/ReleaseHold", CHANGES),
    ("/mha.v1.FenceService/TakeAddress", CHANGES),
    ("/mha.v1.FenceService/DropAddress", CHANGES),
    ("/mha.v1.FenceService/GetAddress", READS),
    ("/mha.v1.LeaseService/AssignPrimary", CHANGES),
    ("/mha.v1.LeaseService/RenewLease", CHANGES),
    ("/mha.v1.LeaseService/Vouch", VOUCHES),
    ("/mha.v1.LogService/SurveyLogs", READS),
    ("/mha.v1.LogService/ObserveBinlogServer", READS),
    ("/mha.v1.LogService/FindRelayLogs", READS),
    ("/mha.v1.LogService/LocateGtids", READS),
    ("/mha.v1.LogService/DescribeEvent", READS),
    ("/mha.v1.LogService/SaveBinaryLogs", CHANGES),
    ("/mha.v1.LogService/GenerateDiffRelayLogs", CHANGES),
    ("/mha.v1.LogService/PullSegment", CHANGES),
    ("/mha.v1.LogService/ReadSegment", SHIPS),
    ("/mha.v1.ReplicationService/StopReceiver", CHANGES),
    ("/mha.v1.ReplicationService/ApplyLogs", CHANGES),
    ("/mha.v1.ReplicationService/Promote", CHANGES),
    ("/mha.v1.ReplicationService/MakeWritable", CHANGES),
    ("/mha.v1.ReplicationService/Repoint", CHANGES),
    ("/mha.v1.ReplicationService/ResumeReplication", CHANGES),
    ("/mha.v1.WatchService/WatchServer", READS),
    ("/mha.v1.WatchService/ProbeServer", READS),
];

/// Who calls, as far as this call is concerned.
#[derive(Debug, Clone)]
pub(super) enum Caller {
    /// Someone on this host, over a connection without TLS.
    Local,
    /// The identities of the certificate whose role may make this call; never empty.
    Certified(Arc<[Identity]>),
}

impl Caller {
    /// Whether the caller may speak of this cluster.
    pub(super) fn covers(&self, cluster: &str) -> bool {
        match self {
            Self::Local => true,
            Self::Certified(identities) => identities.iter().any(|i| i.covers(cluster)),
        }
    }

    /// Refuses a caller whose certificate is for other clusters.
    pub(super) fn require(&self, cluster: &str) -> Result<(), AgentError> {
        if self.covers(cluster) {
            return Ok(());
        }
        Err(refused("the certificate is not for this cluster")
            .with_found(cluster, self.to_string()))
    }
}

impl std::fmt::Display for Caller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Local => f.write_str("local"),
            Self::Certified(identities) => {
                for (index, identity) in identities.iter().enumerate() {
                    if index > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{identity}")?;
                }
                Ok(())
            }
        }
    }
}

/// A generated service behind the table.
#[derive(Debug, Clone)]
pub(super) struct Authorised<S> {
    inner: S,
    tls: bool,
}

impl<S> Authorised<S> {
    /// `tls`: whether this server demands certificates.
    pub(super) fn new(inner: S, tls: bool) -> Self {
        Self { inner, tls }
    }
}

impl<S: NamedService> NamedService for Authorised<S> {
    const NAME: &'static str = S::NAME;
}

impl<S> Service<http::Request<Body>> for Authorised<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<http::Response<Body>, Infallible>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        match authorise(&request, self.tls) {
            Ok(caller) => {
                request.extensions_mut().insert(caller);
                Box::pin(self.inner.call(request))
            }
            Err(error) => {
                tracing::warn!(method = request.uri().path(), reason = %error, "call refused");
                Box::pin(async move { Ok(Status::from(error).into_http()) })
            }
        }
    }
}

fn authorise(request: &http::Request<Body>, tls: bool) -> Result<Caller, AgentError> {
    let roles =
        roles_of(request.uri().path()).ok_or_else(|| refused("no role may make this call"))?;
    if !tls {
        return Ok(Caller::Local);
    }
    let certificates = request
        .extensions()
        .get::<TlsConnectInfo<TcpConnectInfo>>()
        .and_then(TlsConnectInfo::peer_certs)
        .ok_or(IdentityError::NoCertificate);
    let identities = certificates
        .and_then(|chain| identities_of(&chain))
        .map_err(|error| refused(error.to_string()))?;
    let fitting: Arc<[Identity]> = identities
        .iter()
        .filter(|identity| roles.contains(&identity.role))
        .cloned()
        .collect();
    if fitting.is_empty() {
        let wanted: Vec<_> = roles.iter().map(|role| role.as_str()).collect();
        let found: Vec<_> = identities.iter().map(Identity::uri).collect();
        return Err(refused("the certificate's role may not make this call")
            .with_found(wanted.join(" or "), found.join(", ")));
    }
    Ok(Caller::Certified(fitting))
}

fn roles_of(path: &str) -> Option<&'static [Role]> {
    METHODS
        .iter()
        .find(|(method, _)| *method == path)
        .map(|(_, roles)| *roles)
}

fn refused(message: impl Into<String>) -> AgentError {
    AgentError::new(ErrorKind::NotAuthorised, message)
}
