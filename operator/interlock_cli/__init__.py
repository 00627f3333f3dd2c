"""Commands for people: `interlock-import` turns MCP client configs into MCPBindings."""
