import logging
from itertools import pairwise
from typing import Any

import pytest

from interlock.cluster.kubernetes_version import MINIMUM, KubernetesTooOld, check_version, missing_before
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
    return (await check_version(client)).name


@pytest.mark.parametrize(("major", "minor"), [("1", "33"), ("1", "37"), ("1", "33+"), ("1", "100"), ("2", "0")])
async def test_a_cluster_that_is_new_enough_is_taken(major: str, minor: str) -> None:
    assert await found(major, minor) == f"v{major}.{minor}.1"


@requirement("operator.old-cluster")
@pytest.mark.parametrize(("major", "minor"), [("1", "32"), ("1", "9"), ("1", "32+"), ("0", "99")])
async def test_an_older_cluster_is_refused_on_one_line_with_what_it_lacks_and_the_way_out(
    major: str, minor: str
) -> None:
    with pytest.raises(KubernetesTooOld, match=r"needs 1\.33 or newer: upgrade the cluster first") as refused:
        await found(major, minor)

    assert f"Kubernetes v{major}.{minor}.1" in str(refused.value)
    assert "native sidecars" in str(refused.value)
    assert "\n" not in str(refused.value)


@requirement("operator.old-cluster")
@pytest.mark.parametrize("minor", ["33", "35", "36", "37"])
async def test_a_cluster_that_lacks_less_is_taken_and_the_log_names_what_is_missing(
    minor: str, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        await found("1", minor)

    missing = [str(vars(one)["missing"]) for one in caplog.records]
    assert [one.partition(":")[0] for one in missing] == ["MutatingAdmissionPolicies"] * (int(minor) < 36)


def test_an_older_version_lacks_what_a_newer_one_lacks_and_more() -> None:
    found = [missing_before((1, minor)) for minor in range(29, 38)]
    assert all(set(newer) <= set(older) for older, newer in pairwise(found))
    assert found[-1] == ()
    assert len(missing_before(MINIMUM)) == 1
