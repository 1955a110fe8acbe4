//! Scenarios on real servers, one binary so that they are linked once.

mod customer;
mod replay;
mod support;
mod table;
