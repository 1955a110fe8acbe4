-- Accounts for one MySQL server from 8.0 on. Run on the primary; replicas get them by replication.
-- Replace the passwords; keep them in files with mode 0600 on the hosts that use them.

-- The agent: reads status, controls receiver and applier, lifts read_only, reads the channel's saved settings.
CREATE USER 'mha_agent'@'localhost' IDENTIFIED BY 'CHANGE-ME-1';
GRANT SUPER, PROCESS, RELOAD, SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'mha_agent'@'localhost';
-- SYSTEM_USER, from 8.0.16 on: else it may end neither an applier that waits for the rest of a transaction, which STOP does
-- only after a minute, nor the sessions of administrators on a primary that lost its lease.
GRANT REPLICATION_SLAVE_ADMIN, SYSTEM_VARIABLES_ADMIN, CONNECTION_ADMIN /*!80016 , SYSTEM_USER */ ON *.* TO 'mha_agent'@'localhost';

-- Replication between the servers.
CREATE USER 'repl'@'%' IDENTIFIED BY 'CHANGE-ME-2';
GRANT REPLICATION SLAVE ON *.* TO 'repl'@'%';

-- The manager's ping: may connect, nothing else.
CREATE USER 'mha_monitor'@'%' IDENTIFIED BY 'CHANGE-ME-3';
