"""The narrower of two maps of tools, resources or prompts: what is permitted by both, row by row.

A guard finds one row for a call: a row with the very name, else the first glob that matches. A row of the result is
for names for which one reviewed row and one row of today are known, whatever stands around it. Where globs overlap so
that this cannot be said of a glob, its names are denied. Nothing else in the result then matches what one map lacks.

    reviewed                    today                        result
    get_*     read contacts     get_*      read contacts     get_secret   the stricter of both meanings
                                get_secret read secrets      get_*        read contacts
    get_*     read contacts     *_contact  read contacts     denied: neither glob has all names of the other
"""

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, Generic, TypeVar

from interlock.action.actions_bound import OPERATIONS, gives
from interlock.api.binding import ArgumentRule, Prompt, PromptRule, ResourceScope, ServerResource, Tool, ToolScope
from interlock.governance.access_matrix import Granted
from interlock_contract.bundle import BundleResource, BundleTool
from interlock_contract.mapping import find_named, find_resource, is_name_glob, is_uri_glob

Row = TypeVar("Row", Tool, ServerResource, Prompt)
Rule = TypeVar("Rule", ArgumentRule, PromptRule)

DENIED: Final = "not-reviewed"
"""Beginning of the data type of rows that are denied. It is not in any permissions."""


@dataclass(frozen=True)
class MapContext:
    """What decides which of two rows is the narrower one.

    Attributes:
        grants: The permissions of binding, access matrix and agent, all of which must permit a call.
        limited: Dimensions in which the placement's stage is limited; None for a stage that may be limited in any.
        scoped: Dimensions in which any stage of the agent is limited. Others decide nothing.
    """

    grants: tuple[Granted, ...]
    limited: frozenset[str] | None = None
    scoped: frozenset[str] = frozenset()

    def permitted(self, operation: str, resource: str) -> frozenset[str]:
        """Return the operations to which hints of the server may raise a row's own, and that are still permitted."""
        if not self._is_granted(operation, resource):
            return frozenset()
        least = OPERATIONS.index(operation)
        raised = ((hint, OPERATIONS[max(least, index)]) for index, hint in enumerate(OPERATIONS))
        return frozenset(hint for hint, asked in raised if self._is_granted(asked, resource))

    def denied_resource(self) -> str:
        """Return a data type that may not be deleted."""
        resource = DENIED
        while self._is_granted("delete", resource):
            resource += "-"
        return resource

    def _is_granted(self, operation: str, resource: str) -> bool:
        return bool(self.grants) and all(gives(one, operation, resource) for one in self.grants)


def meet_tools(reviewed: Sequence[Tool], today: Sequence[Tool], context: MapContext) -> tuple[Tool, ...]:
    """Return the tools that both maps permit."""
    return tuple(_MapMeet(_TOOLS, reviewed, today, context).rows())


def meet_prompts(reviewed: Sequence[Prompt], today: Sequence[Prompt], context: MapContext) -> tuple[Prompt, ...]:
    """Return the prompts that both maps permit."""
    return tuple(_MapMeet(_PROMPTS, reviewed, today, context).rows())


def meet_resources(
    reviewed: Sequence[ServerResource], today: Sequence[ServerResource], context: MapContext
) -> tuple[ServerResource, ...]:
    """Return the resources that both maps permit."""
    return tuple(_MapMeet(_RESOURCES, reviewed, today, context).rows())


class _Undecided(Enum):
    """The answer for a glob whose names fall under several rows of a map."""

    UNDECIDED = 0


_UNDECIDED: Final = _Undecided.UNDECIDED


