"""A namespace as a target: the contract of targets, in a cluster in memory."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from supply_chain.errors import AwsFailed, ClusterRefused, ClusterUnavailable, DeploymentFailed, SettingInvalid
from supply_chain.execution.kubernetes.cluster import CONFIG_MAPS, DEPLOYMENTS, NETWORK_POLICIES, SERVICES
from supply_chain.execution.kubernetes.rollout import find_stuck
from supply_chain.model.declaration import Classification
from supply_chain.model.image import ImageRef
from tests.contract.target import TargetContract
from tests.support.memory_cluster import NOON, SAME

BAD = "sha256:" + "b" * 64
TOKEN = {"sources": [{"serviceAccountToken": {"path": "token"}}]}


class TestKubernetesTarget(TargetContract):
    """The contract."""


def test_refused_trial_changes_nothing(harness, cluster):
    """Policies, quotas and conflicts are met before anything is applied."""
    cluster.failing["dry-run Deployment"] = ClusterRefused("no tags here\nno")

    with pytest.raises(ClusterRefused, match="no tags here"):
        harness.deploy(harness.good())

    assert cluster.applied == [] and cluster.objects == {}


def test_error_of_failed_first_deployment_names_no_earlier_image(harness):
    """Nobody looks for pods that never ran."""
    with pytest.raises(DeploymentFailed, match="What was there before, if anything, was restored"):
        harness.deploy(BAD)


def test_refused_object_restores_those_before_it(harness, cluster):
    """A policy may change between the trial and the application."""
    harness.deploy(harness.good())
    before = {key: value.get("spec") for key, value in cluster.objects.items()}
    cluster.failing["apply Deployment"] = ClusterRefused("refused now\nno")
    harness.declaration = harness.declaration.model_copy(
        update={"runtime": harness.declaration.runtime.model_copy(update={"ports": (9090,)})}
    )

    with pytest.raises(ClusterRefused, match=r"(?s)refused now.*Deployment hello was not restored: refused now"):
        harness.deploy(harness.good())

    assert {key: value.get("spec") for key, value in cluster.objects.items()} == before


def test_failed_deployment_names_objects_not_restored(harness, cluster):
    """A restored object and one that is left half deployed have to be told apart."""
    harness.deploy(harness.good())

    with pytest.raises(DeploymentFailed, match="was restored"):
        harness.deploy(BAD)

    cluster.failing["apply Service"] = ClusterRefused("refused now\nno")
    with pytest.raises(ClusterRefused) as raised:
        harness.deploy(BAD)

    assert "Service hello was not restored: refused now" in str(raised.value)
    assert "was restored" not in str(raised.value)


def test_restoring_survives_outage_of_api_server(harness, cluster, monkeypatch):
    """The new pods would replace the earlier ones otherwise, once it answers again."""
    first, apply, paused = harness.deploy(harness.good()), cluster.apply, list[float]()

    def flaky(kind, document, *, dry_run=False):
        image = document["spec"]["template"]["spec"]["containers"][0]["image"] if kind is DEPLOYMENTS else ""
        if image.endswith(first.digest) and not paused:
            raise ClusterUnavailable("it is down\nwait")
        return apply(kind, document, dry_run=dry_run)

    monkeypatch.setattr(cluster, "apply", flaky)
    monkeypatch.setattr("supply_chain.execution.kubernetes.rollout.time.sleep", paused.append)

    with pytest.raises(DeploymentFailed, match="was restored"):
        harness.deploy(BAD)

    assert paused == [0.25] and harness.running() == {first.digest}


def test_failed_first_deployment_leaves_the_namespace_closed(harness, cluster):
    """Another application may have been deployed meanwhile, which found the policy there."""
    with pytest.raises(DeploymentFailed):
        harness.deploy(BAD)

    assert [name for _, _, name in cluster.objects] == ["cscm-deny-all"]


def test_rollout_survives_outage_of_api_server(harness, cluster, monkeypatch):
    """Pods go on without it."""
    waited: list[float] = []
    read = cluster.read

    def flaky(kind, name, namespace=""):
        if "Deployment hello" in cluster.applied and not waited:
            raise ClusterUnavailable("it is down\nwait")
        return read(kind, name, namespace)

    monkeypatch.setattr(cluster, "read", flaky)
    harness.target = replace(harness.target, wait=waited.append)

    assert harness.deploy(harness.good()).changed and waited == [0.25]


def test_confidential_image_is_refused_before_verdict_is_recorded(harness):
    """A node would pull its plain layers without the grant."""
    harness.declaration = harness.declaration.model_copy(update={"classification": Classification.CONFIDENTIAL})
    asked: list[str] = []

    with pytest.raises(SettingInvalid, match="confidential"):
        harness.deploy(harness.good(), before_start=lambda: asked.append("verdict"))

    assert asked == []


def add_old_settings(cluster):
    (current,) = cluster.list(CONFIG_MAPS)
    cluster.objects["ConfigMap", "shop", "old"] = {**current, "metadata": {**current["metadata"], "name": "old"}}


def test_settings_of_replaced_deployments_are_removed(harness, cluster):
    """Those that a ReplicaSet refers to stay for a rollback."""
    harness.deploy(harness.good())
    add_old_settings(cluster)

    harness.target.remove_unneeded(ImageRef(repository="curated/hello", digest=BAD))

    assert cluster.deleted == ["ConfigMap old"] and len(cluster.list(CONFIG_MAPS)) == 1


@pytest.mark.parametrize("error", [ClusterRefused, AwsFailed])
def test_settings_that_cannot_be_removed_do_not_fail_deployment(harness, cluster, caplog, error):
    """It serves. A client of EKS renews its token meanwhile."""
    harness.deploy(harness.good())
    add_old_settings(cluster)
    cluster.failing["delete ConfigMap"] = error("not allowed\nno")

    harness.target.remove_unneeded(ImageRef(repository="curated/hello", digest=BAD))

    assert "not allowed" in caplog.text


@pytest.mark.parametrize(
    ("kind", "name", "change", "path"),
    [
        (DEPLOYMENTS, "hello", {"replicas": 1}, "spec.replicas"),
        (SERVICES, "hello", {"selector": {"app": "mine"}}, "spec.selector.app"),
        (NETWORK_POLICIES, "cscm-deny-all", {"egress": [{}]}, "spec.egress"),
    ],
    ids=str,
)
def test_changed_object_is_drift(harness, cluster, kind, name, change, path):
    """An addition of somebody else is found too."""
    deployment = harness.deploy(harness.good())
    cluster.change(kind, name, "shop", **change)

    (observation,) = harness.target.monitor([deployment.expected])

    codes = [each.code for each in observation.deviations]
    assert "drift.object" in codes
    assert path in next(each.fact for each in observation.deviations if each.code == "drift.object")


@pytest.mark.parametrize(
    ("change", "path"),
    [
        ({"runAsUser": 0}, "runAsUser"),
        ({"runAsNonRoot": False}, "runAsNonRoot"),
        ({"allowPrivilegeEscalation": None}, "allowPrivilegeEscalation"),
    ],
    ids=str,
)
def test_false_and_0_differ_from_missing_value(harness, cluster, change, path):
    """0 is root, and without `allowPrivilegeEscalation: false` a program may become it."""
    deployment = harness.deploy(harness.good())
    template = cluster.objects["Deployment", "shop", "hello"]["spec"]["template"]
    context = template["spec"]["containers"][0]["securityContext"]
    context |= change
    for key in [key for key, value in context.items() if value is None]:
        del context[key]

    (observation,) = harness.target.monitor([deployment.expected])

    facts = {each.code: each.fact for each in observation.deviations}
    assert facts["drift.object"].endswith(f"containers[0].securityContext.{path}")
    assert facts["drift.pod"].endswith(f"containers.application.securityContext.{path}")


def test_deleted_object_is_missing(harness, cluster):
    """A Service that is gone gets no requests to the pods."""
    deployment = harness.deploy(harness.good())
    cluster.delete(SERVICES, "hello", "shop")

    assert harness.codes(deployment) == [("hello", ["drift.missing"])]


def test_deleted_deployment_is_missing(harness, cluster):
    """Nothing runs then."""
    deployment = harness.deploy(harness.good())
    cluster.delete(DEPLOYMENTS, "hello", "shop")

    (observation,) = harness.target.monitor([deployment.expected])

    assert (observation.status, observation.healthy, observation.running) == ("missing", False, "")
    assert [each.code for each in observation.deviations] == ["drift.missing"]


def test_deployment_without_pods_is_not_healthy(harness, cluster):
    """To its controller, a Deployment that somebody scaled to none is complete."""
    deployment = harness.deploy(harness.good())
    cluster.change(DEPLOYMENTS, "hello", "shop", replicas=0)
    cluster.objects["Deployment", "shop", "hello"]["status"] |= {
        "updatedReplicas": 0, "replicas": 0, "availableReplicas": 0,
    }  # fmt: skip
    for key in [key for key in cluster.objects if key[0] == "Pod"]:
        del cluster.objects[key]

    (observation,) = harness.target.monitor([deployment.expected])

    assert (observation.status, observation.healthy, observation.running) == ("0 pods ready", False, "")
    assert [each.code for each in observation.deviations] == ["drift.object"]


@pytest.mark.parametrize(
    ("change", "replaced"),
    [({"ephemeralContainers": [{"name": "debugger"}]}, True), ({}, False)],
    ids=["added", "none"],
)
def test_deployment_again_replaces_changed_pods(harness, cluster, change, replaced):
    """To apply the same objects would leave the pods as they are."""
    first = harness.deploy(harness.good())
    pod = next(each for key, each in cluster.objects.items() if key[0] == "Pod")
    pod["spec"] |= change

    again = harness.deploy(first.digest)

    assert (again.changed, again.container != first.container) == (replaced, replaced)
    assert harness.codes(again) == [("hello", [])]


def test_object_that_cluster_would_refuse_is_not_compared(harness, cluster):
    """Nobody knows then, which is no pass."""
    deployment = harness.deploy(harness.good())
    cluster.failing["dry-run Service"] = ClusterRefused("a webhook refused\nno")

    (observation,) = harness.target.monitor([deployment.expected])

    assert [each.code for each in observation.deviations] == ["drift.not-compared"]
    assert "a webhook refused" in observation.deviations[0].fact


@pytest.mark.parametrize(
    ("status", "code", "fact"),
    [
        ({"imageID": f"registry/x@{BAD}"}, "drift.digest", "runs bbbbbbbbbbbb"),
        (
            {"restartCount": 3, "lastState": {"terminated": {"reason": "OOMKilled"}}},
            "drift.out-of-memory",
            "memory (3)",
        ),
        ({"restartCount": 1, "lastState": {"terminated": {"exitCode": 3}}}, "drift.restarts", "status 3"),
    ],
    ids=str,
)
def test_pod_that_differs_from_record_is_drift(harness, cluster, status, code, fact):
    """The image that runs counts, not the one that its specification names."""
    deployment = harness.deploy(harness.good())
    pod = next(each for key, each in cluster.objects.items() if key[0] == "Pod")
    pod["status"]["containerStatuses"][0] |= status

    (observation,) = harness.target.monitor([deployment.expected])

    assert [each.code for each in observation.deviations] == [code]
    assert fact in observation.deviations[0].fact
    assert observation.running == (BAD if code == "drift.digest" else deployment.digest)


def test_digest_of_the_same_content_is_no_drift(harness, cluster):
    """A node stores one image for manifests that only differ in annotations, and names any of their digests."""
    good = harness.good()
    deployment = harness.deploy(good)
    for pod in (each for key, each in cluster.objects.items() if key[0] == "Pod"):
        pod["status"]["containerStatuses"][0] |= {"imageID": f"registry/x@{SAME}"}

    (observation,) = harness.target.monitor([deployment.expected])

    assert observation.deviations == () and observation.running == deployment.digest
    assert not harness.deploy(good).changed


@pytest.mark.parametrize(
    ("change", "code", "fact"),
    [
        ({"ephemeralContainers": [{"name": "debugger"}]}, "drift.ephemeral", "debugger"),
        ({"hostNetwork": True}, "drift.pod", "hostNetwork"),
        ({"automountServiceAccountToken": True}, "drift.pod", "automountServiceAccountToken"),
        ({"serviceAccountName": "default"}, "drift.pod", "serviceAccountName"),
        ({"volumes": [{"name": "kube-api-access-x7k2p", "projected": TOKEN}]}, "drift.pod", "volumes"),
        ({"initContainers": [{"name": "first", "image": "x"}]}, "drift.pod", "initContainers.first"),
    ],
    ids=str,
)
def test_pod_with_additions_is_drift(harness, cluster, change, code, fact):
    """A pod can be made so, or changed so, without its Deployment."""
    deployment = harness.deploy(harness.good())
    pod = next(each for key, each in cluster.objects.items() if key[0] == "Pod")
    pod["spec"] |= change

    (observation,) = harness.target.monitor([deployment.expected])

    assert [each.code for each in observation.deviations] == [code]
    assert fact in observation.deviations[0].fact


def test_evicted_pod_is_drift(harness, cluster):
    """The cluster says why."""
    deployment = harness.deploy(harness.good())
    pod = next(each for key, each in cluster.objects.items() if key[0] == "Pod")
    pod["status"] |= {"phase": "Failed", "reason": "Evicted", "message": "low on memory"}

    (observation,) = harness.target.monitor([deployment.expected])

    assert [each.fact for each in observation.deviations] == [
        f"{pod['metadata']['name']} was ended by the cluster: Evicted low on memory"
    ]


def end_pod(cluster, deployment, grace, ends, current=False):
    """Add an ending pod of an earlier ReplicaSet, or of the current one; it ends seconds after now."""
    sets = [each["metadata"] for key, each in cluster.objects.items() if key[0] == "ReplicaSet"]
    owner = next(each["uid"] for each in sets if (each["uid"] == deployment.container) is current)
    metadata = cluster.add_pod("hello-old", "shop", f"registry/x@{BAD}", owner)["metadata"]
    metadata["deletionTimestamp"] = (NOON + timedelta(seconds=ends)).isoformat()
    metadata["deletionGracePeriodSeconds"] = grace


@pytest.mark.parametrize(("grace", "ends"), [(10, 10), (10, -30), (65, 60)], ids=str)
def test_pod_that_ends_in_time_is_not_compared(harness, cluster, grace, ends):
    """Pods of the replaced revision answer their last requests; the earlier image may have declared more time."""
    harness.deploy(harness.good())
    deployment = harness.deploy(harness.good())
    end_pod(cluster, deployment, grace, ends)

    assert harness.codes(deployment) == [("hello", [])]


def test_pod_that_should_have_ended_is_compared(harness, cluster):
    """A finalizer, or a node that does not end it, would hide what it runs."""
    harness.deploy(harness.good())
    deployment = harness.deploy(harness.good())
    end_pod(cluster, deployment, 10, -61)

    assert {"drift.pod", "drift.digest"} == set(dict(harness.codes(deployment))["hello"])


@pytest.mark.parametrize(("current", "grace"), [(True, 11), (False, 66)], ids=str)
def test_pod_with_raised_grace_period_is_reported_at_once(harness, cluster, current, grace):
    """Whoever may delete pods could let one run for years, and nothing would compare it."""
    harness.deploy(harness.good())
    deployment = harness.deploy(harness.good())
    end_pod(cluster, deployment, grace, 3600, current)

    observation, *_ = harness.target.monitor([deployment.expected])

    assert [(each.code, each.fact) for each in observation.deviations] == [
        ("drift.grace-period", f"hello-old has {grace} s to end, instead of {grace - 1} s")
    ]


def test_monitor_of_one_application_reports_foreign_pods_with_its_label(harness, cluster):
    """Others may be deployed at this moment."""
    deployment = harness.deploy(harness.good())
    cluster.add_pod("ours", "shop", f"registry/x@{BAD}", **{"cscm.application": "hello"})
    cluster.add_pod("others", "shop", f"registry/x@{BAD}")

    observed = harness.target.monitor([deployment.expected], "hello")

    assert [each.name for each in observed] == ["hello", "ours"]


@pytest.mark.parametrize(
    ("message", "stuck"),
    [
        ("failed to sync configmap cache: timed out waiting for the condition", False),
        ('configmap "hello" not found', True),
        ("", True),
    ],
)
def test_pod_waiting_for_settings_is_stuck_only_if_they_are_missing(message, stuck):
    """It reads them again; what does not exist will not come by itself."""
    waiting = {"reason": "CreateContainerConfigError", "message": message}
    pod = {"metadata": {"name": "p"}, "status": {"containerStatuses": [{"name": "c", "state": {"waiting": waiting}}]}}

    assert bool([*find_stuck(pod)]) is stuck
