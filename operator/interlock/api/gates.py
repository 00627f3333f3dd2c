"""The gates and tests of a rollout's stage: what an agent must do, and must not, before the next stage is entered."""

from typing import Annotated, Literal, Self

from pydantic import ConfigDict, Field, model_validator

from interlock.api.durations import bounded_duration
from interlock.api.markers import Rule, kube
from interlock.api.messages import METRIC_BOUNDS_EMPTY, TEST_DEADLINE
from interlock.api.shared_types import ApiModel
from interlock.api.text import Argument, Image, Money, Name, VariableName

MAX_METRICS = 8
MAX_TESTS = 8
MAX_QUERY = 1024
DECIMAL = r"^-?(0|[1-9][0-9]{0,14})(\.[0-9]{1,9})?$"

Latency = Literal[
    "5ms",
    "10ms",
    "25ms",
    "50ms",
    "100ms",
    "250ms",
    "500ms",
    "1s",
    "2500ms",
    "5s",
    "10s",
    "30s",
    "1m",
    "2m",
    "5m",
    "10m",
    "30m",
    "1h",
]
"""One of the bounds of the guards' histograms (`interlock_contract.work_counts.BOUNDS`), so that verdicts are exact."""
Minimum = Annotated[int, Field(ge=1, le=1_000_000, json_schema_extra=kube(format="int32"))]
Percent = Annotated[int, Field(ge=0, le=100, json_schema_extra=kube(format="int32"))]
Decimals = Annotated[str, Field(pattern=DECIMAL, max_length=26)]
"""A decimal number as text, without exponent."""
_DEADLINE, _CHECK_DEADLINE = bounded_duration("1s", "24h", TEST_DEADLINE)
Deadline = Annotated[str, Field(max_length=32, json_schema_extra=kube(_DEADLINE)), _CHECK_DEADLINE]


class GateLimits(ApiModel):
    """Gates on what an agent does in a stage, by the counts of its guards since the stage's soak began."""

    min_tasks: Minimum | None = None
    """Least number of tasks that ended. Below it nothing is judged."""

    min_calls: Minimum | None = None
    """Least number of calls of tools and models that ended or were denied. Below it nothing is judged."""

    max_error_percent: Percent | None = None
    """Most failed tasks in percent of those that ended. Of calls, if the agent takes no tasks."""

    max_p95_latency: Latency | None = None
    """Longest time within which 95 percent of the tasks ended. Of calls, if the agent takes no tasks."""

    max_denied_percent: Percent | None = None
    """Most calls that a rule denied, in percent of all calls."""

    max_cost_per_task: Money | None = None
    """Most US dollars that calls cost, divided by the number of tasks that ended."""

    on_breach: Literal["Hold", "Rollback"] | None = None
    """What a breached gate does. Hold (default): no stage is entered. Rollback: the last good revision takes over."""


class MetricGate(ApiModel):
    """A PromQL query whose result must be within bounds. At least one of min and max is set."""

    model_config = ConfigDict(
        json_schema_extra=kube(Rule(rule="has(self.min) || has(self.max)", message=METRIC_BOUNDS_EMPTY)),
    )

    name: Name
    """Name of the gate, unique in the stage."""

    query: str = Field(min_length=1, max_length=MAX_QUERY)
    """A PromQL query with one number as its result. The installation says which Prometheus answers it."""

    min: Decimals | None = None
    """Least result."""

    max: Decimals | None = None
    """Largest result."""

    @model_validator(mode="after")
    def _refuse(self) -> Self:
        if self.min is None and self.max is None:
            raise ValueError(METRIC_BOUNDS_EMPTY)
        return self


class StageGates(GateLimits):
    """The gates of a stage. Those of the policy are defaults and cannot be weakened."""

    metrics: tuple[MetricGate, ...] = Field(default=(), max_length=MAX_METRICS, json_schema_extra=kube(keys=("name",)))
    """Queries of the namespace's Prometheus."""


class TestEnvVar(ApiModel):
    """An environment variable of a test."""

    __test__ = False  # no test of pytest's

    name: VariableName
    """Name of the variable. Names that start with INTERLOCK_ are refused."""

    value: str = Field(default="", max_length=4096)
    """Value of the variable."""


class StageTest(ApiModel):
    """A Job that must succeed once in the stage. It reaches the stage's Service and nothing else."""

    name: Name
    """Name of the test, unique in the stage."""

    image: Image
    """Image of the test."""

    command: tuple[Argument, ...] = Field(default=(), max_length=64)
    """Replaces the image's entry point."""

    args: tuple[Argument, ...] = Field(default=(), max_length=64)
    """Replaces the image's arguments."""

    env: tuple[TestEnvVar, ...] = Field(default=(), max_length=64, json_schema_extra=kube(keys=("name",)))
    """Environment variables. INTERLOCK_TASK_URL has the URL of the stage's Service."""

    deadline: Deadline = "10m"
    """Time limit, between 1s and 24h. A test that exceeds it has failed."""