@dataclass(frozen=True)
class _MapKind(Generic[Row]):
    """What differs between maps of tools, resources and prompts.

    Attributes:
        member: The field of a row that holds its name or URI.
        is_glob: Returns True for globs.
        entry: Returns a row as guards look it up.
        find: Returns the entry that a guard finds for a name or URI.
        meet: Returns the narrower of two rows; None where both together permit nothing that one row can say.
        wildcards: A wildcard of this kind.
        runs: The characters that each wildcard for a run of characters does not match.
    """

    member: str
    is_glob: Callable[[str], bool]
    entry: Callable[[Row], BundleTool | BundleResource]
    find: Callable[[Any, str], BundleTool | BundleResource | None]
    meet: Callable[[Row, Row, MapContext], Row | None]
    wildcards: re.Pattern[str]
    runs: dict[str, str]

    def key(self, row: Row) -> str:
        """Return the name or URI of a row."""
        return str(getattr(row, self.member))

    def overlap(self, one: str, other: str) -> bool:
        """Return False if certainly no name matches both globs, in whatever capitals.

        Their beginnings before the first wildcard, and their ends after the last one, are compared.
        """
        ends = [self.wildcards.split(glob.lower()) for glob in (one, other)]
        (first, last), (other_first, other_last) = ((parts[0], parts[-1]) for parts in ends)
        is_same_beginning = first.startswith(other_first) or other_first.startswith(first)
        return is_same_beginning and (last.endswith(other_last) or other_last.endswith(last))

    def covers(self, general: str, specific: str) -> bool:
        """Return True if certainly all names that match a glob match another one, which may have one wildcard."""
        if general == specific:
            return True
        found = self.wildcards.findall(general)
        if len(found) != 1 or found[0] not in self.runs:
            return False
        beginning, end = self.wildcards.split(general)
        middle = specific[len(beginning) : len(specific) - len(end)]
        return (
            len(specific) >= len(beginning) + len(end)
            and specific.startswith(beginning)
            and specific.endswith(end)
            and not any(one in middle for one in self.runs[found[0]])
            and not (found[0] == "*" and "**" in middle and "**" in self.runs)
        )


class _MapMeet(Generic[Row]):
    """The computation of one map."""

    def __init__(self, kind: _MapKind[Row], reviewed: Sequence[Row], today: Sequence[Row], context: MapContext) -> None:
        self._kind: _MapKind[Row] = kind
        self._context = context
        self._reviewed: tuple[Row, ...] = tuple(reviewed)
        self._today: tuple[Row, ...] = tuple(today)
        # A lookup keeps an index of the very tuple that it is given.
        self._entries = {id(rows): tuple(kind.entry(row) for row in rows) for rows in (self._reviewed, self._today)}

    def rows(self) -> Iterable[Row]:
        """Return the rows of the result, in today's order where today has them."""
        if [_without_price(row) for row in self._today] == [_without_price(row) for row in self._reviewed]:
            return self._today
        order = self._order()
        globs = self._globs([key for key in order if self._kind.is_glob(key)])
        rows = (globs.get(key) if self._kind.is_glob(key) else self._exact(key, globs) for key in order)
        return (row for row in rows if row is not None)

    def _order(self) -> list[str]:
        """Return all names of both maps, today's in their order.

        A glob that only the reviewed map has comes before one that may match its names, and after those that it covers.
        """
        order = [self._kind.key(row) for row in self._today]
        known = set(order)
        for row in self._reviewed:
            key = self._kind.key(row)
            if key in known:
                continue
            following = len(order)
            if self._kind.is_glob(key):
                overlapping = (
                    index
                    for index, other in enumerate(order)
                    if other in known
                    and self._kind.is_glob(other)
                    and self._kind.overlap(key, other)
                    and not self._kind.covers(key, other)
                )
                following = next(overlapping, following)
            order.insert(following, key)
        return order

    def _globs(self, order: list[str]) -> dict[str, Row]:
        """Return the rows of globs. One that cannot be decided is denied if a later row could have its names."""
        left = [self._all_globs(self._reviewed), self._all_globs(self._today)]
        decided: dict[str, Row | None] = {}
        for glob in order:
            reviewed, today = (self._find_glob(rows, glob) for rows in left)
            if reviewed is None or today is None:
                continue
            is_known = not isinstance(reviewed, _Undecided) and not isinstance(today, _Undecided)
            decided[glob] = self._meet(reviewed, today, glob) if is_known else None  # type: ignore[arg-type]
            # The names of this glob reach no later row of the result.
            left = [[row for row in rows if not self._kind.covers(glob, self._kind.key(row))] for rows in left]
        result: dict[str, Row] = {}
        for glob, row in reversed(decided.items()):
            if row is not None:
                result[glob] = row
            elif any(self._kind.overlap(glob, other) for other in result):
                result[glob] = self._denied(glob)
        return result

    def _all_globs(self, rows: Sequence[Row]) -> list[Row]:
        return [row for row in rows if self._kind.is_glob(self._kind.key(row))]

    def _find_glob(self, rows: list[Row], glob: str) -> Row | _Undecided | None:
        """Return the row that all names of a glob fall under, as far as they reach it; None where no name does."""
        for row in rows:
            if self._kind.overlap(self._kind.key(row), glob):
                return row if self._kind.covers(self._kind.key(row), glob) else _UNDECIDED
        return None

    def _exact(self, key: str, globs: dict[str, Row]) -> Row | None:
        reviewed, today = (self._find_exact(rows, key) for rows in (self._reviewed, self._today))
        if reviewed is not None and today is not None:
            return self._meet(reviewed, today, key)
        return self._denied(key) if any(self._kind.overlap(key, glob) for glob in globs) else None

    def _find_exact(self, rows: tuple[Row, ...], key: str) -> Row | None:
        entries = self._entries[id(rows)]
        found = self._kind.find(entries, key)
        return None if found is None else rows[next(index for index, one in enumerate(entries) if one is found)]

    def _meet(self, reviewed: Row, today: Row, key: str) -> Row:
        return self._named(self._kind.meet(reviewed, today, self._context), key) or self._denied(key)

    def _named(self, row: Row | None, key: str) -> Row | None:
        if row is None or self._kind.key(row) == key:
            return row
        return row.model_copy(update={self._kind.member: key})

    def _denied(self, key: str) -> Row:
        found = self._today[0]  # without a row today there is nothing to deny
        update = {self._kind.member: key, "operation": "delete", "resource": self._context.denied_resource()}
        without = {name: () for name in ("scope", "arguments") if name in type(found).model_fields}
        return found.model_copy(update={**update, **without})


