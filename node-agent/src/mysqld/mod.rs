//! The local mysqld: its process, its connection, its SQL dialect, and what it says about itself.
