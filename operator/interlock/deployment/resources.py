"""Requests and limits of a container, as the user wrote them."""

from typing import Any

from interlock.api.agent import Resources


def build_resources(resources: Resources | None) -> dict[str, Any]:
    """Return the `resources` member of a container, or nothing where none are asked for."""
    if resources is None:
        return {}
    return {"resources": resources.model_dump(by_alias=True, exclude_none=True, mode="json")}
