"""Ports for programs under test, such that no two processes of tests, however they run, are given the same one.

A port that was bound, read and released may belong to another process a moment later. Another guard then answers for
ours. So each process of tests takes a block below the kernel's ephemeral ports. An abstract socket is the claim: all
users of the same network see it, and it ends with its process.
"""

import atexit
import socket
from functools import cache
from itertools import count

FIRST = 20_000
BLOCK = 100
BLOCKS = 120  # up to 32 000: Linux gives out ephemeral ports from 32 768 on

_next = count()


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 on which no process listens.

    Raises:
        RuntimeError: All of this process' ports are taken.
    """
    begin, _ = _own_block()
    for _ in range(BLOCK):
        port = begin + next(_next) % BLOCK
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) != 0:
                return port
    raise RuntimeError(f"no port is free from {begin} to {begin + BLOCK - 1}")


@cache
def _own_block() -> tuple[int, socket.socket]:
    """Take a block; its claim is kept as long as the process lives."""
    for number in range(BLOCKS):
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0interlock-test-ports-{number}")
        except OSError:
            claim.close()
        else:
            atexit.register(claim.close)
            return FIRST + number * BLOCK, claim
    raise RuntimeError(f"all {BLOCKS} blocks of ports are taken")
