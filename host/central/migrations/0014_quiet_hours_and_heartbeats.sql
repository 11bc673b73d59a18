-- Hours in which nothing that an agent says by itself is sent; and heartbeats, which are schedules of their own kind.

CREATE TABLE quiet_hours (
    kind     TEXT NOT NULL CHECK (kind IN ('chat', 'person')),
    subject  TEXT NOT NULL,                  -- <channel>:<platform id>, or the id of a person
    begins   TEXT NOT NULL,                  -- HH:MM
    ends     TEXT NOT NULL,
    timezone TEXT NOT NULL,
    PRIMARY KEY (kind, subject)
);

ALTER TABLE host_messages ADD COLUMN not_before TEXT;

ALTER TABLE schedules ADD COLUMN purpose TEXT NOT NULL DEFAULT 'task' CHECK (purpose IN ('task', 'heartbeat'));
ALTER TABLE schedules ADD COLUMN hours TEXT;     -- HH:MM-HH:MM: a heartbeat outside of them does not take place
ALTER TABLE schedules ADD COLUMN seen INTEGER NOT NULL DEFAULT 0;   -- the last message that a heartbeat knew of

CREATE INDEX users_by_direct_chat ON users (direct_chat) WHERE direct_chat IS NOT NULL;
