"""`python -m tools.demo up|down`: play the demo, or take away what it left."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tools.cluster.contexts import check_kubeconfig
from tools.demo.runner import RealShell, Stage, WrongAnswerError, play
from tools.demo.story import CLUSTER, ENVIRONMENT_COMMAND, NEXT, PREPARATION, STORY
from tools.machine.errors import ClusterError
from tools.machine.locks import held
from tools.machine.settings import from_environment

ROOT = Path(__file__).parents[2]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; 1 where something is not as it should be."""
    parser = argparse.ArgumentParser(prog="python -m tools.demo", description=__doc__)
    parser.add_argument("command", choices=("up", "down"))
    chosen = parser.parse_args(arguments)
    os.chdir(ROOT)
    try:
        return up() if chosen.command == "up" else down()
    except WrongAnswerError:
        return 1
    except ClusterError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stopped. Run the same command to start the demo again, or make demo-down to delete it.", file=sys.stderr)
        return 130


def up() -> int:
    """Play the demo; a second one waits for the first to end, since both play on the same cluster."""
    with held(from_environment().run / "demo.lock", "the demo"):
        play(Stage(RealShell(os.environ), say), [PREPARATION])
        say(f"\n$ {ENVIRONMENT_COMMAND}")
        shell = RealShell(cluster_environment())
        begin = time.monotonic()
        play(Stage(shell, say), STORY)
        say(f"\nAll of it was as it should be; {time.monotonic() - begin:.0f} s once the cluster was up.\n\n{NEXT}")
    return 0


def down() -> int:
    """Take the cluster away, and with it all that the demo left."""
    return subprocess.run(["sh", "-c", f"{CLUSTER} down"], check=False).returncode


def cluster_environment() -> dict[str, str]:
    """Return the environment in which kubectl is the cluster's and speaks to it.

    Raises:
        ClusterError: it would lead to a cluster that is not one of ours.
    """
    command = f'{ENVIRONMENT_COMMAND} && printf "%s\\n" "$KUBECONFIG" "$PATH"'
    done = subprocess.run(["sh", "-c", command], stdout=subprocess.PIPE, text=True, check=False)
    lines = done.stdout.splitlines()
    if done.returncode or len(lines) != 2:  # noqa: PLR2004 - the two variables printed
        raise ClusterError(f"`{ENVIRONMENT_COMMAND}` failed: look at `{CLUSTER} env`")
    kubeconfig, path = lines
    check_kubeconfig(Path(kubeconfig))
    return os.environ | {"KUBECONFIG": kubeconfig, "PATH": path}


def say(text: str) -> None:
    """Print at once, so that it stands before what the next command prints itself."""
    print(text, flush=True)


if __name__ == "__main__":
    sys.exit(main())
