"""The users and groups of the containers of a pod: the one place that decides them, by the annotations of a namespace.

Guard, agent, egress check, launcher and each MCP server have a user of their own, since that keeps them apart within a
pod. OpenShift lets the pods of a namespace have only users of a range that it writes into the namespace's annotations,
so the users are taken from that range there. Elsewhere they are those of `interlock_contract.pod`.

    no annotation                                     guard 10001, agent 10002, first server 10010, guard's group 2000
    openshift.io/sa.scc.uid-range: 1000680000/10000   guard 1000680001, agent 1000680002, first server 1000680010
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from interlock_contract.pod import (
    AGENT_UID,
    EGRESS_CHECK_UID,
    FIRST_SERVER_UID,
    GUARD_GID,
    GUARD_UID,
    LAUNCHER_UID,
    NOTIFIER_UID,
)

UID_RANGE: Final = "openshift.io/sa.scc.uid-range"
"""Annotation of a namespace: the first user and their number, or the last user: `1000680000/10000`, `1000-1999`."""
GROUP_RANGES: Final = "openshift.io/sa.scc.supplemental-groups"
"""Annotation of a namespace with ranges of groups, separated by commas. Absent: the range of users."""
MAX_SERVERS: Final = 64
"""More MCP servers than an agent can use: each has a user of its own."""
_LEAST: Final = 1000
"""Users and groups below this belong to the programs of nodes and images."""
_MOST: Final = 2**31 - 1
"""Kubernetes takes no larger one."""
_RANGE: Final = re.compile(r"([0-9]{1,10})([/-])([0-9]{1,10})")
_BASE: Final = GUARD_UID - 1


@dataclass(frozen=True)
class Ids:
    """The user and the primary group of a container."""

    uid: int
    gid: int


@dataclass(frozen=True)
class PodUsers:
    """The users and groups of Interlock's containers, agents and MCP servers in the pods of one namespace.

    Attributes:
        first_uid: The user before the guard's. The others follow it in the order of `interlock_contract.pod`.
        first_gid: The same for groups.
        guard_gid: Group of the guard and the MCP servers, for the pipes. The agent is never in it.
    """

    first_uid: int = _BASE
    first_gid: int = _BASE
    guard_gid: int = GUARD_GID

    @property
    def guard(self) -> Ids:
        """Guard, and verifier."""
        return Ids(self._uid(GUARD_UID), self.guard_gid)

    @property
    def agent(self) -> Ids:
        """The agent, and the tests of its stages."""
        return self._own(AGENT_UID)

    @property
    def egress_check(self) -> Ids:
        """The egress check."""
        return self._own(EGRESS_CHECK_UID)

    @property
    def launcher(self) -> Ids:
        """The init container that copies the launcher of stdio servers."""
        return self._own(LAUNCHER_UID)

    @property
    def notifier(self) -> Ids:
        """The notifier of a policy."""
        return self._own(NOTIFIER_UID)

    def server(self, index: int) -> Ids:
        """Return those of an MCP server by its index among the sources of its agent."""
        return Ids(self._uid(FIRST_SERVER_UID) + index, self.guard_gid)

    def choose(self, own: Ids, uid: int | None, gid: int | None = None) -> Ids:
        """Return the user and group that a template chose for a container, or its own where it chose none.

        Of users and groups of this namespace's containers none can be chosen: they keep the containers apart. An Agent
        or MCPBinding that chooses one is refused, so no pod of it is built.
        """
        reserved = self.reserved
        return Ids(
            own.uid if uid is None or uid in reserved else uid, own.gid if gid is None or gid in reserved else gid
        )

    @property
    def reserved(self) -> frozenset[int]:
        """All of these users and groups. An image's own user may be none of them."""
        last = FIRST_SERVER_UID - _BASE + MAX_SERVERS
        uids = range(self.first_uid + 1, self.first_uid + last)
        return frozenset((*uids, *range(self.first_gid + 1, self.first_gid + last), self.guard_gid))

    def _own(self, known: int) -> Ids:
        return Ids(self._uid(known), self.first_gid + known - _BASE)

    def _uid(self, known: int) -> int:
        return self.first_uid + known - _BASE


DEFAULT_USERS: Final = PodUsers()
"""The users and groups of a namespace without annotations of OpenShift."""


def users_of(annotations: Mapping[str, object]) -> PodUsers:
    """Return the users and groups of the pods of a namespace.

    The first group of the first range is left out: OpenShift gives it to all containers of a pod as `fsGroup`, the
    agent's included, so it must not be the guard's. No other range of groups is used, since that group may be in it. A
    range that cannot be read or is too small, or that begins with users of a node's own programs, is no range.
    OpenShift then refuses the pods, and the Agent's status says so.

    Args:
        annotations: The annotations of the namespace.
    """
    first_uid = _first_of(annotations.get(UID_RANGE))
    if first_uid is None:
        return DEFAULT_USERS
    groups = annotations.get(GROUP_RANGES)
    first_gid = _first_of(groups.split(",")[0] if isinstance(groups, str) else annotations[UID_RANGE])
    if first_gid is None:
        return DEFAULT_USERS
    return PodUsers(first_uid, first_gid, first_gid + 1)


def _first_of(text: object) -> int | None:
    """Return the beginning of a range with room for everyone, None where the text is no such range."""
    found = _RANGE.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        return None
    first, last = int(found[1]), int(found[3])
    if found[2] == "/":
        last += first - 1
    has_room = last - first >= FIRST_SERVER_UID - _BASE + MAX_SERVERS
    return first if first >= _LEAST and last <= _MOST and has_room else None
