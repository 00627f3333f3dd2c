import asyncio
import json
from typing import Any

import pytest

from interlock_guard.downstream.cursors import MAX_CURSORS, MAX_LENGTH, CursorOwner, Cursors
from interlock_guard.wire.jsonrpc import RpcResponse
from tests.requirements import requirement
from tests.support.bounds import WAIT_SECONDS
from tests.unit.guard.test_relay import META, Rig
from tests.unit.guard.test_relay import rig as rig  # noqa: PLC0414 - a fixture

OWNER = CursorOwner("crm", "tools/list", "a")
HIDDEN = "delete_everything"


@requirement("guard.cursors")
def test_a_cursor_is_found_by_the_list_and_the_session_that_it_was_given_to() -> None:
    cursors = Cursors()
    text = cursors.give(OWNER, HIDDEN)
    assert HIDDEN not in text
    assert cursors.find(OWNER, text) == HIDDEN
    assert cursors.find(OWNER, text) == HIDDEN, "a page may be read again"
    others = (OWNER._replace(source="mail"), OWNER._replace(method="prompts/list"), OWNER._replace(session=None))
    assert [cursors.find(other, text) for other in others] == [None] * 3
    assert cursors.find(OWNER, HIDDEN) is None


@requirement("guard.cursors")
def test_the_oldest_cursor_is_forgotten_beyond_the_bound() -> None:
    cursors = Cursors()
    first, second = cursors.give(OWNER, "1"), cursors.give(OWNER, "2")
    for number in range(MAX_CURSORS - 1):
        cursors.give(OWNER, str(number))
    assert (cursors.find(OWNER, first), cursors.find(OWNER, second)) == (None, "2")


async def list_resources(rig: Rig, *, session: str = "", cursor: str | None = None, answer: Any = None) -> Any:
    """List resources as the agent; return the answer, or the error."""
    rig.upstream.calls.clear()
    params: dict[str, Any] = {} if cursor is None else {"cursor": cursor}
    headers = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
    if session == "sessionless":
        params["_meta"] = META
        headers |= {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "resources/list"}
    elif session:
        headers["Mcp-Session-Id"] = session
    message = {"jsonrpc": "2.0", "id": 1, "method": "resources/list", "params": params}

    async def post() -> Any:
        async with rig.http.post(rig.url, data=json.dumps(message), headers=headers) as got:
            return await got.json()

    async with asyncio.timeout(WAIT_SECONDS):
        waiting = asyncio.create_task(post())
        if answer is not None:
            (await rig.call()).resolve(RpcResponse(1, answer, None))
        return await waiting


@pytest.mark.parametrize("session", ["", "a", "sessionless"])
@requirement("guard.cursors")
async def test_a_client_continues_a_list_by_the_guards_cursor_alone(rig: Rig, session: str) -> None:
    page = {"resources": [], "nextCursor": HIDDEN}
    given = (await list_resources(rig, session=session, answer=page))["result"]["nextCursor"]
    assert HIDDEN not in given
    sent: list[dict[str, Any]] = []
    start = rig.upstream.start
    rig.upstream.start = lambda method, params, *more, **options: (  # type: ignore[method-assign]
        sent.append(params) or start(method, params, *more, **options)  # type: ignore[func-returns-value]
    )
    await list_resources(rig, session=session, cursor=given, answer={"resources": []})
    assert [params["cursor"] for params in sent] == [HIDDEN]


@pytest.mark.parametrize("session", ["", "a", "sessionless"])
@requirement("guard.cursors")
async def test_a_cursor_that_the_guard_did_not_give_is_refused(rig: Rig, session: str) -> None:
    given = (await list_resources(rig, session="b", answer={"resources": [], "nextCursor": HIDDEN}))["result"]
    for made_up in (HIDDEN, "", "x", given["nextCursor"]):
        refused = await list_resources(rig, session=session, cursor=made_up)
        assert (refused["error"]["code"], refused["error"]["data"]["reason"]) == (-32602, "BadRequest")
        assert "has a cursor that this guard did not give for this list" in refused["error"]["message"]
    assert rig.upstream.calls == []


@requirement("guard.cursors")
async def test_a_cursor_that_is_too_long_to_be_kept_is_the_servers_failure(rig: Rig) -> None:
    page = {"resources": [], "nextCursor": "x" * (MAX_LENGTH + 1)}
    refused = await list_resources(rig, answer=page)
    assert refused["error"]["data"]["reason"] == "ServerUnavailable"
    assert "cursor of more than" in refused["error"]["message"]
