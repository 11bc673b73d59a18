-- What model calls cost: an agent that does not say so is not cheaper for it. And indexes, so that what waits for its
-- time, and other conversations, cost nobody anything.

ALTER TABLE usage_by_day ADD COLUMN called_usd REAL NOT NULL DEFAULT 0;   -- of model calls, at the price list's prices

DROP INDEX deliveries_open;
CREATE INDEX deliveries_open ON deliveries (channel_type, platform_id, deliver_after, position)
    WHERE status IN ('pending', 'sending');
CREATE INDEX deliveries_open_of_session ON deliveries (session_id, deliver_after, in_reply_to)
    WHERE status IN ('pending', 'sending');
CREATE INDEX routes_by_active_session ON routes (active_session_id) WHERE active_session_id IS NOT NULL;
