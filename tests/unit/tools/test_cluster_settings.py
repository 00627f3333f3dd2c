from pathlib import Path

import pytest

from tools.cluster import contexts
from tools.machine.errors import ClusterError
from tools.machine.settings import EngineChoice, PartsChoice, architecture, from_environment


def test_the_cache_is_the_users_cache_folder_unless_it_is_moved() -> None:
    assert from_environment({"HOME": "/home/ada"}).cache == Path("/home/ada/.cache/interlock")
    assert from_environment({"HOME": "/home/ada", "XDG_CACHE_HOME": "/var/c"}).cache == Path("/var/c/interlock")
    assert from_environment({"HOME": "/home/ada", "INTERLOCK_CACHE": "/big"}).cache == Path("/big")


def test_each_choice_can_be_forced() -> None:
    settings = from_environment({"INTERLOCK_ENGINE": "private", "INTERLOCK_PARTS": "built"})
    assert (settings.engine, settings.parts) == (EngineChoice.PRIVATE, PartsChoice.BUILT)


@pytest.mark.parametrize("name", ["INTERLOCK_ENGINE", "INTERLOCK_PARTS"])
def test_a_value_that_cannot_be_is_refused_with_those_that_can(name: str) -> None:
    with pytest.raises(ClusterError, match=rf"{name} is 'yes'.*auto"):
        from_environment({name: "yes"})


def test_an_architecture_without_parts_is_refused() -> None:
    assert architecture("aarch64") == "arm64"
    with pytest.raises(ClusterError, match="riscv64"):
        architecture("riscv64")


@pytest.mark.parametrize("context", ["kind-interlock", "kind-interlock-test", "kwok-interlock-test-12"])
def test_contexts_with_our_prefix_are_ours(context: str) -> None:
    assert contexts.check_context(context) == context


@pytest.mark.parametrize(
    "context",
    ["", "kind-kind", "production", "kind-interlocked", "interlock", "gke-interlock", "kind-interlock/../x", "kwok-"],
)
def test_any_other_context_is_refused(context: str) -> None:
    with pytest.raises(contexts.ForeignContextError, match="not one of Interlock's own"):
        contexts.check_context(context)


@pytest.mark.parametrize("name", ["kind", "Interlock", "interlock_1", "my-interlock", "interlock-", "../interlock"])
def test_clusters_without_our_prefix_are_refused(name: str) -> None:
    with pytest.raises(contexts.ForeignContextError, match="not one of ours"):
        contexts.check_name(name)


@pytest.mark.parametrize("text", ["", "clusters: []\n", "current-context: staging\n"])
def test_a_kubeconfig_that_leads_elsewhere_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text(text)
    with pytest.raises(contexts.ForeignContextError):
        contexts.check_kubeconfig(file)


def test_a_kubeconfig_of_ours_is_taken(tmp_path: Path) -> None:
    file = tmp_path / "kubeconfig"
    file.write_text('apiVersion: v1\ncurrent-context: "kind-interlock"\n')
    assert contexts.check_kubeconfig(file) == "kind-interlock"


def test_a_kubeconfig_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(contexts.ForeignContextError, match="cannot be read"):
        contexts.check_kubeconfig(tmp_path / "none")
