"""The order of bundles when work goes from one placement to another: what gains work first, then what loses it.

In between, two placements serve the same work for some milliseconds, and each call and task is served by one of them.
In the other order no placement would serve it.
"""

import json
from typing import Any

from interlock.deployment.names import Manifest, bundle_text


def serves_less(desired: Manifest, live: Manifest) -> bool:
    """Return True if a bundle leaves work to other placements that the live one still takes.

    Args:
        desired: The manifest of the bundle.
        live: The live object. One that cannot be read serves nothing.
    """
    before, after = _read(live), _read(desired)
    if before is None or after is None:
        return False
    excludes_more = any(one not in before.get("excluded", []) for one in after.get("excluded", []))
    return excludes_more or (after.get("draining", False) and not before.get("draining", False))


def _read(manifest: Manifest) -> dict[str, Any] | None:
    """Return the bundle in a ConfigMap, None where there is none."""
    try:
        found = json.loads(bundle_text(manifest) or "null")
    except ValueError:
        return None
    return found if isinstance(found, dict) else None
