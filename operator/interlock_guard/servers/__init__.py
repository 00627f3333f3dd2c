"""The servers' side: the guard as the client of MCP servers, over pipes and HTTP."""
