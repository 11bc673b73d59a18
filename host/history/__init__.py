"""The searchable record: history.db, derived from the session folders alone."""
