from typing import Any

import pytest

from interlock.deployment.observed.readiness import Readiness, readiness_of


def a_deployment(replicas: int = 2, generation: int = 3, **status: Any) -> dict[str, Any]:
    counts = {"replicas": replicas, "updatedReplicas": replicas, "availableReplicas": replicas}
    return {
        "metadata": {"generation": generation},
        "spec": {"replicas": replicas},
        "status": {"observedGeneration": generation, **counts, **status},
    }


def test_a_deployment_with_all_its_pods_available_is_ready() -> None:
    assert readiness_of(a_deployment()) == Readiness(available=2, wanted=2, is_current=True)
    assert readiness_of(a_deployment()).is_ready


@pytest.mark.parametrize(
    "deployment",
    [
        None,
        a_deployment(availableReplicas=1),
        a_deployment(availableReplicas=0),
        a_deployment(observedGeneration=2),
        a_deployment(replicas=0),
        {"metadata": {"generation": 1}, "spec": {"replicas": 1}},
        {"metadata": {"generation": 1}, "spec": {"replicas": 1}, "status": {}},
    ],
    ids=["not there", "one of two", "none", "an older spec", "none wanted", "no status", "an empty status"],
)
def test_anything_less_is_not_ready(deployment: dict[str, Any] | None) -> None:
    assert not readiness_of(deployment).is_ready


@pytest.mark.parametrize(
    "rolling",
    [
        {"replicas": 3, "updatedReplicas": 1, "availableReplicas": 2},  # the new one starts, the old two serve
        {"replicas": 3, "updatedReplicas": 2, "availableReplicas": 2},  # which of the three is not available?
        {"replicas": 2, "updatedReplicas": 1, "availableReplicas": 2},
        {"replicas": 3, "updatedReplicas": 2, "availableReplicas": 3},  # old ones still serve next to them
    ],
)
def test_pods_of_an_older_template_do_not_count(rolling: dict[str, int]) -> None:
    found = readiness_of(a_deployment(**{**rolling, "replicas": 2}) | {"status": {"observedGeneration": 3, **rolling}})

    assert found.available <= rolling["updatedReplicas"]
    assert found.is_ready == (rolling["availableReplicas"] - (rolling["replicas"] - rolling["updatedReplicas"]) >= 2)


@pytest.mark.parametrize("order", [1, -1])
def test_what_the_controller_could_not_do_is_reported_in_its_words(order: int) -> None:
    conditions = [
        {"type": "Progressing", "status": "False", "message": "timed out"},
        {"type": "ReplicaFailure", "status": "True", "message": "exceeded quota"},
    ]
    found = readiness_of(a_deployment(availableReplicas=0, conditions=conditions[::order]))
    assert (found.refused, found.stuck) == ('"exceeded quota"', '"timed out"')


@pytest.mark.parametrize(
    ("kind", "status"), [("ReplicaFailure", "False"), ("Progressing", "True"), ("Available", "False")]
)
def test_what_goes_well_is_no_trouble(kind: str, status: str) -> None:
    condition = {"type": kind, "status": status, "message": "all is well"}

    found = readiness_of(a_deployment(conditions=[condition]))
    assert (found.refused, found.stuck) == ("", "")
