from typing import Any

import pytest

from interlock.cluster.api_server import KubernetesTooOld, check_version
from tests.requirements import requirement


class FakeVersion:
    """A fake of the Client that knows its version and nothing else."""

    def __init__(self, major: str, minor: str) -> None:
        self._found = {"major": major, "minor": minor, "gitVersion": f"v{major}.{minor}.1"}

    async def get(self, path: str) -> dict[str, str]:
        assert path == "/version"
        return self._found


async def found(major: str, minor: str) -> str:
    client: Any = FakeVersion(major, minor)
    return await check_version(client)


@pytest.mark.parametrize(("major", "minor"), [("1", "33"), ("1", "37"), ("1", "33+"), ("1", "100"), ("2", "0")])
async def test_a_cluster_that_is_new_enough_is_taken(major: str, minor: str) -> None:
    assert await found(major, minor) == f"v{major}.{minor}.1"


@requirement("operator.old-cluster")
@pytest.mark.parametrize(("major", "minor"), [("1", "32"), ("1", "9"), ("1", "32+"), ("0", "99")])
async def test_an_older_cluster_is_refused_in_one_sentence_with_the_way_out(major: str, minor: str) -> None:
    with pytest.raises(KubernetesTooOld, match=r"needs 1\.33 or newer \(native sidecars") as refused:
        await found(major, minor)

    assert f"Kubernetes v{major}.{minor}.1" in str(refused.value)
    assert "\n" not in str(refused.value)
