import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.support.offspring import end_with_parent
from tools.machine.errors import StepFailedError, UnavailableError
from tools.machine.locks import held, try_lock
from tools.machine.process import CommandFailedError, pipe, run, succeeds
from tools.machine.steps import Step, run_steps

HOLD = "import sys; from pathlib import Path; from tools.machine.locks import try_lock; "
HOLD += "lock = try_lock(Path(sys.argv[1])); print('held', flush=True); sys.stdin.read()"


def a_step(folder: Path, name: str, *, fails: bool = False) -> Step:
    def work(log: Path) -> None:
        run(["sh", "-c", "echo working; exit 3" if fails else f"touch {folder / name}"], log=log)

    return Step(name, (folder / name).exists, work, hint="Do this.")


def test_what_is_done_is_not_done_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one").touch()
    run_steps("parts", [a_step(tmp_path, "one"), a_step(tmp_path, "two")], tmp_path / "logs")
    said = capsys.readouterr().err
    assert "parts [1/2] one: from the cache" in said
    assert "parts [2/2] two: done" in said
    run_steps("parts", [a_step(tmp_path, "one", fails=True), a_step(tmp_path, "two", fails=True)], tmp_path / "logs")
    assert "parts: all 2 from the cache" in capsys.readouterr().err


def test_a_failed_step_says_what_to_do_and_keeps_what_was_done(tmp_path: Path) -> None:
    steps = [a_step(tmp_path, "one"), a_step(tmp_path, "two", fails=True), a_step(tmp_path, "three")]
    with pytest.raises(StepFailedError, match=r"two failed: working\nDo this\.\nAll of its output: .*two\.log"):
        run_steps("parts", steps, tmp_path / "logs")
    assert (tmp_path / "one").exists()
    assert not (tmp_path / "three").exists()


def test_steps_in_two_lanes_run_at_the_same_time(tmp_path: Path) -> None:
    both = threading.Barrier(2, timeout=20)

    def meet(_: Path) -> None:
        both.wait()

    run_steps("parts", [Step(name, lambda: False, meet) for name in ("one", "two")], tmp_path, lanes=2)


def test_a_failure_in_one_lane_lets_the_other_end_and_begins_nothing(tmp_path: Path) -> None:
    begun, failed = threading.Event(), threading.Event()

    def fail(_: Path) -> None:
        assert begun.wait(20)
        failed.set()
        raise UnavailableError("this needs root")

    def go_on(_: Path) -> None:
        begun.set()
        assert failed.wait(20)
        (tmp_path / "two").touch()

    steps = [Step("one", lambda: False, fail), Step("two", lambda: False, go_on), a_step(tmp_path, "three")]
    with pytest.raises(UnavailableError, match="root"):
        run_steps("parts", steps, tmp_path / "logs", lanes=2)
    assert (tmp_path / "two").exists()
    assert not (tmp_path / "three").exists()


def test_an_interrupt_of_this_process_alone_ends_the_programs_of_all_lanes(tmp_path: Path) -> None:
    lines = [
        "import signal, sys; from pathlib import Path",
        "from tools.machine.process import run; from tools.machine.steps import Step, run_steps",
        "signal.signal(signal.SIGINT, signal.default_int_handler)",  # a background job of a shell ignores it
        "command = ['sh', '-c', 'echo $$ > $0; exec sleep 60']",
        "step = lambda name: Step(name, lambda: False, lambda log: run([*command, name], log=log))",
        "names = [f'{sys.argv[1]}/{name}' for name in 'abc']",
        "run_steps('parts', [step(name) for name in names], Path(sys.argv[1], 'logs'), lanes=2)",
    ]
    command = [sys.executable, "-c", "\n".join(lines), str(tmp_path)]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL, preexec_fn=end_with_parent) as process:
        deadline = time.monotonic() + 50
        while not all((tmp_path / name).exists() and (tmp_path / name).read_text() for name in "ab"):
            if time.monotonic() > deadline:
                process.kill()
                pytest.fail("the steps do not begin")
            time.sleep(0.02)
        process.send_signal(signal.SIGINT)
        process.wait(timeout=20)
    assert not (tmp_path / "c").exists()
    for name in "ab":
        assert not Path(f"/proc/{(tmp_path / name).read_text().strip()}").exists()


def test_a_step_that_cannot_be_here_says_only_that(tmp_path: Path) -> None:
    def work(_: Path) -> None:
        raise UnavailableError("this needs root")

    with pytest.raises(UnavailableError, match=r"^this needs root$"):
        run_steps("parts", [Step("one", lambda: False, work)], tmp_path)


def test_a_lock_has_one_holder_and_is_free_when_that_one_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    command = [sys.executable, "-c", HOLD, str(path)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, preexec_fn=end_with_parent) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        assert try_lock(path) is None
        holder.kill()
        holder.wait(timeout=10)
    lock = try_lock(path)
    assert lock is not None
    lock.release()
    with held(path, "a test"):
        assert try_lock(path) is None


def test_a_program_that_fails_takes_too_long_or_is_not_there_says_so() -> None:
    with pytest.raises(CommandFailedError, match=r"^no such thing$"):
        run(["sh", "-c", "echo no such thing >&2; exit 1"])
    with pytest.raises(CommandFailedError, match="longer than 0 s"):
        run(["sleep", "10"], timeout=0.05)
    with pytest.raises(CommandFailedError, match="not there"):
        run(["interlock-no-such-program"])
    assert not succeeds(["false"])


def test_two_programs_joined_by_a_pipe_both_have_to_succeed() -> None:
    pipe(["echo", "text"], ["grep", "-q", "text"], env={})
    for first, second in ((["false"], ["cat"]), (["echo", "text"], ["grep", "-q", "other"])):
        with pytest.raises(CommandFailedError):
            pipe(first, second, env={})
