"""`python -m interlock_guard.egress_check`: starts an agent only once the network is closed to its pod.

It is the first init container of an agent's pod of its own, so what holds for it holds for the agent: same pod, same
address, same policy. It tries again and again what must be closed: a port of its guard that is not the agent's, and the
API server; both answer for certain where they are not closed. A closed door may refuse or be silent, and both count.

At times it also tries what may be open for a reason of its own: metadata services, and the cluster's DNS unless a row
of egress opens it. These are tried seldom, because a node answers only so many tries in a second.

Two things are tried at the end, and only reported. What rows open may be down, which keeps no agent from starting. And
some network plugins, such as the one of EKS, let each pod reach its own node, whatever NetworkPolicies say: there no
agent would ever start.

Only the standard library, and no names: an agent's pod may have no DNS.
"""

import http.client
import os
import socket
import sys
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from interlock_contract.pod import (
    EGRESS_CHECK_CLOSED_VARIABLE,
    EGRESS_CHECK_DNS,
    EGRESS_CHECK_DNS_UNTRIED,
    EGRESS_CHECK_NODE_VARIABLE,
    EGRESS_CHECK_OPEN_VARIABLE,
    EGRESS_CHECK_REPORT,
    EGRESS_CHECK_REQUIRE,
    EGRESS_CHECK_VARIABLE,
    GUARD_URL_VARIABLE,
    NETWORK_OPEN,
    NODE_MESSAGE,
    OPEN_MESSAGE,
    UNANSWERED_MESSAGE,
)

PASSED: Final = 0
SETTINGS_INVALID: Final = 2
NO_GUARD: Final = 4
"""Exit code: the guard does not answer."""

ROUNDS: Final = 10
"""Rounds in a row in which the guard must answer and all else be closed."""
ROUNDS_PER_SAMPLE: Final = 5
"""Of so many rounds one tries what is tried seldom: the last one is among them."""
TRY_SECONDS: Final = 2.0
"""How long what rows open is tried, before the agent starts without an answer."""
KUBELET_PORT: Final = 10250
DNS_PORT: Final = 53
METADATA: Final = (
    ("169.254.169.254", 80),  # most clouds
    ("168.63.129.16", 80),  # Azure's wire server
    ("100.100.100.200", 80),  # Alibaba
    ("192.0.0.192", 80),  # Oracle
    ("fd00:ec2::254", 80),  # AWS
)
DNS_QUERY: Final = b"\x10\x0c\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\x01"
"""A question for the name servers of the root, which every DNS answers in some way."""
OPEN_SECONDS: Final = 10.0
"""How long something may answer before the network counts as one that enforces nothing; the slowest known need 2 s."""
WAIT_SECONDS: Final = 300.0
"""How long to wait for the guard before the kubelet restarts the egress check."""
PAUSE_SECONDS: Final = 0.02
CONNECT_SECONDS: Final = 0.5
READY_SECONDS: Final = 2.0
_OK: Final = 200
_MESSAGE: Final = "/dev/termination-log"


class EgressCheckSettingsInvalid(ValueError):  # noqa: N818 - says the state of the settings
    """A variable is missing or wrong; the message names it."""


@dataclass(frozen=True, slots=True)
class ProbedAddress:
    """A port that must be closed, TCP by default. Of UDP the DNS alone is tried: no other program need answer."""

    host: str
    port: int
    is_udp: bool = False

    @property
    def authority(self) -> str:
        """Host and port as URLs have them."""
        found = f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"
        return f"{found}/UDP" if self.is_udp else found


@dataclass(frozen=True, slots=True, kw_only=True)
class EgressCheckSettings:
    """What the egress check probes, and what it does with the result.

    Attributes:
        guard: The guard's name and port, which must answer.
        closed: What must not. It answers for certain where it is not closed.
        sampled: What must not either, and may not be there at all.
        opened: What rows of egress open.
        node: The kubelet of the pod's node; None if the node is not known.
        requires_closed: Whether an open network keeps the agent from starting, or is only reported.
        message: Where the kubelet reads what a container says at its end.
    """

    guard: ProbedAddress
    closed: tuple[ProbedAddress, ...]
    requires_closed: bool
    message: Path
    sampled: tuple[ProbedAddress, ...] = ()
    opened: tuple[ProbedAddress, ...] = ()
    node: ProbedAddress | None = None


