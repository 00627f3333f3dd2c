"""A work queue that says which keys were added to it, and runs nothing."""

from interlock_kube.reconcile_loop import WorkQueue
from interlock_kube.resource_types import Key


class Enqueued(WorkQueue[Key]):
    """Keeps the keys in the order in which they were added, however late they may be handled."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: list[Key] = []

    def add(self, key: Key) -> None:
        """Keep a key."""
        self._keys.append(key)

    def add_within(self, key: Key, seconds: float) -> None:
        """Keep a key that waits for more changes."""
        assert 0 < seconds <= 2
        self.add(key)

    def add_sooner(self, key: Key, seconds: float) -> None:
        """Keep a key that waits for longer."""
        assert 0 < seconds <= 10
        self.add(key)

    def taken(self) -> list[Key]:
        """Return the keys that were added, and forget them."""
        keys, self._keys = self._keys, []
        return keys
