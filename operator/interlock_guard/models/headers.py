"""Which headers pass between an agent and a provider of models; whatever is not named here does not. No I/O.

So nothing of one connection alone passes (RFC 9110, section 7.6.1), no key, no cookie, and nothing that would charge
another organisation or project of the provider's customer.
"""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Final

from multidict import CIMultiDictProxy

from interlock_guard.bundle.document import Bundle

_REQUEST: Final = (
    "accept",
    "anthropic-beta",
    "anthropic-version",
    "idempotency-key",
    "openai-beta",
    "user-agent",
)
_RESPONSE: Final = (
    "cache-control",
    "content-type",
    "openai-processing-ms",
    "openai-version",
    "request-id",
    "retry-after",
    "retry-after-ms",
    "x-request-id",
    "x-should-retry",
)
_REQUEST_PREFIX: Final = "x-stainless-"
_RESPONSE_PREFIXES: Final = ("x-ratelimit-", "anthropic-ratelimit-")
_OWN: Final = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
_BEARER: Final = "bearer "


def request_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what of an agent's headers goes to the provider, and the guard's own."""
    passed = {name: value for name, value in headers.items() if _passes(name.lower(), _REQUEST, (_REQUEST_PREFIX,))}
    return {**passed, **_OWN}


def response_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """Return what of a provider's headers goes to the agent."""
    return {name: value for name, value in headers.items() if _passes(name.lower(), _RESPONSE, _RESPONSE_PREFIXES)}


def shows_key(bundle: Bundle, headers: CIMultiDictProxy[str]) -> bool:
    """Say whether a request shows the key that the agent was given, in each place where it shows one, and once."""
    shown = headers.getall("X-Api-Key", [])
    for value in headers.getall("Authorization", []):
        shown.append(value[len(_BEARER) :] if value.lower().startswith(_BEARER) else "")
    expected = "" if bundle.models is None else bundle.models.key_digest
    return bool(expected) and bool(shown) and all(_is_key(value, expected) for value in shown)


def _is_key(value: str, digest: str) -> bool:
    found = hashlib.sha256(value.encode("utf-8", "surrogateescape")).hexdigest()
    return hmac.compare_digest(found, digest)


def _passes(name: str, names: tuple[str, ...], prefixes: tuple[str, ...]) -> bool:
    return name in names or name.startswith(prefixes)
