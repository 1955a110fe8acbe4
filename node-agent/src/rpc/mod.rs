//! The gRPC surface: thin handlers, one file per call.
