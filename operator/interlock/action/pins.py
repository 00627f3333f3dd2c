"""Pins: tools, prompts and instructions of a server compared with the verified ones, drift, and its acceptance."""

import difflib
import functools
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal

from interlock.api.binding import MCPBinding, Prompt, Tool
from interlock.api.verification import MAX_DIFF, PinnedDefinition, PinState, VerificationStatus
from interlock_contract.bundle import BundleTool
from interlock_contract.canonical_json import canonicalize, digest_of
from interlock_contract.mapping import find_named, is_name_glob
from interlock_contract.strict_json import JsonInvalid, parse_json
from interlock_contract.verification import INSTRUCTIONS, SeenDefinition, VerificationResult


@dataclass(frozen=True)
class Drift:
    """One difference from what was verified: of a tool, a prompt, or the server's instructions."""

    kind: Literal["tool", "prompt", "instructions"]
    definition: PinnedDefinition

    @property
    def words(self) -> str:
        """The kind and the name."""
        return self.kind if self.kind == INSTRUCTIONS else f"{self.kind} {self.definition.name}"


def compare_seen(
    binding: MCPBinding, known: VerificationStatus, result: VerificationResult, *, may_pin: bool
) -> dict[str, object]:
    """Return the fields of the status with every mapped tool and prompt, and the instructions, with their states.

    Args:
        binding: The binding.
        known: The status with what is pinned already.
        result: The mapped tools and prompts as the server lists them, and its instructions.
        may_pin: Whether the verification has succeeded: then everything is pinned the first time, and later what the
            spec has come to map by name. What only falls under a glob then is new, and needs an accept.
    """
    spec = binding.spec
    update: dict[str, object] = {}
    if result.tools is not None:
        is_first = not any(tool.pinned_digest for tool in known.tools)
        update["tools"] = _compare(spec.tools, known.tools, result.tools, may_pin=may_pin, is_first=is_first)
    if result.prompts is not None and (may_pin or known.prompts is not None):
        # A server may have had no prompts at the first run. Its first one under a glob is new then.
        is_first = known.prompts is None
        update["prompts"] = _compare(
            spec.prompts, known.prompts or (), result.prompts, may_pin=may_pin, is_first=is_first
        )
    if result.instructions is not None and (may_pin or known.instructions is not None):
        seen = result.instructions.digest
        pin = seen if known.instructions is None else known.instructions.pinned_digest
        update["instructions"] = PinnedDefinition(
            name=INSTRUCTIONS, state=_state(pin, seen), digest=seen, pinned_digest=pin
        )
    return update


def forget_unmapped(binding: MCPBinding, known: VerificationStatus) -> VerificationStatus:
    """Return the status without prompts and instructions where the spec asks for none.

    Once the spec asks for them again, the next successful run pins all of them, as a first run does.
    """
    update: dict[str, object] = {} if binding.spec.prompts else {"prompts": None}
    if binding.spec.instructions != "Pinned":
        update["instructions"] = None
    return known.model_copy(update=update)


def _compare(
    entries: Sequence[Tool | Prompt],
    known: Iterable[PinnedDefinition],
    seen: Iterable[SeenDefinition],
    *,
    may_pin: bool,
    is_first: bool,
) -> tuple[PinnedDefinition, ...]:
    pinned = {one.name: one.pinned_digest for one in known if one.pinned_digest}
    written = _written(entries)
    compared: dict[str, PinnedDefinition] = {}
    for one in seen:
        pin = pinned.get(one.name, "")
        if not pin and may_pin and (is_first or one.name in written):
            pin = one.digest
        compared[one.name] = PinnedDefinition(
            name=one.name, state=_state(pin, one.digest), digest=one.digest, pinned_digest=pin
        )
    for name, pin in pinned.items():
        if name not in compared and _is_mapped(entries, name):
            compared[name] = PinnedDefinition(name=name, state=PinState.MISSING, pinned_digest=pin)
    return tuple(compared[name] for name in sorted(compared))


