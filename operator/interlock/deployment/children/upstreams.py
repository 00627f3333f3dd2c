"""The guard's upstreams: HTTP MCP servers and model providers, with the mounted files of their keys and CAs.

Only the guard mounts these files. A file's name is a digest of the Secret or ConfigMap key that it holds.
"""

import hashlib
from collections.abc import Iterable
from typing import Any

from interlock.api.agent import Agent, ModelUse
from interlock.api.binding import CaSource, HttpServer
from interlock.api.policy import AgentPolicy, EgressProxy, ModelUpstream
from interlock.api.shared_types import ConfigMapKeyRef, SecretKeyRef
from interlock.deployment.placement import BoundSource, Placement
from interlock.governance.budgets import ModelPrices
from interlock.prices.book import PriceBook, PriceMissing
from interlock.prices.price_list import PriceList, PriceOverride
from interlock_contract.budget.prices import ModelPrice
from interlock_contract.egress_proxy import is_proxied
from interlock_contract.http_target import HttpTarget, ProxyTarget, TargetHeader
from interlock_contract.model_access import Model, ModelAccess, Provider, Shape
from interlock_contract.pod import MODEL_KEYS_FOLDER, SECRETS_PATH

Reference = SecretKeyRef | ConfigMapKeyRef


def file_of(reference: Reference) -> str:
    """Return the name of the file that holds a key, 32 hexadecimal digits."""
    text = f"{type(reference).__name__}/{reference.name}/{reference.key}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def project(folder: str, reference: Reference, *, is_optional: bool = False) -> dict[str, Any]:
    """Return the projected volume source that puts the file of a key into a folder.

    Args:
        folder: The folder.
        reference: The key.
        is_optional: Whether the pod starts without the key.
    """
    items = [{"key": reference.key, "path": f"{folder}/{file_of(reference)}"}]
    kind = "secret" if isinstance(reference, SecretKeyRef) else "configMap"
    return {kind: {"name": reference.name, "items": items, **({"optional": True} if is_optional else {})}}


def authorities_of(ca: CaSource) -> Reference:
    """Return the key that holds CA certificates."""
    found = ca.config_map_key_ref or ca.secret_key_ref
    if found is None:
        raise ValueError("a CaSource without a source")  # the API type refuses it
    return found


ANTHROPIC = "anthropic"
DEFAULT_UPSTREAMS = {
    "openai": ModelUpstream(name="openai", url="https://api.openai.com/v1"),
    ANTHROPIC: ModelUpstream(name=ANTHROPIC, url="https://api.anthropic.com/v1"),
}
"""Providers that every policy knows. An entry of the policy with the same name replaces the default."""


def proxy_for(http: HttpServer | ModelUpstream, proxy: EgressProxy | None) -> EgressProxy | None:
    """Return the egress proxy if the server or provider is reached through it."""
    return proxy if proxy is not None and is_proxied(http.url, http.network, proxy.no_proxy) else None


def _proxy_target(http: HttpServer | ModelUpstream, proxy: EgressProxy | None) -> ProxyTarget | None:
    used = proxy_for(http, proxy)
    if used is None:
        return None
    return ProxyTarget(used.url, None if used.ca_from is None else file_of(authorities_of(used.ca_from)))


def _proxy_authorities(http: HttpServer | ModelUpstream, proxy: EgressProxy | None) -> list[Reference]:
    used = proxy_for(http, proxy)
    return [] if used is None or used.ca_from is None else [authorities_of(used.ca_from)]


def compile_models(placement: Placement) -> ModelAccess | None:
    """Return the agent's models with their providers; None where it has none."""
    uses = placement.agent.spec.models
    if not uses:
        return None
    proxy = placement.policy.spec.egress_proxy
    prices = placement.prices
    providers = tuple(_provider(upstream, uses, proxy, prices) for upstream in upstreams_of(placement))
    return ModelAccess(providers, prices.book or None)


def find_prices(agent: Agent, policy: AgentPolicy, book: PriceBook) -> ModelPrices:
    """Return the prices of an agent's models under a policy, and why the others have none.

    Args:
        agent: The Agent.
        policy: Its policy, whose own prices count before those of the book.
        book: The price book.
    """
    if not agent.spec.models:
        return ModelPrices()
    overrides = tuple(
        PriceOverride(**entry.model_dump(include=set(PriceOverride.__dataclass_fields__)))
        for entry in policy.spec.models.prices
    )
    prices = PriceList(book, overrides)
    known = DEFAULT_UPSTREAMS | {upstream.name: upstream for upstream in policy.spec.models.urls}
    found: dict[str, ModelPrice] = {}
    missing: dict[str, str] = {}
    for use in agent.spec.models:
        provider, model = _split(use)
        if provider in known:  # governance refuses all others
            url, shape = known[provider].url, _shape_of(provider)
            try:
                found[use.name] = prices.find(provider=provider, url=url, shape=shape, model=model)
            except PriceMissing as error:
                missing[use.name] = str(error)
    return ModelPrices(found, missing, prices.digest)


def _shape_of(provider: str) -> Shape:
    return "Anthropic" if provider == ANTHROPIC else "OpenAI"


def upstreams_of(placement: Placement) -> tuple[ModelUpstream, ...]:
    """Return the providers of the agent's models, in the order of the agent's spec."""
    known = DEFAULT_UPSTREAMS | {upstream.name: upstream for upstream in placement.policy.spec.models.urls}
    names = dict.fromkeys(_split(use)[0] for use in placement.agent.spec.models)
    return tuple(known[name] for name in names if name in known)  # governance refuses all others


