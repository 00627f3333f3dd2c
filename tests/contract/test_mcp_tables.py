"""The guard's tables of MCP's versions and methods are those of the official types, which its image does not carry."""

import mcp_types
from mcp_types import methods as official
from mcp_types import version as versions

from interlock_contract import mcp
from interlock_guard.decision.decide import METHODS
from interlock_guard.decision.server_request import SERVER_METHODS


def of(table: object, versions: tuple[str, ...]) -> set[str]:
    return {method for method, version in table if version in versions}  # type: ignore[attr-defined]


def test_the_versions_are_the_official_ones() -> None:
    assert mcp.SESSION_VERSIONS == versions.HANDSHAKE_PROTOCOL_VERSIONS
    assert mcp.SESSIONLESS_VERSIONS == versions.MODERN_PROTOCOL_VERSIONS
    assert mcp.LATEST_SESSION == versions.LATEST_HANDSHAKE_VERSION
    assert mcp.LATEST_SESSIONLESS == versions.LATEST_MODERN_VERSION


def test_the_requests_of_each_protocol_version_are_the_official_ones() -> None:
    assert of(official.CLIENT_REQUESTS, mcp.SESSION_VERSIONS) == mcp.SESSION_REQUESTS
    assert of(official.CLIENT_REQUESTS, mcp.SESSIONLESS_VERSIONS) == mcp.SESSIONLESS_REQUESTS
    assert of(official.SERVER_REQUESTS, mcp.SESSION_VERSIONS) == {*mcp.SERVER_REQUESTS, "ping"}
    assert of(official.SERVER_REQUESTS, mcp.SESSIONLESS_VERSIONS) == set()


def test_the_notifications_of_each_protocol_version_are_the_official_ones() -> None:
    assert of(official.CLIENT_NOTIFICATIONS, mcp.SESSION_VERSIONS) == mcp.CLIENT_NOTIFICATIONS
    assert of(official.CLIENT_NOTIFICATIONS, mcp.SESSIONLESS_VERSIONS) == {mcp.CANCELLED}
    common = {mcp.CANCELLED, mcp.PROGRESS, mcp.LOG_MESSAGE, mcp.RESOURCE_UPDATED}
    known = common | set(mcp.LISTS_CHANGED)
    assert of(official.SERVER_NOTIFICATIONS, mcp.SESSION_VERSIONS) == known | {mcp.ELICITATION_COMPLETE}
    assert of(official.SERVER_NOTIFICATIONS, mcp.SESSIONLESS_VERSIONS) == known | {mcp.ACKNOWLEDGED}


def test_cacheable_and_input_required_methods_are_the_official_ones() -> None:
    assert mcp.CACHEABLE == official.CACHEABLE_METHODS
    assert mcp.MAY_ASK == official.INPUT_REQUIRED_METHODS


def test_the_keys_and_codes_are_the_official_ones() -> None:
    assert (
        mcp.VERSION_META,
        mcp.CLIENT_INFO_META,
        mcp.CLIENT_CAPABILITIES_META,
        mcp.LOG_LEVEL_META,
        mcp.SERVER_INFO_META,
    ) == (
        mcp_types.PROTOCOL_VERSION_META_KEY,
        mcp_types.CLIENT_INFO_META_KEY,
        mcp_types.CLIENT_CAPABILITIES_META_KEY,
        mcp_types.LOG_LEVEL_META_KEY,
        mcp_types.SERVER_INFO_META_KEY,
    )
    assert mcp.HEADER_MISMATCH == mcp_types.HEADER_MISMATCH
    assert mcp.MISSING_CAPABILITY == mcp_types.MISSING_REQUIRED_CLIENT_CAPABILITY
    assert mcp.UNSUPPORTED_VERSION == mcp_types.UNSUPPORTED_PROTOCOL_VERSION


def test_what_the_sdk_says_only_in_its_code_is_the_same_here() -> None:
    from mcp.client.session import DISCOVER_TIMEOUT_SECONDS  # noqa: PLC0415 - the SDK's own, next to the types
    from mcp.shared.inbound import NAME_BEARING_METHODS  # noqa: PLC0415
    from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY  # noqa: PLC0415

    from interlock_guard.upstream.initialize import PROBE_SECONDS  # noqa: PLC0415

    assert NAME_BEARING_METHODS == mcp.NAME_PARAMETERS
    assert mcp.SUBSCRIPTION_META == SUBSCRIPTION_ID_META_KEY
    assert DISCOVER_TIMEOUT_SECONDS == PROBE_SECONDS


def test_every_method_that_may_reach_a_server_is_decided_on_and_can_be_taken_apart() -> None:
    own = {"initialize", "ping", mcp.DISCOVER, mcp.LISTEN}
    assert (mcp.SESSION_REQUESTS | mcp.SESSIONLESS_REQUESTS) - own == METHODS
    assert SERVER_METHODS.keys() == mcp.SERVER_REQUESTS.keys()
