"""The reviewer of requests: identity by TokenReview and permission by SubjectAccessReview of the API server."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp

from interlock_contract.audit_chain import GuardId
from interlock_contract.names import AUDIT_RECORDS, GROUP, GUARD_ACCOUNT_SUFFIX
from interlock_contract.pod import AUDIT_AUDIENCE

READ_VERB: Final = "get"
"""Verb on `AUDIT_RECORDS` that a reader must be allowed at the API server."""

_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_ACCOUNT: Final = "system:serviceaccount:"
_REMEMBERED_SECONDS: Final = 60.0
_REMEMBERED: Final = 4096
_CREATED: Final = 201


class AccessUnknown(Exception):  # noqa: N818 - says the state of an answer
    """The API server did not answer. The message says why."""


@dataclass(frozen=True, slots=True)
class Identity:
    """The owner of a token, as the API server states."""

    user: str
    uid: str
    groups: tuple[str, ...]
    extra: Mapping[str, tuple[str, ...]]

    @property
    def pods(self) -> tuple[str, ...]:
        """The pod that the token is bound to, empty if there is none."""
        return self.extra.get(_POD_NAME, ())


def agent_of(identity: Identity, guard: GuardId) -> str | None:
    """Return the agent of a guard, None if the identity is not that guard's.

    A guard runs under the ServiceAccount `<agent>-guard` of its namespace, and its token is bound to its pod.
    """
    namespace, _, account = identity.user.removeprefix(_ACCOUNT).partition(":")
    is_guard = identity.user.startswith(_ACCOUNT) and account.endswith(GUARD_ACCOUNT_SUFFIX)
    is_this_one = namespace == guard.namespace and identity.pods == (guard.pod,)
    return account.removesuffix(GUARD_ACCOUNT_SUFFIX) if is_guard and is_this_one else None


class Reviewer:
    """Client of the API server's reviews. It caches the identity of a token for a minute.

    Args:
        session: A session that trusts the API server's certificate.
        api_server: Its address.
        token: The file with the collector's own token, read again for each request.
        monotonic: The monotonic clock, in seconds.
    """

    def __init__(
        self, session: aiohttp.ClientSession, api_server: str, token: Path, monotonic: Callable[[], float]
    ) -> None:
        self._session, self._api_server, self._token = session, api_server, token
        self._monotonic = monotonic
        self._known: OrderedDict[bytes, tuple[float, Identity]] = OrderedDict()

    async def identify(self, token: str) -> Identity | None:
        """Return the owner of a token, None if the token is invalid or has another audience.

        Raises:
            AccessUnknown: The API server did not answer.
        """
        key, now = hashlib.sha256(token.encode()).digest(), self._monotonic()
        known = self._known.get(key)
        if known is not None and now < known[0]:
            return known[1]
        spec = {"token": token, "audiences": [AUDIT_AUDIENCE]}
        status = await self._ask("authentication.k8s.io/v1", "TokenReview", spec)
        if status.get("authenticated") is not True or AUDIT_AUDIENCE not in (status.get("audiences") or ()):
            return None
        identity = _identity(status.get("user") or {})
        self._known[key] = now + _REMEMBERED_SECONDS, identity
        if len(self._known) > _REMEMBERED:
            self._known.popitem(last=False)
        return identity

    async def may_read(self, identity: Identity, namespace: str) -> bool:
        """Return True if an identity may read the records of a namespace. An empty namespace means all.

        Raises:
            AccessUnknown: The API server did not answer.
        """
        spec = {
            "user": identity.user,
            "uid": identity.uid,
            "groups": list(identity.groups),
            "extra": {name: list(values) for name, values in identity.extra.items()},
            "resourceAttributes": {
                "group": GROUP,
                "resource": AUDIT_RECORDS,
                "verb": READ_VERB,
                "namespace": namespace,
            },
        }
        return (await self._ask("authorization.k8s.io/v1", "SubjectAccessReview", spec)).get("allowed") is True

    async def _ask(self, version: str, kind: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
        url = f"{self._api_server}/apis/{version}/{kind.lower()}s"
        body = {"apiVersion": version, "kind": kind, "spec": spec}
        try:
            headers = {"Authorization": f"Bearer {self._token.read_text().strip()}"}
            async with self._session.post(url, json=body, headers=headers, allow_redirects=False) as response:
                if response.status != _CREATED:
                    raise AccessUnknown(f"the API server answered {kind} with {response.status}")
                status: Any = (await response.json()).get("status")
        except (OSError, ValueError, aiohttp.ClientError, TimeoutError) as error:
            raise AccessUnknown(f"{kind}: {type(error).__name__}: {error}") from None
        return status if isinstance(status, dict) else {}


def _identity(user: Mapping[str, Any]) -> Identity:
    extra = {name: tuple(values) for name, values in (user.get("extra") or {}).items()}
    return Identity(user.get("username", ""), user.get("uid", ""), tuple(user.get("groups") or ()), extra)
