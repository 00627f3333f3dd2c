"""Does a live object still say everything that we want it to say? Defaults that the API server adds do not count.

What others add is seen by who owns the fields, not by comparing: see `ownership`.
"""

from decimal import Decimal
from typing import Any

from kubernetes.utils.quantity import parse_quantity

from interlock.deployment.child import Manifest

_METADATA = "metadata"
_IGNORED = ("apiVersion", "kind", _METADATA)
_QUANTITIES = ("requests", "limits")


def has_drifted(desired: Manifest, live: Manifest) -> bool:
    """Tell whether something that is desired is missing from the live object or other in it."""
    return _metadata_differs(desired[_METADATA], live[_METADATA]) or any(
        _differs(value, live.get(name)) for name, value in desired.items() if name not in _IGNORED
    )


def _metadata_differs(desired: dict[str, Any], live: dict[str, Any]) -> bool:
    """Compare labels and owner; other metadata is free for other tools to use."""
    owners = live.get("ownerReferences", [])
    return _differs(desired["labels"], live.get("labels")) or any(
        owner not in owners for owner in desired["ownerReferences"]
    )


def _differs(desired: Any, live: Any) -> bool:
    if live is None:
        # The API server leaves out what is empty.
        return desired not in ("", [], {}, None)
    if isinstance(desired, dict):
        return not isinstance(live, dict) or any(
            _amounts_differ(value, live.get(name)) if name in _QUANTITIES else _differs(value, live.get(name))
            for name, value in desired.items()
        )
    if isinstance(desired, list):
        return (
            not isinstance(live, list)
            or len(desired) != len(live)
            or any(_differs(wanted, found) for wanted, found in zip(desired, live, strict=True))
        )
    return bool(desired != live)


def _amounts_differ(desired: Any, live: Any) -> bool:
    """Compare requests or limits, name by name, as amounts; anything else as it stands."""
    if not isinstance(desired, dict) or not isinstance(live, dict):
        return _differs(desired, live)
    return any(_normal(value) != _normal(live.get(name)) for name, value in desired.items())


def _normal(value: Any) -> Decimal | Any:
    """Return a quantity as its amount: the API server rewrites `1000m` to `1`."""
    try:
        return parse_quantity(value)  # type: ignore[no-untyped-call]
    except (TypeError, ValueError):
        return value
