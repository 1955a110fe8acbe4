-- Accounts for one MariaDB server from 10.5.9 on. Run on the primary; replicas get them by replication.
-- Replace the passwords; keep them in files with mode 0600 on the hosts that use them.

-- The agent: reads status, controls the applier, lifts read_only.
CREATE USER 'mha_agent'@'localhost' IDENTIFIED BY 'CHANGE-ME-1';
GRANT SUPER, PROCESS, RELOAD, SELECT, REPLICATION SLAVE ADMIN, REPLICATION MASTER ADMIN, SLAVE MONITOR, BINLOG MONITOR,
  READ_ONLY ADMIN, CONNECTION ADMIN ON *.* TO 'mha_agent'@'localhost';

-- Replication between the servers.
CREATE USER 'repl'@'%' IDENTIFIED BY 'CHANGE-ME-2';
GRANT REPLICATION SLAVE ON *.* TO 'repl'@'%';

-- The manager's ping: may connect, nothing else.
CREATE USER 'mha_monitor'@'%' IDENTIFIED BY 'CHANGE-ME-3';
