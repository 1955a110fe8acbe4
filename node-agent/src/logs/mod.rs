//! Binary logs, relay logs and the segments cut from them.
