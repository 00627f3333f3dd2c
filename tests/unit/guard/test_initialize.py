from typing import Any

import pytest

from interlock_contract.bundle import digest_instructions
from interlock_guard.downstream.capabilities import offer
from interlock_guard.downstream.sessionless import decode_header
from interlock_guard.upstream.initialize import (
    FirstMessage,
    find_older_version,
    is_sessionless_error,
    probe_params,
    read_discovered,
    read_initialized,
)
from interlock_guard.upstream.upstream import ServerInfo
from interlock_guard.wire.jsonrpc import RpcResponse
from tests.requirements import requirement


def result(**members: Any) -> RpcResponse:
    return RpcResponse(1, members, None)


def error(code: int, data: Any = None) -> RpcResponse:
    return RpcResponse(1, None, {"code": code, "message": "", "data": data})


def test_a_server_that_discovers_a_sessionless_version_is_sessionless() -> None:
    found = read_discovered(
        result(supportedVersions=["2026-07-28"], capabilities={"tools": {}}, instructions="Be kind.")
    )
    assert found == ServerInfo("2026-07-28", {"tools": {}}, "Be kind.", is_sessionless=True)


@pytest.mark.parametrize(
    "outcome",
    [
        error(-32601),
        error(-32602),
        error(-32022, {"supported": ["2025-11-25"]}),
        result(),
        result(supportedVersions=["2025-11-25"], capabilities={}),
        result(supportedVersions="2026-07-28", capabilities={}),
        result(supportedVersions=["2026-07-28"]),
        result(supportedVersions=["2030-01-01"], capabilities={}),
    ],
)
def test_whatever_is_no_sign_of_the_sessionless_protocol_leads_to_initialize(outcome: RpcResponse) -> None:
    assert read_discovered(outcome) is None


def test_initialize_agrees_on_a_version_or_fails() -> None:
    assert read_initialized(result(protocolVersion="2025-06-18", capabilities={"a": {}})) == ServerInfo(
        "2025-06-18", {"a": {}}
    )
    assert read_initialized(result(protocolVersion="2026-07-28", capabilities={})) is None
    assert read_initialized(result(protocolVersion=1)) is None
    assert read_initialized(error(-32600)) is None


@pytest.mark.parametrize("members", [{}, {"capabilities": {}}, {"capabilities": None}, {"capabilities": []}])
def test_a_server_that_declares_nothing_is_asked_for_its_tools(members: dict[str, Any]) -> None:
    found = read_initialized(result(protocolVersion="2025-06-18", **members))
    assert found == ServerInfo("2025-06-18", {"tools": {}})


def test_a_server_that_took_a_late_probe_as_its_opening_is_recognised() -> None:
    assert is_sessionless_error(error(-32022, {"supported": ["2026-07-28"]}))
    assert not is_sessionless_error(error(-32022, {"supported": ["2030-01-01"]}))
    assert not is_sessionless_error(error(-32022))
    assert not is_sessionless_error(error(-32602, {"supported": ["2026-07-28"]}))


def test_the_probe_says_what_the_server_may_ask() -> None:
    meta = probe_params({"roots": {}})["_meta"]
    assert meta["io.modelcontextprotocol/clientCapabilities"] == {"roots": {}}
    assert meta["io.modelcontextprotocol/protocolVersion"] == "2026-07-28"


def test_what_is_offered_is_what_the_server_has_as_far_as_the_policy_maps_it() -> None:
    has = {
        "tools": {"listChanged": True, "extra": 1},
        "resources": {"subscribe": True},
        "prompts": {},
        "logging": {},
        "completions": {},
        "experimental": {"x": {}},
        "tasks": {},
        "extensions": {},
    }
    everything = offer(ServerInfo("2025-11-25", has), {"tools", "resources", "prompts"}, None)
    assert everything == {
        "capabilities": {
            "tools": {"listChanged": True},
            "resources": {"subscribe": True},
            "prompts": {},
            "completions": {},
            "logging": {},
        },
    }
    assert offer(ServerInfo("2025-11-25", has), {"tools"}, None)["capabilities"].keys() == {"tools", "logging"}
    assert offer(ServerInfo("2025-11-25", {"prompts": {}}), {"tools"}, None) == {"capabilities": {}}
    assert offer(None, {"tools", "prompts"}, None) == {"capabilities": {"tools": {}}}


