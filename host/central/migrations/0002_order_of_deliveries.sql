-- Where a delivery stands among the messages that came in: behind the newest of its session when it was queued. Times
-- cannot say that, because clocks are set back.
ALTER TABLE deliveries ADD COLUMN after_position INTEGER NOT NULL DEFAULT 0;

UPDATE deliveries SET after_position = coalesce(
    (SELECT max(i.position) FROM ingest i
     WHERE i.session_id = deliveries.session_id AND i.accepted_at <= deliveries.created_at), 0);
