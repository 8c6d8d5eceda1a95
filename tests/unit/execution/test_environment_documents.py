"""Reading the environments of a project: their order, and what they may not share."""

import pytest

from supply_chain.errors import DeclarationInvalid, SettingInvalid
from supply_chain.execution.environment_documents import (
    join_invalid_errors,
    read_environment,
    read_environment_documents,
    read_environments,
)
from supply_chain.policy.facts import RequiredSoak
from tests.support.facts import requirements

CLUSTER = "target: kubernetes\ncluster: c\nnamespace: shop\n"
GIT = "delivery: {git: {repository: r, kind: helm, path: 'x/{application}.yaml'}}\n"


def write(directory, name, text):
    (directory / f"{name}.yaml").write_text(f"name: {name}\n{text}")


def test_unknown_environment_error_lists_known_environments(tmp_path):
    """The list helps after a misspelled name."""
    write(tmp_path, "staging", "")
    with pytest.raises(SettingInvalid, match="There are: staging"):
        read_environment(tmp_path, "stagign")


def test_environments_of_one_host_cannot_share_address(tmp_path):
    """The conflict is found when the documents are read, not at the second deployment."""
    write(tmp_path, "staging", "applications: {a: {port: 8080}}")
    write(tmp_path, "production", "applications: {a: {port: 8080}}")
    with pytest.raises(SettingInvalid, match="a in production and a in staging"):
        read_environments(tmp_path)

    write(tmp_path, "production", "host: elsewhere\napplications: {a: {port: 8080}}")
    assert [each.name for each in read_environments(tmp_path)] == ["production", "staging"]


def test_environment_after_another_asks_for_its_soak(tmp_path):
    """The gate gets the required environment and its current soak time."""
    write(tmp_path, "staging", "soak: 2h")
    write(tmp_path, "production", "after: staging\napproval: required")

    production, staging = read_environments(tmp_path)
    asked = [each.requirements(lambda name: read_environment(tmp_path, name)) for each in (production, staging)]

    assert asked == [
        requirements("production", approval=True, soak=RequiredSoak("staging", 7200)),
        requirements("staging"),
    ]


@pytest.mark.parametrize(
    ("text", "error", "message"),
    [
        ("after: staging", SettingInvalid, "production requires a soak in staging, which has no `soak`"),
        ("after: stagign", SettingInvalid, "There is no environment 'stagign'"),
        ("after: production\nsoak: 1h", DeclarationInvalid, "cannot require a soak in itself"),
        ("after: acceptance\nsoak: 1h", SettingInvalid, "requires a soak in itself: "),
    ],
)
def test_unreachable_environment_is_refused(tmp_path, text, error, message):
    """An environment whose `after` cannot be fulfilled would never get an image."""
    write(tmp_path, "acceptance", "after: production\nsoak: 1h" if "acceptance" in text else "")
    write(tmp_path, "staging", "")
    write(tmp_path, "production", text)

    with pytest.raises(error, match=message):
        read_environments(tmp_path)


def test_environments_can_form_a_chain(tmp_path):
    """Several environments may come after the same one, too."""
    for name, text in {"a": "soak: 1h", "b": "after: a\nsoak: 1h", "c": "after: b", "d": "after: a"}.items():
        write(tmp_path, name, text)

    assert [each.after for each in read_environments(tmp_path)] == [None, "a", "b", "a"]


def test_environments_cannot_share_namespace(tmp_path):
    """Each would report the pods of the other one as foreign."""
    write(tmp_path, "staging", CLUSTER)
    write(tmp_path, "production", CLUSTER)
    with pytest.raises(SettingInvalid, match="production and staging are both in c/shop"):
        read_environments(tmp_path)


def test_environments_cannot_share_file_of_repository(tmp_path):
    """A promotion to one would change the other."""
    for name in ("staging", "production"):
        write(tmp_path, name, f"target: kubernetes\ncluster: c\nnamespace: {name}\napplications: {{a: {{}}}}\n{GIT}")
    with pytest.raises(SettingInvalid, match=r"digest of a in x/a\.yaml of r"):
        read_environments(tmp_path)


def test_only_contradictory_environments_are_invalid(tmp_path):
    """Nothing is deployed to those, and each can still be observed."""
    write(tmp_path, "one", "applications: {a: {port: 8080}}")
    write(tmp_path, "two", "applications: {b: {port: 8080}}")
    write(tmp_path, "a", f"{CLUSTER}")
    write(tmp_path, "b", f"{CLUSTER}")
    for name in ("f", "g"):
        write(tmp_path, name, f"target: kubernetes\ncluster: c\nnamespace: {name}\napplications: {{a: {{}}}}\n{GIT}")
    write(tmp_path, "ring", "after: round\nsoak: 1h")
    write(tmp_path, "round", "after: ring\nsoak: 1h")
    write(tmp_path, "late", "after: nowhere")
    write(tmp_path, "broken", "soak: soon")
    write(tmp_path, "after-broken", "after: broken")
    write(tmp_path, "good", "applications: {a: {port: 8081}}\nsoak: 1h")
    write(tmp_path, "after-good", "after: good")

    found = read_environment_documents(tmp_path)

    assert {*found.names} - {*found.invalid} == {"good", "after-good"}
    assert {name for name, error in found.invalid.items() if "a in one and b in two" in str(error)} == {"one", "two"}
    assert {name for name, error in found.invalid.items() if "a and b are both in c/shop" in str(error)} == {"a", "b"}
    assert {name for name, error in found.invalid.items() if "digest of a in x/a.yaml" in str(error)} == {"f", "g"}
    assert "The document of broken cannot be read: " in str(found.invalid["after-broken"])
    assert found.find_valid("good").name == "good"
    for name, why in {"one": "both at", "broken": "soak", "ring": "soak in itself", "absent": "There is no"}.items():
        with pytest.raises((SettingInvalid, DeclarationInvalid), match=why):
            found.find_valid(name)


def test_error_of_invalid_environments_names_each():
    """One run fails for all of them."""
    error = join_invalid_errors(
        {"b": DeclarationInvalid("it is bad\ncorrect it"), "c": SettingInvalid("so is it")}, "So"
    )

    assert str(error) == (
        "So:\n  b: it is bad — correct it [declaration.invalid]\n  c: so is it [setting.invalid]\n"
        "Correct these documents in deployments/environments. [setting.invalid]"
    )


def test_invalid_environment_does_not_hide_others(tmp_path):
    """A block has to reach them. Those that contradict each other are read, too."""
    write(tmp_path, "staging", "applications: {a: {port: 8080}}")
    write(tmp_path, "production", "applications: {a: {port: 8080}}")
    write(tmp_path, "broken", "soak: soon")
    (tmp_path / "other.yaml").write_text("name: another")

    found = read_environment_documents(tmp_path)

    assert [each.name for each in found.readable] == ["production", "staging"]
    assert {name: type(error) for name, error in found.unreadable.items()} == {
        "broken": DeclarationInvalid, "other": SettingInvalid,
    }  # fmt: skip
    assert "soak" in str(found.unreadable["broken"])
    assert found.names == ("broken", "other", "production", "staging")
