"""What programs call over HTTP: OpenAI's API, every operation, MCP (docs/api.md). Imported when the page is served,
but for what posts events to hooks, which needs no page.
"""
