"""The MCP server that agents talk to: `/mcp/<source>` in every protocol version."""
