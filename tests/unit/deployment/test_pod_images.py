"""What is read of the images that an agent's pods run."""

from typing import Any

import pytest

from interlock.deployment.observed.pod_images import PodImage, is_image_unknown, read_images
from interlock.deployment.observed.pod_reports import read_pod

DIGEST = f"sha256:{'ab' * 32}"
OTHER = f"sha256:{'cd' * 32}"
IMAGE = "registry.example.com/agent:1"


def pod(name: str = "agent", image: str = IMAGE, image_id: Any = f"x/agent@{DIGEST}") -> Any:
    kind = "containers" if name == "agent" else "initContainers"
    status = "containerStatuses" if name == "agent" else "initContainerStatuses"
    return {"spec": {kind: [{"name": name, "image": image}]}, "status": {status: [{"name": name, "imageID": image_id}]}}


@pytest.mark.parametrize(
    ("image_id", "digest"),
    [
        (f"registry.example.com/agent@{DIGEST}", DIGEST),
        (f"docker-pullable://registry.example.com:5000/team/agent@{DIGEST}", DIGEST),
        (f"mirror.example.com/agent@{DIGEST}", DIGEST),
        (DIGEST, DIGEST),  # loaded into the node: the digest of its configuration
        ("docker.io/library/import-2026-11-30@" + OTHER, OTHER),
        ("@odd", "@odd"),
        ("x" * 500, "x" * 128),
    ],
)
def test_the_digest_in_the_repository_is_read_and_anything_else_as_it_is(image_id: str, digest: str) -> None:
    assert read_images(pod(image_id=image_id)) == (PodImage("agent", IMAGE, digest),)


@pytest.mark.parametrize("name", ["agent", "mcp-crm"])
def test_images_of_the_agent_and_of_stdio_servers_are_read(name: str) -> None:
    assert read_images(pod(name)) == (PodImage(name, IMAGE, DIGEST),)


@pytest.mark.parametrize("name", ["guard", "launcher", "egress-check"])
def test_images_of_interlock_are_not_read(name: str) -> None:
    assert read_images(pod(name)) == ()


def test_long_names_stay_different() -> None:
    one, other = (read_images(pod(image=f"registry.example.com/{'a' * 400}:{tag}"))[0].name for tag in "12")
    assert one != other
    assert len(one) == len(other) == 160


def test_an_image_that_is_named_by_its_digest_is_not_read() -> None:
    assert read_images(pod(image=f"registry.example.com/agent:1@{DIGEST}")) == ()


@pytest.mark.parametrize("image_id", ["", None])
def test_an_image_that_was_not_pulled_yet_is_not_known(image_id: Any) -> None:
    found = pod(image_id=image_id)
    assert read_images(found) == ()
    assert is_image_unknown(found)
    assert is_image_unknown(found | {"status": {}})


@pytest.mark.parametrize(
    "found", [pod(), pod("guard", image_id=""), pod(image=f"registry.example.com/agent@{DIGEST}", image_id="")]
)
def test_an_image_that_was_read_or_that_no_tag_names_is_not_unknown(found: Any) -> None:
    assert not is_image_unknown(found)


def test_one_unknown_image_of_a_pod_makes_it_unknown() -> None:
    found, server = pod(), pod("mcp-crm", image_id="")
    assert is_image_unknown({part: found[part] | server[part] for part in ("spec", "status")})


def test_a_pod_without_a_status_has_no_images() -> None:
    assert read_images({"metadata": {}, "spec": {"containers": [{"name": "agent", "image": "a:1"}]}}) == ()


@pytest.mark.parametrize(("phase", "count"), [("Running", 1), ("Failed", 0), ("Succeeded", 0)])
def test_a_pod_that_has_ended_runs_no_image(phase: str, count: int) -> None:
    """Those that were evicted stay for long. A bundle has no room for all of them next to those that run."""
    found = pod()
    found |= {"metadata": {"name": "p"}, "status": found["status"] | {"phase": phase}}
    assert len(read_pod(found).images) == count
    found["status"]["containerStatuses"] = []
    assert read_pod(found).is_image_unknown == (count > 0)
