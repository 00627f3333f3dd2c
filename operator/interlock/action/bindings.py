"""Which MCPBinding serves a source in an environment: exactly one, or the agent waits."""

from interlock.api.agent import Agent, Stage
from interlock.api.mcpbinding import MCPBinding
from interlock.api.refusal import Refusal
from interlock.api.status import Reason


def binding_for(bindings: tuple[MCPBinding, ...], source: str, environment: str) -> MCPBinding | None:
    """Return the one binding that serves the source in the environment, None where none or several do."""
    found = _serving(bindings, source, environment)
    return found[0] if len(found) == 1 else None


def check_coverage(agent: Agent, bindings: tuple[MCPBinding, ...]) -> Refusal | None:
    """Return the first (stage, source) that no binding or more than one serves.

    All stages are looked at from the start: nobody learns after a week that production has no binding.
    """
    for stage in agent.spec.stages:
        for use in agent.spec.bindings:
            refusal = _check_one(bindings, use.source, stage)
            if refusal is not None:
                return refusal
    return None


def _check_one(bindings: tuple[MCPBinding, ...], source: str, stage: Stage) -> Refusal | None:
    found = _serving(bindings, source, stage.environment)
    if len(found) == 1:
        return None
    where = f"source {source!r} in stage {stage.name!r} (environment {stage.environment})"
    if not found:
        return Refusal(
            Reason.BINDING_MISSING,
            f"no MCPBinding serves {where}: apply one whose source is {source} and whose environments "
            f"hold {stage.environment}, or remove the source from spec.bindings",
        )
    names = ", ".join(sorted(binding.metadata.name for binding in found))
    return Refusal(
        Reason.BINDING_AMBIGUOUS,
        f"{len(found)} MCPBindings serve {where}: {names}; leave {stage.environment} in the environments of one",
    )


def _serving(bindings: tuple[MCPBinding, ...], source: str, environment: str) -> list[MCPBinding]:
    return [
        binding for binding in bindings if binding.spec.source == source and environment in binding.spec.environments
    ]
