"""central.db: one module per table group, each with its statements; functions take a connection and do one thing."""
