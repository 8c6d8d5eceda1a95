"""Whose a name is: the platform's register, and who came first."""

from pathlib import Path

import pytest

from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.policy.names import Holder, NameRegister, read_register

PROJECT = Path(__file__).parents[3]
PLATFORM = Holder(kind="base", owner="platform")
FIRST = Holder(kind="service", owner="greetings", repository="https://git.example/hello", path=".")


def test_a_pattern_covers_every_name_below_it_and_no_other():
    """`base/*` is about base/python and base/team/python, not about base or basement."""
    found = NameRegister(names={"base/*": PLATFORM})

    assert found.of("base/python") == found.of("base/team/python") == PLATFORM
    assert found.of("base") is None
    assert found.of("basement/python") is None


def test_the_nearest_entry_counts():
    """A name's own entry comes before the pattern above it."""
    own = Holder(owner="runtime")
    found = NameRegister(names={"base/*": PLATFORM, "base/team/*": Holder(owner="team"), "base/python": own})

    assert found.of("base/python") == own
    assert found.of("base/team/x") == Holder(owner="team")


def test_what_the_register_settles_comes_before_who_came_first():
    """A hand-over names the new owner; what it leaves open stays as it was."""
    handed = Holder(owner="welcomes").over(FIRST)

    assert handed == Holder(kind="service", owner="welcomes", repository="https://git.example/hello", path=".")


@pytest.mark.parametrize("change", [{"kind": "base"}, {"owner": "x"}, {"repository": "x"}, {"path": "x"}])
def test_every_field_that_is_settled_has_to_agree(change):
    """Another kind, team, repository or directory is somebody else."""
    assert FIRST.holds_for(FIRST)
    assert not FIRST.holds_for(FIRST.model_copy(update=change))


def test_the_project_reserves_its_bases():
    """Nobody but the platform makes what everybody builds on, not even on the first day."""
    assert read_register(PROJECT / "deployments/names.yaml").of("base/anything") == PLATFORM


def test_without_a_register_nothing_is_judged(tmp_path):
    """A file that got lost must not free every reserved name."""
    with pytest.raises(SettingInvalid, match="does not exist"):
        read_register(tmp_path / "names.yaml")


def test_an_entry_that_settles_nothing_is_an_error(tmp_path):
    """It would read as a reservation and be none."""
    (tmp_path / "names.yaml").write_text("names:\n  hello: {}\n")

    with pytest.raises(DeclarationInvalid, match="given to nobody"):
        read_register(tmp_path / "names.yaml")
