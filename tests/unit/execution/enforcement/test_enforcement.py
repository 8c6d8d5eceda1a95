"""The enforcement of one environment: planned, installed in an order that refuses nothing admitted, and observed."""

from dataclasses import replace
from types import SimpleNamespace

import pytest
import yaml

from supply_chain.errors import PolicyUnsigned, SettingInvalid
from supply_chain.execution.enforcement import enforcement as module
from supply_chain.execution.enforcement.admitted import AdmissionPorts
from supply_chain.execution.enforcement.enforcement import Enforcement
from supply_chain.execution.enforcement.installation import read_objects
from supply_chain.execution.enforcement.policies import EnforcedNamespace, Mode
from supply_chain.model.tier import TierName
from supply_chain.policy.activation import PolicyState
from tests.support.admission import ROLES
from tests.support.facts import CURATED
from tests.support.memory_admission import Key, MemoryAdmissionCluster, MemoryParameters

POLICY = ("ValidatingAdmissionPolicy", "", "cscm-admitted-images")
ACTIVE, CHANGED = PolicyState(active=True, why=""), PolicyState(active=False, why="not as signed by ann")
BINDING = ("ValidatingAdmissionPolicyBinding", "", "cscm-admitted-images-staging")


@pytest.fixture
def made(world):
    """An enforcement in a new cluster."""
    cluster, parameters = MemoryAdmissionCluster(), MemoryParameters()
    ports = AdmissionPorts(
        "registry.test", world.verdict_store(TierName.EXECUTION), world.ecr, lambda _: (), parameters
    )

    place = EnforcedNamespace("staging", "apps", Mode.DENY)
    enforcement = Enforcement(place, lambda: cluster, ports, read_objects(ROLES), ACTIVE)
    return SimpleNamespace(enforcement=enforcement, cluster=cluster, parameters=parameters)


def test_plan_changes_nothing(made):
    """It names every object, also the roles."""
    changes = made.enforcement.plan()

    assert {"create Role cscm-system/cscm-publisher", "create Namespace apps"} <= {str(each) for each in changes}
    assert not made.cluster.objects and not made.parameters.stored


def test_application_installs_parameters_before_bindings(made):
    """A binding without parameters would refuse everything until they are there."""
    bindings: list[Key] = []
    made.parameters.before_write = lambda _: bindings.extend(
        key for key in made.cluster.objects if key[0].endswith("PolicyBinding") and "staging" in key[2]
    )

    changes = made.enforcement.apply()

    assert bindings == [] and [each.environment for each, _ in made.parameters.stored.values()] == ["staging"]
    assert len(changes) == len(made.enforcement.plan()) + len(made.cluster.objects)
    assert made.enforcement.apply() == ()
    assert made.enforcement.status().deviations == ()


@pytest.mark.parametrize("key", [POLICY, BINDING])
def test_installation_after_a_removal_has_new_parameters(made, key):
    """An API server that lost its last policy goes on with the parameters that it last read."""
    made.enforcement.apply()
    (before,) = made.parameters.stored
    assert made.enforcement.apply() == ()

    del made.cluster.objects[key]
    made.enforcement.apply()

    names = {
        each["spec"]["paramRef"]["name"] for each in made.cluster.objects.values() if "paramRef" in each.get("spec", {})
    }
    assert len(names) == 1 and names == {*made.parameters.stored} - {before}
    assert made.enforcement.status().deviations == ()


def test_verdict_before_the_installation_is_a_clear_error(made):
    """The environment asks for enforcement, and nothing enforces it."""
    with pytest.raises(SettingInvalid, match="cscm enforce apply staging"):
        made.enforcement.follow(CURATED)

    made.enforcement.apply()
    made.enforcement.follow(CURATED)


def test_environment_that_nobody_signed_is_not_installed(made):
    """Whoever changes the file would otherwise choose the mode, the cluster and the namespace."""
    changed = replace(made.enforcement, state=CHANGED)

    with pytest.raises(PolicyUnsigned, match=r"staging is not active.*not as signed by ann"):
        changed.apply()
    assert not made.cluster.objects and not made.parameters.stored
    assert changed.plan() == made.enforcement.plan()


def test_status_reports_an_environment_that_nobody_signed(made):
    """The cluster is as it was installed, and still the run of `monitor` is an alert."""
    made.enforcement.apply()
    status = replace(made.enforcement, state=CHANGED).status()

    assert [each.code for each in status.deviations] == ["enforcement.unsigned"] and status.is_weak
    assert "not as signed by ann" in status.deviations[0].fact


@pytest.mark.parametrize("installed", [True, False])
def test_verdict_reaches_what_is_installed_without_an_error(made, monkeypatch, installed):
    """An environment had `enforcement`, or never had."""
    followed = []
    monkeypatch.setattr(module, "publish_image", lambda ref, place, _: followed.append((ref, place.parameters)))
    if installed:
        made.enforcement.apply()

    assert made.enforcement.follow_installed(CURATED) is installed
    assert followed == [(CURATED, name) for name in made.parameters.stored]


def test_verdict_reaches_the_namespace_that_was_installed(made, monkeypatch):
    """The environment has another one now: the verdict counts there too, and the error says what is missing."""
    followed = []
    monkeypatch.setattr(module, "publish_image", lambda ref, place, _: followed.append(place.parameters))
    made.enforcement.apply()
    moved = replace(made.enforcement, place=replace(made.enforcement.place, namespace="other"))

    with pytest.raises(SettingInvalid, match="cscm enforce apply staging"):
        moved.follow(CURATED)
    assert followed == [*made.parameters.stored]


def test_binding_to_parameters_of_others_is_not_followed(made):
    """Nothing that the chain did not make is written."""
    made.enforcement.apply()
    made.cluster.objects[BINDING]["spec"]["paramRef"]["name"] = "theirs"

    assert made.enforcement.follow_installed(CURATED) is False
    assert "theirs" not in made.parameters.stored


@pytest.mark.parametrize("text", ["a: [", "kind: Pod\nmetadata: {name: x}\n", "kind: Role\n", "- a\n", "---\n"])
def test_role_documents_with_something_else_are_an_error(tmp_path, text):
    """They are installed with an administrator's rights."""
    (tmp_path / "a.yaml").write_text(text)

    with pytest.raises(SettingInvalid):
        read_objects(tmp_path)


def test_namespace_is_in_first_file_of_roles() -> None:
    """`kubectl apply -f` applies files by their names, and refuses a Role whose namespace does not exist yet."""
    kinds = [
        document["kind"]
        for file in sorted(ROLES.glob("*.yaml"))
        for document in yaml.safe_load_all(file.read_text(encoding="utf-8"))
    ]

    assert kinds.index("Namespace") == 0 and kinds.count("Namespace") == 1
