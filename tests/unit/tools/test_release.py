"""The parts of a release that need no registry. tests/integration/tools has the others."""

import gzip
import io
import json
import tarfile
from pathlib import Path

import pytest
import yaml

from interlock_contract.version import VERSION
from tests.requirements import requirement
from tools.charts.__main__ import CHARTS, read_charts
from tools.cluster import images
from tools.cluster.engine import Engine
from tools.cluster.images import NAMES
from tools.machine import versions
from tools.machine.errors import ClusterError, UnavailableError
from tools.machine.settings import from_environment
from tools.release import layers
from tools.release.__main__ import choose_base, main, size_of
from tools.release.charts import with_defaults, write_charts
from tools.release.check import find_faults
from tools.release.kustomization import render, render_values
from tools.release.multi_platform import MultiPlatformBuilder
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
        (["registry.example.com/a//b", "--unsigned"], "is not a registry: write HOST"),
        (["registry.example.com", "--unsigned", "--tag", "a tag"], "'a tag' is not a tag of an image"),
        (["registry.example.com", "--unsigned", "--tag", "1.0+2"], "'1.0+2' is not a tag of an image"),
        (["registry.example.com", "--unsigned", "--tag", 129 * "1"], "is not a tag of an image"),
        (["registry.example.com", "--key", ""], "no key: name cosign's private key"),
        (["registry.example.com"], "one of the arguments --key --unsigned is required"),
        (["registry.example.com", "--key", "k", "--unsigned"], "not allowed with"),
        (["registry.example.com", "--unsigned", "--platforms", "linux/arm"], "'linux/arm' are not platforms of ours"),
    ],
)
def test_a_release_names_its_registry_and_says_whether_it_is_signed(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(arguments)
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("registry", ["registry.example.com/platform", "[::1]:5000", "localhost:5000", "10"])
def test_the_values_of_a_release_name_each_image_by_digest(registry: str) -> None:
    names = ("operator", "guard", "audit")
    published = [Published(f"{NAMES}/{name}", f"{registry}/interlock/{name}", f"sha256:{name}") for name in names]
    values = yaml.safe_load(render_values(published, registry=registry, tag="1.0", base=PINNED))
    images = {name: {"repository": f"interlock/{name}", "digest": f"sha256:{name}"} for name in names}
    assert values == {"images": {"registry": registry, **images}}


def write_archive(path: Path, contents: list[bytes]) -> Path:
    """Write an image with these layers as `docker save` does."""
    files = {f"layer{number}.tar": data for number, data in enumerate(contents)}
    manifest = [{"Config": "config.json", "RepoTags": ["ours:1"], "Layers": list(files)}]
    with tarfile.open(path, "w") as tar:
        for name, data in {**files, "manifest.json": json.dumps(manifest).encode()}.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


@requirement("supply.layers")
def test_the_layers_of_the_last_stage_are_measured_as_they_are_pushed(tmp_path: Path) -> None:
    packed = gzip.compress(b"packed" * 100)
    archive = write_archive(tmp_path / "image.tar", [b"base" * 1_000_000, bytes(1 << 20), packed])
    assert layers.measure(archive, 1) == len(packed)
    assert len(packed) < layers.measure(archive, 2) < 10_000, "zeros take little room"
    with pytest.raises(ClusterError, match="has 3 layers, of which 3 should be ours"):
        layers.measure(archive, 3)


@requirement("supply.layers")
def test_an_image_that_adds_more_than_the_bound_is_refused() -> None:
    layers.check_size("ours", layers.MAX_BYTES)
    with pytest.raises(
        ClusterError, match=r"ours adds 20\.0 MiB to its base image, compressed, and 20 MiB is the most"
    ):
        layers.check_size("ours", layers.MAX_BYTES + 1)


@requirement("supply.layers")
@pytest.mark.parametrize(("name", "own"), [("operator", 3), ("guard", 3), ("audit", 2)])
def test_what_the_last_stage_copies_is_ours(name: str, own: int, tmp_path: Path) -> None:
    [image] = images.named([name])
    archive = write_archive(tmp_path / "image.tar", [b"base", *(gzip.compress(b"ours") for _ in range(own))])
    assert size_of(image, archive) == own * len(gzip.compress(b"ours"))


BUILDX = """#!/bin/sh
echo "$*" >> {folder}/calls
cat > {folder}/context.tar
while [ "$1" != --metadata-file ]; do shift; done
echo '{{"containerimage.digest": "{digest}"}}' > "$2"
"""
PLATFORMS = ("linux/amd64", "linux/arm64")


def a_builder(folder: Path, monkeypatch: pytest.MonkeyPatch, *, tagged: str, digest: str) -> MultiPlatformBuilder:
    """Return a builder whose docker and crane are scripts."""
    for name, text in {
        "docker": BUILDX.format(folder=folder, digest=digest),
        "crane": f"#!/bin/sh\n{tagged}\n",
    }.items():
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    publisher = a_publisher("registry.example.com/platform", str(folder / "crane"))
    return MultiPlatformBuilder(Engine(is_private=False), publisher, PINNED, PLATFORMS)


ABSENT = "echo MANIFEST_UNKNOWN >&2; exit 1"


def test_an_image_for_several_platforms_is_pushed_with_sbom_and_provenance(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = a_builder(tmp_path, monkeypatch, tagged=ABSENT, digest=f"sha256:{'b' * 64}")
    [image] = images.named(["guard"])
    found = builder.publish(image)
    assert found == Published(f"{NAMES}/guard", "registry.example.com/platform/interlock/guard", f"sha256:{'b' * 64}")
    [call] = (tmp_path / "calls").read_text().splitlines()
    assert call.startswith("buildx build --platform linux/amd64,linux/arm64 --tag registry.example.com/platform/")
    assert f"--build-arg BASE={PINNED} --label org.opencontainers.image.version={VERSION} " in call
    assert "--provenance mode=max --sbom true " in call
    assert call.endswith("--push -")
    with tarfile.open(tmp_path / "context.tar") as context:
        assert {"images/guard/Dockerfile", "operator/interlock_contract/version.py"} <= set(context.getnames())


def test_a_tag_that_is_there_is_not_moved_by_a_build_for_several_platforms(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    builder = a_builder(tmp_path, monkeypatch, tagged="echo sha256:0", digest="")
    with pytest.raises(ClusterError, match=r"guard:1\.0 is there \(sha256:0\), and no tag is moved"):
        builder.publish(images.named(["guard"])[0])
    assert not (tmp_path / "calls").exists()


def test_a_build_that_names_no_digest_ends_the_release(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    builder = a_builder(tmp_path, monkeypatch, tagged=ABSENT, digest="")
    with pytest.raises(ClusterError, match="docker buildx names no digest"):
        builder.publish(images.named(["guard"])[0])


def test_the_private_engine_builds_for_its_own_architecture_alone() -> None:
    builder = MultiPlatformBuilder(Engine(is_private=True), a_publisher("r.example.com"), PINNED, PLATFORMS)
    with pytest.raises(UnavailableError, match="Leave PLATFORMS out"):
        builder.publish(images.named(["guard"])[0])


def test_the_charts_of_a_release_name_its_images_by_default(tmp_path: Path) -> None:
    registry = "registry.example.com/platform"
    names = ("operator", "guard", "audit")
    published = [Published(f"{NAMES}/{name}", f"{registry}/interlock/{name}", f"sha256:{'a' * 64}") for name in names]
    values = render_values(published, registry=registry, tag="1.0", base=PINNED)
    (tmp_path / "charts" / "stray").mkdir(parents=True)
    write_charts(tmp_path / "charts", values)
    assert sorted(path.name for path in (tmp_path / "charts").iterdir()) == ["interlock", "interlock-crds"]
    written = yaml.safe_load((tmp_path / "charts/interlock/values.yaml").read_text())
    ours = yaml.safe_load((CHARTS / "interlock/values.yaml").read_text())
    assert written["images"] == ours["images"] | yaml.safe_load(values)["images"]
    assert {**written, "images": None} == {**ours, "images": None}


def test_a_default_that_the_chart_does_not_have_is_refused() -> None:
    with pytest.raises(KeyError, match="the chart has no values gaurd in images"):
        with_defaults(read_charts()["interlock"], {"images": {"gaurd": {}}})


READY = "# Changelog\n\n## 1.2.0 (2026-12-01)\n\n## 1.1.0 (2026-11-01)\n"


@requirement("supply.version")
@pytest.mark.parametrize(
    ("tag", "changelog", "version", "fault"),
    [
        ("", READY, "1.2", "is not one of semantic versioning"),
        ("", READY, "1.3.0", "CHANGELOG.md begins with 1.2.0, and the version is 1.3.0"),
        ("", "# Changelog\n", "1.2.0", "CHANGELOG.md begins with no version"),
        ("1.2.0", READY, "1.2.0", "the tag 1.2.0 is not v1.2.0"),
        ("v1.2.1", READY, "1.2.0", "the tag v1.2.1 is not v1.2.0"),
        ("v1.2.0", READY.replace("2026-12-01", "unreleased"), "1.2.0", "calls 1.2.0 unreleased"),
    ],
)
def test_a_release_whose_texts_do_not_fit_its_version_is_refused(
    tag: str, changelog: str, version: str, fault: str
) -> None:
    assert any(fault in found for found in find_faults(tag, changelog, version))


@requirement("supply.version")
def test_a_release_whose_texts_fit_is_not_refused() -> None:
    assert list(find_faults("v1.2.0", READY, "1.2.0")) == list(find_faults("", READY, "1.2.0")) == []