@requirement("drift.instructions")
def test_instructions_pass_only_as_they_were_verified() -> None:
    kind = ServerInfo("2025-11-25", {}, "Be kind.")
    assert offer(kind, set(), digest_instructions("Be kind."))["instructions"] == "Be kind."
    for pin in (None, "", digest_instructions("Be cruel."), digest_instructions(None)):
        assert "instructions" not in offer(kind, set(), pin)
    assert "instructions" not in offer(ServerInfo("2025-11-25", {}), set(), digest_instructions(None))


@pytest.mark.parametrize(
    ("header", "value"),
    [
        (None, None),
        ("echo", "echo"),
        ("=?base64?ZWNobw==?=", "echo"),
        ("=?base64?w6k=?=", "é"),
        ("=?base64?ZWNobz==?=", None),
        ("=?base64?ZWNobw?=", None),
        ("=?base64?/w==?=", None),
        ("=?base64?Z W?=", None),
        ("=?base64??=", ""),
        ("=?BASE64?ZWNobw==?=", "=?BASE64?ZWNobw==?="),
    ],
)
def test_a_header_is_read_as_the_sdk_reads_it(header: str | None, value: str | None) -> None:
    from mcp.shared.inbound import decode_header_value  # noqa: PLC0415 - the reference

    assert decode_header(header) == value == decode_header_value(header)


SESSION_BASED = ServerInfo("2025-06-18", {})
SESSIONLESS = ServerInfo("2026-07-28", {}, is_sessionless=True)


@pytest.mark.parametrize(
    ("verified", "first"),
    [
        ("", "server/discover"),
        ("2024-11-05", "initialize"),
        ("2025-11-25", "initialize"),
        ("2026-07-28", "server/discover"),
        ("2030-01-01", "server/discover"),
    ],
)
def test_the_first_connection_begins_as_the_verification_has_found(verified: str, first: str) -> None:
    assert FirstMessage().choose(verified) == first


@requirement("guard.first-message")
@pytest.mark.parametrize("verified", ["", "2025-11-25", "2026-07-28"])
def test_a_connection_that_failed_after_one_message_is_followed_by_one_that_begins_with_the_other(
    verified: str,
) -> None:
    first = FirstMessage()
    first.choose(verified)
    for _ in range(3):
        first.note_failure("server/discover")
        assert first.choose(verified) == "initialize"
        first.note_failure("initialize")
        assert first.choose(verified) == "server/discover"


@pytest.mark.parametrize(("agreed", "again"), [(SESSION_BASED, "initialize"), (SESSIONLESS, "server/discover")])
def test_what_was_agreed_on_begins_the_next_connection_until_another_version_is_verified(
    agreed: ServerInfo, again: str
) -> None:
    for verified in ("", "2025-11-25", "2026-07-28"):
        first = FirstMessage()
        first.choose(verified)
        first.note_agreement(agreed)
        assert [first.choose(verified), first.choose(verified)] == [again, again]
        assert first.choose("2025-03-26") == "initialize"
        first.note_agreement(SESSION_BASED)
        assert first.choose("2026-07-28") == "server/discover"


@pytest.mark.parametrize(
    ("outcome", "version"),
    [
        (error(-32602, {"expected": "2025-06-18"}), "2025-06-18"),
        (error(-32022, {"supported": ["2024-11-05", "2025-03-26"], "requested": "2025-11-25"}), "2025-03-26"),
        (error(-32602, "speaks 2024-11-05"), "2024-11-05"),
        (RpcResponse(0, None, {"code": 1, "message": "Unsupported: 2025-11-25. Supported: 2024-11-05"}), "2024-11-05"),
        (error(-32022, {"supported": ["2025-11-25", "2030-01-01"]}), ""),
        (error(-32602, {"a": ["x" * 5000 + "2024-11-05"], "b": 3, "c": [None, {}]}), ""),
        (error(-32602, {str(number): "" for number in range(16)} | {"x": "2024-11-05"}), ""),
        (error(-32022, {"supported": ["2025-06-18", "2026-07-28"]}), ""),
        (error(-32603), ""),
        (RpcResponse(0, {"protocolVersion": "2024-11-05"}, None), ""),
    ],
)
def test_an_older_version_is_found_in_the_refusal_of_a_newer_one(outcome: RpcResponse, version: str) -> None:
    assert find_older_version(outcome) == version
