"""The policy with which Kyverno verifies verdicts, and what is reported if Kyverno does not apply it.

What it admits and refuses is tested with Kyverno itself (`tests/integration/kubernetes/test_kyverno.py`).
"""

import re
from copy import deepcopy
from dataclasses import replace
from datetime import timedelta

import pytest

from supply_chain.errors import SettingInvalid
from supply_chain.execution.enforcement.admitted import AdmissionPorts, AdmittedImages
from supply_chain.execution.enforcement.enforcement import Enforcement
from supply_chain.execution.enforcement.installation import BOOTSTRAP, install, read_status
from supply_chain.execution.enforcement.policies import EnforcedNamespace, Mode, Policies
from supply_chain.execution.enforcement.verification import CRD, POLICY_KIND, WEBHOOKS, Verification, split_pem_keys
from supply_chain.model.tier import TierName
from supply_chain.policy.activation import PolicyState
from tests.support.memory_admission import MemoryAdmissionCluster, MemoryParameters
from tests.support.signer import EcdsaSigner

OLD, NEW = EcdsaSigner().public, EcdsaSigner().public
MADE = Verification("registry.test:5000", (NEW, OLD), ("hello", "team/shop"), timedelta(days=30), insecure=True)
NOBODY = AdmittedImages(environment="staging", repositories="registry.test:5000/curated/", images={})
DEFINITION = ("CustomResourceDefinition", "", CRD)
WEBHOOK = ("ValidatingWebhookConfiguration", "", WEBHOOKS)
POLICY = (POLICY_KIND, "", "cscm-verdicts-staging")
NAME = "kubernetes.io/metadata.name"


def place(mode=Mode.DENY, verification=MADE):
    return EnforcedNamespace("staging", "apps", mode, parameters="admitted-apps-1", verification=verification)


def spec(mode=Mode.DENY, verification=MADE):
    return Policies().list_namespace_objects(place(mode, verification))[-1]["spec"]


def form(verification=MADE):
    """Return the form of an image that the policy does not refuse outright."""
    expression = next(
        each["expression"] for each in spec(verification=verification)["variables"] if each["name"] == "foreign"
    )
    found = re.search(r'matches\("(.*?)"\)', expression)
    assert found
    return re.compile(found[1].replace("\\\\", "\\"))


def test_policy_has_attestor_per_application_and_key():
    """Kyverno looks for verdicts only where the policy says; an earlier key counts until it is removed."""
    found = {(each["cosign"]["source"]["repository"], each["cosign"]["key"]["data"]) for each in spec()["attestors"]}

    begin = "registry.test:5000/verdicts/deploy/staging"
    assert found == {(f"{begin}/{name}", key) for name in ("hello", "team/shop") for key in (NEW, OLD)}
    assert "[attestors[p.application + '/0'], attestors[p.application + '/1']]" in str(spec()["validations"])
    assert split_pem_keys(NEW + OLD, "execution") == (NEW, OLD)


@pytest.mark.parametrize(
    ("image", "fits"),
    [
        (f"registry.test:5000/curated/hello@sha256:{'a' * 64}", True),
        (f"registry.test:5000/curated/team/shop@sha256:{'a' * 64}", True),
        (f"registry.test:5000/curated/hello:1@sha256:{'a' * 64}", False),
        (f"registryXtest:5000/curated/hello@sha256:{'a' * 64}", False),
        (f"evil/registry.test:5000/curated/hello@sha256:{'a' * 64}", False),
        (f"registry.test:5000/curated/hello@sha256:{'a' * 64}\n", False),
        (f"registry.test:5000/curated/hello@sha256:{'a' * 63}", False),
        ("registry.test:5000/curated/hello:1", False),
        (f"registry.test:5000/verdicts/hello@sha256:{'a' * 64}", False),
    ],
)
def test_only_images_of_the_registry_named_by_digest_have_the_right_form(image, fits):
    """Kyverno itself lets an image through that matches no pattern."""
    assert bool(form().fullmatch(image) and form().search(image)) is fits


def test_environment_without_applications_admits_nothing():
    """An empty list in CEL has no type to look for a text in."""
    made = spec(verification=replace(MADE, applications=()))

    assert made["attestors"] == [] and "&& false" in str(made["variables"])


def test_subresource_of_ephemeral_containers_is_judged():
    """`pods` does not contain it."""
    (rule,) = spec()["matchConstraints"]["resourceRules"]

    assert rule["resources"] == ["pods", "pods/ephemeralcontainers"] and rule["operations"] == ["CREATE", "UPDATE"]


