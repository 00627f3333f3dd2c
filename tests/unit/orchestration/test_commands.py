"""Which commands stand in the annotations of an Agent, and when they count."""

import pytest

from interlock.orchestration.commands import read_commands
from interlock.orchestration.rollout_state import Command, RolloutCommands
from tests.requirements import requirement

NAME = "7-3f2a91c04b"
ADA = {"by": "ada@example.com", "is_vouched": True}


def annotated(**commands: str) -> dict[str, str]:
    """Return annotations; `override_gates` for `interlock.dev/override-gates`, `_by` for who gave a command."""
    return {f"interlock.dev/{name.replace('_', '-')}": value for name, value in commands.items()}


@requirement("rollout.commands")
@pytest.mark.parametrize("name", ["pause", "promote", "abort", "retry", "rollback"])
def test_a_command_names_a_revision_and_who_gave_it(name: str) -> None:
    given = annotated(**{name: NAME, f"{name}_by": "ada@example.com"})

    assert read_commands(given, is_checked=True) == RolloutCommands(**{name: Command(NAME, **ADA)})
    assert read_commands(annotated(**{name: NAME}), is_checked=True) == RolloutCommands(**{name: Command(NAME)})


@requirement("rollout.commands")
@pytest.mark.parametrize("name", ["pause", "promote"])
def test_pause_and_promote_may_name_a_stage(name: str) -> None:
    given = annotated(**{name: f"{NAME}/eu-west"})

    assert read_commands(given, is_checked=True) == RolloutCommands(**{name: Command(NAME, "eu-west")})


@requirement("rollout.commands")
def test_a_promote_may_go_past_a_breached_gate_where_the_same_promotion_overrides_gates() -> None:
    def may_override(promote: str, gates: str) -> bool:
        promoted = read_commands(annotated(promote=promote, override_gates=gates), is_checked=True).promote
        assert promoted is not None
        return promoted.may_override_gates

    assert may_override(f"{NAME}/region", f"{NAME}/region")
    assert may_override(NAME, NAME)
    assert not may_override(f"{NAME}/region", f"{NAME}/everywhere")
    assert not may_override(f"{NAME}/region", NAME)
    assert not may_override(f"{NAME}/region", "")
    for other in ("abort", "retry", "rollback", "pause"):
        read = read_commands(annotated(**{other: NAME}, override_gates=NAME), is_checked=True)
        assert not getattr(read, other).may_override_gates


@requirement("rollout.commands")
def test_where_no_policy_checks_commands_a_pause_counts_alone() -> None:
    given = annotated(**{f"{name}{end}": NAME for name in RolloutCommands.__annotations__ for end in ("", "_by")})

    assert read_commands(given, is_checked=False) == RolloutCommands(pause=Command(NAME, by=NAME))


WRONG = (
    "",
    "7",
    NAME[:-1],
    NAME + "0",
    "0-3f2a91c04b",
    "7-3F2A91C04B",
    f" {NAME}",
    f"{NAME}\n",
    f"{NAME}/",
    f"{NAME}/A",
)


@requirement("rollout.commands")
@pytest.mark.parametrize("value", WRONG)
def test_what_has_another_form_is_no_command(value: str) -> None:
    given = annotated(**dict.fromkeys(RolloutCommands.__annotations__, value))

    assert read_commands(given, is_checked=True) == RolloutCommands()


@requirement("rollout.commands")
@pytest.mark.parametrize("name", ["abort", "retry", "rollback"])
def test_a_command_that_is_about_no_stage_names_none(name: str) -> None:
    assert read_commands(annotated(**{name: f"{NAME}/region"}), is_checked=True) == RolloutCommands()
