"""The operator's own metrics, and its HTTP endpoint.

No label takes a value that users write, but those of budgets: these name the Agent, its policy and its environment.
"""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future

from prometheus_client import Counter, Gauge, generate_latest

from interlock_contract.listeners import LISTENERS, ListenerName
from interlock_http.listener import BoundedListener
from interlock_http.probes import SHUTDOWN_SECONDS, build_probe_app

EVENTS_DROPPED = Counter("interlock_events_dropped_total", "Kubernetes Events that could not be posted.")
QUEUED = Gauge("interlock_queued_agents", "Agents that wait for a reconcile.")
POLICIES_QUEUED = Gauge("interlock_queued_policies", "AgentPolicies that wait for a reconcile.")
BINDINGS_QUEUED = Gauge("interlock_queued_bindings", "MCPBindings that wait for a reconcile.")
VERIFICATIONS = Counter("interlock_verifications_total", "Ended verifications of MCP servers.", ["result"])
CHANGES_TO_READ = Gauge(
    "interlock_queued_changes", "Agents, AgentPolicies and MCPBindings that changed, and are yet to be read."
)
OBJECTS_TO_READ = Gauge("interlock_queued_objects", "Children and pods that changed, and are yet to be read.")
OBJECTS_NOT_REMEMBERED = Counter(
    "interlock_objects_not_remembered_total",
    "Objects with Interlock's labels and an unknown owner that were not remembered, because they are too many.",
)
OBJECTS_OVER_BUDGET = Gauge(
    "interlock_objects_over_budget",
    "Agents, AgentPolicies and MCPBindings that are not kept, because those of their namespace take too much memory.",
)
AGENTS = Gauge("interlock_agents", "Agents in the cluster.")
CLOCK_SKEW = Gauge(
    "interlock_clock_skew_seconds",
    "By how much the clock of the operator's node is ahead of the API server's, which the operator goes by.",
)
ENFORCEMENT_LOST = Gauge(
    "interlock_agents_enforcement_lost",
    "Agents without pods because an object that enforcement rests on cannot be restored.",
)
KILL_CONTROLLER_AWAY = Gauge(
    "interlock_kill_controller_away", "1 while the kill controller does not renew its Lease. No new pod starts then."
)
ADMISSION_POLICIES_CHANGED = Gauge(
    "interlock_admission_policies_changed",
    "Admission policies and bindings of Interlock that are missing or differ, -1 while they cannot be read.",
)
GUARD_UPDATES = Gauge(
    "interlock_guard_updates",
    "Agents whose guards are not of the operator's version: waiting, updating, refused by the API server, or failed, "
    "which stops all others.",
    ["state"],
)
_LEDGER = ["namespace", "policy", "agent", "environment", "period"]
BUDGET_SPENT = Gauge(
    "interlock_budget_spent_dollars",
    "Settled spend of the present day or month. The total of a policy has no agent and no environment.",
    _LEDGER,
)
BUDGET_LIMIT = Gauge("interlock_budget_limit_dollars", "The budget of a day or month, without an override.", _LEDGER)
BUDGET_EXHAUSTED = Gauge(
    "interlock_budget_exhausted", "1 while a call was refused for which too little of the budget is left.", _LEDGER[:-1]
)
VELOCITY_ALERT_TIMESTAMP = Gauge(
    "interlock_budget_velocity_alert_timestamp_seconds",
    "Start of the last ten minutes that cost far more than usual, in seconds since 1970; 0 without any.",
    _LEDGER[:-1],
)
TOKENS_ALERT_TIMESTAMP = Gauge(
    "interlock_budget_tokens_alert_timestamp_seconds",
    "When a model last reported other tokens per byte than on the day before, in seconds since 1970; 0 without any.",
    _LEDGER[:-1],
)
BUDGET_FORECAST = Gauge(
    "interlock_budget_forecast_dollars",
    "Spend of the present day if that of the last three hours goes on until its end; absent while nothing is known.",
    _LEDGER[:-1],
)
LEDGERS_QUEUED = Gauge("interlock_queued_ledgers", "BudgetLedgers that wait for a reconcile.")
HOLDERS_CLOSED = Counter(
    "interlock_budget_holders_closed_total",
    "Guards that ended or fell silent with money that they had not settled. It counts as spent.",
)

GATES_BREACHED = Counter("interlock_gates_breached_total", "Gates of stages that a revision breached.")
STAGE_TESTS = Counter("interlock_stage_tests_total", "Tests of stages that have ended.")
PRICE_BOOK_TIMESTAMP = Gauge(
    "interlock_price_book_timestamp_seconds",
    "Date of the prices of models that the operator's image has, in seconds since 1970.",
)


class TelemetryServer:
    """The operator's HTTP server, in a thread with a loop of its own: a handlers' loop that hangs is what it reports.

    Args:
        port: The TCP port, on all addresses; 0 takes a free one.
        unhealthy: Returns what is wrong, None while the operator is healthy; called from the server's thread.

    Raises:
        OSError: The port cannot be opened.
    """

    def __init__(self, port: int, unhealthy: Callable[[], str | None]) -> None:
        self._unhealthy = unhealthy
        self._loop = asyncio.new_event_loop()
        self._stopping = asyncio.Event()
        opened: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=(port, opened), name="telemetry", daemon=True)
        self._thread.start()
        self.port = opened.result()

    def close(self) -> None:
        """Close the port and end the thread."""
        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self, port: int, opened: "Future[int]") -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve(port, opened))

    async def _serve(self, port: int, opened: "Future[int]") -> None:
        app = build_probe_app(metrics=generate_latest, unhealthy=self._unhealthy)
        listener = BoundedListener(LISTENERS[ListenerName.TELEMETRY])
        listener.build_app_runner(app, shutdown_timeout=SHUTDOWN_SECONDS)
        try:
            await listener.open(None if port else "0.0.0.0", port)  # noqa: S104 - kubelets probe
        except OSError as error:
            opened.set_exception(error)
            return
        opened.set_result(listener.port)
        await self._stopping.wait()
        await listener.close()
