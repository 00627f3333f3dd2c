"""The order of tests that run next to each other."""

from pathlib import Path
from typing import Any

import pytest

from tests.support.side_by_side import GROUPS, ORDER, group_of, pytest_collection_modifyitems, turned

TESTS = Path(__file__).parents[2]
E2E = TESTS / "e2e"


class Item:
    """What the order needs to know of a test."""

    def __init__(self, nodeid: str, *marks: str) -> None:
        self.nodeid, self.marks = nodeid, marks

    def get_closest_marker(self, name: str) -> str | None:
        return name if name in self.marks else None


def ordered(*items: Any) -> list[str]:
    found = list(items)
    pytest_collection_modifyitems(found)
    return [item.nodeid for item in found]


def test_groups_start_in_their_order_and_other_tests_follow() -> None:
    others = ("tests/integration/guard/test_a.py::test", "tests/unit/test_a.py::test")
    names = {name: f"{beginnings[0].removesuffix('.py')}.py::test" for name, beginnings in GROUPS.items()}
    assert set(ORDER) == set(GROUPS)
    found = ordered(*(Item(nodeid) for nodeid in (*others, *names.values())))
    assert found == [*(names[name] for name in ORDER), *others]


def test_a_module_with_an_exclusive_test_stays_whole_and_comes_last_in_its_group() -> None:
    first, second = "tests/e2e/test_a_first.py", "tests/e2e/test_b_second.py"
    items = (
        Item(f"{first}::test_alone", "exclusive"),
        Item(f"{first}::test_one"),
        Item(f"{second}::test_one"),
        Item(f"{second}::test_two"),
    )
    assert ordered(*items) == [
        f"{second}::test_one",
        f"{second}::test_two",
        f"{first}::test_one",
        f"{first}::test_alone",
    ]


def test_processes_begin_at_different_places_and_come_to_the_same_order() -> None:
    modules = [f"tests/unit/test_{name}.py" for name in "abcdefgh"]
    begun = [turned(modules, f"gw{number}", 4) for number in range(4)]
    assert [found[0] for found in begun] == modules[::2]
    items = [[Item(f"{module}::test_{each}") for module in found for each in "yx"] for found in begun]
    expected = [f"{module}::test_{each}" for module in modules for each in "yx"]
    assert [ordered(*one) for one in items] == [expected] * 4
    assert turned(modules, "", 1) == modules


@pytest.mark.parametrize("path", sorted(E2E.glob("test_*.py")), ids=lambda path: path.stem)
def test_all_tests_that_must_not_meet_are_in_one_lane(path: Path) -> None:
    """Exclusive ones, and those with the second node, which one of them may drain."""
    text = path.read_text(encoding="utf-8")
    is_alone = "mark.exclusive" in text or "second_node" in text
    assert not is_alone or group_of(f"tests/e2e/{path.name}::test") == "real pods, long"


def test_all_tests_with_the_api_server_of_a_process_are_in_its_group() -> None:
    """A module outside of the group would start one more, in whichever process it runs."""
    modules = [path for path in (TESTS / "integration").rglob("test_*.py") if "kwok_cluster" in path.read_text()]
    assert modules
    groups = {group_of(str(path.relative_to(TESTS.parent))) for path in modules}
    assert groups == {"API server"}
