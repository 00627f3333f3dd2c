"""The MCP client that talks to a source's server, over pipes or HTTP."""
