//! Conversions between wire messages and values: the only validation of wire data.
//!
//! Guarantee: every value that comes out is complete and well-formed; what is missing or malformed is a
//! [`ConvertError`] that names the field. Nothing is defaulted.

use std::fmt;
use std::num::NonZeroU64;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use binlog_core::position::{
    BinlogFileName, BinlogPosition, RelayFileName, RelayPosition, StreamRange,
};
use binlog_core::segment::Manifest;

use crate::status::AgentError;
use crate::v1;

/// A field of a message that cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("field `{field}`: {reason}")]
pub struct ConvertError {
    /// Name of the field as in the `.proto` file.
    pub field: &'static str,
    /// What is wrong with it.
    pub reason: String,
}

/// What every mutating call carries, validated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Context {
    /// Cluster.
    pub cluster: String,
    /// Server as its agent names it.
    pub server: String,
    /// Operation that holds the cluster.
    pub operation: OperationId,
    /// Its epoch.
    pub epoch: NonZeroU64,
    /// When the caller stops waiting; for streams, the longest time without progress.
    pub deadline: Duration,
}

/// Id of an operation: a file name without surprises.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OperationId(String);

/// Id of a segment, unique within its operation: a file name without surprises.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SegmentId(String);

/// A segment as its provider announced it.
#[derive(Debug, Clone, PartialEq)]
pub struct Segment {
    /// Id.
    pub id: SegmentId,
    /// Size of the file in bytes.
    pub size: u64,
    /// sha256 of the file.
    pub sha256: [u8; 32],
    /// The sidecar, parsed.
    pub manifest: Manifest,
    /// The sidecar, as stored.
    pub manifest_json: Vec<u8>,
}

// === impl ConvertError ===

impl ConvertError {
    /// An error about one field.
    pub fn new(field: &'static str, reason: impl Into<String>) -> Self {
        Self {
            field,
            reason: reason.into(),
        }
    }

    fn missing(field: &'static str) -> Self {
        Self::new(field, "missing")
    }
}

impl From<ConvertError> for AgentError {
    fn from(e: ConvertError) -> Self {
        Self::new(v1::ErrorKind::InvalidArgument, e.to_string())
    }
}

impl From<ConvertError> for tonic::Status {
    fn from(e: ConvertError) -> Self {
        AgentError::from(e).into()
    }
}

/// Unwraps an optional message field.
///
/// # Errors
/// The field is missing.
pub fn required<T>(value: Option<T>, field: &'static str) -> Result<T, ConvertError> {
    value.ok_or_else(|| ConvertError::missing(field))
}

