"""The metrics of the programs, as the programs themselves declare them."""

from collections.abc import Iterator
from types import ModuleType
from typing import Final

from prometheus_client.metrics import MetricWrapperBase

import interlock.telemetry
import interlock_audit.server
import interlock_guard.budget.spend_metrics
import interlock_guard.downstream.callers
import interlock_guard.probes
import interlock_guard.tasks.metrics
import interlock_kill.telemetry
import interlock_notify.probes
import interlock_process.metrics
from interlock_contract.exposition import Metric

DECLARING: Final[dict[str, tuple[ModuleType, ...]]] = {
    "Operator": (interlock.telemetry,),
    "Operator and kill controller": (interlock_process.metrics,),
    "Kill controller": (interlock_kill.telemetry,),
    "Guard": (
        interlock_guard.probes,
        interlock_guard.downstream.callers,
        interlock_guard.tasks.metrics,
        interlock_guard.budget.spend_metrics,
    ),
    "Notifier": (interlock_notify.probes,),
    "Audit collector": (interlock_audit.server,),
}
"""The modules that declare the metrics of each program."""


def metrics_of(program: str) -> Iterator[Metric]:
    """Yield the metrics of a program, in the order of their declarations."""
    for module in DECLARING[program]:
        for found in vars(module).values():
            if isinstance(found, Metric):
                yield found
            elif isinstance(found, MetricWrapperBase):
                yield from _read(found)


def _read(declared: MetricWrapperBase) -> Iterator[Metric]:
    labels = tuple(declared._labelnames)  # noqa: SLF001 - the library shows labels only in samples
    for family in declared.describe():
        name = f"{family.name}_total" if family.type == "counter" else family.name
        yield Metric(name, family.type, family.documentation, labels)  # type: ignore[arg-type]