def _meaning(reviewed: Row, today: Row, context: MapContext) -> dict[str, str] | None:
    """Return operation and resource of the stricter row; None where each permits what the other one denies."""
    by_reviewed = context.permitted(reviewed.operation, reviewed.resource)
    by_today = context.permitted(today.operation, today.resource)
    if not by_today or by_today < by_reviewed:
        return {"operation": today.operation, "resource": today.resource}
    if by_reviewed <= by_today:
        return {"operation": reviewed.operation, "resource": reviewed.resource}
    return None


def _changed(today: Row, update: dict[str, object]) -> Row:
    """Return today's row with what differs, or the row itself."""
    differing = {name: value for name, value in update.items() if getattr(today, name) != value}
    return today.model_copy(update=differing) if differing else today


CallRow = TypeVar("CallRow", Tool, Prompt)


def _meet_calls(reviewed: CallRow, today: CallRow, context: MapContext) -> CallRow | None:
    meaning = _meaning(reviewed, today, context)
    scope = _meet_call_scope(reviewed.scope, today.scope, context)
    if meaning is None or scope is None:
        return None
    arguments = _all_rules(reviewed.arguments, today.arguments)
    return _changed(today, {**meaning, "scope": scope, "arguments": arguments})


def _meet_call_scope(
    reviewed: tuple[ToolScope, ...], today: tuple[ToolScope, ...], context: MapContext
) -> tuple[ToolScope, ...] | None:
    """Return how a call shows that it is inside a dimension by both; None where no one entry can say so."""
    before = {entry.dimension: entry for entry in reviewed}
    result: list[ToolScope] = []
    for entry in today:
        earlier = before.pop(entry.dimension, None)
        if entry.dimension not in context.scoped or earlier == entry:
            result.append(entry)
        elif earlier is None:
            result += _undeclared(entry, context, is_free=entry.unscoped is not None)
        elif (earlier.pointer, earlier.unscoped) == (entry.pointer, entry.unscoped):  # what is left is `inject`
            result.append(entry.model_copy(update={"inject": False}))
        elif earlier.unscoped or entry.unscoped:
            result.append(entry if earlier.unscoped else earlier)
        else:
            return None
    for earlier in before.values():
        if earlier.dimension in context.scoped:
            result += _undeclared(earlier, context, is_free=earlier.unscoped is not None)
    return tuple(result)