@dataclass(frozen=True, slots=True)
class Round:
    """The result of one round.

    Attributes:
        answered: The guard did, and is ready.
        reached: What must be closed and is not.
    """

    answered: bool
    reached: tuple[ProbedAddress, ...] = ()


@dataclass(slots=True)
class EgressJudge:
    """Says when rounds are enough. No I/O, and time is told to it."""

    started: float
    closed_rounds: int = 0
    open_since: float | None = None
    reached: tuple[ProbedAddress, ...] = field(default=())

    @property
    def is_sampling(self) -> bool:
        """True if the next round must try everything: seldom, in the last round, and while anything is open."""
        return self.open_since is not None or (self.closed_rounds + 1) % ROUNDS_PER_SAMPLE == 0

    def take(self, seen: Round, now: float) -> int | None:
        """Return the exit code that a round leads to, None to go on looking.

        A round in which the guard does not answer proves nothing: what is closed might only be dead.
        """
        if seen.reached:
            self.closed_rounds, self.reached = 0, seen.reached
            self.open_since = now if self.open_since is None else self.open_since
            return NETWORK_OPEN if now - self.open_since >= OPEN_SECONDS else None
        self.open_since = None
        self.closed_rounds = self.closed_rounds + 1 if seen.answered else 0
        if self.closed_rounds >= ROUNDS:
            return PASSED
        return NO_GUARD if now - self.started >= WAIT_SECONDS else None


def read_settings(environment: Mapping[str, str]) -> EgressCheckSettings:
    """Read the settings of the container's environment; where the API server is every container is told.

    Raises:
        SettingsInvalid: A variable is missing or wrong.
    """
    guard = _target(environment, GUARD_URL_VARIABLE)
    closed = [
        _parse(EGRESS_CHECK_CLOSED_VARIABLE, word) for word in environment.get(EGRESS_CHECK_CLOSED_VARIABLE, "").split()
    ]
    if not closed:
        raise EgressCheckSettingsInvalid(f"{EGRESS_CHECK_CLOSED_VARIABLE} is empty")
    host, port = environment.get("KUBERNETES_SERVICE_HOST", ""), environment.get("KUBERNETES_SERVICE_PORT", "")
    if not host:
        raise EgressCheckSettingsInvalid("KUBERNETES_SERVICE_HOST is not set")
    closed.append(_parse("KUBERNETES_SERVICE_PORT", f"[{host}]:{port}" if ":" in host else f"{host}:{port}"))
    mode = environment.get(EGRESS_CHECK_VARIABLE, EGRESS_CHECK_REQUIRE)
    if mode not in (EGRESS_CHECK_REQUIRE, EGRESS_CHECK_REPORT):
        raise EgressCheckSettingsInvalid(
            f"{EGRESS_CHECK_VARIABLE} must be {EGRESS_CHECK_REQUIRE} or {EGRESS_CHECK_REPORT}"
        )
    message = Path(environment.get("INTERLOCK_EGRESS_CHECK_MESSAGE", _MESSAGE))
    words = environment.get(EGRESS_CHECK_OPEN_VARIABLE, "").split()
    dns = _cluster_dns(host)
    node = environment.get(EGRESS_CHECK_NODE_VARIABLE, "")
    sampled = [ProbedAddress(*one) for one in METADATA]
    if dns is not None and not {EGRESS_CHECK_DNS, EGRESS_CHECK_DNS_UNTRIED} & set(words):
        sampled += [dns, replace(dns, is_udp=True)]
    opened = [_parse(EGRESS_CHECK_OPEN_VARIABLE, word) for word in words if not word.startswith(EGRESS_CHECK_DNS)]
    return EgressCheckSettings(
        guard=guard,
        closed=tuple(closed),
        requires_closed=mode == EGRESS_CHECK_REQUIRE,
        message=message,
        sampled=tuple(sampled),
        opened=(*opened, *([dns] if dns is not None and EGRESS_CHECK_DNS in words else [])),
        node=ProbedAddress(node, KUBELET_PORT) if node else None,
    )


def run_round(settings: EgressCheckSettings, pool: ThreadPoolExecutor, *, is_sampling: bool = True) -> Round:
    """Try once, at the same time, what must be closed; what is tried seldom only if `is_sampling`."""
    answered = pool.submit(is_ready, settings.guard)
    targets = (*settings.closed, *(settings.sampled if is_sampling else ()))
    reached = tuple(pool.map(is_open, targets))
    return Round(answered.result(), tuple(one for one, found in zip(targets, reached, strict=True) if found))


