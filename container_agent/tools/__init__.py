"""What an agent can do besides talking. Each tool is defined once and has two doors, both within the agent's process so
that `outbound.db` keeps its one writer: called by a provider (`toolbox.py`), and as an MCP server (`server.py`).
"""
