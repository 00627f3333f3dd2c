"""Bounds and times that pages state are those of the code."""

import re
from pathlib import Path

import pytest

from interlock.action import pins
from interlock.api.agent import AgentSpec
from interlock.api.binding import MCPBindingSpec
from interlock.cluster import api_json, namespace_budget, obstacles
from interlock.runtime import worker_process
from interlock_audit import __main__ as collector
from interlock_audit import quotas, reviewer, server, sqlite, stores
from interlock_contract import model_access
from interlock_contract.bundle import DEFAULT_IN_FLIGHT, MAX_IN_FLIGHT
from interlock_contract.listeners import LISTENERS, ListenerName
from interlock_contract.names import KILL_LEASE_SECONDS
from interlock_guard import program, state
from interlock_guard.audit import denials, recorder, shipper
from interlock_guard.audit.spool import SpoolLimits
from interlock_guard.tasks import agent_connector, endpoint, exchange, outcome_classifier
from interlock_guard.upstream import credentials, list_cache
from interlock_guard.wire import jsonrpc, large_messages

ROOT = Path(__file__).parents[2]
KIB, MIB = 1024, 1024 * 1024
SPOOL = SpoolLimits()


def most(model: type[AgentSpec] | type[MCPBindingSpec], field: str) -> int:
    schema = model.model_json_schema()["properties"][field]
    return int(schema.get("maxItems", schema.get("maximum", -1)))


def pinned(package: str) -> str:
    text = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
    found = re.search(rf"^{package}==(\d+\.\d+)\.", text, re.MULTILINE)
    assert found is not None
    return found.group(1)


