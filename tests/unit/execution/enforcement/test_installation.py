"""What `cscm enforce` installs in a cluster, and how it recognises that somebody changed it."""

from copy import deepcopy

import pytest

from supply_chain.execution.enforcement.admitted import AdmittedImages
from supply_chain.execution.enforcement.installation import find_unadmitted, install, read_objects, read_status
from supply_chain.execution.enforcement.policies import EnforcedNamespace, Mode, Policies, make_namespace_labels
from tests.support.admission import ROLES
from tests.support.memory_admission import MemoryAdmissionCluster, key_of

IMAGE = "registry.test/curated/hello@sha256:" + "a" * 64
ADMITTED = AdmittedImages(
    environment="staging", repositories="registry.test/curated/", images={"hello": {"sha256:" + "a" * 64: ""}}
)
BINDING = ("ValidatingAdmissionPolicyBinding", "", "cscm-admitted-images-staging")
POLICY = ("ValidatingAdmissionPolicy", "", "cscm-admitted-images")
VERSIONS = [f"pod-security.kubernetes.io/{level}-version" for level in ("enforce", "warn", "audit")]


def place(mode=Mode.DENY):
    return EnforcedNamespace("staging", "apps", mode, parameters="admitted-apps-1")


def generated(mode=Mode.DENY):
    return (*Policies().list_cluster_objects(), *Policies().list_namespace_objects(place(mode)))


@pytest.fixture
def cluster():
    """A cluster in which everything is installed."""
    made = MemoryAdmissionCluster()
    install(generated(), made)
    return made


def status(cluster, mode=Mode.DENY, found=ADMITTED):
    return read_status(place(mode), generated(mode), ADMITTED, found, cluster)


def codes(cluster, **more):
    return [each.code for each in status(cluster, **more).deviations]


def pod(name, *images, **more):
    return {
        "kind": "Pod",
        "metadata": {"name": name, "namespace": "apps"},
        "spec": {"containers": [{"name": "app", "image": image} for image in images]},
        **more,
    }


def test_installation_is_complete_and_done_once(cluster):
    """A second one changes nothing, and nothing differs."""
    assert install(generated(), cluster) == ()
    assert codes(cluster) == []


def test_dry_run_lists_changes_and_makes_none():
    """The plan has every object, in the order in which they are made."""
    cluster = MemoryAdmissionCluster()
    changes = install(generated(), cluster, dry_run=True)

    assert str(changes[0]) == "create ValidatingAdmissionPolicy cscm-admitted-images"
    assert len(changes) == len(generated()) and not cluster.objects


def test_only_a_token_of_the_publisher_writes_parameters():
    """A name alone can be impersonated, and a pod of the service account would get a token."""
    kind = "ValidatingAdmissionPolicy"
    found = {
        each["metadata"]["name"]: each["spec"] for each in Policies().list_cluster_objects() if each["kind"] == kind
    }

    (writes,) = found["cscm-writer"]["validations"]
    assert "== 'system:serviceaccount:cscm-system:cscm-publisher' && " in writes["expression"]
    identified = "?'authentication.kubernetes.io/credential-id'].orValue([]).exists(i, i.startsWith('JTI='))"
    assert writes["expression"].endswith(identified)
    where = {"matchLabels": {"kubernetes.io/metadata.name": "cscm-system"}}
    for name in ("cscm-writer", "cscm-publisher", "cscm-token"):
        assert found[name]["failurePolicy"] == "Fail" and "Deny" in _binding_of(name)["validationActions"]
        assert _binding_of(name)["matchResources"]["namespaceSelector"] == where
    (rule,) = found["cscm-publisher"]["matchConstraints"]["resourceRules"]
    assert (rule["resources"], rule["operations"]) == (["pods"], ["CREATE"])
    assert found["cscm-publisher"]["validations"][0]["expression"].endswith("!= 'cscm-publisher'")


