"""A whole host, with real agents."""
