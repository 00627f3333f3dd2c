"""The guard's tables of MCP's versions and methods are those of the official types, which its image does not carry."""

import mcp_types
from mcp_types import methods as official
from mcp_types import version as versions

from interlock_guard.decision.decide import METHODS, SERVER_METHODS
from interlock_guard.wire import methods


def of(table: object, era: tuple[str, ...]) -> set[str]:
    return {method for method, version in table if version in era}  # type: ignore[attr-defined]


def test_the_versions_are_the_official_ones() -> None:
    assert methods.HANDSHAKE_VERSIONS == versions.HANDSHAKE_PROTOCOL_VERSIONS
    assert methods.STATELESS_VERSIONS == versions.MODERN_PROTOCOL_VERSIONS
    assert methods.LATEST_HANDSHAKE == versions.LATEST_HANDSHAKE_VERSION
    assert methods.LATEST_STATELESS == versions.LATEST_MODERN_VERSION


def test_the_requests_of_each_era_are_the_official_ones() -> None:
    assert of(official.CLIENT_REQUESTS, methods.HANDSHAKE_VERSIONS) == methods.HANDSHAKE_REQUESTS
    assert of(official.CLIENT_REQUESTS, methods.STATELESS_VERSIONS) == methods.STATELESS_REQUESTS
    assert of(official.SERVER_REQUESTS, methods.HANDSHAKE_VERSIONS) == {*methods.SERVER_REQUESTS, "ping"}
    assert of(official.SERVER_REQUESTS, methods.STATELESS_VERSIONS) == set()


def test_the_notifications_of_each_era_are_the_official_ones() -> None:
    assert of(official.CLIENT_NOTIFICATIONS, methods.HANDSHAKE_VERSIONS) == methods.CLIENT_NOTIFICATIONS
    assert of(official.CLIENT_NOTIFICATIONS, methods.STATELESS_VERSIONS) == {methods.CANCELLED}
    common = {methods.CANCELLED, methods.PROGRESS, methods.LOG_MESSAGE, methods.RESOURCE_UPDATED}
    known = common | set(methods.LISTS_CHANGED)
    assert of(official.SERVER_NOTIFICATIONS, methods.HANDSHAKE_VERSIONS) == known | {methods.ELICITATION_COMPLETE}
    assert of(official.SERVER_NOTIFICATIONS, methods.STATELESS_VERSIONS) == known | {methods.ACKNOWLEDGED}


def test_what_may_be_kept_and_what_may_be_asked_is_the_official_table() -> None:
    assert methods.CACHEABLE == official.CACHEABLE_METHODS
    assert methods.MAY_ASK == official.INPUT_REQUIRED_METHODS


def test_the_keys_and_codes_are_the_official_ones() -> None:
    assert (
        methods.VERSION_META,
        methods.CLIENT_INFO_META,
        methods.CLIENT_CAPABILITIES_META,
        methods.LOG_LEVEL_META,
        methods.SERVER_INFO_META,
    ) == (
        mcp_types.PROTOCOL_VERSION_META_KEY,
        mcp_types.CLIENT_INFO_META_KEY,
        mcp_types.CLIENT_CAPABILITIES_META_KEY,
        mcp_types.LOG_LEVEL_META_KEY,
        mcp_types.SERVER_INFO_META_KEY,
    )
    assert methods.HEADER_MISMATCH == mcp_types.HEADER_MISMATCH
    assert methods.MISSING_CAPABILITY == mcp_types.MISSING_REQUIRED_CLIENT_CAPABILITY
    assert methods.UNSUPPORTED_VERSION == mcp_types.UNSUPPORTED_PROTOCOL_VERSION


def test_what_the_sdk_says_only_in_its_code_is_the_same_here() -> None:
    from mcp.client.session import DISCOVER_TIMEOUT_SECONDS  # noqa: PLC0415 - the SDK's own, beside the types
    from mcp.shared.inbound import NAME_BEARING_METHODS  # noqa: PLC0415
    from mcp.shared.subscriptions import SUBSCRIPTION_ID_META_KEY  # noqa: PLC0415

    from interlock_guard.servers.greeting import PROBE_SECONDS  # noqa: PLC0415

    assert NAME_BEARING_METHODS == methods.NAME_HEADER
    assert methods.SUBSCRIPTION_META == SUBSCRIPTION_ID_META_KEY
    assert DISCOVER_TIMEOUT_SECONDS == PROBE_SECONDS


def test_every_method_that_may_reach_a_server_is_decided_on_and_can_be_taken_apart() -> None:
    own = {"initialize", "ping", methods.DISCOVER, methods.LISTEN}
    assert (methods.HANDSHAKE_REQUESTS | methods.STATELESS_REQUESTS) - own == METHODS
    assert SERVER_METHODS.keys() == methods.SERVER_REQUESTS.keys()
