"""A stock of goods as an MCP server on stdio: one tool reads, the other one writes.

Standard output is MCP alone, so the program prints nothing. Write logs to standard error.
"""

import signal
import sys

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError

server = MCPServer("stock")
pieces_of = {"bolt": 120, "nut": 80, "washer": 0}


def find(item: str) -> int:
    """Return how many pieces of an item there are.

    Raises:
        ToolError: There is no such item. The agent reads this text.
    """
    if item not in pieces_of:
        raise ToolError(f"no item {item!r}: there are {', '.join(pieces_of)}")
    return pieces_of[item]


@server.tool()
def stock_level(item: str) -> str:
    """Say how many pieces of an item are in stock."""
    return f"{find(item)} pieces of {item} in stock"


@server.tool()
def reserve(item: str, pieces: int) -> str:
    """Take pieces of an item out of the stock for a customer."""
    if not 0 < pieces <= find(item):
        raise ToolError(f"cannot reserve {pieces} of {find(item)} pieces of {item}")
    pieces_of[item] -= pieces
    return f"{pieces} pieces of {item} reserved, {find(item)} left"


if __name__ == "__main__":
    # Process 1 of a container ignores SIGTERM unless it handles it.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    server.run()