@pytest.mark.parametrize(
    ("mode", "actions", "failure"),
    [(Mode.DENY, ["Deny", "Audit"], "Fail"), (Mode.WARN, ["Warn"], "Ignore"), (Mode.AUDIT, ["Audit"], "Ignore")],
)
def test_only_deny_refuses_also_without_kyverno(mode, actions, failure):
    """In the other modes, a stopped Kyverno stops no pod."""
    assert (spec(mode)["validationActions"], spec(mode)["failurePolicy"]) == (actions, failure)


def test_credentials_are_those_of_the_settings():
    """A Secret where there is one, else the role of Kyverno's pod."""
    assert spec()["credentials"] == {"allowInsecureRegistry": True, "providers": ["amazon"]}
    given = replace(MADE, secret="ecr", insecure=False)
    assert spec(verification=given)["credentials"] == {"allowInsecureRegistry": False, "secrets": ["ecr"]}


@pytest.fixture
def cluster():
    """A cluster with everything, of which Kyverno says that it applies the policy."""
    made = MemoryAdmissionCluster()
    install(Policies().list_namespace_objects(place()), made)
    made.objects[POLICY]["status"] = {"conditionStatus": {"ready": True}}
    webhook = {
        "clientConfig": {"service": {"path": "/ivpol/validate/cscm-verdicts-staging"}},
        "failurePolicy": "Fail",
        "namespaceSelector": {
            "matchLabels": {NAME: "apps"},
            "matchExpressions": [{"key": NAME, "operator": "NotIn", "values": ["kube-system"]}],
        },
        "objectSelector": {},
        "rules": deepcopy(spec()["matchConstraints"]["resourceRules"]),
        "matchConditions": [*spec()["matchConditions"], {"name": "kyverno-exclude", "expression": BOOTSTRAP}],
    }
    made.objects[WEBHOOK] = {"webhooks": [webhook]}
    made.objects["Namespace", "", "apps"]["metadata"]["labels"][NAME] = "apps"
    made.objects[DEFINITION] = {}
    return made


def codes(cluster):
    wanted = Policies().list_namespace_objects(place())
    status = read_status(place(), wanted, NOBODY, NOBODY, cluster, POLICY[2])
    return [each.code for each in status.deviations]


def test_kyverno_that_applies_the_policy_is_no_deviation(cluster):
    """Also where it runs outside of the cluster."""
    assert codes(cluster) == []
    cluster.objects[WEBHOOK]["webhooks"][0]["clientConfig"] = {
        "url": "https://127.0.0.1:9443/ivpol/validate/cscm-verdicts-staging"
    }
    assert codes(cluster) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda objects: objects.pop(WEBHOOK),
        lambda objects: objects[WEBHOOK].update(webhooks=[]),
        lambda objects: objects[WEBHOOK]["webhooks"][0].update(failurePolicy="Ignore"),
        lambda objects: objects[POLICY].update(status={"conditionStatus": {"ready": False}}),
        lambda objects: objects[POLICY].pop("status"),
    ],
)
def test_kyverno_that_does_not_apply_the_policy_is_reported(cluster, change):
    """Its webhooks go with it when it is stopped, and then it refuses nothing."""
    change(cluster.objects)

    assert codes(cluster) == ["enforcement.unverified"]


def leave_out(**fields):
    return lambda webhook: webhook.update(fields)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (leave_out(namespaceSelector={"matchExpressions": [{"key": NAME, "operator": "NotIn", "values": ["apps"]}]}),
         "namespaceSelector"),
        (leave_out(namespaceSelector={"matchExpressions": [{"key": "team", "operator": "Exists"}]}),
         "namespaceSelector"),
        (leave_out(objectSelector={"matchExpressions": [{"key": "skip", "operator": "DoesNotExist"}]}),
         "objectSelector"),
        (leave_out(rules=[]), "rules"),
        (lambda it: it["rules"][0].update(resources=["pods"]), "rules"),
        (lambda it: it["rules"][0].update(operations=["CREATE"]), "rules"),
        (lambda it: it["rules"][0].update(apiGroups=["apps"]), "rules"),
        (lambda it: it["rules"][0].update(apiVersions=["v2"]), "rules"),
        (lambda it: it["rules"][0].update(scope="Cluster"), "rules"),
        (lambda it: it["matchConditions"].append({"name": "a", "expression": "request.userInfo.username != 'mallory'"}),
         "matchConditions"),
    ],
)  # fmt: skip
def test_webhook_that_selects_less_than_policy_is_reported(cluster, change, field):
    """Kyverno's configuration changes it, and the policy stays as it was generated."""
    change(cluster.objects[WEBHOOK]["webhooks"][0])

    (found,) = read_status(
        place(), Policies().list_namespace_objects(place()), NOBODY, NOBODY, cluster, POLICY[2]
    ).deviations
    assert found.code == "enforcement.webhook-selects-less" and found.fact.endswith(f"by {field}")


