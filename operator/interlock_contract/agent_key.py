"""The agent's key: what an agent shows to its guard, so that the guard takes no MCP server of its pod for the agent.

The operator derives one key for each placement from a key of its own. A Secret brings it to the agent's container, and
to no other container. The guard knows only its digest, which the bundle holds. No I/O.
"""

import hashlib
import hmac
from typing import Final

PREFIX: Final = "interlock-"
"""Beginning of every agent's key, by which readers and scanners of secrets recognise one."""
MIN_OPERATOR_KEY: Final = 32
"""Shortest key of the operator in bytes."""


def derive_agent_key(operator_key: bytes, placement: str) -> str:
    """Return the key of a placement: 256 bits that differ for each placement.

    Args:
        operator_key: The operator's own key.
        placement: The digest of the placement.

    Raises:
        ValueError: The operator's key is too short to be secret.
    """
    if len(operator_key) < MIN_OPERATOR_KEY:
        raise ValueError(f"the operator's key has {len(operator_key)} bytes, of at least {MIN_OPERATOR_KEY}")
    return PREFIX + hmac.new(operator_key, f"agent/{placement}".encode(), hashlib.sha256).hexdigest()


def agent_key_digest(key: str) -> str:
    """Return the SHA-256 of a key in hex. The key cannot be guessed, so its digest may be public."""
    return hashlib.sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


def is_agent_key(shown: str, digest: str | None) -> bool:
    """Return True if a text is the key with this digest; the time that takes tells nothing about the key.

    Args:
        shown: What a request shows.
        digest: The digest of the key, None where there is no key, which then no text is.
    """
    return digest is not None and hmac.compare_digest(agent_key_digest(shown), digest)
