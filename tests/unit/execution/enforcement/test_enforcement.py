"""The enforcement of one environment: planned, installed in an order that refuses nothing admitted, and observed."""

import copy
from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
import yaml

from supply_chain.errors import PolicyUnsigned, SettingInvalid
from supply_chain.execution.enforcement import enforcement as module
from supply_chain.execution.enforcement.admitted import AdmissionPorts
from supply_chain.execution.enforcement.enforcement import Enforcement
from supply_chain.execution.enforcement.installation import install, read_objects
from supply_chain.execution.enforcement.policies import EnforcedNamespace, Mode
from supply_chain.execution.enforcement.verification import CRD, POLICY_KIND, Verification
from supply_chain.model.tier import TierName
from supply_chain.policy.activation import PolicyState
from tests.support.admission import ROLES
from tests.support.facts import CURATED
from tests.support.memory_admission import Key, MemoryAdmissionCluster, MemoryParameters
from tests.support.signer import EcdsaSigner

POLICY = ("ValidatingAdmissionPolicy", "", "cscm-admitted-images")
ACTIVE, CHANGED = PolicyState(active=True, why=""), PolicyState(active=False, why="not as signed by ann")
HARDENED = ("MutatingAdmissionPolicyBinding", "", "cscm-hardened-staging")
VERDICTS = (POLICY_KIND, "", "cscm-verdicts-staging")
ENFORCE_LABEL = "pod-security.kubernetes.io/enforce"
BINDING = ("ValidatingAdmissionPolicyBinding", "", "cscm-admitted-images-staging")


@pytest.fixture
def made(world):
    """An enforcement in a new cluster."""
    parameters, waited = MemoryParameters(), list[float]()
    cluster = MemoryAdmissionCluster(parameters)
    ports = AdmissionPorts(
        "registry.test", world.verdict_store(TierName.EXECUTION), world.ecr, lambda _: (), parameters
    )

    place = EnforcedNamespace("staging", "apps", Mode.DENY)
    enforcement = Enforcement(
        place, lambda: cluster, ports, read_objects(ROLES), ACTIVE, frozenset({"staging"}), wait=waited.append
    )
    return SimpleNamespace(enforcement=enforcement, cluster=cluster, parameters=parameters, waited=waited)


def in_mode(made, mode, verification=None):
    """Return the enforcement with other settings."""
    place = replace(made.enforcement.place, mode=mode, verification=verification)
    return replace(made.enforcement, place=place)


def codes(enforcement):
    return [each.code for each in enforcement.status().deviations]


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


def test_verdict_that_changes_before_the_bindings_counts(made, monkeypatch):
    """It follows the parameters that the earlier bindings name, so that new ones would never have it."""
    published = list[int]()

    def install_and_count(objects, cluster, **options):
        if any(each["kind"].endswith("Binding") for each in objects):
            published.append(0)
        return install(objects, cluster, **options)

    monkeypatch.setattr(module, "install", install_and_count)
    monkeypatch.setattr(module, "publish_all", lambda *_: published.append(1))

    made.enforcement.apply()

    assert published == [0, 1, 0, 1]


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
    assert names == {*made.parameters.stored} and before not in names
    assert made.enforcement.status().deviations == ()


def test_earlier_parameters_stay_while_api_server_may_read_them(made):
    """Missing ones refuse everything; the next application removes them. Those of other namespaces are others'."""
    made.enforcement.apply()
    (current,) = made.parameters.stored
    admitted, _ = made.parameters.stored[current]
    for name in ("admitted-apps-0123abcd", "admitted-apps-shop-0123abcd", "admitted-other-0123abcd"):
        made.parameters.put(name, admitted)
    made.cluster.versions[current] = "0"
    place = replace(made.enforcement.place, parameters=current)

    assert made.enforcement._remove_left(place, made.cluster) == ()
    assert "remove ConfigMap cscm-system/admitted-apps-0123abcd" in map(str, made.enforcement.plan())
    made.cluster.versions.clear()
    assert [str(each) for each in made.enforcement.apply()] == ["remove ConfigMap cscm-system/admitted-apps-0123abcd"]
    assert {*made.parameters.stored} == {current, "admitted-apps-shop-0123abcd", "admitted-other-0123abcd"}


