"""Debian and Ubuntu: installing packages without starting services, and file trees by debootstrap."""

import hashlib
import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tools.machine.errors import UnavailableError
from tools.machine.process import CommandFailedError, run, say
from tools.machine.settings import Settings
from tools.machine.steps import Step

POLICY = Path("/usr/sbin/policy-rc.d")
CA_BUNDLE = Path("etc/ssl/certs/ca-certificates.crt")
_CERTIFICATE = re.compile(r"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)


def can_install() -> bool:
    """Return True if packages can be installed here: root, on Debian or a system made from it."""
    return os.geteuid() == 0 and shutil.which("apt-get") is not None and _is_debian()


def _is_debian() -> bool:
    try:
        text = Path("/etc/os-release").read_text(encoding="utf-8")
    except OSError:
        return False
    words = re.findall(r"^ID(?:_LIKE)?=(.*)$", text, re.MULTILINE)
    return "debian" in re.findall(r"[a-z]+", " ".join(words).lower())


def need(programs: Mapping[str, str], log: Path) -> None:
    """Install the package of each program that is not there.

    Args:
        programs: program name (or an absolute path to look for) to package name.
        log: apt's output.

    Raises:
        UnavailableError: some are missing and this is not root on Debian or Ubuntu.
        CommandFailedError: apt-get's own words.
    """
    packages = missing(programs)
    if not packages:
        return
    if not can_install():
        raise UnavailableError(f"missing here: {', '.join(packages)} (installed by itself as root on Debian or Ubuntu)")
    install(packages, log)


def missing(programs: Mapping[str, str]) -> list[str]:
    """Return the packages of those programs that are not there, in alphabetical order."""
    return sorted({package for program, package in programs.items() if not _present(program)})


def _present(program: str) -> bool:
    return Path(program).exists() if program.startswith("/") else shutil.which(program) is not None


def install(packages: Sequence[str], log: Path) -> None:
    """Install packages, after a message; the services among them are not started.

    Raises:
        CommandFailedError: apt-get's own words.
    """
    names = " ".join(packages)
    say(f"packages: installing {names} with apt-get; `apt-get purge {names}` removes them again")
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-y", "--no-install-recommends", *packages]
    with _no_service_starts():
        try:
            run(command, log=log, env=env)
        except CommandFailedError:  # no package lists yet, or old ones
            run(["apt-get", "update"], log=log, env=env)
            run(command, log=log, env=env)


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Keep the packages' scripts from starting services, in Debian's own way."""
    if POLICY.exists():
        yield
        return
    POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        POLICY.unlink(missing_ok=True)


def root_path(settings: Settings, suite: str, packages: Sequence[str]) -> Path:
    """Return the path of the file tree of this suite with these packages."""
    key = hashlib.sha256(" ".join(sorted(packages)).encode()).hexdigest()[:10]
    return settings.roots / f"{suite}-{key}"


DEBOOTSTRAP = {
    "debootstrap": "debootstrap",
    "/usr/share/keyrings/debian-archive-keyring.gpg": "debian-archive-keyring",
}
"""What makes file trees."""


def make_root(settings: Settings, suite: str, packages: Sequence[str], log: Path) -> None:
    """Create that file tree with debootstrap, which checks every package against the archive's signature.

    Raises:
        UnavailableError: not root on Debian or Ubuntu.
        CommandFailedError: debootstrap's own words.
    """
    need(DEBOOTSTRAP, log)
    target = root_path(settings, suite, packages)
    part = target.with_name(target.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    part.chmod(0o755)
    options = ["--variant=minbase", f"--include={','.join(packages)}"]
    mirror = [settings.debian_mirror] if settings.debian_mirror else []
    run(["debootstrap", *options, suite, part, *mirror], log=log)
    for leftover in [*part.glob("var/cache/apt/archives/*.deb"), *part.glob("var/lib/apt/lists/*")]:
        if leftover.is_dir():
            shutil.rmtree(leftover)
        else:
            leftover.unlink()
    part.rename(target)


def root_step(settings: Settings, suite: str, packages: Sequence[str]) -> Step:
    """Return the step that makes this file tree."""
    return Step(
        f"Debian {suite} root",
        root_path(settings, suite, packages).exists,
        lambda log: make_root(settings, suite, packages, log),
        "Debian's archive must answer; INTERLOCK_DEBIAN_MIRROR names another mirror.",
        "debootstrap, some 30 s",
    )


def own_certificates() -> list[str]:
    """Return the CA certificates that this machine trusts and its ca-certificates package did not bring, in PEM.

    A machine behind a company's proxy has some; without them nothing can be fetched from inside a container either.
    """
    bundle = Path("/") / CA_BUNDLE
    trusted = _certificates(bundle)
    if not trusted:
        return []
    packaged: set[str] = set()
    for file in Path("/usr/share/ca-certificates").rglob("*.crt"):
        packaged.update(_certificates(file))
    return [certificate for certificate in trusted if certificate not in packaged]


def _certificates(file: Path) -> list[str]:
    try:
        return _CERTIFICATE.findall(file.read_text(encoding="utf-8", errors="replace"))
    except OSError:
        return []
