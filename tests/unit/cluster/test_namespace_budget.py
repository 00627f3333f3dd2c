from interlock.cluster.namespace_budget import NamespaceBudget, ObjectKey
from interlock.telemetry import OBJECTS_OVER_BUDGET
from tests.requirements import requirement


def an_object(name: str, namespace: str = "hostile") -> ObjectKey:
    return "MCPBinding", (namespace, name)


def over_budget() -> float:
    return float(OBJECTS_OVER_BUDGET._value.get())  # noqa: SLF001 - prometheus_client has no other way


@requirement("operator.memory")
def test_what_does_not_fit_into_one_namespace_costs_no_other_one() -> None:
    before, budget = over_budget(), NamespaceBudget(100, lambda _: None)

    assert budget.take(an_object("a"), 60)
    assert not budget.take(an_object("b"), 41)
    assert budget.take(an_object("c"), 40)
    assert budget.take(an_object("a", "agents"), 100)
    assert over_budget() == before + 1
    budget.release(an_object("b"))
    assert over_budget() == before


def test_a_change_counts_in_place_of_what_it_changes() -> None:
    budget = NamespaceBudget(100, lambda _: None)
    assert budget.take(an_object("a"), 60)
    assert budget.take(an_object("a"), 100)
    assert not budget.take(an_object("a"), 101)
    assert budget.take(an_object("b"), 100), "what was refused takes nothing"


def test_room_is_given_to_what_fits_and_to_each_object_once() -> None:
    again: list[ObjectKey] = []
    budget = NamespaceBudget(100, again.append)
    budget.take(an_object("large"), 80)
    for name, size in (("a", 50), ("b", 40), ("c", 70)):
        assert not budget.take(an_object(name), size)
    budget.take(an_object("large"), 70)
    assert again == [], "nothing fits yet"
    budget.release(an_object("large"))
    assert again == [an_object("b"), an_object("a")], "the smallest one first"
    again.clear()
    assert budget.take(an_object("a"), 50)
    assert budget.take(an_object("b"), 40)
    budget.release(an_object("a"))
    assert again == []
    budget.release(an_object("b"))
    assert again == [an_object("c")]


def test_a_namespace_without_objects_leaves_nothing_behind() -> None:
    budget = NamespaceBudget(100, lambda _: None)
    budget.take(an_object("a"), 60)
    budget.take(an_object("b"), 60)
    budget.release(an_object("b"))
    budget.release(an_object("a"))
    budget.release(an_object("never there"))
    assert (budget._sizes, budget._sums, budget._refused, budget._waiting) == ({}, {}, {}, {})  # noqa: SLF001 - memory is what is tested
