//! Scenarios on real servers, one binary so that they are linked once.

mod replay;
mod table;