def accept_drift(known: VerificationStatus) -> VerificationStatus:
    """Return the status with all that is observed pinned; what is no longer listed loses its pin."""
    instructions = known.instructions
    return known.model_copy(
        update={
            "tools": _accept(known.tools),
            "prompts": None if known.prompts is None else _accept(known.prompts),
            "instructions": next(iter(_accept([] if instructions is None else [instructions])), None),
            "image_digest": known.observed_image_digest or known.image_digest,
            "refused_accept": "",
        }
    )


def _accept(definitions: Iterable[PinnedDefinition]) -> tuple[PinnedDefinition, ...]:
    return tuple(
        PinnedDefinition(name=one.name, state=PinState.VERIFIED, digest=one.digest, pinned_digest=one.digest)
        for one in definitions
        if one.digest
    )


def find_drift(binding: MCPBinding) -> tuple[Drift, ...]:
    """Return what differs from what was verified; a name that the spec maps and that is not pinned yet does not."""
    spec, known = binding.spec, binding.verification
    tools = [Drift("tool", one) for one in known.tools if _is_drifted(one, _written(spec.tools))]
    prompts = [Drift("prompt", one) for one in known.prompts or () if _is_drifted(one, _written(spec.prompts))]
    instructions = [
        Drift("instructions", one) for one in (known.instructions,) if one is not None and _is_drifted(one, frozenset())
    ]
    return (*tools, *prompts, *instructions)


def all_definitions(known: VerificationStatus) -> tuple[PinnedDefinition, ...]:
    """Return all that has a pin or may get one: tools, prompts, instructions."""
    return (*known.tools, *(known.prompts or ()), *((known.instructions,) if known.instructions else ()))


def observed_digest(known: VerificationStatus) -> str:
    """Return the digest of image, tools, prompts and instructions as they are."""
    return _digest(known, known.observed_image_digest, lambda one: one.digest)


def pinned_digest(known: VerificationStatus) -> str:
    """Return the same digest of what was verified or accepted; empty where nothing was."""
    return _digest(known, known.image_digest, lambda one: one.pinned_digest) if known.verified_at else ""


def has_other_image(known: VerificationStatus) -> bool:
    """Tell whether another image stands behind the name than when it was pinned; an unknown one is no other."""
    return bool(known.image_digest and known.observed_image_digest not in ("", known.image_digest))


def _is_drifted(definition: PinnedDefinition, written: frozenset[str]) -> bool:
    if definition.state == PinState.ADDED:
        return definition.name not in written
    return definition.state != PinState.VERIFIED


def _is_mapped(entries: Sequence[Tool | Prompt], name: str) -> bool:
    """Tell whether one of the entries is for this name, as the guard does."""
    return find_named(tuple(BundleTool(one.name, one.operation, one.resource) for one in entries), name) is not None


def _written(entries: Sequence[Tool | Prompt]) -> frozenset[str]:
    return frozenset(one.name for one in entries if not is_name_glob(one.name))


def _state(pin: str, digest: str) -> PinState:
    if not pin:
        return PinState.ADDED
    return PinState.VERIFIED if pin == digest else PinState.CHANGED


def _digest(known: VerificationStatus, image: str, read: Callable[[PinnedDefinition], str]) -> str:
    parts: dict[str, object] = {"image": image, "tools": {one.name: read(one) for one in known.tools if read(one)}}
    prompts = {one.name: read(one) for one in known.prompts or () if read(one)}
    if prompts:
        parts["prompts"] = prompts
    if known.instructions is not None:
        parts["instructions"] = read(known.instructions)
    return digest_of(canonicalize(parts))


_CUT: Final = "\n(the rest is cut off)"
_NUMBER: Final = re.compile(r"([-+])(\d+)")
_MAX_LINES: Final = 2000
"""Most lines of a difference that is computed, of both texts together and without what they begin and end with alike.
The time that it takes grows with their square and more."""