def test_token_of_publisher_needs_permission_of_the_documented_role():
    """The role `edit` of the namespace gives tokens of every service account, but not this permission."""
    policy, binding = (
        each["spec"] for each in Policies().list_cluster_objects() if each["metadata"]["name"] == "cscm-token"
    )
    assert binding["policyName"] == "cscm-token"
    (rule,), (validation,) = policy["matchConstraints"]["resourceRules"], policy["validations"]
    assert (rule["resources"], rule["operations"]) == (["serviceaccounts/token"], ["CREATE"])
    assert validation["expression"] == (
        "request.name != 'cscm-publisher' || "
        "authorizer.group('cscm').resource('admissions').namespace('cscm-system').check('publish').allowed()"
    )
    roles = [each for each in read_objects(ROLES) if each["metadata"]["name"] == "cscm-execution"]
    given = [each for each in roles[0]["rules"] if each["apiGroups"] == ["cscm"]]
    assert roles[0]["metadata"]["namespace"] == "cscm-system"
    assert given == [{"apiGroups": ["cscm"], "resources": ["admissions"], "verbs": ["publish"]}]


def _binding_of(policy):
    (binding,) = (
        each["spec"]
        for each in Policies().list_cluster_objects()
        if each["kind"] == "ValidatingAdmissionPolicyBinding" and each["spec"]["policyName"] == policy
    )
    return binding


def weaken(**fields):
    return lambda document: document["spec"].update(fields)


@pytest.mark.parametrize(
    ("key", "change", "path"),
    [
        (POLICY, weaken(failurePolicy="Ignore"), "spec.failurePolicy"),
        (POLICY, weaken(matchConditions=[{"name": "never", "expression": "false"}]), "spec.matchConditions"),
        (POLICY, lambda it: it["spec"]["matchConstraints"].update(objectSelector={"matchLabels": {"a": "b"}}),
         "spec.matchConstraints.objectSelector.matchLabels"),
        (POLICY, lambda it: it["spec"]["matchConstraints"]["resourceRules"].pop(),
         "spec.matchConstraints.resourceRules"),
        (POLICY, lambda it: it["spec"]["validations"][0].update(expression="true"), "spec.validations[0].expression"),
        (BINDING, weaken(validationActions=["Warn"]), "spec.validationActions"),
        (BINDING, lambda it: it["spec"]["paramRef"].update(parameterNotFoundAction="Allow"),
         "spec.paramRef.parameterNotFoundAction"),
        (BINDING, lambda it: it["spec"]["matchResources"].update(namespaceSelector={"matchLabels": {"a": "b"}}),
         "spec.matchResources.namespaceSelector.matchLabels"),
        (BINDING, lambda it: it["spec"]["matchResources"].update(excludeResourceRules=[{"resources": ["pods"]}]),
         "spec.matchResources.excludeResourceRules"),
        (("Namespace", "", "apps"), lambda it: it["metadata"]["labels"].pop("pod-security.kubernetes.io/enforce"),
         "metadata.labels.pod-security.kubernetes.io/enforce"),
        *((("Namespace", "", "apps"), lambda it, key=key: it["metadata"]["labels"].update({key: "v1.0"}),
           f"metadata.labels.{key}") for key in VERSIONS),
    ],
)  # fmt: skip
def test_weakened_enforcement_is_a_deviation_and_is_repaired(cluster, key, change, path):
    """Also a field that somebody added, which server-side apply would leave there."""
    change(cluster.objects[key])

    found = status(cluster).deviations
    assert [each.code for each in found] == ["enforcement.weakened"] and path in found[0].fact

    changes = install(generated(), cluster)
    assert [each.action for each in changes] == ["change"] and codes(cluster) == []


@pytest.mark.parametrize("document", generated(), ids=lambda each: "/".join(key_of(each)))
def test_removed_object_is_a_deviation_and_comes_back(cluster, document):
    """Whichever it is."""
    del cluster.objects[key_of(document)]

    (found,) = status(cluster).deviations
    assert found.code == "enforcement.removed" and "`cscm enforce apply ENVIRONMENT`" in found.remedy
    assert [each.action for each in install(generated(), cluster)] == ["create"]


