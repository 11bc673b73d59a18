-- The largest sessions are found without sorting all of them; small ones, which are most, cost nothing to keep in it.

CREATE INDEX sessions_by_size ON sessions (kept_bytes) WHERE kept_bytes >= 65536;