def build_diff_request(binding: MCPBinding, definitions: Mapping[str, str], where: str) -> bytes:
    """Return the input of `diff_changes` for what has drifted; empty without any.

    Args:
        binding: The binding, with the compared tools in its status.
        definitions: Canonical texts by their digests, as far as they are known.
        where: The place of both texts, for differences that are too large.
    """
    changes = [
        {
            "name": drift.words,
            "state": drift.definition.state.value,
            "before": definitions.get(drift.definition.pinned_digest, ""),
            "after": definitions.get(drift.definition.digest, ""),
        }
        for drift in find_drift(binding)
    ]
    return json.dumps({"where": where, "changes": changes}).encode() if changes else b""


def diff_changes(request: bytes) -> bytes:
    """Return the readable differences of definitions, at most `MAX_DIFF` characters.

    MCP servers wrote the texts, and the time that a difference takes can be anything: this runs in a worker process.

    Args:
        request: What `build_diff_request` returns.
    """
    wanted = json.loads(request)
    text = ""
    for change in wanted["changes"]:
        text += ("\n" if text else "") + _describe(**change, where=wanted["where"])
        if len(text) > MAX_DIFF:
            break
    return _cut(text).encode()


def describe_drift(binding: MCPBinding, changes: str) -> str:
    """Return what has drifted, at most `MAX_DIFF` characters.

    Args:
        binding: The binding, with the compared tools in its status.
        changes: The differences of its tools.
    """
    known = binding.verification
    image = f"image {known.image}: was {known.image_digest}, is {known.observed_image_digest}"
    return _cut("\n".join([*([image] if has_other_image(known) else []), *([changes] if changes else [])]))


def describe_too_large(what: str, where: str) -> str:
    """Return the text in place of a difference that is too large."""
    return f"{what}: changed; the difference is too large to be shown; compare {where}"


def _cut(text: str) -> str:
    return text if len(text) <= MAX_DIFF else text[: MAX_DIFF - len(_CUT)] + _CUT


def _describe(*, name: str, state: str, before: str, after: str, where: str) -> str:
    if state == PinState.MISSING:
        return f"{name}: no longer listed"
    if state == PinState.ADDED:
        return "\n".join([f"{name}: new under a glob", *(_readable(after) if after else ())])
    if not before or not after:
        return f"{name}: changed; what it was, or is, was too long to be kept"
    old, new = _readable(before), _readable(after)
    start = _common(old, new)
    end = _common(old[start:][::-1], new[start:][::-1])
    if len(old) + len(new) - 2 * (start + end) > _MAX_LINES:
        return describe_too_large(name, where)
    start, end = max(0, start - 1), max(0, end - 1)  # one line of context on both sides
    old, new = old[start : len(old) - end], new[start : len(new) - end]
    title = name.removeprefix("tool ")
    lines = difflib.unified_diff(old, new, f"{title} as verified", f"{title} as listed now", lineterm="", n=1)
    # The numbers of lines are those of the whole texts: `@@ -1,3 +1,3 @@` of what begins at line 40 is `-41,3 +41,3`.
    shift = functools.partial(_NUMBER.sub, lambda found: f"{found[1]}{int(found[2]) + start}")
    return "\n".join(shift(line) if line.startswith("@@") else line for line in lines)


def _readable(definition: str) -> list[str]:
    """Return a canonical text as lines to be read, in ASCII: what is invisible in a text can be seen here."""
    try:
        value = parse_json(definition)
    except JsonInvalid:
        value = definition
    if isinstance(value, str):  # instructions
        return json.dumps(value).split(r"\n")
    return json.dumps(value, indent=2, sort_keys=True).splitlines()


def _common(old: list[str], new: list[str]) -> int:
    """Return how many lines two texts begin with alike."""
    return next(
        (index for index, (one, other) in enumerate(zip(old, new, strict=False)) if one != other),
        min(len(old), len(new)),
    )
