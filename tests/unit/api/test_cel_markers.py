import pytest

from interlock.api.markers import Rule, cel_pattern, cel_sentence, cel_text, kube


def test_text_becomes_a_cel_literal() -> None:
    assert cel_text("it's a \\ and\na line") == "'it\\'s a \\\\ and\\na line'"


def test_a_pattern_with_a_double_quote_is_refused() -> None:
    assert cel_pattern(r"^\d'$") == 'r"^\\d\'$"'
    with pytest.raises(ValueError, match="double quote"):
        cel_pattern('"')


@pytest.mark.parametrize(
    ("template", "expression"),
    [
        ("all plain", "'all plain'"),
        ("{a} first", "x + ' first'"),
        ("last {a}", "'last ' + x"),
        ("{a} and {b}, {a}", "x + ' and ' + y + ', ' + x"),
        ("a {c} stays", "'a {c} stays'"),
    ],
)
def test_a_template_becomes_a_cel_expression(template: str, expression: str) -> None:
    assert cel_sentence(template, a="x", b="y") == expression


def test_marks_are_written_as_kubernetes_reads_them() -> None:
    rule = Rule(rule="true", message="m", message_expression="'m'", field_path=".f")
    assert kube(rule, keys=("name",), format="int32") == {
        "format": "int32",
        "x-kubernetes-validations": [{"rule": "true", "message": "m", "messageExpression": "'m'", "fieldPath": ".f"}],
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["name"],
    }
    assert kube() == {}