def find_unanswered(settings: EgressCheckSettings, pool: ThreadPoolExecutor) -> tuple[ProbedAddress, ...]:
    """Return what rows of egress open and does not answer, after trying it for some time: it may be down."""
    left, until = settings.opened, time.monotonic() + TRY_SECONDS
    while left:
        answers = tuple(pool.map(is_open, left))
        left = tuple(one for one, found in zip(left, answers, strict=True) if not found)
        if time.monotonic() >= until:
            break
        time.sleep(PAUSE_SECONDS)
    return left


def _report(settings: EgressCheckSettings, pool: ThreadPoolExecutor) -> tuple[str, ...]:
    """Return the lines about what keeps no agent from starting."""
    unanswered = find_unanswered(settings, pool)
    lines = [f"{UNANSWERED_MESSAGE} {' '.join(one.authority for one in unanswered)}"] if unanswered else []
    if settings.node is not None and is_open(settings.node):
        lines.append(f"{NODE_MESSAGE} {settings.node.authority}")
    return tuple(lines)


def is_open(target: ProbedAddress) -> bool:
    """Tell whether a connection can be made, or the DNS answers; refused, unreachable and silent are all closed."""
    if target.is_udp:
        return is_answering(target)
    try:
        with socket.create_connection((target.host, target.port), timeout=CONNECT_SECONDS):
            return True
    except OSError:
        return False


def is_answering(dns: ProbedAddress) -> bool:
    """Tell whether a DNS answers over UDP, whatever it says."""
    family = socket.AF_INET6 if ":" in dns.host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as sent:
            sent.settimeout(CONNECT_SECONDS)
            sent.connect((dns.host, dns.port))
            sent.send(DNS_QUERY)
            return bool(sent.recv(512))
    except OSError:
        return False


def is_ready(guard: ProbedAddress) -> bool:
    """Tell whether the guard answers and decides on requests."""
    connection = http.client.HTTPConnection(guard.host, guard.port, timeout=READY_SECONDS)
    try:
        connection.request("GET", "/ready")
        return connection.getresponse().status == _OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def watch(settings: EgressCheckSettings) -> int:
    """Look until there is an answer; say it where the kubelet reads it; return the exit code."""
    judge = EgressJudge(started=time.monotonic())
    said: tuple[str, ...] = ()
    with ThreadPoolExecutor(len(settings.closed) + len(settings.sampled) + len(settings.opened) + 1) as pool:
        while True:
            seen = run_round(settings, pool, is_sampling=judge.is_sampling)
            code = judge.take(seen, time.monotonic())
            if code is not None:
                break
            time.sleep(PAUSE_SECONDS)
        if code == PASSED:
            said = _report(settings, pool)
    if said:
        settings.message.write_text("\n".join(said), encoding="utf-8")
    if code == NETWORK_OPEN:
        targets = " and ".join(one.authority for one in judge.reached)
        settings.message.write_text(f"{OPEN_MESSAGE} {targets} answered for {OPEN_SECONDS:.0f} s", encoding="utf-8")
        return NETWORK_OPEN if settings.requires_closed else PASSED
    return code


def main() -> int:
    """Run the egress check; return its exit code."""
    try:
        settings = read_settings(os.environ)
    except EgressCheckSettingsInvalid as error:
        print(f"settings: {error}", file=sys.stderr)  # noqa: T201 - a container's log
        return SETTINGS_INVALID
    return watch(settings)


def _cluster_dns(api_server: str) -> ProbedAddress | None:
    """Return where the cluster's DNS listens by convention: at the tenth address of the Services, after the API server.

    The API server has the first one. Where the convention does not hold, nothing answers there.
    """
    try:
        return ProbedAddress(str(ip_address(api_server) + 9), DNS_PORT)
    except ValueError:
        return None


def _target(environment: Mapping[str, str], name: str) -> ProbedAddress:
    parts = urlsplit(environment.get(name, ""))
    return _parse(name, parts.netloc) if parts.scheme == "http" else _refuse(name)


def _parse(name: str, authority: str) -> ProbedAddress:
    parts = urlsplit(f"//{authority}")
    try:
        port = parts.port
    except ValueError:
        port = None
    return ProbedAddress(parts.hostname, port) if parts.hostname and port else _refuse(name)


def _refuse(name: str) -> ProbedAddress:
    raise EgressCheckSettingsInvalid(f"{name} names no host and port")


if __name__ == "__main__":
    sys.exit(main())
