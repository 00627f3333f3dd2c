"""The parsing of what kopf reads, with the operator's own bounds.

kopf parses lists and events with `json.loads`. Its watch of a kind ends for good at the first object that is nested too
deep for it, and any user may write one. kopf has no setting for the parser, so the two functions of its client that
parse are replaced.
"""

from types import SimpleNamespace
from typing import Any

from kopf._cogs.clients import api

from interlock.cluster.api_json import parse_api_json


def bound_parsing() -> None:
    """Let kopf parse with bounds, in this process."""
    setattr(api, "json", SimpleNamespace(loads=parse_api_json))  # noqa: B010 - mypy knows it as a module
    setattr(api, "get", _get)  # noqa: B010 - as above


async def _get(url: str, **options: Any) -> Any:
    """Return the answer to a GET request, as `kopf._cogs.clients.api.get` does."""
    response = await api.request(method="get", url=url, **options)
    async with response:
        return parse_api_json(await response.read())
