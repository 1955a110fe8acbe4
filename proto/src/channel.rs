//! HTTP/2 settings of both ends and the one way to dial an agent.
//!
//! Guarantees: a connection attempt ends within the caller's limit; a dead peer is noticed in the middle of a
//! stream by keepalive. The windows and frame size are measured values: one mTLS stream fills 10 Gbit/s, and 16 MiB
//! of window keep 50 ms of round trip busy.

use std::time::Duration;

use tonic::transport::{Channel, Endpoint, Server};

use crate::tls::TlsMaterial;

/// Flow-control window of one stream, bytes.
pub const STREAM_WINDOW_BYTES: u32 = 16 << 20;
/// Flow-control window of a connection, bytes.
pub const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
/// Largest HTTP/2 frame, bytes.
pub const FRAME_BYTES: u32 = 64 << 10;
/// Payload of one segment chunk, bytes.
pub const CHUNK_BYTES: usize = 256 << 10;
/// Largest message accepted, bytes: a chunk or a manifest of many extents.
pub const MESSAGE_BYTES: usize = 8 << 20;

/// A connection on which nothing was heard for so long is asked whether anybody is there.
pub const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Without an answer within this the connection is given up, with every call on it.
pub const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(3);

/// Whom to dial.
#[derive(Debug, Clone)]
pub struct Target {
    /// `host:port`.
    pub address: String,
    /// TLS material and the DNS SAN expected of the far end; `None` is plain text, which callers allow for loopback
    /// addresses only.
    pub tls: Option<(TlsMaterial, String)>,
}

/// Why a connection could not be made. None of these reached the far end's services: nothing was done there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The address does not parse.
    #[error("{address}: not an address of the form host:port")]
    BadAddress {
        /// What was configured.
        address: String,
        /// Cause.
        #[source]
        source: tonic::transport::Error,
    },
    /// Refused, unreachable, or TLS failed; see the source.
    #[error("{address}: no connection")]
    Failed {
        /// Address dialled.
        address: String,
        /// Cause.
        #[source]
        source: tonic::transport::Error,
    },
    /// No answer in time.
    #[error("{address}: no connection within {limit_ms} ms")]
    TimedOut {
        /// Address dialled.
        address: String,
        /// The limit, milliseconds.
        limit_ms: u128,
    },
}

/// Dials within `limit`, TCP and TLS handshake included.
///
/// # Errors
/// [`ConnectError`] naming the address.
pub async fn connect(target: &Target, limit: Duration) -> Result<Channel, ConnectError> {
    let address = || target.address.clone();
    let bad = |source| ConnectError::BadAddress {
        address: address(),
        source,
    };
    let scheme = if target.tls.is_some() {
        "https"
    } else {
        "http"
    };
    let mut endpoint =
        configure(Endpoint::from_shared(format!("{scheme}://{}", target.address)).map_err(bad)?)
            .connect_timeout(limit);
    if let Some((material, dns_name)) = &target.tls {
        endpoint = endpoint
            .tls_config(material.client_config(dns_name))
            .map_err(|source| ConnectError::Failed {
                address: address(),
                source,
            })?;
    }
    match tokio::time::timeout(limit, endpoint.connect()).await {
        Ok(Ok(channel)) => Ok(channel),
        Ok(Err(source)) => Err(ConnectError::Failed {
            address: address(),
            source,
        }),
        Err(_) => Err(ConnectError::TimedOut {
            address: address(),
            limit_ms: limit.as_millis(),
        }),
    }
}

/// Settings of a client endpoint.
pub fn configure(endpoint: Endpoint) -> Endpoint {
    endpoint
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .tcp_nodelay(true)
        .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
        .keep_alive_timeout(KEEPALIVE_TIMEOUT)
        .keep_alive_while_idle(true)
}

/// Settings of a server.
pub fn configure_server(server: Server) -> Server {
    server
        .initial_stream_window_size(STREAM_WINDOW_BYTES)
        .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
        .max_frame_size(FRAME_BYTES)
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
}
