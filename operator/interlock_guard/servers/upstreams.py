"""Which kind of upstream a source of the bundle gets, and what it is made of."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from interlock_guard.bundle.document import Source
from interlock_guard.servers.credentials import Credentials
from interlock_guard.servers.dialer import Dialer
from interlock_guard.servers.http_link import HttpLink
from interlock_guard.servers.http_upstream import HttpUpstream
from interlock_guard.servers.pipes import PipePair
from interlock_guard.servers.stdio_upstream import StdioUpstream
from interlock_guard.servers.upstream import Listener, Upstream


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Where the guard finds what joins it to servers: directories with one folder per source.

    `dialable` are addresses that are dialled whatever they are; none in a pod, see `settings`. `are_pipes_made` where
    the server was started before us, on pipes that another process has made.
    """

    pipes: Path
    secrets: Path
    dialable: frozenset[str]
    are_pipes_made: bool = False


def build_upstream(
    source: Source, surroundings: Surroundings, listener: Listener, log: Callable[[str], None]
) -> Upstream:
    """Return a new upstream for the source; nothing begins before it is run and opened."""
    if source.http is None:
        pipes = PipePair(surroundings.pipes / source.name, is_made=surroundings.are_pipes_made)
        return StdioUpstream(source.name, pipes, listener, log)
    credentials = Credentials(source.http, surroundings.secrets / source.name)
    dialer = Dialer(source.http.network, exempt=surroundings.dialable)
    return HttpUpstream(source.name, HttpLink(source.http.url, credentials, dialer), listener, log)
