"""Whose a name is: the platform's register, and who came first."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.policy.names import Holder, NamedSource, NameRegister, read_register
from supply_chain.policy.rules import name_reasons

PROJECT = Path(__file__).parents[3]
PLATFORM = Holder(kind="base", owner="platform", sources=("project",))
FIRST = Holder(kind="service", owner="greetings", repository="https://git.example/hello", path=".")


def test_a_pattern_covers_every_name_below_it_and_no_other():
    """`base/*` is about base/python and base/team/python, not about base or basement."""
    found = NameRegister(names={"base/*": PLATFORM})

    assert found.of("base/python") == found.of("base/team/python") == PLATFORM
    assert found.of("base") is None
    assert found.of("basement/python") is None


def test_the_nearest_entry_counts():
    """A name's own entry comes before the pattern above it."""
    own, team = Holder(owner="runtime", repository="runtime"), Holder(owner="team", repository="team")
    found = NameRegister(names={"base/*": PLATFORM, "base/team/*": team, "base/python": own})

    assert found.of("base/python") == own
    assert found.of("base/team/x") == team


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
        (PLATFORM, "the base of platform in project"),
        (PLATFORM.with_project("git@x:chain.git"), "the base of platform in git@x:chain.git"),
        (Holder(sources=()), "the application of anybody in a source that the register lists for it"),
        (Holder(sources=(NamedSource(repository="r", path="p"),)), "the application of anybody in r, p"),
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


def test_a_listed_source_names_a_repository():
    """An empty one names none, and would hold for whatever comes from nowhere."""
    assert NamedSource(repository="r").path is None
    with pytest.raises(ValidationError, match="at least 1 character"):
        NamedSource(repository="")


def test_an_entry_that_settles_nothing_is_an_error(tmp_path):
    """It would read as a reservation and be none."""
    (tmp_path / "names.yaml").write_text("names:\n  hello: {}\n")

    with pytest.raises(DeclarationInvalid, match="given to nobody"):
        read_register(tmp_path / "names.yaml")


@pytest.mark.parametrize("name", ["base/python", "base/team/python", "upstream/debian"])
def test_names_below_base_and_upstream_are_held_by_no_source_unless_listed(name):
    """Whoever writes `kind: base` and `owner: platform` into a declaration does not become the platform."""
    held = NameRegister(names={}).of(name)
    asks = Holder(kind="base", owner="platform", repository="https://git.example/hello", path=".")

    assert [reason.code for reason in name_reasons(name, held, asks)] == ["name.taken"]


@pytest.mark.parametrize("name", ["base", "basement/x", "upstream", "hello", "team/base/x"])
def test_other_names_are_free_until_somebody_is_admitted(name):
    """Only the prefixes are reserved."""
    held = NameRegister(names={}).of(name)

    assert held is None
    assert name_reasons(name, held, FIRST) == ()


@pytest.mark.parametrize(
    ("repository", "path", "taken"),
    [("r", "python", False), ("r", "other", True), ("s", "python", True), ("any", "x", False), ("other", "x", True)],
)
def test_a_reserved_name_is_for_the_listed_sources(repository, path, taken):
    """Each listed source by its repository, and by its path where one is listed; kind and owner still count."""
    listed = (NamedSource(repository="r", path="python"), NamedSource(repository="any"))
    held = Holder(kind="base", owner="platform", sources=listed)
    asks = Holder(kind="base", owner="platform", repository=repository, path=path)

    assert bool(name_reasons("base/python", held, asks)) is taken
    assert name_reasons("base/python", held, asks.model_copy(update={"owner": "x"}))


def test_project_is_the_repository_of_the_checkout():
    """Every path in it; and no source at all where what is built lies outside of it."""
    asks = Holder(kind="base", owner="platform", repository="chain", path="bases/python")

    assert name_reasons("base/python", PLATFORM.with_project("chain"), asks) == ()
    assert name_reasons("base/python", PLATFORM.with_project("other"), asks)
    assert name_reasons("base/python", PLATFORM.with_project(None), asks)
    assert name_reasons("base/python", PLATFORM, asks), "nobody resolved it"
    assert FIRST.with_project("chain") == FIRST


def test_listed_sources_come_before_the_source_that_came_first():
    """A fresh clone has another remote, and is listed all the same."""
    earlier = Holder(kind="base", owner="platform", repository="old", path="bases/python")
    held = PLATFORM.with_project("new").over(earlier)

    assert held.holds_for(earlier.model_copy(update={"repository": "new"}))
    assert not held.holds_for(earlier)


def test_listed_sources_leave_kind_and_owner_as_they_were():
    """They say where it is built, and not what it is."""
    listed = Holder(sources=(NamedSource(repository="new"),))

    assert listed.over(FIRST) == listed.model_copy(update={"kind": "service", "owner": "greetings"})


@pytest.mark.parametrize("name", ["base/*", "team/*", "base/python", "upstream/debian", "team/x"])
def test_a_reserved_prefix_has_to_list_sources(name):
    """Kind and owner are what a declaration says of itself: alone they reserve nothing."""
    with pytest.raises(ValidationError, match="no source is listed"):
        NameRegister(names={"team/*": Holder(repository="team"), name: Holder(kind="base", owner="platform")})

    assert NameRegister(names={name: Holder(repository="team")})


@pytest.mark.parametrize("name", ["hello", "team", "teams/x"])
def test_another_name_may_be_handed_over_by_kind_or_owner_alone(name):
    """Who came first settles the rest."""
    handed = Holder(owner="welcomes")

    assert NameRegister(names={"team/*": Holder(repository="team"), name: handed}).of(name) == handed
