//! XID_EVENT and XA_PREPARE_LOG_EVENT: ends of transactions.

use super::bytes::Cursor;

/// The transaction's XID.
#[must_use]
pub fn parse_xid(body: &[u8]) -> Option<u64> {
    Cursor::new(body).u64()
}

/// XA PREPARE.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct XaPrepare {
    /// `XA COMMIT .. ONE PHASE`: prepared and committed at once.
    pub one_phase: bool,
}

/// Reads an XA PREPARE. Both kinds end a transaction in the log.
#[must_use]
pub fn parse_xa_prepare(body: &[u8]) -> Option<XaPrepare> {
    Cursor::new(body)
        .u8()
        .map(|b| XaPrepare { one_phase: b != 0 })
}
