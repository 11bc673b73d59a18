-- Runs are counted, and know their node; nodes that take no agents, or are gone for good; where agents may run.

ALTER TABLE sessions ADD COLUMN run_number INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN node TEXT;
ALTER TABLE sessions ADD COLUMN waits_told INTEGER;   -- the run of which people were told that its node does not answer

ALTER TABLE agent_groups ADD COLUMN node_labels TEXT NOT NULL DEFAULT '{}';

CREATE TABLE nodes (
    name       TEXT PRIMARY KEY,
    drained_at TEXT,
    lost_at    TEXT
);
