"""Import: MCP servers as desktop clients write them become MCPBindings."""
