//! HEARTBEAT_LOG_EVENT: never in a file; the local source sends it.

/// File name a heartbeat carries; its header's `log_pos` is the position.
#[must_use]
pub fn parse(body: &[u8]) -> Option<&str> {
    std::str::from_utf8(body)
        .ok()
        .filter(|name| !name.is_empty())
}
