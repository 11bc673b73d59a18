-- What channels remember over a restart of the host: an offset, a sync token, the last UID.
CREATE TABLE channel_state (
    channel    TEXT NOT NULL,                -- its name
    key        TEXT NOT NULL,
    value      TEXT NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (channel, key)
) WITHOUT ROWID;
