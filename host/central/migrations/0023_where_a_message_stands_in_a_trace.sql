-- The caller's place in a trace (W3C Trace Context), and when a message was written into its session's file.

ALTER TABLE ingest ADD COLUMN traceparent TEXT;
ALTER TABLE ingest ADD COLUMN written_at TEXT;