/// Converts an optional message field that must be there.
///
/// # Errors
/// The field is missing or malformed.
pub fn convert<W, T>(value: Option<W>, field: &'static str) -> Result<T, ConvertError>
where
    T: TryFrom<W, Error = ConvertError>,
{
    T::try_from(required(value, field)?)
}

/// Converts an optional message field that may be absent.
///
/// # Errors
/// The field is malformed.
pub fn optional<W, T>(value: Option<W>) -> Result<Option<T>, ConvertError>
where
    T: TryFrom<W, Error = ConvertError>,
{
    value.map(T::try_from).transpose()
}

/// A text that must not be empty.
///
/// # Errors
/// It is.
pub(crate) fn name(text: String, field: &'static str) -> Result<String, ConvertError> {
    if text.is_empty() {
        Err(ConvertError::missing(field))
    } else {
        Ok(text)
    }
}

/// A duration as the wire tells most of them.
pub(crate) fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

// === positions ===

impl TryFrom<v1::BinlogPosition> for BinlogPosition {
    type Error = ConvertError;

    fn try_from(p: v1::BinlogPosition) -> Result<Self, ConvertError> {
        let file: BinlogFileName = p
            .file
            .parse()
            .map_err(|e| ConvertError::new("BinlogPosition.file", format!("{e}")))?;
        Ok(Self::new(file, p.offset))
    }
}

impl From<&BinlogPosition> for v1::BinlogPosition {
    fn from(p: &BinlogPosition) -> Self {
        Self {
            file: p.file.as_str().to_owned(),
            offset: p.offset,
        }
    }
}

impl From<BinlogPosition> for v1::BinlogPosition {
    fn from(p: BinlogPosition) -> Self {
        Self::from(&p)
    }
}

impl TryFrom<v1::RelayPosition> for RelayPosition {
    type Error = ConvertError;

    fn try_from(p: v1::RelayPosition) -> Result<Self, ConvertError> {
        let file: RelayFileName = p
            .file
            .parse()
            .map_err(|e| ConvertError::new("RelayPosition.file", format!("{e}")))?;
        Ok(Self::new(file, p.offset))
    }
}

impl From<&RelayPosition> for v1::RelayPosition {
    fn from(p: &RelayPosition) -> Self {
        Self {
            file: p.file.as_str().to_owned(),
            offset: p.offset,
        }
    }
}

impl TryFrom<v1::StreamRange> for StreamRange {
    type Error = ConvertError;

    fn try_from(r: v1::StreamRange) -> Result<Self, ConvertError> {
        let from: BinlogPosition = convert(r.from, "StreamRange.from")?;
        let to: BinlogPosition = convert(r.to, "StreamRange.to")?;
        if to < from {
            return Err(ConvertError::new(
                "StreamRange",
                format!("ends at {to} before it begins at {from}"),
            ));
        }
        Ok(Self { from, to })
    }
}

impl From<&StreamRange> for v1::StreamRange {
    fn from(r: &StreamRange) -> Self {
        Self {
            from: Some((&r.from).into()),
            to: Some((&r.to).into()),
        }
    }
}

// === context and ids ===

impl TryFrom<v1::CallContext> for Context {
    type Error = ConvertError;

    fn try_from(c: v1::CallContext) -> Result<Self, ConvertError> {
        if c.deadline_ms == 0 {
            return Err(ConvertError::missing("CallContext.deadline_ms"));
        }
        Ok(Self {
            cluster: name(c.cluster, "CallContext.cluster")?,
            server: name(c.server, "CallContext.server")?,
            operation: c.operation.parse()?,
            epoch: NonZeroU64::new(c.epoch)
                .ok_or_else(|| ConvertError::missing("CallContext.epoch"))?,
            deadline: Duration::from_millis(c.deadline_ms),
        })
    }
}

impl From<&Context> for v1::CallContext {
    fn from(c: &Context) -> Self {
        Self {
            cluster: c.cluster.clone(),
            server: c.server.clone(),
            operation: c.operation.to_string(),
            epoch: c.epoch.get(),
            deadline_ms: millis(c.deadline).max(1),
        }
    }
}

/// A name that is safe as one path component and in a log line.
fn safe_name(text: &str, field: &'static str) -> Result<String, ConvertError> {
    let ok = !text.is_empty()
        && text.len() <= 200
        && !text.starts_with('.')
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'));
    if ok {
        Ok(text.to_owned())
    } else {
        Err(ConvertError::new(
            field,
            format!(
                "{text:?} is not a name of 1 to 200 of A-Z a-z 0-9 . _ - not beginning with a dot"
            ),
        ))
    }
}

impl FromStr for OperationId {
    type Err = ConvertError;

    fn from_str(s: &str) -> Result<Self, ConvertError> {
        safe_name(s, "operation").map(Self)
    }
}

impl OperationId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for OperationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for SegmentId {
    type Err = ConvertError;

    fn from_str(s: &str) -> Result<Self, ConvertError> {
        safe_name(s, "segment id").map(Self)
    }
}

impl SegmentId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

// === segments ===

impl TryFrom<v1::SegmentInfo> for Segment {
    type Error = ConvertError;

    fn try_from(s: v1::SegmentInfo) -> Result<Self, ConvertError> {
        // The path is for messages only: the sidecar has none on the wire.
        let manifest = Manifest::from_json(&s.manifest_json, Path::new(&s.id))
            .map_err(|e| ConvertError::new("SegmentInfo.manifest_json", e.to_string()))?;
        let sha256: [u8; 32] = s.sha256.as_ref().try_into().map_err(|_| {
            ConvertError::new(
                "SegmentInfo.sha256",
                format!("{} bytes instead of 32", s.sha256.len()),
            )
        })?;
        Ok(Self {
            id: s.id.parse()?,
            size: s.size,
            sha256,
            manifest,
            manifest_json: s.manifest_json.to_vec(),
        })
    }
}

impl From<&Segment> for v1::SegmentInfo {
    fn from(s: &Segment) -> Self {
        Self {
            id: s.id.to_string(),
            size: s.size,
            sha256: s.sha256.to_vec().into(),
            manifest_json: s.manifest_json.clone().into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context() -> v1::CallContext {
        v1::CallContext {
            cluster: "app1".into(),
            server: "db1:3306".into(),
            operation: "op-1".into(),
            epoch: 1,
            deadline_ms: 1000,
        }
    }

    #[test]
    fn a_context_round_trips() {
        let value = Context::try_from(context()).unwrap();
        assert_eq!(v1::CallContext::from(&value), context());
    }

    #[test]
    fn every_missing_field_of_a_context_is_named() {
        type Spoil = fn(&mut v1::CallContext);
        let cases: [(&str, Spoil); 5] = [
            ("cluster", |c| c.cluster.clear()),
            ("server", |c| c.server.clear()),
            ("operation", |c| c.operation.clear()),
            ("epoch", |c| c.epoch = 0),
            ("deadline_ms", |c| c.deadline_ms = 0),
        ];
        for (field, spoil) in cases {
            let mut wire = context();
            spoil(&mut wire);
            let error = Context::try_from(wire).unwrap_err();
            assert!(error.field.contains(field), "{error}");
        }
    }

    #[test]
    fn ids_cannot_leave_their_folder() {
        for bad in ["", ".", "..", "../x", "a/b", "a b", ".hidden", "ü"] {
            assert!(bad.parse::<SegmentId>().is_err(), "{bad:?}");
            assert!(bad.parse::<OperationId>().is_err(), "{bad:?}");
        }
        assert!("tail-mysql-bin.000001-880".parse::<SegmentId>().is_ok());
    }

    #[test]
    fn positions_without_a_sequence_number_are_refused() {
        let wire = v1::BinlogPosition {
            file: "mysql-bin".into(),
            offset: 4,
        };
        let error = BinlogPosition::try_from(wire).unwrap_err();
        assert_eq!(error.field, "BinlogPosition.file");
    }

    #[test]
    fn a_range_that_ends_before_it_begins_is_refused() {
        let at = |offset| {
            Some(v1::BinlogPosition {
                file: "mysql-bin.000001".into(),
                offset,
            })
        };
        let wire = v1::StreamRange {
            from: at(200),
            to: at(100),
        };
        assert!(StreamRange::try_from(wire).is_err());
    }
}
