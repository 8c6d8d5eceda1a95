"""Whose a name is: the platform's register, and who came first."""

from pathlib import Path

import pytest
from pydantic import ValidationError

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


def test_what_is_not_settled_need_not_agree():
    """A register that names the owner alone leaves kind and place to the owner."""
    assert Holder(owner="greetings").holds_for(FIRST)
    assert not Holder(owner="greetings").holds_for(FIRST.model_copy(update={"owner": "x"}))
    assert Holder().holds_for(FIRST)


@pytest.mark.parametrize(
    ("holder", "words"),
    [
        (FIRST, "the service of greetings in https://git.example/hello, ."),
        (PLATFORM, "the base of platform"),
        (Holder(owner="greetings"), "the application of greetings"),
        (Holder(repository="shop"), "the application of anybody in shop"),
        (Holder(kind="service", path="hello"), "the service of anybody, hello"),
    ],
    ids=str,
)
def test_a_holder_is_told_by_what_is_settled(holder, words):
    """So that whoever is refused knows whom to ask."""
    assert str(holder) == words


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("a", False), ("ab", True), ("a/*", True), ("*", False), ("/*", False), ("a" * 128, True), ("a" * 129, False)],
    ids=lambda value: str(value)[:5],
)
def test_a_pattern_is_a_name_or_all_below_one(name, allowed):
    """As long as a name may be; nothing reserves everything."""
    if allowed:
        assert NameRegister(names={name: PLATFORM}).names
    else:
        with pytest.raises(ValidationError):
            NameRegister(names={name: PLATFORM})


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
