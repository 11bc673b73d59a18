-- Each message that a long one went out in has an id on its platform: what people do with a later one finds it by that.
-- A chat that goes on under another id is known by the old one, too: what was accepted there is answered where it is now.

CREATE TABLE delivery_parts (
    position            INTEGER NOT NULL REFERENCES deliveries (position) ON DELETE CASCADE,
    number              INTEGER NOT NULL,    -- from 1; of a message in one part there is no row
    channel_type        TEXT NOT NULL,
    platform_id         TEXT NOT NULL,
    platform_message_id TEXT NOT NULL,
    PRIMARY KEY (position, number)
) WITHOUT ROWID;
CREATE INDEX delivery_parts_by_platform_message ON delivery_parts (channel_type, platform_id, platform_message_id);

CREATE TABLE chat_moves (
    channel_type TEXT NOT NULL,
    old_id       TEXT NOT NULL,
    new_id       TEXT NOT NULL,
    moved_at     TEXT NOT NULL,
    PRIMARY KEY (channel_type, old_id)
) WITHOUT ROWID;

-- The card that a person reacts to.
CREATE INDEX host_messages_cards ON host_messages (channel_type, platform_id, platform_message_id)
    WHERE approval_id IS NOT NULL AND edits IS NULL;
