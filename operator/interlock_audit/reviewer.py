"""The reviewer of requests: identity by TokenReview and permission by SubjectAccessReview of the API server."""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

import aiohttp

from interlock_audit.quotas import Rate, RateLimiter
from interlock_contract.audit_chain import GuardId
from interlock_contract.names import AUDIT_RECORDS, GROUP, agent_of_account
from interlock_contract.pod import AUDIT_AUDIENCE

READ_VERB: Final = "get"
"""Verb on `AUDIT_RECORDS` that a reader must be allowed at the API server."""

_POD_NAME: Final = "authentication.kubernetes.io/pod-name"
_ACCOUNT: Final = "system:serviceaccount:"
_REMEMBERED: Final = 4096

IDENTITY_SECONDS: Final = 60.0
"""How long it is cached who owns a token, and that a token is invalid."""
PERMISSION_SECONDS: Final = 10.0
"""How long it is cached whether an identity may read."""
PEER_REVIEWS: Final = Rate(1, 20)
"""Reviews for one address."""
ALL_REVIEWS: Final = Rate(20, 100)
"""Reviews for all addresses: of tokens that were valid before, of other tokens, and of permissions."""
_CREATED: Final = 201


class TooManyReviews(Exception):  # noqa: N818 - says why there is no answer
    """The API server would be asked too often. The message says for whom."""


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


def sender_of(identity: Identity) -> tuple[str, str] | None:
    """Return the namespace and agent of a guard, None if the identity is no guard's.

    A guard runs under the ServiceAccount of its placement in its namespace, and its token is bound to its pod.
    """
    namespace, _, account = identity.user.removeprefix(_ACCOUNT).partition(":")
    if not (identity.user.startswith(_ACCOUNT) and identity.pods):
        return None
    agent = agent_of_account(account)
    return None if agent is None else (namespace, agent)


def agent_of(identity: Identity, guard: GuardId) -> str | None:
    """Return the agent of a guard, None if the identity is not that guard's."""
    namespace, agent = sender_of(identity) or ("", "")
    return agent if (namespace, identity.pods) == (guard.namespace, (guard.pod,)) else None


_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


class _Cache(Generic[_Key, _Value]):
    """Values with an end; beyond 4096 the oldest one is forgotten."""

    def __init__(self) -> None:
        self._values: OrderedDict[_Key, tuple[float, _Value]] = OrderedDict()

    def find(self, key: _Key, now: float) -> _Value | None:
        until, value = self._values.get(key, (now, None))
        return value if now < until else None

    def has(self, key: _Key) -> bool:
        """Return True if there is a value, whether it has ended or not."""
        return key in self._values

    def keep(self, key: _Key, value: _Value, until: float) -> None:
        self._values[key] = until, value
        self._values.move_to_end(key)
        if len(self._values) > _REMEMBERED:
            self._values.popitem(last=False)

    def forget(self, key: _Key) -> None:
        self._values.pop(key, None)


class Reviewer:
    """Client of the API server's reviews: it caches answers, and bounds how often it asks.

    The identity of a token is cached for a minute, and so is the refusal of one. Tokens of strangers may be made up by
    the thousand, so each address and all of them together have a rate of reviews. The review of a token that was valid
    before has a rate of its own, so that no flood of strangers keeps guards from sending.

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
        self._identities: _Cache[bytes, Identity] = _Cache()
        self._invalid: _Cache[bytes, bool] = _Cache()
        self._permissions: _Cache[Hashable, bool] = _Cache()
        self._peers, self._all = RateLimiter(PEER_REVIEWS), RateLimiter(ALL_REVIEWS)

    async def identify(self, token: str, peer: str) -> Identity | None:
        """Return the owner of a token, None if the token is invalid or has another audience.

        Args:
            token: The token.
            peer: The address of the client.

        Raises:
            AccessUnknown: The API server did not answer.
            TooManyReviews: This client, or all of them, would have the API server asked too often.
        """
        key, now = hashlib.sha256(token.encode()).digest(), self._monotonic()
        known = self._identities.find(key, now)
        if known is not None:
            return known
        if self._invalid.find(key, now):
            return None
        self._take(peer, "known" if self._identities.has(key) else "strangers", now)
        spec = {"token": token, "audiences": [AUDIT_AUDIENCE]}
        status = await self._ask("authentication.k8s.io/v1", "TokenReview", spec)
        if status.get("authenticated") is not True or AUDIT_AUDIENCE not in (status.get("audiences") or ()):
            self._identities.forget(key)
            self._invalid.keep(key, value=True, until=now + IDENTITY_SECONDS)
            return None
        identity = _identity(status.get("user") or {})
        self._identities.keep(key, identity, now + IDENTITY_SECONDS)
        return identity

    async def may_read(self, identity: Identity, namespace: str, peer: str) -> bool:
        """Return True if an identity may read the records of a namespace. An empty namespace means all.

        Args:
            identity: The reader.
            namespace: The namespace.
            peer: The address of the client.

        Raises:
            AccessUnknown: The API server did not answer.
            TooManyReviews: This client, or all of them, would have the API server asked too often.
        """
        key = (identity.user, identity.uid, identity.groups, tuple(identity.extra.items()), namespace)
        now = self._monotonic()
        known = self._permissions.find(key, now)
        if known is not None:
            return known
        self._take(peer, "readers", now)
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
        status = await self._ask("authorization.k8s.io/v1", "SubjectAccessReview", spec)
        is_allowed = status.get("allowed") is True
        self._permissions.keep(key, is_allowed, now + PERMISSION_SECONDS)
        return is_allowed

    def _take(self, peer: str, clients: str, now: float) -> None:
        """Take one review from the rates of an address and of a kind of clients."""
        if not self._peers.take((peer, clients), 1, now):
            raise TooManyReviews(f"{peer} has too many tokens and permissions reviewed: try again later")
        if not self._all.take(clients, 1, now):
            raise TooManyReviews("too many tokens and permissions are reviewed: try again later")

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
