"""Words of an API server about requests that it cannot judge yet."""

from typing import Final

_UNSETTLED: Final = ("failed to configure ", "There can be a delay between when CustomResourceDefinitions are created")
"""Parts of a refusal while an API server does not know what its admission policies need, for some seconds on a busy
machine: their parameters were not read yet ("not yet synced to use for admission") or do not exist ("no params found"),
or the kind of the object is new."""


def is_unsettled(text: str) -> bool:
    """Return True if an API server refused a request because its admission does not know enough yet."""
    return any(part in text for part in _UNSETTLED)
