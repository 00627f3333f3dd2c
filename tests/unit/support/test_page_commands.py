"""The reader of pages' commands, and the shell that runs them."""

import os
from pathlib import Path

import pytest

from tests.support.page_commands import Printed, Terminal, files, missing_lines, printed

PAGE = """\
Text.

```console
$ first   # a comment
one
...
$ second \\
    --with=more
```

1. A list:

   ```console
   $ third
   Error from server
   ```

```yaml title="company/a.yaml"
a: 1
```

```yaml
b: 2
```
"""


def test_commands_are_read_with_their_output_and_files_with_their_path(tmp_path: Path) -> None:
    (tmp_path / "page.md").write_text(PAGE)
    assert list(printed(tmp_path, "page.md")) == [
        Printed("page.md", "first   # a comment", ("one", "...")),
        Printed("page.md", "second --with=more", ()),
        Printed("page.md", "third", ("Error from server",)),
    ]
    assert [one.fails for one in printed(tmp_path, "page.md")] == [False, False, True]
    assert list(files(tmp_path, "page.md")) == [("company/a.yaml", "a: 1\n")]


@pytest.mark.parametrize(
    ("expected", "output", "missing"),
    [
        (["NAME   AGE", "a   20s"], "NAME  AGE\na  3m21s\n", []),
        (["task 3f0c7d2a9b5e: hello"], "task 9d41c0e7b2f8: hello", []),
        (['allowed: {"id": 1, "region": "eu"}'], 'allowed: {"id": 87, "region": "eu"}', []),
        (["one", "...", "two"], "one\nx\ny\ntwo", []),
        (["job/x-..."], "job/x-bcdfg", []),
        (["agent.interlock.dev/a created"], "agent.interlock.dev/a unchanged", []),
        (["agent.interlock.dev/a created"], "agent.interlock.dev/b created", ["agent.interlock.dev/a created"]),
        (["two", "one"], "one\ntwo", []),
        (["READY True"], "READY False", ["READY True"]),
        (["one", "one"], "one", ["one"]),
    ],
)
def test_output_is_compared_without_ids_ages_and_widths(expected: list[str], output: str, missing: list[str]) -> None:
    assert missing_lines(expected, output) == missing


def test_a_terminal_keeps_variables_and_functions_and_reads_no_input(tmp_path: Path) -> None:
    with Terminal(tmp_path, os.environ) as terminal:
        assert terminal.run('a=1; f() { echo "$a $1"; }', seconds=30).code == 0
        assert terminal.run("f 2 && pwd", seconds=30).output.split() == ["1", "2", str(tmp_path)]
        assert terminal.run("cat; false", seconds=30).code == 1
        assert terminal.run("echo out; echo err >&2   # why", seconds=30).output.split() == ["out", "err"]


def test_a_command_that_does_not_end_is_told_of(tmp_path: Path) -> None:
    with Terminal(tmp_path, os.environ) as terminal, pytest.raises(TimeoutError, match="sleep 1000"):
        terminal.run("sleep 1000", seconds=0.1)
