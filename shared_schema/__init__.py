"""The contract between the host and the agent: two SQLite files in a folder. Standard library only."""
