"""Reads of a cluster without a kubectl process for each of them.

A test that waits reads several times a second. A process takes a tenth of a second of the processor, a request takes
two milliseconds.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.integration.operator.api import Access, Api

Json = dict[str, Any]


@dataclass(frozen=True)
class Reader:
    """One connection to the API server as the cluster's administrator, for one thread at a time."""

    api: Api
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def get(self, kind: str, namespace: str, name: str) -> Json:
        """Return an object.

        Args:
            kind: As kubectl takes it, such as "pod", "deployments" or "agents.interlock.dev".
            namespace: The object's.
            name: The object's.
        """
        with self._lock:
            return self.api.get(_plural(kind), namespace, name)

    def items(self, kind: str, namespace: str, selector: str = "") -> list[Json]:
        """Return the objects of a kind, each with its kind and version."""
        with self._lock:
            found = self.api.collection(_plural(kind), namespace, selector)
        of = {"apiVersion": found["apiVersion"], "kind": str(found["kind"]).removesuffix("List")}
        return [of | one for one in found["items"]]

    def log(self, namespace: str, pod: str, container: str) -> str:
        """Return what a container has printed; empty while there is no log."""
        with self._lock:
            return self.api.log(namespace, pod, container)


@contextmanager
def reading(kubeconfig: Path) -> Iterator[Reader]:
    """Read a cluster for as long as the context lasts."""
    api = Api(Access.of(kubeconfig))
    try:
        yield Reader(api)
    finally:
        api.close()


def _plural(kind: str) -> str:
    resource = kind.partition(".")[0]
    return resource if resource.endswith("s") else f"{resource}s"
