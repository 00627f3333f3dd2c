"""The mutants of an admission policy: each clause once, with what takes it out."""

from typing import Any

import pytest

from tests.integration.cel_clauses import comparing, mutants_of


def a_policy(expression: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": "ValidatingAdmissionPolicy",
        "metadata": {"name": "p.interlock.dev"},
        "spec": {"failurePolicy": "Fail", "validations": [{"expression": expression, "message": "no"}], **spec},
    }


@pytest.mark.parametrize(
    ("expression", "mutated"),
    [
        ("a", {"true"}),
        ("false", set()),
        ("true", set()),
        ("a && b", {"true", "true && b", "a && true"}),
        ("a || !(b && c)", {"true", "false || !(b && c)", "a || false", "a || !(true && c)", "a || !(b && true)"}),
        (
            "c ? a.?x == 1 : v",
            {"true", "true ? a.?x == 1 : v", "false ? a.?x == 1 : v", "c ? true : v", "c ? false : v"},
        ),
        ("['x', 'y'].all(k, k in m)", {"true", "['y'].all(k, k in m)", "['x'].all(k, k in m)"}),
        ("l.exists(k, k.a && f('&& ('))", {"true", "l.exists(k, true && f('&& ('))", "l.exists(k, k.a && true)"}),
    ],
)
def test_each_clause_is_taken_out_once(expression: str, mutated: set[str]) -> None:
    assert {one.text for one in mutants_of(a_policy(expression))} == mutated


def test_a_mutant_of_a_variable_has_a_name_of_its_own_and_so_has_what_reads_it() -> None:
    variables = [{"name": "a", "expression": "x || y"}, {"name": "b", "expression": "variables.a"}]
    policy = a_policy("variables.b", variables=variables, matchConditions=[{"name": "c", "expression": "z"}])
    number, mutant = next((number, one) for number, one in enumerate(mutants_of(policy)) if one.where == "variable a")
    binding = {"apiVersion": "v1", "kind": "Binding", "spec": {"policyName": "p", "validationActions": ["Deny"]}}

    made, bound = comparing(policy, binding, mutants_of(policy), "p0")

    assert mutant.text == "false || y"
    assert {"name": f"b_{number}", "expression": f"variables.a_{number}"} in made["spec"]["variables"]
    validations = made["spec"]["validations"]
    assert (
        validations[number]["expression"]
        == f"'#{number}' != '' && variables.original == (!((z)) || ((variables.b_{number})))"
    )
    assert {"name": "original", "expression": "!((z)) || ((variables.b))"} in made["spec"]["variables"]
    assert "matchConditions" not in made["spec"]
    assert (bound["metadata"]["name"], bound["spec"]["validationActions"]) == ("p0-0", ["Warn"])
