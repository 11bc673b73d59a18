"""What a person can ask for, each once: used by the command line, and by all that will offer the same."""
