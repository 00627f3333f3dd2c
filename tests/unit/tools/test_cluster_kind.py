import json
from pathlib import Path
from typing import Protocol

import pytest

from tools.cluster import engine, images, kind
from tools.cluster.engine import Engine
from tools.machine.errors import ClusterError, UnavailableError
from tools.machine.settings import EngineChoice, Settings
from tools.nodeless import private_engine


class Answers(Protocol):
    def __call__(self, *, existing: bool, private: bool) -> None: ...


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """Says which engines there are: one that was there before, a private one."""

    def set_answers(*, existing: bool, private: bool) -> None:
        monkeypatch.setattr(engine, "existing_answers", lambda: existing)
        monkeypatch.setattr(private_engine, "is_running", lambda _: private)

    monkeypatch.setattr(private_engine, "start", lambda _: pytest.fail("a private engine was started"))
    monkeypatch.setattr(private_engine, "stop", lambda _: pytest.fail("the private engine was stopped"))
    return set_answers


def settings(folder: Path, choice: EngineChoice = EngineChoice.AUTO) -> Settings:
    return Settings(cache=folder, engine=choice)


def test_an_engine_that_answers_is_used(answers: Answers, tmp_path: Path) -> None:
    answers(existing=True, private=False)
    assert engine.ensure(settings(tmp_path)) == Engine(is_private=False)


def test_a_private_engine_that_runs_keeps_its_clusters(answers: Answers, tmp_path: Path) -> None:
    answers(existing=True, private=True)
    assert engine.ensure(settings(tmp_path)).is_private
    assert not engine.ensure(settings(tmp_path, EngineChoice.EXISTING)).is_private


def test_where_none_answers_a_private_one_is_started(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(existing=False, private=False)
    started: list[Settings] = []
    monkeypatch.setattr(private_engine, "impossible", lambda: None)
    monkeypatch.setattr(private_engine, "start", started.append)
    assert engine.ensure(settings(tmp_path)).is_private
    assert len(started) == 1


def test_an_ordinary_user_without_engine_sees_what_is_missing_and_what_still_runs(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(existing=False, private=False)
    monkeypatch.setattr("tools.nodeless.debian.can_install", lambda: False)
    with pytest.raises(UnavailableError, match=r"needs root on Debian or Ubuntu; .* run all the same"):
        engine.ensure(settings(tmp_path))
    with pytest.raises(UnavailableError, match="INTERLOCK_ENGINE=existing"):
        engine.ensure(settings(tmp_path, EngineChoice.EXISTING))


def test_a_private_engine_is_never_started_next_to_another_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(private_engine, "impossible", lambda: None)
    monkeypatch.setattr("tools.nodeless.debian.need", lambda *_: None)
    monkeypatch.setattr("tools.nodeless.footprint.engines", lambda: [4711])
    monkeypatch.setattr("tools.nodeless.footprint.processes", lambda _: [])
    monkeypatch.setattr("shutil.which", lambda _: "/usr/bin/docker")
    with pytest.raises(UnavailableError, match="another Docker engine runs here \\(process 4711\\)"):
        private_engine.start(settings(tmp_path))


@pytest.mark.parametrize("choice", list(EngineChoice))
def test_down_leaves_an_engine_that_was_not_chosen(answers: Answers, tmp_path: Path, choice: EngineChoice) -> None:
    answers(existing=False, private=choice is EngineChoice.EXISTING)
    kind.down(None, settings(tmp_path, choice))


def test_down_takes_only_clusters_with_our_prefix(
    answers: Answers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(existing=True, private=False)
    there = ["kind", "interlock", "interlocked", "interlock-test"]
    deleted: list[str] = []

    def docker(_: Engine, *arguments: str, timeout: float = 0) -> str:
        wanted = [name for name in there if f"label={kind.LABEL}={name}" in arguments]
        return "\n".join([f"{name}-control-plane running" for name in wanted] if wanted else there)

    monkeypatch.setattr(Engine, "docker", docker)
    monkeypatch.setattr(kind, "_kind", lambda _s, _e, arguments, **_: deleted.append(arguments[3]))
    claimed = kind.claim("interlock-test", settings(tmp_path))
    assert claimed is not None
    kind.down(None, settings(tmp_path))
    assert deleted == ["interlock"]
    claimed.release()
    kind.down(None, settings(tmp_path))
    assert deleted == ["interlock", "interlock", "interlock-test"]
    with pytest.raises(ClusterError, match="not one of ours"):
        kind.down(["kind"], settings(tmp_path))


def test_containers_are_seen_as_the_node_sees_them() -> None:
    labels = {"io.kubernetes.pod.name": "p-1", "io.kubernetes.pod.namespace": "agents"}
    item = {"id": "c1", "metadata": {"name": "agent"}, "labels": labels, "state": "CONTAINER_RUNNING"}
    answer = json.dumps({"containers": [item, item | {"state": "CONTAINER_EXITED"}]})
    found = kind.node_containers("node", answer)
    assert [container.is_running for container in found] == [True, False]
    assert (found[0].pod, found[0].namespace, found[0].name) == ("p-1", "agents", "agent")
    assert kind.node_containers("node", "{}") == []


def test_the_same_inputs_give_the_same_context_and_caches_are_no_inputs(tmp_path: Path) -> None:
    (tmp_path / "package/__pycache__").mkdir(parents=True)
    (tmp_path / "package/code.py").write_text("x = 1\n")
    first = images.pack(tmp_path, ["package"])
    (tmp_path / "package/__pycache__/code.pyc").write_text("y")
    (tmp_path / "package/.hidden").write_text("z")
    (tmp_path / "elsewhere.py").write_text("z")
    assert images.pack(tmp_path, ["package"]) == first
    (tmp_path / "package/code.py").write_text("x = 2\n")
    assert images.pack(tmp_path, ["package"]) != first


def test_every_image_is_built_from_files_that_are_there() -> None:
    for image in images.IMAGES:
        assert images.pack(images.REPOSITORY / image.folder, [image.dockerfile, *image.inputs])


def test_an_image_has_a_short_name_and_an_unknown_one_is_refused() -> None:
    assert [image.name for image in images.named(["guard"])] == ["registry.invalid/interlock/guard:dev"]
    assert len(images.named([])) == len(images.IMAGES)
    with pytest.raises(ClusterError, match="no such image: gard; there are: operator, guard"):
        images.named(["gard"])


def test_an_image_whose_input_is_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="not there"):
        images.pack(tmp_path, ["nothing"])