def test_labels_and_annotations_of_others_are_no_deviation(cluster):
    """Only what was generated counts in the metadata."""
    cluster.objects["Namespace", "", "apps"]["metadata"]["labels"]["team"] = "shop"
    cluster.objects[POLICY]["metadata"]["annotations"] = {"note": "reviewed"}

    assert codes(cluster) == []


def test_parameters_that_verdicts_do_not_explain_are_a_deviation(cluster):
    """Missing ones refuse everything; other ones may admit too much."""
    forged = ADMITTED.model_copy(update={"images": {"hello": {"sha256:" + "f" * 64: ""}}})

    assert codes(cluster, found=None) == ["enforcement.no-parameters"]
    assert codes(cluster, found=forged) == ["enforcement.parameters"]


def test_pod_with_an_image_that_is_not_admitted_bypassed_the_policy(cluster):
    """It was started before, on its node, or while the policy was away; a pod that ended does not count."""
    for each in (pod("good", IMAGE), pod("bad", IMAGE, "other:latest"), pod("over", "x", status={"phase": "Failed"})):
        cluster.objects[key_of(each)] = each

    found = status(cluster).deviations
    assert [each.code for each in found] == ["enforcement.bypassed"] and "bad" in found[0].fact


def test_gradual_modes_report_images_that_deny_would_refuse(cluster):
    """Adopting begins with a report, which is no deviation."""
    template = {"template": {"spec": {"initContainers": [{"image": "tool:1"}], "containers": [{"image": IMAGE}]}}}
    for each in (
        pod("old", "hello:latest"),
        {"kind": "Deployment", "metadata": {"name": "web", "namespace": "apps"}, "spec": template},
        {
            "kind": "CronJob",
            "metadata": {"name": "tidy", "namespace": "apps"},
            "spec": {"jobTemplate": {"spec": template}},
        },
    ):
        cluster.objects[key_of(each)] = each
    install(generated(Mode.WARN), cluster)

    found = status(cluster, mode=Mode.WARN)
    assert found.deviations == ()
    assert [str(each).split(": it")[0] for each in found.would_refuse] == [
        "Pod old: hello:latest", "Deployment web: tool:1", "CronJob tidy: tool:1",
    ]  # fmt: skip


def insecure(cluster, *workloads, mode=Mode.WARN, found=ADMITTED):
    """Return what `deny` would refuse of workloads."""
    for each in workloads:
        cluster.objects[key_of(each)] = each
    install(generated(mode), cluster)
    return [f"{each.kind} {each.name}: {each.why}" for each in status(cluster, mode=mode, found=found).would_refuse]


def with_host_processes(name, **more):
    document = pod(name, IMAGE, **more)
    return {**document, "spec": {**document["spec"], "hostPID": True}}


