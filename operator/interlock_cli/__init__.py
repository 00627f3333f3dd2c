"""The commands for users: `interlock-import` converts MCP client configs to MCPBindings."""
