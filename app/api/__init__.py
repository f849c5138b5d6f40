"""OpenAI-compatible HTTP API under /v1 and the MCP server at /mcp, on the page's port."""
