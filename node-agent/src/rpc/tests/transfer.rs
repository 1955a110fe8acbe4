//! Segments between two agents: whole, cut off at random places, damaged, refused.