@pytest.mark.parametrize("mode", Mode)
def test_status_reports_pods_that_pod_security_would_refuse(cluster, mode):
    """Also in a template; of a pod that ended, nothing is refused any more, and the hardened profile is added."""
    root = pod("root", IMAGE)
    root["spec"]["ephemeralContainers"] = [{"name": "debug", "image": IMAGE, "securityContext": {"runAsUser": 0}}]
    template = {"template": {"spec": with_host_processes("x")["spec"]}}
    web = {"kind": "Deployment", "metadata": {"name": "web", "namespace": "apps"}, "spec": template}

    found = insecure(
        cluster, pod("good", IMAGE), root, with_host_processes("over", status={"phase": "Succeeded"}), web, mode=mode
    )

    violation = 'would violate PodSecurity "restricted:latest": '
    assert found == [f"Pod root: {violation}runAsUser=0", f"Deployment web: {violation}host namespaces (hostPID=true)"]
    for each in cluster.tried:
        assert each["template"]["spec"]["securityContext"]["runAsNonRoot"] is True
        assert each["template"]["spec"]["containers"][0]["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_pods_of_one_controller_are_tried_once(cluster):
    """They differ by name, node and the volume of their token."""
    for number in range(3):
        each = pod(f"hello-{number}", IMAGE)
        each["spec"] |= {"nodeName": f"n{number}", "volumes": [{"name": f"kube-api-access-{number}", "emptyDir": {}}]}
        cluster.objects[key_of(each)] = each

    assert insecure(cluster) == [] and len(cluster.tried) == 1


def test_workload_with_another_image_is_tried_with_admitted_one(cluster):
    """Otherwise its image is refused first; without any admitted image, everything is."""
    other = with_host_processes("other")
    other["spec"]["containers"][0]["image"] = "tool:1"
    other["spec"]["volumes"] = [{"name": "files", "image": {"reference": "tool:1", "pullPolicy": "Always"}}]

    assert len(insecure(cluster, other, mode=Mode.DENY)) == 2  # the image and the processes
    (trial,) = cluster.tried
    assert trial["template"]["spec"]["containers"][0]["image"] == IMAGE
    assert trial["template"]["spec"]["volumes"] == [
        {"name": "v0", "image": {"reference": IMAGE, "pullPolicy": "Always"}}
    ]  # fmt: skip
    assert len(insecure(cluster, mode=Mode.DENY, found=None)) == 1 and len(cluster.tried) == 1


def test_trial_that_is_refused_is_reported(cluster):
    """Who may not try is not told that all is well."""
    cluster.refused = IMAGE

    assert insecure(cluster, pod("p", IMAGE)) == [f"Pod p: {IMAGE} is refused"]


def test_every_place_of_an_image_in_a_pod_is_read():
    """Volumes can be images too."""
    spec = {
        "containers": [{"image": "a"}],
        "initContainers": [{"image": "b"}],
        "ephemeralContainers": [{"image": "c"}],
        "volumes": [{"name": "d", "image": {"reference": "d"}}, {"name": "e", "emptyDir": {}}],
    }
    kinds = [
        {"kind": "Pod", "metadata": {"name": "p"}, "spec": spec},
        {"kind": "PodTemplate", "metadata": {"name": "t"}, "template": {"spec": spec}},
    ]

    assert [each.image for each in find_unadmitted(kinds, ADMITTED)] == [*"abcd"] * 2


def test_gradual_modes_change_and_refuse_nothing():
    """An API server refuses without parameters whatever the actions are, so missing ones are allowed there."""
    assert any("Mutating" in each["kind"] and "staging" in each["metadata"]["name"] for each in generated())
    for mode, action in ((Mode.WARN, "Warn"), (Mode.AUDIT, "Audit")):
        binding = next(each for each in generated(mode) if key_of(each) == BINDING)
        assert binding["spec"]["validationActions"] == [action]
        assert binding["spec"]["paramRef"]["parameterNotFoundAction"] == "Allow"
        assert "pod-security.kubernetes.io/enforce" not in make_namespace_labels(mode)
        assert not any("Mutating" in each["kind"] and "staging" in each["metadata"]["name"] for each in generated(mode))


def test_other_prefix_renames_all_objects():
    """Two supply chains can use one cluster; nothing else of the objects changes."""
    first, second = Policies().list_cluster_objects(), Policies("other").list_cluster_objects()

    names = [(a["metadata"]["name"], b["metadata"]["name"]) for a, b in zip(first, second, strict=True)]
    assert all(a == b.replace("other-", "cscm-") for a, b in names)
    assert deepcopy(first[0]["spec"]) == second[0]["spec"]


@pytest.mark.parametrize(("labels", "refused"), [({"cscm.quarantine": "hello"}, 0), ({}, 1), (None, 1)])
def test_collector_counts_as_admitted_in_quarantine_only(labels, refused):
    """Elsewhere, nobody may run its image."""
    admitted = ADMITTED.with_collector("registry.test/curated/base/python@sha256:" + "c" * 64)
    document = pod("p", IMAGE, admitted.collector)
    document["metadata"]["labels"] = labels

    assert len(find_unadmitted([document], admitted)) == refused
    assert len(find_unadmitted([document], ADMITTED)) == 1