def test_parameters_of_remaining_binding_stay(made):
    """A renamed environment leaves its binding, which refuses everything without them."""
    made.enforcement.apply()
    (current,) = made.parameters.stored
    left = "admitted-apps-0123abcd"
    made.parameters.put(left, made.parameters.stored[current][0])
    other = copy.deepcopy(made.cluster.objects[BINDING])
    other["metadata"]["name"] += "-earlier"
    other["spec"]["paramRef"]["name"] = left
    made.cluster.objects[(*BINDING[:2], other["metadata"]["name"])] = other

    assert made.enforcement.apply() == () and [each.action for each in made.enforcement.plan()] == ["leave"]
    assert left in made.parameters.stored


def add_environment(made, environment, namespace, repositories=None):
    """Enforce an environment of another project, or of an earlier state of this one."""
    ports = made.enforcement.ports
    if repositories:
        ports = replace(ports, registry=repositories)
    place = EnforcedNamespace(environment, namespace, Mode.DENY)
    replace(made.enforcement, place=place, ports=ports, environments=frozenset({environment})).apply()


@pytest.mark.parametrize(("namespace", "code"), [("old", "enforcement.orphaned"), ("apps", "enforcement.left")])
def test_objects_of_removed_environment_are_reported_and_stay(made, namespace, code):
    """It was renamed: nobody publishes its verdicts any more, and something may still run there."""
    made.enforcement.apply()
    add_environment(made, "earlier", namespace)
    before = dict(made.cluster.objects)

    changes = made.enforcement.plan()
    status = made.enforcement.status()

    (deviation,) = [each for each in status.deviations if "earlier" in each.fact]
    assert deviation.code == code and status.is_weak is (namespace == "apps")
    assert deviation.fact == f"policies of earlier, which the project has in no cluster, apply to {namespace}"
    (name,) = [each for each, (admitted, _) in made.parameters.stored.items() if admitted.environment == "earlier"]
    delete = (
        "kubectl delete -n cscm-system validatingadmissionpolicybinding/cscm-admitted-images-earlier "
        "validatingadmissionpolicybinding/cscm-lapsed-earlier mutatingadmissionpolicybinding/cscm-hardened-earlier "
        f"configmap/{name}"
    )
    assert deviation.remedy.endswith(delete)
    (change,) = changes
    assert str(change).startswith(
        "leave ValidatingAdmissionPolicyBinding cscm-admitted-images-earlier: the project has no environment earlier"
    ) and str(change).endswith(delete)  # fmt: skip
    assert made.enforcement.apply() == () and made.cluster.objects == before


def test_environment_of_another_supply_chain_is_not_reported(made):
    """It has another registry, and its own project says which environments there are."""
    made.enforcement.apply()
    add_environment(made, "production", "other-apps", "registry.example.com")
    other = copy.deepcopy(made.cluster.objects[BINDING])
    other["metadata"]["name"], other["spec"]["policyName"] = "other", "other-policy"
    made.cluster.objects[(*BINDING[:2], "other")] = other

    assert made.enforcement.plan() == () and codes(made.enforcement) == []


def test_binding_without_parameters_is_reported(made):
    """Whose it is cannot be known, and it refuses everything."""
    made.enforcement.apply()
    other = copy.deepcopy(made.cluster.objects[BINDING])
    other["metadata"]["name"] = "cscm-admitted-images-gone"
    other["spec"]["matchResources"] = {}
    del other["spec"]["paramRef"]
    made.cluster.objects[(*BINDING[:2], other["metadata"]["name"])] = other

    (deviation,) = made.enforcement.status().deviations

    assert "policies of gone," in deviation.fact and "apply to every namespace" in deviation.fact
    assert deviation.remedy.endswith("delete -n cscm-system validatingadmissionpolicybinding/cscm-admitted-images-gone")


