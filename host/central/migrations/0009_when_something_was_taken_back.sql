-- When an exchange was taken back: a branch that was made before still has it.

ALTER TABLE ingest ADD COLUMN withdrawn_at TEXT;
ALTER TABLE turns ADD COLUMN withdrawn_at TEXT;
