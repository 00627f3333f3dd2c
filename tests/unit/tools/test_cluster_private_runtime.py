import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tools.nodeless import private_runtime

SOURCE = Path(private_runtime.__file__)


def a_process() -> dict[str, Any]:
    return {
        "args": ["sleep", "1"],
        "capabilities": {"bounding": ["CAP_KILL", "CAP_SYS_RESOURCE"], "ambient": None},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1048576, "soft": 1048576}],
        "oomScoreAdj": -999,
    }


def test_nothing_is_asked_for_that_the_engine_may_not_give() -> None:
    changed = private_runtime.without_capability(a_process(), own_score=0)
    assert changed == {
        "args": ["sleep", "1"],
        "capabilities": {"bounding": ["CAP_KILL"], "ambient": []},
        "oomScoreAdj": 0,
    }


def test_a_higher_oom_score_stays_and_none_stays_none() -> None:
    assert private_runtime.without_capability({"oomScoreAdj": 500}, own_score=0) == {"oomScoreAdj": 500}
    assert private_runtime.without_capability({}, own_score=0) == {}


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--root", "/r", "create", "--bundle", "/b", "name"], (Path("/b/config.json"), True)),
        (["run", "--bundle=/b", "name"], (Path("/b/config.json"), True)),
        (["exec", "--process", "/p.json", "name"], (Path("/p.json"), False)),
        (["exec", "name", "ls"], None),
        (["state", "name"], None),
        (["delete", "--force", "name"], None),
    ],
)
def test_the_description_is_found_where_runc_gets_its_path(
    arguments: list[str], found: tuple[Path, bool] | None
) -> None:
    assert private_runtime.spec_file(arguments) == found


@pytest.mark.parametrize(("capabilities", "needed"), [("000001ffffffffff", False), ("000001fffeffffff", True)])
def test_it_is_used_only_where_the_capability_is_missing(*, capabilities: str, needed: bool) -> None:
    assert private_runtime.is_needed(f"Name:\tx\nCapEff:\t{capabilities}\n") is needed


def test_as_a_program_it_adapts_the_container_and_becomes_runc(tmp_path: Path) -> None:
    runc = tmp_path / "runc"
    runc.write_text('#!/bin/sh\necho "runc $@"\n')
    runc.chmod(0o755)
    spec = tmp_path / "config.json"
    spec.write_text(json.dumps({"hostname": "x", "process": a_process()}))
    done = subprocess.run(
        [sys.executable, "-IS", SOURCE, "create", "--bundle", tmp_path, "name"],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    assert done.stdout == f"runc create --bundle {tmp_path} name\n"
    written = json.loads(spec.read_text())
    assert written["hostname"] == "x"
    assert "CAP_SYS_RESOURCE" not in written["process"]["capabilities"]["bounding"]
    assert "rlimits" not in written["process"]