LIMITS = [
    f"For up to {list_cache.FRESH_SECONDS:.0f} s after a change",
    (
        f"up to {list_cache.MAX_ITEMS} tools and {list_cache.MAX_ITEMS} prompts, in as many pages, of "
        f"{large_messages.MAX_LIST // MIB} MiB in all, within {list_cache.LIST_SECONDS:.0f} s"
    ),
    f"up to {large_messages.SMALL} bytes may have {list_cache.MAX_LIST_VALUES} values and keys",
    f"more than {obstacles.MOST_POLICIES} NetworkPolicies of users",
    f"continues for {state.LEASE_SECONDS:.0f} s with what it knew",
    f"With {LISTENERS[ListenerName.OBSERVE].connections} connections that ask for metrics",
    f"waits for {agent_connector.REACH_SECONDS:.0f} s at most and keeps its place",
    f"at most {outcome_classifier.LONGEST_LOOKED_AT // KIB} KiB of it",
    f"`openai` {pinned('openai')} and `anthropic` {pinned('anthropic')}",
    (
        f"Bodies have at most {model_access.MAX_REQUEST_BYTES // MIB} MiB, images included, and "
        f"{large_messages.MAX_REQUEST_NODES} values and keys"
    ),
    f"one more waits for {large_messages.WAIT_SECONDS:.0f} s and gets 429",
    f"the last {credentials._SEARCHED} characters of a key",  # noqa: SLF001 - the page states it
    f"The first {denials.RECORDED} denials of each rule",
    f"has {program._FINISH_SECONDS} s to send the rest",  # noqa: SLF001
    f"if the ledgers answer within {program._FINISH_SECONDS} s",  # noqa: SLF001
    (
        f"{most(MCPBindingSpec, 'tools')} tools, {most(MCPBindingSpec, 'resources')} MCP resources and "
        f"{most(MCPBindingSpec, 'prompts')} prompts in a binding"
    ),
    f"{most(AgentSpec, 'bindings')} sources of an agent, {most(AgentSpec, 'replicas')} replicas",
    (
        f"a result {jsonrpc.MAX_RESULT // MIB} MiB and {large_messages.MAX_RESULT_NODES}, a list "
        f"{large_messages.MAX_LIST // MIB} MiB, and a server {DEFAULT_IN_FLIGHT} open calls"
    ),
    f"and up to {MAX_IN_FLIGHT} calls",
    (
        f"at most {namespace_budget.AGENT_BYTES // MIB} MiB of Agents, as JSON, and "
        f"{namespace_budget.POLICY_BYTES // MIB} MiB of AgentPolicies"
    ),
    f"reads {api_json.MAX_DEPTH} levels of nested fields",
    f"has {pins._MAX_LINES // 1000} 000 lines at most",  # noqa: SLF001
    f"take {worker_process.DEADLINE_SECONDS:.0f} s and {worker_process.MEMORY_BYTES // MIB} MiB at most",
    f"one search at a time, for {collector._READ_SECONDS:.0f} s at most",  # noqa: SLF001
]
AUDIT = [
    f"{denials.RECORDED} a minute have a record each",
    f"Of arguments of more than {recorder.MAX_ARGUMENTS // KIB} KiB only the digest",
    f"At most {recorder._MAX_TEXT} characters of each",  # noqa: SLF001
    f"Records wait in the spool of {SPOOL.capacity // MIB} MiB",
    f"again after {shipper._FIRST_WAIT} s, then less often, up to every {shipper._LONGEST_WAIT:.0f} s",  # noqa: SLF001
    f"in memory, up to {SPOOL.memory // MIB} MiB",
    f"Each record counts as its line and {quotas.ROW_BYTES} bytes",
    f"From {quotas.ALARM:.0%} of a quota on".replace("%", " %"),
    (
        f"An agent may send {quotas.AGENT_RATE.per_second // MIB} MiB of records a second, and "
        f"{quotas.AGENT_RATE.burst // MIB} MiB at once"
    ),
    f"A batch counts as {quotas.LEAST_BATCH // KIB} KiB at least",
    f"The guards of a namespace send {server.SENDS} batches at a time",
    (
        f"cached for {reviewer.IDENTITY_SECONDS:.0f} s (tokens, also invalid ones) and "
        f"{reviewer.PERMISSION_SECONDS:.0f} s (permissions)"
    ),
    f"One address gets {reviewer.PEER_REVIEWS.burst} reviews",
    f"All addresses together get {reviewer.ALL_REVIEWS.burst}, and {reviewer.ALL_REVIEWS.per_second} more each second",
    f"at most {stores.MOST_LISTED} records, and none more after {stores.MOST_BYTES // MIB} MiB of lines",
    f"while less than {sqlite.LEAST_FREE // MIB} MiB of its disk are free",
    f"on which a search may take {collector._READ_SECONDS:.0f} s",  # noqa: SLF001
]

TASKS = [
    f"makes no connection to its agent tries again for {agent_connector.REACH_SECONDS:.0f} s at most",
    f"A pod has {exchange.CONNECT_SECONDS:.0f} s to accept a connection",
    f"grow from {agent_connector.FIRST_PAUSE} to {agent_connector.LONGEST_PAUSE} s",
]


@pytest.mark.parametrize(
    ("page", "sentence"),
    [*(("limits", one) for one in LIMITS), *(("audit", one) for one in AUDIT), *(("tasks", one) for one in TASKS)],
)
def test_a_page_states_the_bound_of_the_code(page: str, sentence: str) -> None:
    text = " ".join((ROOT / "docs" / "explanation" / f"{page}.md").read_text(encoding="utf-8").split())
    assert sentence in text


def test_what_pages_say_in_words() -> None:
    """Bounds that a page states as a part or a multiple of another one."""
    assert SPOOL.reserve * 4 == SPOOL.capacity, "less than a quarter of the spool is left"
    assert quotas.NAMESPACE_RATE.per_second == 4 * quotas.AGENT_RATE.per_second, "four times as much"
    assert server.READS == 2, "two answers at a time"
    assert endpoint.CONTROL_REQUESTS_PER_TASK == 4, "four times maxConcurrentTasks"
    assert KILL_LEASE_SECONDS == 60, "while the kill controller has not renewed its Lease for 60 seconds"
    assert exchange.TASK_SECONDS == 3600, "an hour"
