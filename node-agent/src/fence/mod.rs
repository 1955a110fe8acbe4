//! Keeping a deposed primary from taking writes.
