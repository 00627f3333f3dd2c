"""The import as a user runs it: a file in, bindings or sentences out."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from interlock_cli.import_servers import main

Run = Callable[..., "tuple[int, str, str]"]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Return a function that imports a file, or a value as a file, and returns exit code, output and errors."""

    def call(file: Any, *options: str) -> tuple[int, str, str]:
        path = file
        if not isinstance(file, Path):
            path = tmp_path / "mcp.json"
            path.write_text(file if isinstance(file, str) else json.dumps(file), encoding="utf-8")
        code = main([str(path), *options])
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call
