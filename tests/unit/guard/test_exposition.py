from interlock_contract.exposition import Metric, join_lines, render_labels


def test_a_family_is_its_help_its_type_and_its_samples() -> None:
    samples = [(render_labels(kind="Task", le="0.1"), 2), ("_sum", "0.250000")]
    assert join_lines(Metric("x_seconds", "histogram", "How long.").render_samples(samples)) == (
        b"# HELP x_seconds How long.\n"
        b"# TYPE x_seconds histogram\n"
        b'x_seconds{kind="Task",le="0.1"} 2\n'
        b"x_seconds_sum 0.250000\n"
    )


def test_a_label_cannot_end_its_own_quotes() -> None:
    assert render_labels(source='a"b\\c\n') == '{source="a\\"b\\\\c\\n"}'
