from pathlib import Path

import pytest
import yaml

from tools.crds.__main__ import find_drift, main, render_files


def test_written_files_have_no_drift(tmp_path: Path) -> None:
    assert main([str(tmp_path / "crds")]) == 0
    assert find_drift(tmp_path / "crds") == []
    assert main(["--check", str(tmp_path / "crds")]) == 0


def test_drift_is_named_with_the_command_that_fixes_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main([str(tmp_path)])
    (tmp_path / "agents.yaml").write_text("edited", encoding="utf-8")
    (tmp_path / "README.md").unlink()
    (tmp_path / "old.yaml").touch()
    assert main(["--check", str(tmp_path)]) == 1
    assert capsys.readouterr().err.splitlines() == [
        f"{tmp_path}/agents.yaml differs from the types: run `make crds` and commit the result",
        f"{tmp_path}/README.md is missing: run `make crds` and commit the result",
        f"{tmp_path}/old.yaml is not generated: run `make crds` and commit the result",
    ]


def test_a_check_writes_nothing(tmp_path: Path) -> None:
    assert main(["--check", str(tmp_path)]) == 1
    assert list(tmp_path.iterdir()) == []


def test_the_kustomization_lists_every_crd() -> None:
    files = render_files()
    listed = yaml.safe_load(files["kustomization.yaml"])["resources"]
    assert listed == [name for name in files if name.endswith(".yaml") and name != "kustomization.yaml"]


def test_rendering_twice_gives_the_same_text() -> None:
    assert render_files() == render_files()
