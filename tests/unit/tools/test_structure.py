"""The structure table names circular imports and public class names that exist twice."""

from pathlib import Path

import pytest

from tools import structure


def _write(root: Path, files: dict[str, str]) -> str:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return str(root)


def test_modules_that_import_each_other_are_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = _write(tmp_path, {"one/first.py": "from one import second\n", "one/second.py": "import one.first\n"})
    assert structure.main([root]) == 1
    assert "circular imports: 1\n  one.first one.second\n" in capsys.readouterr().out


def test_a_public_class_name_that_exists_twice_is_listed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = _write(
        tmp_path, {"one/first.py": "class Plan: ...\n", "two/second.py": "class Plan: ...\nclass _Own: ...\n"}
    )
    assert structure.main([root]) == 1
    assert "exist twice: 1 Plan\n" in capsys.readouterr().out


def test_imports_between_packages_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = _write(tmp_path, {"one/first.py": "from two.second import NAME\n", "two/second.py": "NAME = 1\n"})
    assert structure.main([root]) == 0
    assert "  one -> two: 1\n" in capsys.readouterr().out