def model_variables(placement: Placement, guard_base_url: str, key: SecretKeyRef) -> list[dict[str, Any]]:
    """Return the variables that lead the SDKs of OpenAI and Anthropic to the guard, none without models.

    Args:
        placement: The placement.
        guard_base_url: Beginning of the URLs at which the agent reaches its guard.
        key: Where the agent's key is, which the agent shows to its guard instead of a provider's key.
    """
    names = [upstream.name for upstream in upstreams_of(placement)]
    openai = next((name for name in ("openai", *names) if name in names and name != ANTHROPIC), None)
    shown = {"valueFrom": {"secretKeyRef": {"name": key.name, "key": key.key}}}
    variables: list[dict[str, Any]] = []
    if openai is not None:
        variables.append({"name": "OPENAI_BASE_URL", "value": f"{guard_base_url}/{openai}/v1"})
        variables.append({"name": "OPENAI_API_KEY", **shown})
    if ANTHROPIC in names:
        variables.append({"name": "ANTHROPIC_BASE_URL", "value": f"{guard_base_url}/{ANTHROPIC}"})
        variables.append({"name": "ANTHROPIC_API_KEY", **shown})
    return variables


def model_projections(placement: Placement) -> list[dict[str, Any]]:
    """Return the projected volume sources with the keys and CA certificates of the providers, each once."""
    uses = placement.agent.spec.models
    upstreams = upstreams_of(placement)
    names = [upstream.name for upstream in upstreams]
    found: list[Reference] = [use.api_key_from.secret_key_ref for use in uses if _split(use)[0] in names]
    found += [authorities_of(upstream.ca_from) for upstream in upstreams if upstream.ca_from is not None]
    proxy = placement.policy.spec.egress_proxy
    found += [authorities for upstream in upstreams for authorities in _proxy_authorities(upstream, proxy)]
    return [project(MODEL_KEYS_FOLDER, reference) for reference in {file_of(one): one for one in found}.values()]


def _provider(
    upstream: ModelUpstream, uses: tuple[ModelUse, ...], proxy: EgressProxy | None, prices: ModelPrices
) -> Provider:
    ca_file = None if upstream.ca_from is None else file_of(authorities_of(upstream.ca_from))
    return Provider(
        name=upstream.name,
        shape=_shape_of(upstream.name),
        target=HttpTarget(
            url=upstream.url,
            network=upstream.network,
            headers=(),
            ca_file=ca_file,
            proxy=_proxy_target(upstream, proxy),
        ),
        models=tuple(
            Model(_split(use)[1], file_of(use.api_key_from.secret_key_ref), prices.models.get(use.name))
            for use in uses
            if _split(use)[0] == upstream.name
        ),
        extra_members=upstream.extra_members,
        content_hosts=upstream.content_hosts,
        limit_member=upstream.output_limit_member,
        takes_usage_option=None if upstream.stream_usage is None else upstream.stream_usage == "Ask",
    )


def _split(use: ModelUse) -> tuple[str, str]:
    provider, _, model = use.name.partition("/")
    return provider, model


SECRETS_VOLUME = "server-secrets"


def build_target(http: HttpServer, proxy: EgressProxy | None) -> HttpTarget:
    """Return a server as the guard's bundle describes it.

    Args:
        http: The server.
        proxy: The egress proxy of the policy, None where there is none.
    """
    return HttpTarget(
        url=http.url,
        network=http.network,
        headers=tuple(
            TargetHeader(
                header.name,
                header.value,
                None if header.value_from is None else file_of(header.value_from.secret_key_ref),
            )
            for header in http.headers
        ),
        ca_file=None if http.ca_from is None else file_of(authorities_of(http.ca_from)),
        proxy=_proxy_target(http, proxy),
    )


def build_secrets_volume(placement: Placement) -> list[dict[str, Any]]:
    """Return the volume with the credentials of HTTP sources, in one folder each, and of models, if there are any.

    The kubelet updates its files when a Secret changes.
    """
    proxy = placement.policy.spec.egress_proxy
    return _volume([*_projections(placement.sources, proxy), *model_projections(placement)])


def project_secrets(bound_sources: Iterable[BoundSource], proxy: EgressProxy | None) -> list[dict[str, Any]]:
    """Return the volume with the credentials of these sources alone; none where none are needed."""
    return _volume(_projections(bound_sources, proxy))


def _projections(bound_sources: Iterable[BoundSource], proxy: EgressProxy | None) -> list[dict[str, Any]]:
    return [
        project(bound.source, reference)
        for bound in bound_sources
        if bound.binding.spec.server.http is not None
        for reference in _references(bound.binding.spec.server.http, proxy)
    ]


def _volume(projections: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"name": SECRETS_VOLUME, "projected": {"sources": projections}}] if projections else []


def build_secrets_mount(placement: Placement) -> list[dict[str, Any]]:
    """Return the guard's mount of that volume; no other container has one."""
    return mount_secrets(build_secrets_volume(placement))


def mount_secrets(volume: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the mount of that volume, none where there is none."""
    return [{"name": SECRETS_VOLUME, "mountPath": SECRETS_PATH, "readOnly": True}] if volume else []


def _references(http: HttpServer, proxy: EgressProxy | None) -> list[Reference]:
    """Return every key that a server needs, once. The API server refuses two files of one path."""
    found: dict[str, Reference] = {
        file_of(header.value_from.secret_key_ref): header.value_from.secret_key_ref
        for header in http.headers
        if header.value_from is not None
    }
    if http.ca_from is not None:
        authorities = authorities_of(http.ca_from)
        found[file_of(authorities)] = authorities
    found |= {file_of(authorities): authorities for authorities in _proxy_authorities(http, proxy)}
    return list(found.values())
