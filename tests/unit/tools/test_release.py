"""The parts of a release that need no registry. tests/integration/tools has the others."""

from pathlib import Path

import pytest
import yaml

from tools.cluster.images import NAMES
from tools.machine import versions
from tools.machine.errors import ClusterError
from tools.machine.settings import from_environment
from tools.release.__main__ import choose_base, main
from tools.release.kustomization import render, render_values
from tools.release.publishing import Published, Publisher, is_on_this_machine

PINNED = f"python:3.13@sha256:{'a' * 64}"


def a_publisher(registry: str, crane: str = "false") -> Publisher:
    return Publisher({"crane": Path(crane)}, registry, "1.0", None, Path("dist"))


@pytest.mark.parametrize("registry", ["localhost", "localhost:5000/a", "127.0.0.1:5000", "[::1]:5000/a/b", "127.9.9.9"])
def test_a_registry_on_the_loopback_interface_is_on_this_machine(registry: str) -> None:
    assert is_on_this_machine(registry)


@pytest.mark.parametrize(
    "registry",
    ["localhost.example.com", "registry.example.com:5000/localhost", "10.0.0.1:5000", "example.com/127.0.0.1"],
)
def test_any_other_registry_is_not(registry: str) -> None:
    assert not is_on_this_machine(registry)


def test_a_base_image_with_a_digest_is_used_as_it_is() -> None:
    assert choose_base(PINNED, a_publisher("registry.example.com")) == PINNED


def test_the_usual_base_image_is_used_by_the_digest_of_its_registry(tmp_path: Path) -> None:
    crane = tmp_path / "crane"
    crane.write_text("#!/bin/sh\n[ \"$*\" = 'digest python:3.13-slim-trixie' ] && echo sha256:0123\n")
    crane.chmod(0o755)
    assert choose_base(versions.PYTHON_IMAGE, a_publisher("registry.example.com", str(crane))) == (
        "python:3.13-slim-trixie@sha256:0123"
    )


def test_a_base_image_of_this_machine_is_released_to_this_machine_alone() -> None:
    """It may hold certificates of this machine, and has no digest that others can look up."""
    with pytest.raises(ClusterError, match="interlock/base:1 has no digest in a registry: set INTERLOCK_BASE_IMAGE"):
        choose_base("interlock/base:1", a_publisher("registry.example.com/platform"))
    assert choose_base("interlock/base:1", a_publisher("localhost:5000")) == "interlock/base:1"


@pytest.mark.parametrize(
    ("after", "error"),
    [("echo sha256:b", "is not the image that was pushed, sha256:a"), ("echo DENIED >&2; exit 1", "DENIED")],
)
def test_a_registry_that_has_another_image_after_the_push_ends_the_release(
    tmp_path: Path, after: str, error: str
) -> None:
    crane = tmp_path / "crane"
    crane.write_text(f"""#!/bin/sh
cd {tmp_path}
case "$1 $2" in
  "digest --tarball") echo sha256:a ;;
  "digest "*) if [ -e pushed ]; then {after}; else echo MANIFEST_UNKNOWN >&2; exit 1; fi ;;
  "push "*) touch pushed ;;
esac
""")
    crane.chmod(0o755)
    with pytest.raises(ClusterError, match=error):
        a_publisher("registry.example.com", str(crane)).publish(f"{NAMES}/guard", tmp_path / "image.tar")
    assert (tmp_path / "pushed").exists()


def test_a_setting_names_the_base_image() -> None:
    assert from_environment({"INTERLOCK_BASE_IMAGE": PINNED}).base_image == PINNED
    assert from_environment({}).base_image is None


def test_the_kustomization_names_each_image_by_its_digest() -> None:
    images = [Published(f"{NAMES}/{name}", f"r.example.com/{name}", f"sha256:{name}") for name in ("operator", "guard")]
    text = render(images, tag="1.0", base=PINNED)
    component = yaml.safe_load(text)
    assert component["images"] == [
        {"name": f"{NAMES}/{name}", "newName": f"r.example.com/{name}", "digest": f"sha256:{name}"}
        for name in ("guard", "operator")
    ]
    patch = yaml.safe_load(component["patches"][0]["patch"])
    (operator,) = patch["spec"]["template"]["spec"]["containers"]
    assert operator["env"] == [{"name": "INTERLOCK_GUARD_IMAGE", "value": "r.example.com/guard@sha256:guard"}]
    assert text.startswith(f"# The images of Interlock 1.0 by digest, built from {PINNED}.")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([""], "'' is not a registry: write HOST"),
        (["https://registry.example.com", "--unsigned"], "is not a registry: write HOST"),
        (["registry.example.com/a: b", "--unsigned"], "is not a registry: write HOST"),
        (["registry.example.com/", "--unsigned"], "is not a registry: write HOST"),
        (["registry.example.com", "--key", ""], "no key: name cosign's private key"),
        (["registry.example.com"], "one of the arguments --key --unsigned is required"),
        (["registry.example.com", "--key", "k", "--unsigned"], "not allowed with"),
    ],
)
def test_a_release_names_its_registry_and_says_whether_it_is_signed(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


def test_the_values_of_a_release_name_each_image_by_digest() -> None:
    registry = "registry.example.com/platform"
    names = ("operator", "guard", "audit")
    published = [Published(f"{NAMES}/{name}", f"{registry}/interlock/{name}", f"sha256:{name}") for name in names]
    values = yaml.safe_load(render_values(published, registry=registry, tag="1.0", base=PINNED))
    images = {name: {"repository": f"interlock/{name}", "digest": f"sha256:{name}"} for name in names}
    assert values == {"images": {"registry": registry, **images}}
