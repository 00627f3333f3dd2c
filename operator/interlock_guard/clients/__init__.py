"""The agent's side: `/mcp/<source>` in both eras of MCP, and the one gate that everything passes."""
