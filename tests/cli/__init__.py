"""The command line against a host that is played here; end to end with the real one is elsewhere."""
