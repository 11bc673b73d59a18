-- Servers of tools that cannot be used, as agents say: told once, and seen in status and doctor. And what a message
-- replies to is found by the platform's id of it.

CREATE TABLE tool_server_problems (
    session_id TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    server     TEXT NOT NULL,
    problem    TEXT NOT NULL,
    since      TEXT NOT NULL,
    PRIMARY KEY (session_id, server)
);

CREATE INDEX deliveries_by_platform_message ON deliveries (channel_type, platform_id, platform_message_id)
    WHERE platform_message_id IS NOT NULL;
CREATE INDEX deliveries_by_message ON deliveries (message_out_id);

ALTER TABLE agent_groups ADD COLUMN save_memory INTEGER CHECK (save_memory IN (0, 1));   -- NULL: the setting
