"""Wire formats: JSON-RPC, event streams and lines. No I/O."""
