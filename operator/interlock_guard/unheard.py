"""What a server says that belongs to no call: nothing of it reaches the agent."""

from typing import Any

from interlock_guard.jsonrpc import METHOD_NOT_FOUND, Notification, Request, Response
from interlock_guard.upstream import Upstream


class Unheard:
    """A `Listener` that refuses every request and drops every notification."""

    def client_capabilities(self, _: Upstream) -> dict[str, Any]:
        """Offer nothing."""
        return {}

    def take_begin(self, upstream: Upstream) -> None:
        """Do nothing at the beginning of a generation."""

    def take_end(self, upstream: Upstream) -> None:
        """Do nothing at its end."""

    def take_notification(self, upstream: Upstream, notification: Notification) -> None:
        """Drop it."""

    def take_request(self, upstream: Upstream, request: Request) -> None:
        """Refuse it."""
        error = {"code": METHOD_NOT_FOUND, "message": "The guard lets no server ask its agent."}
        upstream.respond(Response(request.id, None, error))
