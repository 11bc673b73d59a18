-- Why the last answer of a turn ended, and what the service said of a refusal, in its own words.

ALTER TABLE turns ADD COLUMN stop_reason TEXT;
ALTER TABLE turns ADD COLUMN detail TEXT;