@pytest.mark.parametrize(
    "change",
    [
        leave_out(matchConditions=[], namespaceSelector={}),
        leave_out(rules=[{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}]),
        lambda it: it["rules"][0].update(resources=["*", "pods/*"]),
    ],
)
def test_webhook_that_judges_more_is_no_deviation(cluster, change):
    change(cluster.objects[WEBHOOK]["webhooks"][0])

    assert codes(cluster) == []


def test_exception_that_was_made_before_is_refused_and_reported(world, cluster):
    """The policy against exceptions judges later ones only; one from other policies is not the chain's."""
    parameters = cluster.parameters = MemoryParameters()
    ports = AdmissionPorts(
        "registry.test:5000", world.verdict_store(TierName.EXECUTION), world.ecr, lambda _: (), parameters
    )
    enforcement = Enforcement(
        place(), lambda: cluster, ports, (), PolicyState(active=True, why=""), frozenset({"staging"})
    )
    for name, policy in (("other", "theirs"), ("ours", "cscm-verdicts-staging")):
        assert enforcement.apply() is not None and enforcement.status().deviations == ()
        metadata = {"name": name, "namespace": "tools"}
        cluster.objects["PolicyException", "tools", name] = {
            "metadata": metadata, "spec": {"policyRefs": [{"name": policy, "kind": POLICY_KIND}]},
        }  # fmt: skip

    with pytest.raises(SettingInvalid, match="tools/ours\n"):
        enforcement.apply()
    (found,) = enforcement.status().deviations
    assert found.code == "enforcement.excepted" and "PolicyException tools/ours" in found.fact
    del cluster.objects[POLICY]
    assert "enforcement.excepted" not in {each.code for each in enforcement.status().deviations}


def test_removed_policy_is_reported_once(cluster):
    """Its webhook goes with it."""
    del cluster.objects[POLICY]

    assert codes(cluster) == ["enforcement.removed"]


def test_changed_policy_is_reported(cluster):
    """Whoever may change it can admit anything."""
    cluster.objects[POLICY]["spec"]["validations"].pop()

    assert codes(cluster) == ["enforcement.weakened"]


def test_cluster_without_kyverno_is_a_clear_error(world, cluster):
    """Before anything is installed; and `status` still reports."""
    parameters = cluster.parameters = MemoryParameters()
    ports = AdmissionPorts(
        "registry.test:5000", world.verdict_store(TierName.EXECUTION), world.ecr, lambda _: (), parameters
    )
    enforcement = Enforcement(
        place(), lambda: cluster, ports, (), PolicyState(active=True, why=""), frozenset({"staging"})
    )
    assert enforcement.plan()
    enforcement.apply()
    assert enforcement.status().deviations == ()

    cluster.objects.clear()
    for act in (enforcement.plan, enforcement.apply):
        with pytest.raises(SettingInvalid, match="Kyverno is not installed"):
            act()
    assert not cluster.objects
    assert "enforcement.removed" in {each.code for each in enforcement.status().deviations}


@pytest.mark.parametrize("mode", [*Mode])
def test_status_notes_missing_preview_of_kyverno_refusals(world, cluster, mode):
    """An empty list of what `deny` would refuse is otherwise read as the permission to turn it on."""
    parameters = cluster.parameters = MemoryParameters()
    ports = AdmissionPorts(
        "registry.test:5000", world.verdict_store(TierName.EXECUTION), world.ecr, lambda _: (), parameters
    )
    active, environments = PolicyState(active=True, why=""), frozenset({"staging"})
    enforcement = Enforcement(place(mode), lambda: cluster, ports, (), active, environments)
    enforcement.apply()

    status = enforcement.status()

    assert (status.would_refuse, status.unchecked_policy) == ((), "cscm-verdicts-staging")
    assert str(status).endswith("\n  deny may refuse more: the Kyverno policy cscm-verdicts-staging was not evaluated")
    alone = replace(enforcement, place=place(mode, verification=None))
    assert alone.status().unchecked_policy == "" and "Kyverno" not in str(
        alone.status().model_copy(update={"deviations": ()})
    )
