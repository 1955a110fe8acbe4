//! Tables of accepted and refused configurations.
