"""The commands of a runbook, run in the namespace of a test, and compared with what the page says they print."""

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from tests.support.bounds import check_kubectl
from tools.cluster.kwok import KwokCluster


def steps(page: str) -> Iterator[tuple[str, str]]:
    """Yield each command of a page with what it prints there."""
    for block in re.findall(r"```console\n(.*?)```", page, re.DOTALL):
        for step in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            yield command, output


def as_printed(output: str) -> re.Pattern[str]:
    """Return what matches an output: blanks as they come, `...` for what differs from time to time."""
    lines = [".*".join(map(re.escape, line.split("..."))) for line in output.strip().splitlines()]
    return re.compile("\n".join(r"\s+".join(line.split("\\ ")) for line in lines).replace(r"\s+\s+", r"\s+"), re.DOTALL)


def check_page(page: str, cluster: KwokCluster, namespace: str, folder: Path, *, commands: int) -> None:
    """Run the commands of a page, of which there are so many, in a namespace in place of `agents`.

    Raises:
        AssertionError: A command fails, or prints something else.
    """
    program = f"{cluster.kubectl} --kubeconfig {cluster.kubeconfig} --context {cluster.context}"
    (folder / "kubectl").write_text(f'#!/bin/sh\nexec {program} "$@"\n')
    (folder / "kubectl").chmod(0o755)
    found = list(steps(page))
    assert len(found) == commands
    for command, output in found:
        done = subprocess.run(
            ["sh", "-c", command.replace("-n agents", f"-n {namespace}")],
            cwd=folder,
            env={"PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        check_kubectl(done.returncode, f"{command}: {done.stderr}")
        assert as_printed(output).match(done.stdout), f"{command} printed:\n{done.stdout}\nthe page says:\n{output}"
