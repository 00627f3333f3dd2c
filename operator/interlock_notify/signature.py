"""The signature of a notification after the Standard Webhooks specification, version 1.0.0. No I/O.

`webhook-signature: v1,<Base64 of HMAC-SHA256>` over `<webhook-id>.<webhook-timestamp>.<body>`. While a key is rotated,
there is one signature of each key, separated by spaces.
"""

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable
from typing import Final

PREFIX: Final = "whsec_"
"""Beginning of a key as receivers show it."""
LEAST_KEY: Final = 24
LARGEST_KEY: Final = 64
"""Bytes of a key, as the specification bounds them (192 to 512 bits)."""
MOST_KEYS: Final = 2
"""The key in use, and the one before or after it."""


class SigningKeyInvalid(ValueError):  # noqa: N818 - says the state of a key
    """The file holds no signing key; the message holds nothing of its content."""


def parse_keys(content: bytes) -> tuple[bytes, ...]:
    """Return the signing keys that a file holds: Base64, each with or without `whsec_`, separated by white space.

    Raises:
        SigningKeyInvalid: There is none, there are too many, or one of them is no key.
    """
    words = content.split()
    if not 1 <= len(words) <= MOST_KEYS:
        raise SigningKeyInvalid(f"the signing key must be one key or two, found {len(words)}")
    return tuple(_parse_key(word) for word in words)


def _parse_key(word: bytes) -> bytes:
    text = word.removeprefix(PREFIX.encode())
    try:
        key = base64.b64decode(text + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise SigningKeyInvalid("the signing key is no Base64") from None
    if not LEAST_KEY <= len(key) <= LARGEST_KEY:
        raise SigningKeyInvalid(f"the signing key must have {LEAST_KEY} to {LARGEST_KEY} bytes, found {len(key)}")
    return key


def build_headers(message_id: str, seconds: int, body: bytes, keys: Iterable[bytes]) -> dict[str, str]:
    """Return the headers of one attempt.

    Args:
        message_id: The idempotency key, without a full stop.
        seconds: The time of the attempt, in seconds since the epoch.
        body: What is posted.
        keys: The signing keys; without any there is no signature.
    """
    content = f"{message_id}.{seconds}.".encode() + body
    signatures = [f"v1,{base64.b64encode(hmac.digest(key, content, hashlib.sha256)).decode()}" for key in keys]
    headers = {"webhook-id": message_id, "webhook-timestamp": str(seconds)}
    return {**headers, "webhook-signature": " ".join(signatures)} if signatures else headers
