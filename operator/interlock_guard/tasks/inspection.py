"""The look at a request before it is routed: its class, the values that it names, and the ids of A2A in it.

Bodies of JSON that are short are read for that. They are kept in memory until they are sent, so they have a budget.
"""

import asyncio
from typing import Final

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from interlock_contract.bundle import Bundle, BundleTasks
from interlock_contract.listeners import LISTENERS, ListenerName
from interlock_guard.tasks.a2a_ids import read_request_ids
from interlock_guard.tasks.exchange import TaskRequest, tell_to_continue
from interlock_guard.tasks.refusals import BODY_TIMED_OUT, TOO_MANY, TaskRefused, malformed
from interlock_guard.tasks.request_classes import LONGEST_LOOKED_AT, classify_request, parse_body, rpc_method_of
from interlock_guard.tasks.scope_values import check_body, has_pointers, read_values

BODY_SECONDS: Final = 10.0
"""How long the body of a short JSON request may take, which is read before a place is asked for."""
LONGEST_READ: Final = 64 * 1024
"""Bodies up to this size, in bytes, are read for values and ids. A longer one names none."""
_JSON: Final = frozenset({"application/json", "application/a2a+json"})


class BodyRoom:
    """Memory for the bodies that are looked at.

    Args:
        capacity: Bytes of all of them.
    """

    def __init__(self, capacity: int = LISTENERS[ListenerName.TASKS].bytes_in_flight) -> None:
        self._left = capacity

    def take(self, size: int) -> int:
        """Take room for a body and return its size, which the caller gives back.

        Raises:
            TaskRefused: There is none.
        """
        if size > self._left:
            raise TaskRefused(TOO_MANY)
        self._left -= size
        return size

    def give_back(self, size: int) -> int:
        """Give room back, all of a body or what it did not need, and return how much."""
        self._left += size
        return size


def measure_read(http: web.BaseRequest, bundle: Bundle, tasks: BundleTasks) -> int:
    """Return how many bytes of a body are looked at at most; 0 where it is not looked at.

    Without peers and pointers only the class of a request depends on its body, and no control request is long. With a
    pointer any media type is looked at, because many agents read JSON whatever it says. With peers every short body is
    kept, so that it can be sent to another placement than the first one.
    """
    if not http.body_exists:
        return 0
    is_json = http.content_type in _JSON and "Content-Encoding" not in http.headers
    matters = has_pointers(tasks.scope) or bool(bundle.peers)
    if not is_json and not matters:
        return 0
    most, length = LONGEST_READ if matters else LONGEST_LOOKED_AT, http.content_length
    if length is None:
        return most if matters and "Content-Encoding" not in http.headers else 0
    return length if length <= most else 0


async def inspect(request: TaskRequest, tasks: BundleTasks, most: int) -> None:
    """Find out what a request is and what it names.

    Args:
        request: The request, in which all that is found is noted.
        tasks: How the agent takes tasks.
        most: What `measure_read` returned.

    Raises:
        TaskRefused: The body did not come in time, or the agent could read other values in it.
    """
    http = request.http
    if most:
        await _read_body(request, most)
    is_json, is_coded = http.content_type in _JSON, "Content-Encoding" in http.headers
    message = None if request.body is None or is_coded else parse_body(request.body)
    if message is None and request.body is not None and not is_coded and has_pointers(tasks.scope):
        check_body(request.body, is_json=is_json)
    request.rpc = rpc_method_of(message) if is_json else ""
    request.kind = classify_request(http.method, http.raw_path, request.rpc)
    request.ids = read_request_ids(http.raw_path, message)
    request.values = read_values(tasks.scope, http.headers, message)


async def _read_body(request: TaskRequest, most: int) -> None:
    """Read a body; of one that turns out to be longer, keep the beginning."""
    http = request.http
    if "Expect" in http.headers:
        await tell_to_continue(http)
    read = bytearray()
    try:
        async with asyncio.timeout(BODY_SECONDS):
            if http.content_length is not None:
                request.body = await http.content.readexactly(most)
                return
            while chunk := await http.content.readany():
                read += chunk
                if len(read) > most:
                    request.begun = bytes(read)
                    return
    except TimeoutError:
        raise TaskRefused(BODY_TIMED_OUT) from None
    except (web.RequestPayloadError, HttpProcessingError):
        raise TaskRefused(malformed("The body is not whole, or not well-formed.")) from None
    request.body = bytes(read)
