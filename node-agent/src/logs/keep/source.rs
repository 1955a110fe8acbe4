//! Whose stream a channel carries.

use serde::{Deserialize, Serialize};

use crate::mysqld::{Receiver, ReplicaStatus};

/// Where a replica's channel reads from.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StreamSource {
    /// server_id of the source; 0 where it is not known.
    pub server_id: u32,
    /// server_uuid of the source; empty for MariaDB and where it is not known.
    pub server_uuid: String,
    /// Host as configured.
    pub host: String,
    /// Port as configured.
    pub port: u16,
}

impl StreamSource {
    /// Whether two channels carried the stream of one server. A replay through the local source keeps the identity of
    /// the dead primary and changes the address, so identity decides where it is known.
    pub fn same_stream(&self, other: &Self) -> bool {
        if self.server_id != 0 && other.server_id != 0 {
            return self.server_id == other.server_id && self.server_uuid == other.server_uuid;
        }
        self.host == other.host && self.port == other.port
    }
}

impl From<&ReplicaStatus> for StreamSource {
    fn from(status: &ReplicaStatus) -> Self {
        // A server may go on showing the id of its former source until it has connected to the new one.
        let connected = status.receiver == Receiver::Running;
        Self {
            server_id: if connected {
                status.source_server_id
            } else {
                0
            },
            server_uuid: if connected {
                status.source_uuid.clone()
            } else {
                String::new()
            },
            host: status.source_host.clone(),
            port: status.source_port,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(server_id: u32, uuid: &str, host: &str) -> StreamSource {
        StreamSource {
            server_id,
            server_uuid: uuid.to_owned(),
            host: host.to_owned(),
            port: 3306,
        }
    }

    #[test]
    fn a_stream_is_known_by_identity_and_else_by_address() {
        let primary = source(1, "u1", "db1");
        assert!(primary.same_stream(&source(1, "u1", "127.0.0.1")));
        assert!(!primary.same_stream(&source(2, "u2", "db1")));
        assert!(primary.same_stream(&source(0, "", "db1")));
        assert!(!primary.same_stream(&source(0, "", "db2")));
    }
}
