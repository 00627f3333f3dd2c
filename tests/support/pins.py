"""Tools as if they had been verified: pins for a bundle, and the digest that a listed tool has."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from msgspec.structs import replace

from interlock_contract.bundle import Bundle, Pin, dump_bundle, parse_bundle
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.mapping import is_name_glob

DEFINITION = "0" * 64
"""The digest of a tool of which a test says nothing more."""


def definition_of(tool: Mapping[str, Any]) -> str:
    """Return the digest of a tool as its server lists it."""
    return digest_of(canonicalize(tool))


def pins_of(tools: list[dict[str, Any]]) -> tuple[Pin, ...]:
    """Return pins of what a server lists."""
    return tuple(Pin(tool["name"], definition_of(tool)) for tool in tools)


def pinned(bundle: Bundle, *more: str) -> Bundle:
    """Return the bundle with every tool and prompt pinned that it maps by name, and these tools."""
    sources = []
    for source in bundle.sources:
        names = {tool.name for tool in source.tools if not is_name_glob(tool.name)} | {*more}
        prompts = {prompt.name for prompt in source.prompts if not is_name_glob(prompt.name)}
        pins, prompt_pins = (tuple(Pin(name, DEFINITION) for name in sorted(one)) for one in (names, prompts))
        sources.append(replace(source, pins=pins, prompt_pins=prompt_pins))
    return replace(bundle, sources=tuple(sources))


class LearntPins(NamedTuple):
    """The pins of a server that is not ours."""

    tools: tuple[Pin, ...]
    prompts: tuple[Pin, ...]


def with_pins(text: str, tools: tuple[Pin, ...], prompts: tuple[Pin, ...] = ()) -> str:
    """Return a bundle's text with these pins for each of its sources."""
    bundle = parse_bundle(text)
    sources = tuple(replace(source, pins=tools, prompt_pins=prompts) for source in bundle.sources)
    return dump_bundle(replace(bundle, sources=sources))
