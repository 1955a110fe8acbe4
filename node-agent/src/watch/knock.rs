//! Whether anybody listens at the socket, and news of its file.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use proto::watch::SocketState;
use tokio::net::UnixStream;
use tokio::time::timeout;

use crate::folder::FolderEvents;

/// Longest wait for a connection: the kernel makes it at once, unless the queue is full.
const LIMIT: Duration = Duration::from_millis(200);

/// Makes a connection and drops it. The server counts it among its aborted ones, so this is done only where no session is open.
pub(super) async fn knock(socket: &Path) -> SocketState {
    match timeout(LIMIT, UnixStream::connect(socket)).await {
        Ok(Ok(_)) => SocketState::Accepts,
        Ok(Err(error)) => match error.kind() {
            ErrorKind::ConnectionRefused => SocketState::Refuses,
            ErrorKind::NotFound => SocketState::Absent,
            ErrorKind::WouldBlock => SocketState::NoAnswer,
            _ => SocketState::Unknown {
                reason: error.to_string(),
            },
        },
        Err(_) => SocketState::NoAnswer,
    }
}

/// Tells when the socket's file appears; without inotify never, which the caller's own pace makes up for.
#[derive(Debug)]
pub(super) struct Doorbell(Option<FolderEvents>);

impl Doorbell {
    pub(super) fn new(server: &str, socket: &Path) -> Self {
        let events = socket.parent().and_then(|folder| {
            FolderEvents::new(folder)
                .inspect_err(|error| {
                    tracing::warn!(server, folder = %folder.display(), %error, "the socket's folder is not watched, only tried");
                })
                .ok()
        });
        Self(events)
    }

    pub(super) async fn rings(&self, socket: &Path) {
        match (&self.0, socket.file_name()) {
            (Some(events), Some(name)) => events.appeared(|file| file == name).await,
            _ => std::future::pending().await,
        }
    }
}
