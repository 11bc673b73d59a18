"""What an agent can do besides talking. Each tool is defined once and has two doors: called directly by a provider
(`toolbox.py`), and served through MCP in the same process (`server.py`), so that `outbound.db` keeps its one writer.
"""