@pytest.mark.parametrize(("version", "answer"), [("0", "denied it (version 0)"), ("", "it admits a trial")])
def test_api_server_that_does_not_follow_is_reported(made, version, answer):
    """Everything is installed as generated, and later blocks would not be followed."""
    made.enforcement.apply()
    (name,) = made.parameters.stored
    assert codes(made.enforcement) == [] and made.waited == []

    made.cluster.versions[name] = version
    status = made.enforcement.status()

    assert [each.code for each in status.deviations] == ["enforcement.ineffective"] and status.is_weak
    assert answer in status.deviations[0].fact and "apps" in status.deviations[0].fact
    assert made.waited == [0.5] * 10


def test_api_server_that_follows_later_is_not_reported(made):
    """It learns of a change with a delay."""
    made.enforcement.apply()
    (name,) = made.parameters.stored
    made.cluster.versions[name] = "0"

    assert codes(replace(made.enforcement, wait=lambda _: made.cluster.versions.clear())) == []


def test_installation_renames_parameters_for_stale_api_server(made):
    """It reads a ConfigMap of a new name."""
    made.enforcement.apply()
    (before,) = made.parameters.stored
    made.cluster.versions[before] = "0"

    changes = made.enforcement.apply()

    (after,) = made.parameters.stored
    assert after != before and f"remove ConfigMap cscm-system/{before}" in map(str, changes)
    assert made.cluster.objects[BINDING]["spec"]["paramRef"]["name"] == after
    assert [(each.action, each.kind) for each in changes if each.name == BINDING[2]] == [("change", BINDING[0])]
    assert codes(made.enforcement) == []


def test_trial_is_skipped_if_nothing_is_refused(made):
    """In the gradual modes, while the binding is weakened, and without parameters: that is reported already."""
    gradual = in_mode(made, Mode.WARN)
    gradual.apply()
    assert codes(gradual) == []
    made.enforcement.apply()
    assert len(made.parameters.stored) == 1

    made.cluster.objects[BINDING]["spec"]["validationActions"] = ["Warn"]
    assert codes(made.enforcement) == ["enforcement.weakened"]
    made.enforcement.apply()
    made.parameters.stored.clear()
    assert codes(made.enforcement) == ["enforcement.no-parameters"] and made.waited == []


def test_trial_is_a_template_with_an_image_that_nothing_admits(made):
    """It starts nothing, is stored nowhere, and would be admitted if its digest were."""
    made.enforcement.apply()
    before, tried = {*made.cluster.objects}, []
    create = made.cluster.create

    def record(kind, document, **more):
        tried.append(document)
        return create(kind, document, **more)

    made.cluster.create = record
    made.enforcement.status()
    made.enforcement.status()

    first, second = tried
    assert first["metadata"]["name"] != second["metadata"]["name"] and first["kind"] == "PodTemplate"
    image = first["template"]["spec"]["containers"][0]["image"]
    assert image == "registry.test/curated/cscm-trial@sha256:" + "0" * 64
    assert {*made.cluster.objects} == before


def test_gradual_mode_removes_objects_of_deny_mode(made):
    """The hardening, and the label of Pod Security; labels of others stay."""
    made.enforcement.apply()
    labels = made.cluster.objects["Namespace", "", "apps"]["metadata"]["labels"]
    labels["team"] = "shop"
    gradual = in_mode(made, Mode.AUDIT)
    found = {each.code: each.fact for each in gradual.status().deviations}
    assert HARDENED[2] in found["enforcement.left"] and ENFORCE_LABEL in str(gradual.plan())
    assert f"remove {HARDENED[0]} {HARDENED[2]}" in {str(each) for each in gradual.plan()}
    assert HARDENED in made.cluster.objects and ENFORCE_LABEL in labels

    gradual.apply()

    labels = made.cluster.objects["Namespace", "", "apps"]["metadata"]["labels"]
    assert HARDENED not in made.cluster.objects and ENFORCE_LABEL not in labels and labels["team"] == "shop"
    assert gradual.apply() == () and codes(gradual) == []
    made.enforcement.apply()
    assert codes(made.enforcement) == [] and HARDENED in made.cluster.objects


