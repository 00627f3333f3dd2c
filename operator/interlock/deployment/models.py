"""Language models of an agent: what the guard's bundle says of them, the guard's files, the agent's variables."""

import hashlib
from typing import Any

from interlock.api.models import ModelUpstream, ModelUse
from interlock.deployment.names import name_of
from interlock.deployment.placement import Placement
from interlock.deployment.secret_files import Reference, authorities_of, file_of, project
from interlock_guard.bundle.http_target import HttpTarget
from interlock_guard.bundle.model_access import FOLDER, Model, ModelAccess, Provider

ANTHROPIC = "anthropic"
DEFAULTS = {
    "openai": ModelUpstream(name="openai", url="https://api.openai.com/v1"),
    ANTHROPIC: ModelUpstream(name=ANTHROPIC, url="https://api.anthropic.com/v1"),
}
"""Providers that a policy need not name; one that it names itself counts instead."""


def compile_models(placement: Placement) -> ModelAccess | None:
    """Return the agent's models with their providers, and the digest of its key; None where it has none."""
    uses = placement.agent.spec.models
    if not uses:
        return None
    providers = tuple(_provider(upstream, uses) for upstream in upstreams_of(placement))
    return ModelAccess(providers, hashlib.sha256(model_key(placement).encode()).hexdigest())


def upstreams_of(placement: Placement) -> tuple[ModelUpstream, ...]:
    """Return the providers of the agent's models, in the order of the agent's spec."""
    known = DEFAULTS | {upstream.name: upstream for upstream in placement.policy.spec.models.urls}
    names = dict.fromkeys(_split(use)[0] for use in placement.agent.spec.models)
    return tuple(known[name] for name in names if name in known)  # governance has refused all others


def model_key(placement: Placement) -> str:
    """Return the key that the agent shows to its guard: opaque, and good for nothing but that.

    It keeps a provider's real key from being sent by an agent unseen, and is no secret: who may read the Agent's pod
    can read it, and the guard is out of reach for all but its agent.
    """
    text = f"{placement.agent.metadata.uid}/{name_of(placement)}"
    return f"interlock-{hashlib.sha256(text.encode()).hexdigest()[:40]}"


def model_variables(placement: Placement, guard_base_url: str) -> list[dict[str, str]]:
    """Return the variables by which the SDKs of OpenAI and Anthropic find the guard; none without models.

    Args:
        placement: The placement.
        guard_base_url: Beginning of the URLs at which the agent finds its guard.
    """
    names = [upstream.name for upstream in upstreams_of(placement)]
    openai = next((name for name in ("openai", *names) if name in names and name != ANTHROPIC), None)
    values: dict[str, str] = {}
    if openai is not None:
        values |= {"OPENAI_BASE_URL": f"{guard_base_url}/{openai}/v1", "OPENAI_API_KEY": model_key(placement)}
    if ANTHROPIC in names:
        values |= {"ANTHROPIC_BASE_URL": f"{guard_base_url}/{ANTHROPIC}", "ANTHROPIC_API_KEY": model_key(placement)}
    return [{"name": name, "value": value} for name, value in values.items()]


def model_projections(placement: Placement) -> list[dict[str, Any]]:
    """Return the sources of the guard's volume that hold keys and authorities of providers, each once."""
    uses = placement.agent.spec.models
    upstreams = upstreams_of(placement)
    names = [upstream.name for upstream in upstreams]
    found: list[Reference] = [use.api_key_from.secret_key_ref for use in uses if _split(use)[0] in names]
    found += [authorities_of(upstream.ca_from) for upstream in upstreams if upstream.ca_from is not None]
    return [project(FOLDER, reference) for reference in {file_of(one): one for one in found}.values()]


def _provider(upstream: ModelUpstream, uses: tuple[ModelUse, ...]) -> Provider:
    ca_file = None if upstream.ca_from is None else file_of(authorities_of(upstream.ca_from))
    return Provider(
        name=upstream.name,
        shape="Anthropic" if upstream.name == ANTHROPIC else "OpenAI",
        target=HttpTarget(url=upstream.url, network=upstream.network, headers=(), ca_file=ca_file),
        models=tuple(
            Model(_split(use)[1], file_of(use.api_key_from.secret_key_ref))
            for use in uses
            if _split(use)[0] == upstream.name
        ),
    )


def _split(use: ModelUse) -> tuple[str, str]:
    provider, _, model = use.name.partition("/")
    return provider, model
