import itertools
from typing import Any

import pytest

from interlock_contract.bundle import Operation
from interlock_contract.mapping import tightened_operation
from tests.requirements import requirement

OPERATIONS: tuple[Operation, ...] = ("read", "write", "delete")


@pytest.mark.parametrize(
    ("annotations", "least"),
    [
        (None, "read"),
        ({}, "read"),
        ({"title": "Get"}, "read"),
        ({"readOnlyHint": True}, "read"),
        ({"readOnlyHint": None, "destructiveHint": None}, "read"),
        ({"readOnlyHint": True, "destructiveHint": True}, "read"),
        ({"destructiveHint": False}, "read"),
        ({"readOnlyHint": False}, "write"),
        ({"readOnlyHint": False, "destructiveHint": False}, "write"),
        ({"readOnlyHint": "yes"}, "write"),
        ({"readOnlyHint": 1}, "write"),
        ({"destructiveHint": True}, "delete"),
        ({"readOnlyHint": False, "destructiveHint": True}, "delete"),
        ({"destructiveHint": "no"}, "delete"),
        ({"destructiveHint": 0}, "delete"),
    ],
)
@requirement("guard.hints")
def test_only_what_a_server_says_explicitly_tightens(annotations: dict[str, Any] | None, least: Operation) -> None:
    for mapped in OPERATIONS:
        expected = max(mapped, least, key=OPERATIONS.index)
        assert tightened_operation(mapped, annotations) == expected


@requirement("guard.hints")
def test_no_hint_ever_loosens() -> None:
    values = (None, True, False, "x", 0, [])
    for mapped, one, other in itertools.product(OPERATIONS, values, values):
        tightened = tightened_operation(mapped, {"readOnlyHint": one, "destructiveHint": other})
        assert OPERATIONS.index(tightened) >= OPERATIONS.index(mapped)