def test_label_owned_by_another_manager_stays(made):
    """An administrator enforces Pod Security without the chain."""
    gradual = in_mode(made, Mode.WARN)
    gradual.apply()
    metadata = made.cluster.objects["Namespace", "", "apps"]["metadata"]
    metadata["labels"][ENFORCE_LABEL] = "restricted"
    fields: dict[str, Any] = {"f:metadata": {"f:labels": {".": {}, f"f:{ENFORCE_LABEL}": {}}}}
    metadata["managedFields"] += [
        {"manager": "kubectl-label", "operation": "Update", "fieldsV1": fields},
        {"manager": "cscm", "operation": "Update", "fieldsV1": fields},
        {"manager": "cscm", "operation": "Apply", "fieldsV1": {"f:spec": {}}},
    ]

    assert gradual.plan() == () and codes(gradual) == []


def test_removed_setting_removes_the_policy_of_kyverno(made):
    """Otherwise Kyverno went on to refuse. What refuses exceptions stays: others may need it."""
    key = EcdsaSigner().public
    with_kyverno = in_mode(made, Mode.DENY, Verification("registry.test", (key,), ("hello",), timedelta(days=30)))
    made.cluster.objects["CustomResourceDefinition", "", CRD] = {}
    with_kyverno.apply()
    assert VERDICTS in made.cluster.objects and "enforcement.left" not in codes(with_kyverno)
    assert codes(made.enforcement) == ["enforcement.left"]

    assert [str(each) for each in made.enforcement.apply()] == [f"remove {VERDICTS[0]} {VERDICTS[2]}"]

    assert VERDICTS not in made.cluster.objects and codes(made.enforcement) == []
    assert ("ValidatingAdmissionPolicy", "", "cscm-exceptions") in made.cluster.objects


def test_verdict_before_the_installation_is_a_clear_error(made):
    """The environment asks for enforcement, and nothing enforces it."""
    with pytest.raises(SettingInvalid, match="cscm enforce apply staging"):
        made.enforcement.follow(CURATED)

    made.enforcement.apply()
    made.enforcement.follow(CURATED)


@pytest.mark.parametrize(("state", "follows"), [(ACTIVE, True), (CHANGED, False)], ids=["active", "not active"])
def test_cluster_follows_all_verdicts_where_it_is_installed(made, state, follows):
    """An environment that nobody signed would say which verdicts may lapse."""
    made.enforcement.follow_all()
    assert not made.parameters.stored
    made.enforcement.apply()
    (name,) = made.parameters.stored
    admitted, _ = made.parameters.stored[name]
    made.parameters.put(name, admitted.with_image(CURATED, ""))

    replace(made.enforcement, state=state).follow_all()

    assert bool(made.parameters.stored[name][0].all) is not follows


def test_enforcement_is_not_installed_for_unsigned_environment(made):
    """Whoever changes the file would otherwise choose the mode, the cluster and the namespace."""
    changed = replace(made.enforcement, state=CHANGED)

    with pytest.raises(PolicyUnsigned, match=r"staging is not active.*not as signed by ann"):
        changed.apply()
    assert not made.cluster.objects and not made.parameters.stored
    assert changed.plan() == made.enforcement.plan()


def test_status_reports_unsigned_environment(made):
    """The cluster is as it was installed, and still the run of `monitor` is an alert."""
    made.enforcement.apply()
    status = replace(made.enforcement, state=CHANGED).status()

    assert [each.code for each in status.deviations] == ["enforcement.unsigned"] and status.is_weak
    assert "not as signed by ann" in status.deviations[0].fact


@pytest.mark.parametrize("installed", [True, False])
def test_follow_installed_publishes_verdict_only_if_installed(made, monkeypatch, installed):
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


def test_binding_to_foreign_parameters_is_not_followed(made):
    """Nothing that the chain did not make is written."""
    made.enforcement.apply()
    made.cluster.objects[BINDING]["spec"]["paramRef"]["name"] = "theirs"

    assert made.enforcement.follow_installed(CURATED) is False
    assert "theirs" not in made.parameters.stored


@pytest.mark.parametrize("text", ["a: [", "kind: Pod\nmetadata: {name: x}\n", "kind: Role\n", "- a\n", "---\n"])
def test_role_documents_with_other_objects_are_an_error(tmp_path, text):
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
