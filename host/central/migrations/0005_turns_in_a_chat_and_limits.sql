-- Conversations take turns in a chat: a delivery keeps the order of its lane, which is the route it was said for.
ALTER TABLE deliveries ADD COLUMN lane TEXT NOT NULL DEFAULT '-';

UPDATE deliveries SET lane = (SELECT route_id FROM sessions s WHERE s.id = deliveries.session_id)
WHERE status IN ('pending', 'sending');

DROP INDEX deliveries_open;
CREATE INDEX deliveries_open ON deliveries (channel_type, platform_id, lane, deliver_after, position)
    WHERE status IN ('pending', 'sending');

-- The host's own notices, for how many of them there are of a message.
CREATE INDEX deliveries_notices ON deliveries (session_id, in_reply_to) WHERE from_host = 1;

-- What the host keeps of a session in its own files, in all and in the hour that `kept_hour` names.
ALTER TABLE sessions ADD COLUMN kept_rows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN kept_bytes INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN kept_hour TEXT NOT NULL DEFAULT '';
ALTER TABLE sessions ADD COLUMN kept_hour_rows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN kept_hour_bytes INTEGER NOT NULL DEFAULT 0;

-- How often the host did something by itself in an hour, for a chat, a conversation or a session; beyond `most` it did not.
CREATE TABLE rate_limits (
    act     TEXT NOT NULL,
    subject TEXT NOT NULL,
    hour    TEXT NOT NULL,
    used    INTEGER NOT NULL,
    most    INTEGER NOT NULL,
    PRIMARY KEY (act, subject)
);

CREATE INDEX rate_limits_by_hour ON rate_limits (hour);

-- Questions of agents that wait for an answer: who was asked, where, and until when.
CREATE TABLE questions (
    session_id     TEXT NOT NULL REFERENCES sessions (id) ON DELETE CASCADE,
    message_out_id TEXT NOT NULL,
    channel_type   TEXT NOT NULL,
    platform_id    TEXT NOT NULL,
    thread_id      TEXT,
    sender_id      TEXT NOT NULL,
    expires_at     TEXT NOT NULL,
    PRIMARY KEY (session_id, message_out_id)
);

-- What is archived counts as read; and what is unread in one chat, for whoever writes there.
UPDATE sessions SET unread_since = NULL WHERE status = 'archived' AND unread_since IS NOT NULL;
CREATE INDEX sessions_unread_in_chat ON sessions (messaging_group_id) WHERE unread_since IS NOT NULL;
