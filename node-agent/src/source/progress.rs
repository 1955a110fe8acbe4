//! What a local source has done so far, for progress messages and reports.

use std::collections::VecDeque;

use binlog_core::BinlogPosition;

/// Asked positions remembered; a replica that reconnects more often than this is counted, not listed.
const ASKED_KEPT: usize = 128;

/// Progress of a local source, published through a watch channel.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SourceProgress {
    /// Connections accepted, whatever became of them.
    pub connections: u64,
    /// Connections whose login was refused.
    pub refused_logins: u64,
    /// Dumps asked for; more than one means the replica reconnected.
    pub dumps: u64,
    /// Positions asked for, newest last; at most the last 128.
    pub asked: VecDeque<BinlogPosition>,
    /// Bytes sent in answer to dumps, packet headers included, over all connections.
    pub sent_bytes: u64,
    /// Events of the stream sent in full, over all connections; format descriptions count, made events do not.
    pub sent_events: u64,
    /// Where the stream stood after the last event sent, on the newest connection.
    pub last_sent: Option<BinlogPosition>,
    /// Heartbeats sent.
    pub heartbeats: u64,
    /// Why the last dump that failed did; a replica has it as its `Last_IO_Error`.
    pub last_error: Option<String>,
    /// Connections cut by an injected fault.
    pub cuts: u64,
}

impl SourceProgress {
    pub(super) fn asked_for(&mut self, position: BinlogPosition) {
        self.dumps += 1;
        if self.asked.len() >= ASKED_KEPT {
            self.asked.pop_front();
        }
        self.asked.push_back(position);
    }
}
