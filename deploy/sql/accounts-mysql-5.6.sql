-- Accounts for one MySQL 5.6 or 5.7 server. Run on the primary; replicas get them by replication.
-- Replace the passwords; keep them in files with mode 0600 on the hosts that use them.

-- The agent: reads status, controls the applier, lifts read_only, reads the channel's saved settings.
CREATE USER 'mha_agent'@'localhost' IDENTIFIED BY 'CHANGE-ME-1';
GRANT SUPER, PROCESS, RELOAD, SELECT, REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO 'mha_agent'@'localhost';

-- Replication between the servers.
CREATE USER 'repl'@'%' IDENTIFIED BY 'CHANGE-ME-2';
GRANT REPLICATION SLAVE ON *.* TO 'repl'@'%';

-- The manager's ping: may connect, nothing else.
CREATE USER 'mha_monitor'@'%' IDENTIFIED BY 'CHANGE-ME-3';