ScopeEntry = TypeVar("ScopeEntry", ToolScope, ResourceScope)


def _undeclared(entry: ScopeEntry, context: MapContext, *, is_free: bool) -> tuple[ScopeEntry, ...]:
    """Return what is left of an entry that only one of two rows has.

    A stage that is limited in the dimension denies what does not declare it. In others, a placement leaves alone what
    belongs to another one: the values that are declared say so.
    """
    is_limited = context.limited is None or entry.dimension in context.limited
    return () if is_limited or is_free else (entry,)


def _meet_resource(reviewed: ServerResource, today: ServerResource, context: MapContext) -> ServerResource | None:
    meaning = _meaning(reviewed, today, context)
    if meaning is None:
        return None
    return _changed(today, {**meaning, "scope": _meet_resource_scope(reviewed.scope, today.scope, context)})


def _meet_resource_scope(
    reviewed: tuple[ResourceScope, ...], today: tuple[ResourceScope, ...], context: MapContext
) -> tuple[ResourceScope, ...]:
    """Return the values that a resource has by both together: all of them must be inside the scope."""
    before = {entry.dimension: entry for entry in reviewed}
    result: list[ResourceScope] = []
    for entry in today:
        earlier = before.pop(entry.dimension, None)
        if entry.dimension not in context.scoped or earlier == entry:
            result.append(entry)
        elif earlier is None:
            result += _undeclared(entry, context, is_free=entry.unscoped is not None)
        elif earlier.unscoped or entry.unscoped:
            result.append(entry if earlier.unscoped else earlier)
        else:
            values = tuple(dict.fromkeys((*(entry.values or ()), *(earlier.values or ()))))
            result.append(entry if values == entry.values else entry.model_copy(update={"values": values}))
    for earlier in before.values():
        if earlier.dimension in context.scoped:
            result += _undeclared(earlier, context, is_free=earlier.unscoped is not None)
    return tuple(result)


def _all_rules(reviewed: Sequence[PromptRule], today: Sequence[PromptRule]) -> tuple[PromptRule, ...]:
    """Return today's rules, and the reviewed ones that do not follow from them."""
    return (*today, *(rule for rule in reviewed if not any(_implies(one, rule) for one in today)))


def _implies(strict: PromptRule, rule: PromptRule) -> bool:
    """Return True if certainly all that satisfies one rule satisfies another."""
    if strict == rule:
        return True
    if strict.pointer != rule.pointer:
        return False
    if strict.enum is not None and rule.enum is not None:
        return set(strict.enum) <= set(rule.enum)
    if strict.prefix is not None and rule.prefix is not None:  # `https://a.example` does not have a.example.evil
        return rule.prefix.endswith("/") and strict.prefix.startswith(rule.prefix)
    least, most = getattr(strict, "maximum", None), getattr(rule, "maximum", None)
    return least is not None and most is not None and least <= most


def _without_price(row: Tool | ServerResource | Prompt) -> Tool | ServerResource | Prompt:
    return row.model_copy(update={"cost_per_call": None}) if isinstance(row, Tool) else row


def _named_entry(row: Tool | Prompt) -> BundleTool:
    return BundleTool(row.name, row.operation, row.resource)


def _uri_entry(row: ServerResource) -> BundleResource:
    return BundleResource(row.uri, row.operation, row.resource)


_NAME_WILDCARDS: Final = re.compile(r"[*?]")
_NAME_RUNS: Final = {"*": "/"}
_TOOLS: Final[_MapKind[Tool]] = _MapKind(
    "name", is_name_glob, _named_entry, find_named, _meet_calls, _NAME_WILDCARDS, _NAME_RUNS
)
_PROMPTS: Final[_MapKind[Prompt]] = _MapKind(
    "name", is_name_glob, _named_entry, find_named, _meet_calls, _NAME_WILDCARDS, _NAME_RUNS
)
_RESOURCES: Final[_MapKind[ServerResource]] = _MapKind(
    "uri", is_uri_glob, _uri_entry, find_resource, _meet_resource, re.compile(r"[*][*]|[*]"), {"*": "/?#&", "**": "?#"}
)
