import asyncio
import json
from typing import Any, cast

from aiohttp.test_utils import make_mocked_request

from interlock_guard.decide import Deny, Reason
from interlock_guard.jsonrpc import Notification, Request, Response
from interlock_guard.relay import ProgressQueue, Relay, Waiting
from interlock_guard.state import LiveState
from interlock_guard.upstream import Call, Outcome, Upstream

KILLED_AGENT = {"metadata": {"uid": "u-1", "annotations": {"interlock.dev/kill-switch": "leak"}}}


async def reply(live: LiveState, outcome: Outcome, progress: ProgressQueue | None = None) -> tuple[int, dict[str, Any]]:
    """Relay an answer that has come already; the upstream is not asked any more."""
    future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    future.set_result(outcome)
    request = Request("mine", "tools/call", {"name": "echo"})
    call = Call(1, future, None, 0.0)
    http = make_mocked_request("POST", "/mcp/crm")
    response = await Relay(live).wait(Waiting(http, "crm", request, cast("Upstream", None), call), progress)
    body = cast("Any", response).body
    return response.status, json.loads(body)


async def test_an_answer_is_passed_on_under_the_clients_id() -> None:
    status, body = await reply(LiveState(), Response(1, {"content": []}, None))
    assert (status, body["id"], body["result"]) == (200, "mine", {"content": []})


async def test_an_answer_that_came_before_a_kill_is_not_passed_on_after_it() -> None:
    live = LiveState()
    live.see_agent(KILLED_AGENT)
    status, body = await reply(live, Response(1, {"content": ["secret"]}, None))
    assert (status, body["error"]["data"]) == (503, {"reason": "Killed", "message": "leak"})


async def test_progress_that_came_before_a_kill_is_not_passed_on_after_it() -> None:
    live, progress = LiveState(), ProgressQueue("mine")
    progress.put(Notification("notifications/progress", {"progressToken": 1, "progress": 1}))
    live.see_agent(KILLED_AGENT)
    status, body = await reply(live, Response(1, {"content": ["secret"]}, None), progress)
    assert (status, body["error"]["data"]["reason"]) == (503, "Killed")


async def test_an_agent_that_is_gone_gets_no_answer_either() -> None:
    live = LiveState()
    live.see_agent(None)
    assert (await reply(live, Response(1, {"content": ["secret"]}, None)))[0] == 503


async def test_what_kept_an_answer_from_coming_is_told() -> None:
    status, body = await reply(LiveState(), Deny(Reason.SERVER_UNAVAILABLE, "", "It ended."))
    assert (status, body["result"]["content"][0]["text"]) == (200, "It ended.")
