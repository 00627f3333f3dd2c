"""What our own images start from: the usual Python image, or a Debian root of our own where no registry answers."""

import hashlib
import shutil

from tools.cluster import node_image
from tools.cluster.engine import Engine
from tools.machine import versions
from tools.machine.errors import UnavailableError
from tools.machine.locks import held
from tools.machine.process import run, say
from tools.machine.settings import PartsChoice, Settings
from tools.machine.steps import Step, run_steps
from tools.nodeless import debian

BUNDLE = f"/{debian.CA_BUNDLE}"


def ensure(engine: Engine, settings: Settings) -> str:
    """Return the name of the base image, which is in the engine or can be pulled by it.

    Raises:
        UnavailableError: neither is possible here.
        StepFailedError: the build failed.
    """
    if settings.base_image is not None:
        return settings.base_image
    if settings.parts is PartsChoice.RELEASED:
        return versions.PYTHON_IMAGE
    if settings.parts is PartsChoice.AUTO and engine.has_image(versions.PYTHON_IMAGE):
        return versions.PYTHON_IMAGE
    certificates = debian.own_certificates()
    name = built_name(certificates)
    if engine.has_image(name):
        return name
    if settings.parts is PartsChoice.AUTO and node_image.registry_answers(engine):
        return versions.PYTHON_IMAGE
    if not debian.can_install():
        raise UnavailableError("no image registry answers, and building a base image needs root on Debian or Ubuntu")
    with held(settings.cache / "base-image.lock", "the base image"):
        _build(engine, settings, name, certificates)
    return name


def built_name(certificates: list[str]) -> str:
    """Return the name of the image that a build here would give; other content has another name."""
    digest = hashlib.sha256(repr((versions.BASE_SUITE, versions.BASE_PACKAGES, certificates)).encode()).hexdigest()[:10]
    return f"interlock/base:{versions.BASE_SUITE}-{digest}"


def _build(engine: Engine, settings: Settings, name: str, certificates: list[str]) -> None:
    base = debian.root_path(settings, versions.BASE_SUITE, versions.BASE_PACKAGES)
    root = settings.roots / "base.part"
    if certificates:
        say(
            f"base image: {len(certificates)} CA certificates of this machine go in; never publish what is made from it"
        )

    def work(log: object) -> None:
        del log
        shutil.rmtree(root, ignore_errors=True)
        run(["cp", "-a", base, root])
        changes = []
        if certificates:
            with (root / debian.CA_BUNDLE).open("a", encoding="utf-8") as bundle:
                bundle.writelines(f"{certificate}\n" for certificate in certificates)
            # pip and Node.js bring bundles of their own and must be told.
            changes = [f"ENV PIP_CERT={BUNDLE}", f"ENV NODE_EXTRA_CA_CERTS={BUNDLE}"]
        try:
            engine.import_root(root, name, changes)
        finally:
            shutil.rmtree(root, ignore_errors=True)

    steps = [
        debian.root_step(settings, versions.BASE_SUITE, versions.BASE_PACKAGES),
        Step(name, lambda: engine.has_image(name), work, note="importing"),
    ]
    run_steps("base image", steps, settings.logs)
