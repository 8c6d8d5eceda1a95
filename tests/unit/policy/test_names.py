"""The holder of an application name: the name register, and the source that used the name first."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.policy.fact_values import name_conflict
from supply_chain.policy.names import Holder, NamedSource, NameRegister, find_settled_holder, read_register

PROJECT = Path(__file__).parents[3]
PLATFORM = Holder(kind="base", owner="platform", sources=("project",))
FIRST = Holder(kind="service", owner="greetings", repository="https://git.example/hello", path=".")


def test_register_pattern_covers_only_names_below_it():
    """`base/*` covers base/python and base/team/python, but not base or basement."""
    found = NameRegister(names={"base/*": PLATFORM})

    assert found.of("base/python") == found.of("base/team/python") == PLATFORM
    assert found.of("base") is None
    assert found.of("basement/python") is None


def test_register_prefers_most_specific_entry():
    """The entry of a name has precedence over the pattern above it."""
    own, team = Holder(owner="runtime", repository="runtime"), Holder(owner="team", repository="team")
    found = NameRegister(names={"base/*": PLATFORM, "base/team/*": team, "base/python": own})

    assert found.of("base/python") == own
    assert found.of("base/team/x") == team


def test_register_entry_overrides_first_user():
    """A handover replaces the owner; fields that it leaves open keep their values."""
    handed = Holder(owner="welcomes").inherit_fields(FIRST)

    assert handed == Holder(kind="service", owner="welcomes", repository="https://git.example/hello", path=".")


@pytest.mark.parametrize("change", [{"kind": "base"}, {"owner": "x"}, {"repository": "x"}, {"path": "x"}])
def test_holder_rejects_source_that_differs_in_one_field(change):
    """Another kind, owner, repository or path is another source."""
    assert FIRST.holds_for(FIRST)
    assert not FIRST.holds_for(FIRST.model_copy(update=change))


def test_holder_accepts_any_value_in_open_field():
    """An entry with only an owner lets that owner choose kind and source."""
    assert Holder(owner="greetings").holds_for(FIRST)
    assert not Holder(owner="greetings").holds_for(FIRST.model_copy(update={"owner": "x"}))
    assert Holder().holds_for(FIRST)


@pytest.mark.parametrize(
    ("holder", "words"),
    [
        (FIRST, "the service of greetings in https://git.example/hello, ."),
        (PLATFORM, "the base of platform in project"),
        (PLATFORM.with_project("git@x:chain.git"), "the base of platform in git@x:chain.git"),
        (Holder(sources=()), "reserved for the sources that the name register lists, which are none"),
        (Holder(sources=(NamedSource(repository="r", path="p"),)), "the application of anybody in r, p"),
        (Holder(owner="greetings"), "the application of greetings"),
        (Holder(repository="shop"), "the application of anybody in shop"),
        (Holder(kind="service", path="hello"), "the service of anybody, hello"),
    ],
    ids=str,
)
def test_holder_text_names_the_fields_that_are_set(holder, words):
    """A refused developer learns whom to ask."""
    assert str(holder) == words


@pytest.mark.parametrize(
    ("name", "allowed"),
    [("a", False), ("ab", True), ("a/*", True), ("*", False), ("/*", False), ("a" * 128, True), ("a" * 129, False)],
    ids=lambda value: str(value)[:5],
)
def test_register_key_is_a_name_or_a_prefix_pattern(name, allowed):
    """A key is as long as a name at most, and no pattern covers all names."""
    if allowed:
        assert NameRegister(names={name: PLATFORM}).names
    else:
        with pytest.raises(ValidationError):
            NameRegister(names={name: PLATFORM})


CONFIDENTIAL, INTERNAL = Holder(classification="confidential"), Holder(classification="internal")


@pytest.mark.parametrize(
    ("names", "lowest"),
    [
        ({"pay/*": CONFIDENTIAL}, "confidential"),
        ({"pay/*": CONFIDENTIAL, "pay/eu/api": INTERNAL}, "confidential"),
        ({"pay/*": INTERNAL, "pay/eu/*": CONFIDENTIAL, "pay/eu/api": Holder(owner="pay")}, "confidential"),
        ({"pay/*": INTERNAL, "pay/eu/api": CONFIDENTIAL}, "confidential"),
        ({"pay/*": INTERNAL, "other/*": CONFIDENTIAL}, "internal"),
        ({"pay/eu/api": Holder(owner="pay")}, None),
    ],
)
def test_register_requires_the_highest_classification_of_all_entries(names, lowest):
    """A name that is handed over keeps the minimum of its prefix."""
    register = NameRegister(names=names)
    held = register.of("pay/eu/api")

    assert held is not None and held.classification == register.minimum_classification("pay/eu/api") == lowest
    assert held.owner == names.get("pay/eu/api", Holder()).owner


def test_classifications_are_those_that_entries_state():
    """What decides at the gates changes with them, and not with an owner or a source."""
    register = NameRegister(names={"shop/*": INTERNAL, "pay/*": CONFIDENTIAL, "pay/eu/api": Holder(owner="pay")})

    assert register.classifications == {"pay/*": "confidential", "shop/*": "internal"}


def test_classification_reserves_no_name():
    """Whoever uses the name first still holds it, of any classification."""
    held = find_settled_holder(NameRegister(names={"pay/*": CONFIDENTIAL}).of("pay/api"), FIRST)

    assert held == FIRST.model_copy(update={"classification": "confidential"})
    assert name_conflict("pay/api", held, FIRST) is None


@pytest.mark.parametrize("name", ["base/x/*", "base/x", "team/x/*", "team/x"])
def test_classification_alone_does_not_open_a_reserved_name(name):
    """The nearest entry counts, and this one lists no source."""
    team = Holder(owner="team", repository="r")
    with pytest.raises(ValidationError, match="is reserved"):
        NameRegister(names={"team/*": team, name: CONFIDENTIAL})


def test_project_register_reserves_base_names():
    """Only the platform team may build bases, from the first day on."""
    assert read_register(PROJECT / "deployments/names.yaml").of("base/anything") == PLATFORM


def test_missing_register_file_raises(tmp_path):
    """A lost file must not free the reserved names."""
    with pytest.raises(SettingInvalid, match="does not exist"):
        read_register(tmp_path / "names.yaml")


def test_named_source_requires_a_repository():
    """An empty repository would match sources without one."""
    assert NamedSource(repository="r").path is None
    with pytest.raises(ValidationError, match="at least 1 character"):
        NamedSource(repository="")


def test_register_rejects_entry_without_fields(tmp_path):
    """Such an entry would look like a reservation and reserve nothing."""
    (tmp_path / "names.yaml").write_text("names:\n  hello: {}\n")

    with pytest.raises(DeclarationInvalid, match="assigned to nobody"):
        read_register(tmp_path / "names.yaml")


@pytest.mark.parametrize("name", ["base/python", "base/team/python", "upstream/debian"])
def test_unlisted_names_below_base_and_upstream_are_reserved(name):
    """A declaration with `kind: base` and `owner: platform` does not prove who wrote it."""
    held = NameRegister(names={}).of(name)
    asks = Holder(kind="base", owner="platform", repository="https://git.example/hello", path=".")

    assert name_conflict(name, held, asks) == {"name": name, "holder": str(held), "source": str(asks)}


@pytest.mark.parametrize("name", ["base", "basement/x", "upstream", "hello", "team/base/x"])
def test_other_names_are_free_until_first_use(name):
    """Only the reserved prefixes are closed."""
    held = NameRegister(names={}).of(name)

    assert held is None
    assert name_conflict(name, held, FIRST) is None


@pytest.mark.parametrize(
    ("repository", "path", "taken"),
    [("r", "python", False), ("r", "other", True), ("s", "python", True), ("any", "x", False), ("other", "x", True)],
)
def test_reserved_name_admits_only_listed_sources(repository, path, taken):
    """A source matches by repository, and by path if one is listed; kind and owner must match too."""
    listed = (NamedSource(repository="r", path="python"), NamedSource(repository="any"))
    held = Holder(kind="base", owner="platform", sources=listed)
    asks = Holder(kind="base", owner="platform", repository=repository, path=path)

    assert bool(name_conflict("base/python", held, asks)) is taken
    assert name_conflict("base/python", held, asks.model_copy(update={"owner": "x"}))


def test_project_source_means_repository_of_the_checkout():
    """It covers every path in the checkout, and no source if the build lies outside of it."""
    asks = Holder(kind="base", owner="platform", repository="chain", path="bases/python")

    assert name_conflict("base/python", PLATFORM.with_project("chain"), asks) is None
    assert name_conflict("base/python", PLATFORM.with_project("other"), asks)
    assert name_conflict("base/python", PLATFORM.with_project(None), asks)
    assert name_conflict("base/python", PLATFORM, asks), "nobody resolved it"
    assert FIRST.with_project("chain") == FIRST


def test_listed_sources_override_source_of_first_user():
    """A fresh clone has another remote and is still listed."""
    earlier = Holder(kind="base", owner="platform", repository="old", path="bases/python")
    held = PLATFORM.with_project("new").inherit_fields(earlier)

    assert held.holds_for(earlier.model_copy(update={"repository": "new"}))
    assert not held.holds_for(earlier)


def test_listed_sources_keep_kind_and_owner_of_first_user():
    """Listed sources say where a name is built, not what it is."""
    listed = Holder(sources=(NamedSource(repository="new"),))

    assert listed.inherit_fields(FIRST) == listed.model_copy(update={"kind": "service", "owner": "greetings"})


@pytest.mark.parametrize("name", ["base/*", "team/*", "base/python", "upstream/debian", "team/x"])
def test_reserved_prefix_requires_listed_sources(name):
    """Kind and owner come from the declaration itself, so they alone reserve nothing."""
    with pytest.raises(ValidationError, match="no source is listed"):
        NameRegister(names={"team/*": Holder(repository="team"), name: Holder(kind="base", owner="platform")})

    assert NameRegister(names={name: Holder(repository="team")})


@pytest.mark.parametrize("name", ["hello", "team", "teams/x"])
def test_unreserved_name_can_be_handed_over_by_owner_alone(name):
    """The first user of the name determines the other fields."""
    handed = Holder(owner="welcomes")

    assert NameRegister(names={"team/*": Holder(repository="team"), name: handed}).of(name) == handed
