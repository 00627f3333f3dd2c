"""What is spoken: JSON, JSON-RPC, MCP's words, streams of events and lines. No I/O but for the cutting of lines."""
