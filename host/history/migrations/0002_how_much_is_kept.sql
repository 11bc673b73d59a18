-- How much was taken of a session in all: entries, and bytes of their texts.

ALTER TABLE sessions ADD COLUMN taken_rows INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sessions ADD COLUMN taken_bytes INTEGER NOT NULL DEFAULT 0;
