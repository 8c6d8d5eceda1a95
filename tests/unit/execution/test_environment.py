"""Environments: who is reached where."""

import pytest

from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.execution.environment import Environment, read_environment, read_environments
from supply_chain.policy.gate import Place, SoakAsked


def write(directory, name, text):
    (directory / f"{name}.yaml").write_text(f"name: {name}\n{text}")


def test_an_application_without_a_place_is_told_where_to_get_one():
    """The error names the document to edit."""
    with pytest.raises(SettingInvalid, match=r"deployments/environments/staging\.yaml"):
        Environment(name="staging").placement("hello")


def test_an_unknown_environment_is_told_with_those_there_are(tmp_path):
    """A misspelt name is answered with the right ones."""
    write(tmp_path, "staging", "")
    with pytest.raises(SettingInvalid, match="There are: staging"):
        read_environment(tmp_path, "stagign")


@pytest.mark.parametrize(
    "applications",
    [
        "{a: {port: 80}}",
        "{a: {port: 8080, address: 10.0.0.1}}",
        "{a: {port: 8080, environment: {'NOT-A-NAME': x}}}",
        "{a: {port: 8080, secret: x}}",
        "{a: {port: 8080}, b: {port: 8080}}",
    ],
)
def test_a_place_that_cannot_be_is_refused(tmp_path, applications):
    """Privileged ports, other hosts, impossible names, unknown keys, and an address given twice."""
    write(tmp_path, "staging", f"applications: {applications}")
    with pytest.raises(DeclarationInvalid):
        read_environment(tmp_path, "staging")


def test_the_same_port_at_two_addresses_is_fine(tmp_path):
    """An address is both."""
    write(tmp_path, "staging", "applications: {a: {port: 8080}, b: {port: 8080, address: 127.0.0.2}}")
    assert read_environment(tmp_path, "staging").placement("b").port == 8080


def test_two_environments_of_one_host_cannot_share_an_address(tmp_path):
    """What would fail at the second deployment is found when the documents are read."""
    write(tmp_path, "staging", "applications: {a: {port: 8080}}")
    write(tmp_path, "production", "applications: {a: {port: 8080}}")
    with pytest.raises(SettingInvalid, match="a in production and a in staging"):
        read_environments(tmp_path)

    write(tmp_path, "production", "host: elsewhere\napplications: {a: {port: 8080}}")
    assert [each.name for each in read_environments(tmp_path)] == ["production", "staging"]


@pytest.mark.parametrize(
    ("text", "seconds"), [("30min", 1800), ("2h", 7200), ("1d", 86400), ("90s", 90), ("45", 45), ("null", None)]
)
def test_a_soak_is_a_duration(tmp_path, text, seconds):
    """As people write one; seconds where they name no unit."""
    write(tmp_path, "staging", f"soak: {text}")

    assert read_environment(tmp_path, "staging").soak == seconds


@pytest.mark.parametrize(
    "text",
    ["soak: 0", "soak: -1h", "soak: soon", "soak: 1w", "soak: 91d", "approval: yes", "approval: maybe", "tests: yes"],
)
def test_a_soak_or_an_approval_that_is_none_is_refused(tmp_path, text):
    """What an operator meant is not guessed."""
    write(tmp_path, "staging", text)
    with pytest.raises(DeclarationInvalid):
        read_environment(tmp_path, "staging")


def test_an_environment_may_come_after_another_one(tmp_path):
    """The gate is told of where it has to have been, and for how long that asks today."""
    write(tmp_path, "staging", "soak: 2h")
    write(tmp_path, "production", "after: staging\napproval: required")

    production, staging = read_environments(tmp_path)
    asked = [each.place(lambda name: read_environment(tmp_path, name)) for each in (production, staging)]

    assert asked == [Place("production", approval=True, soak=SoakAsked("staging", 7200)), Place("staging")]


def test_an_environment_may_ask_for_tests_that_are_shown(tmp_path):
    """Whether it comes after another one or not."""
    write(tmp_path, "staging", "soak: 2h\ntests: shown")
    write(tmp_path, "production", "after: staging\ntests: shown")
    write(tmp_path, "lab", "tests: any")

    found = {each.name: each for each in read_environments(tmp_path)}

    places = {name: each.place(lambda other: found[other]) for name, each in found.items()}
    assert {name: place.tests_shown for name, place in places.items()} == {
        "staging": True, "production": True, "lab": False,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "error", "said"),
    [
        ("after: staging", SettingInvalid, "production takes only what soaked in staging, which says no `soak`"),
        ("after: stagign", SettingInvalid, "There is no environment 'stagign'"),
        ("after: production\nsoak: 1h", DeclarationInvalid, "cannot come after itself"),
        ("after: acceptance\nsoak: 1h", SettingInvalid, "comes after itself: "),
    ],
)
def test_an_environment_that_nothing_could_reach_is_an_error(tmp_path, text, error, said):
    """And nothing is admitted to it meanwhile."""
    write(tmp_path, "acceptance", "after: production\nsoak: 1h" if "acceptance" in text else "")
    write(tmp_path, "staging", "")
    write(tmp_path, "production", text)

    with pytest.raises(error, match=said):
        read_environments(tmp_path)


def test_several_environments_may_follow_each_other(tmp_path):
    """Each after the one before."""
    for name, text in {"a": "soak: 1h", "b": "after: a\nsoak: 1h", "c": "after: b", "d": "after: a"}.items():
        write(tmp_path, name, text)

    assert [each.after for each in read_environments(tmp_path)] == [None, "a", "b", "a"]


def test_an_environment_asks_nobody_unless_it_says_so(tmp_path):
    """And lets nothing go on by itself."""
    write(tmp_path, "staging", "")
    write(tmp_path, "production", "approval: required")

    assert [(each.asks, each.soak) for each in read_environments(tmp_path)] == [(True, None), (False, None)]
