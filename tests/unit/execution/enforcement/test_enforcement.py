"""The enforcement of one environment: planned, installed in an order that refuses nothing admitted, and observed."""

from types import SimpleNamespace

import pytest

from supply_chain.errors import ClusterUnavailable, SettingInvalid
from supply_chain.execution.enforcement import enforcement as module
from supply_chain.execution.enforcement.admitted import AdmissionPorts
from supply_chain.execution.enforcement.enforcement import Enforcement
from supply_chain.execution.enforcement.installation import read_objects
from supply_chain.execution.enforcement.policies import EnforcedNamespace, Mode
from supply_chain.model.tier import TierName
from tests.support.admission import ROLES
from tests.support.memory_admission import MemoryAdmissionCluster, MemoryParameters

DEFINITION = ("CustomResourceDefinition", "", "admittedimages.cscm.internal")
ESTABLISHED = {"conditions": [{"type": "Established", "status": "True"}]}


@pytest.fixture
def made(world):
    """An enforcement in a cluster that offers the new kind at the second look."""
    cluster, waited = MemoryAdmissionCluster(), []
    parameters = MemoryParameters()
    ports = AdmissionPorts(
        "registry.test", world.verdict_store(TierName.EXECUTION), world.ecr, lambda _: (), parameters
    )

    def wait(seconds):
        waited.append(seconds)
        cluster.objects[DEFINITION]["status"] = ESTABLISHED

    place = EnforcedNamespace("staging", "apps", Mode.DENY)
    enforcement = Enforcement(place, lambda: cluster, ports, read_objects(ROLES), wait=wait)
    return SimpleNamespace(enforcement=enforcement, cluster=cluster, parameters=parameters, waited=waited)


def test_plan_changes_nothing(made):
    """It names every object, also the roles."""
    changes = made.enforcement.plan()

    assert {"create ClusterRole cscm-publisher", "create Namespace apps"} <= {str(each) for each in changes}
    assert not made.cluster.objects and not made.parameters.stored


def test_application_installs_parameters_before_bindings(made):
    """A binding without parameters would refuse everything until they are there."""
    made.parameters.before_write = lambda _: bindings.extend(
        key for key in made.cluster.objects if key[0].endswith("PolicyBinding") and "staging" in key[2]
    )
    bindings = []

    changes = made.enforcement.apply()

    assert bindings == [] and made.waited and made.parameters.stored["apps"][0].environment == "staging"
    assert len(changes) == len(made.enforcement.objects) and made.enforcement.apply() == ()
    assert made.enforcement.status().deviations == ()


def test_kind_that_never_comes_is_an_error_to_retry(made, monkeypatch):
    """The cluster may be slow; nothing is bound meanwhile."""
    monkeypatch.setattr(module, "ESTABLISHED", 0.0)

    with pytest.raises(ClusterUnavailable) as error:
        made.enforcement.apply()
    assert error.value.retryable
    assert not [key for key in made.cluster.objects if "staging" in key[2]]


@pytest.mark.parametrize("text", ["a: [", "kind: Pod\nmetadata: {name: x}\n", "kind: Role\n", "- a\n", "---\n"])
def test_role_documents_with_something_else_are_an_error(tmp_path, text):
    """They are installed with an administrator's rights."""
    (tmp_path / "a.yaml").write_text(text)

    with pytest.raises(SettingInvalid):
        read_objects(tmp_path)
