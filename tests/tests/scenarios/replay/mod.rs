//! The replay through the local source under faults: the connection cut at 50 random points, a source that stalls for
//! longer than `slave_net_timeout`, agent and mysqld killed on the way, and a second run that finishes.

mod cuts;
mod deferred;
mod killed;
mod stall;
