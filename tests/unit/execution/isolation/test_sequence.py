"""An isolation in a cluster in memory: quarantine, sealed evidence, recovery, and what a killed run leaves."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from dataclasses import replace
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from supply_chain.errors import (
    AccessDenied,
    ClusterRefused,
    ClusterUnavailable,
    DeploymentFailed,
    EvidenceInvalid,
    ImageDamaged,
    ImageNotFound,
    KeyUnusable,
)
from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.isolation.case import Stage
from supply_chain.execution.isolation.collection import unseal
from supply_chain.execution.isolation.sequence import list_deployed
from supply_chain.execution.isolation.settings import RecoveryMode
from supply_chain.execution.kubernetes.cluster import DEPLOYMENTS, EVENTS, NETWORK_POLICIES, PODS
from supply_chain.execution.kubernetes.isolator import CASE, LABELS, MOST, KubernetesIsolator, find_allowing_policies
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.execution.records import read_isolations
from supply_chain.model.container import QUARANTINE
from supply_chain.model.image import ImageRef, digest_of
from supply_chain.model.tier import Gate
from supply_chain.policy.outcome import Reason, Refused
from tests.contract.target import Harness
from tests.support.isolation import Isolation
from tests.support.memory_cluster import NOON, MemoryCluster
from tests.support.present import present

ENVIRONMENT = KubernetesEnvironment(
    name="staging", target="kubernetes", cluster="c", namespace="shop",
    applications={"hello": KubernetesPlacement(replicas=2)},
)  # fmt: skip


class KilledError(BaseException):
    """The process was killed."""


class Mortal(MemoryCluster):
    """A cluster whose client is killed before or after its write number `at`; 0: never."""

    writes = 0
    at = 0
    before = True

    def _write(self, act: Any) -> Any:
        number = self.writes = self.writes + 1  # pods are changed at the same time
        if number == self.at and self.before:
            raise KilledError
        result = act()
        if number == self.at:
            raise KilledError
        return result

    def apply(self, *args: Any, **kwargs: Any) -> Any:
        return self._write(lambda: super(Mortal, self).apply(*args, **kwargs))

    def patch(self, *args: Any, **kwargs: Any) -> Any:
        return self._write(lambda: super(Mortal, self).patch(*args, **kwargs))


@pytest.fixture
def cluster() -> Mortal:
    return Mortal(output={}, broken={})


@pytest.fixture
def isolation(cluster, make, world) -> Isolation:
    numbers = count(1)
    clock = count(1)

    def now():
        return NOON + timedelta(seconds=next(clock))

    def running():
        return {pod["spec"]["containers"][0]["image"].rpartition("@")[2] for pod in cluster.list(PODS, "shop")}

    target = KubernetesTarget(ENVIRONMENT, lambda: cluster, "registry", lambda: NOON, lambda _: None)
    harness = Harness(
        target, make.declaration(), lambda: f"sha256:{next(numbers):064x}", "sha256:" + "b" * 64, running, lambda d: d
    )
    isolator = KubernetesIsolator(ENVIRONMENT, lambda: cluster, now, lambda _: None, "registry/{}".format)
    made = Isolation(harness, isolator, world, now)
    harness.target = replace(target, list_isolations=made.list_isolations)
    return made


@pytest.fixture
def two(isolation):
    """Two deployments, of which the second one runs."""
    return isolation.harness.deploy(isolation.harness.good()), isolation.harness.deploy(isolation.harness.good())


def quarantined(cluster):
    return cluster.list(PODS, "shop", {QUARANTINE: "hello"})


def test_quarantine_removes_pods_from_service_and_starts_no_others(isolation, cluster, two):
    """They lose the labels by which Service, ReplicaSet and policies select them, and go on running."""
    before = {pod["metadata"]["uid"] for pod in cluster.list(PODS, "shop")}

    isolation.run(RecoveryMode.SCALE_TO_ZERO)

    pods = quarantined(cluster)
    assert {pod["metadata"]["uid"] for pod in cluster.list(PODS, "shop")} == before
    assert [pod["metadata"]["labels"] for pod in pods] == [{QUARANTINE: "hello"}] * 2
    assert json.loads(pods[0]["metadata"]["annotations"][LABELS])["cscm.application"] == "hello"
    assert cluster.read(DEPLOYMENTS, "hello", "shop")["spec"]["replicas"] == 0
    for name in ("hello", "cscm-quarantine-hello"):
        spec = cluster.read(NETWORK_POLICIES, name, "shop")["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"] and not {"ingress", "egress"} & spec.keys()


def test_pods_are_closed_before_they_are_released(isolation, cluster, two):
    """A pod that the ReplicaSet makes in their place gets no traffic either."""
    cluster.applied.clear()

    isolation.run(RecoveryMode.SCALE_TO_ZERO)

    writes = [write for write in cluster.applied if "cscm-quarantine" not in write]
    assert writes[0] == "NetworkPolicy hello" and writes[3] == "Deployment hello"
    assert all(write.startswith("patch Pod hello") for write in writes[1:3])


def test_deployment_is_not_scaled_before_pods_are_released(isolation, cluster, two, monkeypatch):
    """The ReplicaSet would end what the investigation needs."""
    monkeypatch.setattr(cluster, "_release", lambda pod: None)
    isolation.isolator = KubernetesIsolator(
        ENVIRONMENT, lambda: cluster, isolation.now, lambda _: None, str, count(0, 20).__next__
    )

    with pytest.raises(ClusterUnavailable, match="They are isolated"):
        isolation.run()

    assert cluster.read(DEPLOYMENTS, "hello", "shop")["spec"]["replicas"] == 2 and len(quarantined(cluster)) == 2


def test_record_names_time_pods_items_and_custody(isolation, cluster, two):
    """It is signed by execution, about the isolated image."""
    cluster.output[two[1].digest] = "stolen\n"
    cluster.objects[EVENTS.name, "shop", "e"] = {
        "metadata": {"name": "e", "namespace": "shop"}, "involvedObject": {"name": "hello"}, "reason": "Killing",
    }  # fmt: skip

    record = isolation.run()

    assert record.digest == two[1].digest and record.since == NOON < record.isolated
    assert record.seconds == (record.isolated - NOON).total_seconds() > 0
    assert len(record.pods) == 2 and record.allowing_policies == ()
    assert [str(each.why) for each in record.uncollected] == [
        "the environment names no collector (`response.collector`)"
    ]
    assert [each.act.partition(" ")[0] for each in record.custody] == ["quarantined", "began", "collected", "sealed"]
    assert [each.at for each in record.custody] == sorted(each.at for each in record.custody)
    with tarfile.open(fileobj=io.BytesIO(isolation.opened(record))) as archive:
        found = {each.name: present(archive.extractfile(each)).read() for each in archive}
    assert {each.name: each.digest for each in record.items} == {k: digest_of(v) for k, v in found.items()}
    assert [v for k, v in found.items() if k.endswith("application.log")] == [b"stolen\n"] * 2
    assert b"Killing" in found["events.json"] and b'"replicas": 0' in found["deployment.json"]
    assert [each.recovery for each in isolation.signed(two[1].digest)] == [None, record.recovery]


def test_bundle_that_was_changed_is_not_opened(isolation, two, monkeypatch):
    """Nor with another key or for another isolation."""
    record = isolation.run()
    content = isolation.world.registry.content
    monkeypatch.setattr(
        isolation.world.registry, "content", lambda ref: content(ref)[:-1] + bytes([content(ref)[-1] ^ 1])
    )
    with pytest.raises(ImageDamaged):
        isolation.opened(record)
    monkeypatch.undo()

    assert isolation.opened(record)
    context = {**record.bundle.context, "isolation": "other"}
    bundle = record.bundle.model_copy(update={"context": context})
    key = isolation.kms.unwrap(record.bundle.key, base64.b64decode(record.bundle.wrapped_key), record.bundle.context)
    stored = content(ImageRef(repository="evidence/execution/hello", digest=bundle.referrer))
    with pytest.raises(ImageDamaged):
        unseal(bundle, stored, key)
    monkeypatch.setattr(isolation.kms, "unwrap", lambda *_: b"0" * 32)
    with pytest.raises(ImageDamaged):
        isolation.opened(record)


def refusal(digest):
    reasons = (Reason(code="scan.critical", fact="f", remedy="r"),)
    return Refused(image=ImageRef(repository="curated/hello", digest=digest), gate=Gate.DEPLOY, policy=digest,
                   reasons=reasons)  # fmt: skip


def test_recovery_rolls_back_to_last_admitted_image(isolation, cluster):
    """A refused one, and one that cannot be judged, are passed over; the isolated one is no candidate."""
    first, unreadable, refused, bad = (isolation.harness.deploy(isolation.harness.good()) for _ in range(4))
    isolation.refusals[refused.digest] = refusal(refused.digest)
    judge = isolation._judge

    def fail(ref):
        if ref.digest == unreadable.digest:
            raise EvidenceInvalid("damaged\nno")
        assert ref.digest != bad.digest
        return judge(ref)

    isolation._judge = fail
    record = isolation.run()

    assert (record.recovery.outcome, record.recovery.digest) == ("rolled-back", first.digest)
    assert isolation.harness.codes(isolation.harness.recorded[-1])[0] == ("hello", [])
    assert len(quarantined(cluster)) == 2
    codes = {code for _, found in isolation.harness.codes() for code in found}
    assert codes == {"drift.quarantined", "drift.foreign", "drift.foreign-object"}


@pytest.mark.parametrize("case", ["first", "refused", "broken"])
def test_recovery_scales_to_zero_without_earlier_admitted_image(isolation, cluster, case):
    """The record says why nothing runs."""
    if case != "first":
        earlier = isolation.harness.deploy(isolation.harness.good()).digest
    isolation.harness.deploy(isolation.harness.good())
    if case == "refused":
        isolation.refusals[earlier] = refusal(earlier)
    if case == "broken":
        cluster.broken[earlier] = {"state": {"waiting": {"reason": "CrashLoopBackOff"}}}

    record = isolation.run()

    assert record.recovery.outcome == "scaled-to-zero" and record.recovery.digest is None
    expected = {"first": "no earlier image", "refused": "scan.critical", "broken": "was not deployed"}[case]
    assert expected in record.recovery.why and expected in str(record)
    assert cluster.read(DEPLOYMENTS, "hello", "shop")["spec"]["replicas"] == 0


def test_monitor_reports_isolated_application_once(isolation, two):
    """Not each difference that the isolation makes."""
    isolation.run(RecoveryMode.SCALE_TO_ZERO)

    found = dict(isolation.harness.codes(two[1]))

    assert found.pop("hello") == ["drift.isolated"]
    assert list(found.values()) == [["drift.quarantined"]] * 2


def test_repeated_isolation_returns_first_record_while_nothing_runs(isolation, two):
    """A nervous second command opens no second case."""
    first = isolation.run(RecoveryMode.SCALE_TO_ZERO)

    assert isolation.run(RecoveryMode.SCALE_TO_ZERO) == first
    assert len(isolation.signed(first.digest)) == 2


def test_isolation_after_new_deployment_is_new_case(isolation, cluster, two):
    """Pods of the earlier one stay in quarantine, and are not collected again."""
    first = isolation.run()

    second = isolation.run(RecoveryMode.SCALE_TO_ZERO)

    assert second.id != first.id and second.digest == two[0].digest
    assert len(second.pods) == 2 and not {each.uid for each in second.pods} & {each.uid for each in first.pods}
    assert len(quarantined(cluster)) == 4


def test_case_that_another_run_ended_meanwhile_is_not_opened_again(isolation, two):
    """Of two runs at the same time, the second must not isolate what the first rolled back to."""
    case = isolation.isolator.quarantine(isolation.case())
    first = isolation.run()

    assert isolation.run(case=case) == first and first.id == case.id
    assert isolation.harness.recorded[-1].digest == two[0].digest


def test_pod_with_name_of_application_is_isolated_too(isolation, cluster, two):
    """Whoever started it."""
    cluster.add_pod("foreign", "shop", "registry/x@sha256:" + "d" * 64, **{"cscm.application": "hello"})

    record = isolation.run(RecoveryMode.SCALE_TO_ZERO)

    assert "foreign" in {each.name for each in record.pods}


def test_application_without_record_is_isolated_and_reported(isolation, cluster):
    """There is no image to attach evidence to."""
    cluster.add_pod("foreign", "shop", "registry/x@sha256:" + "d" * 64, **{"cscm.application": "hello"})

    with pytest.raises(ImageNotFound, match="No deployment of hello"):
        isolation.run()

    assert len(quarantined(cluster)) == 1


@pytest.mark.parametrize("lacking", ["key", "permission"])
def test_recovery_waits_until_evidence_is_sealed(isolation, cluster, two, lacking):
    """Pods stay in quarantine until it is; then the same run continues."""
    key, isolation.key = isolation.key, isolation.key if lacking == "permission" else "alias/absent"
    isolation.kms.allowed.discard("wrap" if lacking == "permission" else "")

    with pytest.raises(AccessDenied if lacking == "permission" else KeyUnusable):
        isolation.run()

    assert isolation.signed(two[1].digest) == [] and len(isolation.harness.recorded) == 2
    isolation.key = key
    isolation.kms.allowed.add("wrap")
    assert isolation.run().recovery.outcome == "rolled-back"


def test_log_that_cannot_be_read_is_named(isolation, cluster, two, monkeypatch):
    """A container that never started has none."""

    def refuse(*_, **__):
        raise ClusterRefused("container is waiting to start\nno")

    monkeypatch.setattr(cluster, "logs", refuse)

    whys = {each.why for each in isolation.run().uncollected}

    assert "container is waiting to start" in whys


def test_evidence_over_size_limit_is_truncated_or_omitted_and_named(isolation, cluster, two, monkeypatch):
    """All of it has to fit into one piece of evidence."""
    monkeypatch.setattr(cluster, "logs", lambda *_, **__: "x" * MOST + "end")
    cluster.objects[EVENTS.name, "shop", "e"] = {
        "metadata": {"name": "e", "namespace": "shop"}, "involvedObject": {"name": "hello"}, "message": "x" * MOST,
    }  # fmt: skip

    record = isolation.run()

    logs = [each for each in record.items if each.name.endswith(".log")]
    assert [each.truncated for each in logs] == [True, True] and sum(each.size for each in record.items) <= MOST
    assert isolation.opened(record)
    assert "events.json" in {each.item for each in record.uncollected}
    with tarfile.open(fileobj=io.BytesIO(isolation.opened(record))) as archive:
        assert present(archive.extractfile(logs[0].name)).read().endswith(b"end")


@pytest.mark.parametrize("restarts", [0, 1, 2])
def test_log_of_ended_container_is_collected(isolation, cluster, two, restarts):
    """A node keeps that of the last one only, which the record says if there were more."""
    cluster.output |= {two[1].digest: "now\n", f"previous {two[1].digest}": "before\n"}
    first = cluster.list(PODS, "shop")[0]["metadata"]["name"]
    cluster.objects["Pod", "shop", first]["status"]["containerStatuses"][0]["restartCount"] = restarts

    record = isolation.run()

    with tarfile.open(fileobj=io.BytesIO(isolation.opened(record))) as archive:
        logs = {each.name: present(archive.extractfile(each)).read() for each in archive if each.name.endswith(".log")}
    assert [each for name, each in logs.items() if "previous" not in name] == [b"now\n"] * 2
    previous = {f"pods/{first}/application.previous.log": b"before\n"}
    assert {name: each for name, each in logs.items() if "previous" in name} == (previous if restarts else {})
    lost = f"earlier logs of pods/{first}/application"
    assert (lost in {each.item for each in record.uncollected}) is (restarts == 2)


def test_foreign_network_policy_that_allows_traffic_is_named(isolation, cluster, two):
    """Policies only allow: nobody can deny what another one allows."""
    policy = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy"}
    for name, selector in {"all": {}, "other": {"matchLabels": {"a": "b"}}}.items():
        cluster.apply(NETWORK_POLICIES, {**policy, "metadata": {"name": name, "namespace": "shop"},
                                         "spec": {"podSelector": selector, "ingress": [{}]}})  # fmt: skip

    record = isolation.run()

    assert record.allowing_policies == ("NetworkPolicy all",) and "traffic is still allowed: NetworkPolicy all" in str(
        record
    )


@pytest.mark.parametrize(
    ("expression", "found"),
    [
        ({"key": "a", "operator": "In", "values": ["1"]}, True),
        ({"key": "a", "operator": "In", "values": ["2"]}, False),
        ({"key": "a", "operator": "NotIn", "values": ["2"]}, True),
        ({"key": "b", "operator": "NotIn", "values": ["2"]}, True),
        ({"key": "a", "operator": "NotIn", "values": ["1"]}, False),
        ({"key": "a", "operator": "Exists"}, True),
        ({"key": "b", "operator": "Exists"}, False),
        ({"key": "b", "operator": "DoesNotExist"}, True),
        ({"key": "a", "operator": "DoesNotExist"}, False),
    ],
    ids=str,
)
def test_opening_is_found_by_expressions_of_its_selector(expression, found):
    """A selector of labels that a pod lacks selects it too."""
    policy = {"metadata": {"name": "p"}, "spec": {"podSelector": {"matchExpressions": [expression]}, "egress": [{}]}}

    assert bool(list(find_allowing_policies([policy], {"a": "1"}))) is found


@pytest.mark.parametrize("mode", RecoveryMode)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_run_that_is_killed_at_any_write_is_continued(isolation, cluster, two, before, mode):
    """The next run ends the same case: every pod is kept, one bundle is sealed, and what runs is what the record says.

    Pods that the ReplicaSet made before the Deployment was scaled are kept too.
    """
    cluster.before = before
    reference = None
    uids = {pod["metadata"]["uid"] for pod in cluster.list(PODS, "shop")}
    attach, registry = isolation.world.registry.attach, isolation.world.registry
    for at in count(1):
        cluster.writes, cluster.at = 0, at
        registry.attach = lambda *a, **k: cluster._write(lambda: attach(*a, **k))
        case = isolation.case()
        try:
            record = isolation.run(mode, case)
            break
        except KilledError:
            cluster.at = 0
        found = isolation.isolator.find_case("hello")
        reference = reference or (found.id if found else None)
    assert at == 2 or reference
    assert record.id == reference and uids <= {each.uid for each in record.pods}
    assert {each.uid for each in record.pods} == {pod["metadata"]["uid"] for pod in quarantined(cluster)}
    assert len({each.bundle.digest for each in isolation.signed(two[1].digest)}) == 1
    assert isolation.isolator.find_case("hello").stage is Stage.ENDED
    wanted = 0 if mode is RecoveryMode.SCALE_TO_ZERO else 2
    assert cluster.read(DEPLOYMENTS, "hello", "shop")["spec"]["replicas"] == wanted
    assert isolation.harness.recorded[-1].digest == two[0 if wanted else 1].digest
    assert at > 12


def test_damaged_case_in_cluster_is_no_case(isolation, cluster, two):
    """Somebody with access to the namespace may change it; the signed record is the evidence."""
    isolation.isolator.store(isolation.case())
    cluster.objects[NETWORK_POLICIES.name, "shop", "cscm-quarantine-hello"]["metadata"]["annotations"][CASE] = "{"

    assert isolation.isolator.find_case("hello") is None
    assert isolation.run().recovery.outcome == "rolled-back"


@pytest.mark.parametrize("stage", Stage)
def test_case_without_signed_record_does_not_count(isolation, cluster, two, stage):
    """Whoever may write policies in the namespace may write one: neither its stage, digest nor author is believed."""
    planted = isolation.case().model_copy(update={"stage": stage, "digest": two[0].digest, "by": "mallory"})
    isolation.isolator.store(planted)

    record = isolation.run()

    assert len(quarantined(cluster)) == 2 and len(record.pods) == 2
    assert (record.digest, record.by, record.recovery.digest) == (two[1].digest, "ann", two[0].digest)
    assert (record.id == planted.id) is (stage in (Stage.OPEN, Stage.ISOLATED))


@pytest.mark.parametrize("stage", Stage)
def test_later_event_after_closed_case_opens_new_case(isolation, cluster, two, stage):
    """Its signed record says that it is over, whatever stage somebody writes."""
    first = isolation.run()
    case = isolation.isolator.find_case("hello")
    isolation.isolator.store(case.model_copy(update={"stage": stage, "digest": None}))

    second = isolation.run(case=isolation.case().model_copy(update={"since": isolation.now()}))

    assert second.id != first.id and len(quarantined(cluster)) == 4


def test_case_without_pods_and_record_is_no_isolation(isolation, cluster, two):
    """A case and no pods: only a signed record of the image that should run makes this an isolation."""
    case = isolation.case().model_copy(update={"stage": Stage.RECOVERING})
    isolation.isolator.store(case)
    cluster.change(DEPLOYMENTS, "hello", "shop", replicas=0)

    codes = dict(isolation.harness.codes(two[1]))["hello"]

    assert "drift.isolated" not in codes and "drift.object" in codes


def test_isolations_are_listed_with_their_last_record_for_one_environment(isolation, two):
    """A record of another environment, or of another application, is no isolation here."""
    first, second = isolation.run(), isolation.run()

    assert isolation.list_isolations("hello") == (second, first)
    assert isolation.list_isolations("other") == ()
    ecr, registry = isolation.world.ecr, isolation.world.registry
    assert read_isolations("other", ecr, registry, isolation.ports.evidence, "hello") == ()


def test_foreign_pod_that_looks_isolated_stays_foreign(isolation, cluster, two):
    """Only pods of a signed record, or of the open case, are evidence."""
    pod = cluster.add_pod("foreign", "shop", "registry/x@y", **{QUARANTINE: "hello"})
    case = isolation.isolator.quarantine(isolation.case())
    opened = [codes for name, codes in isolation.harness.codes(two[1]) if name != "hello"]
    pod["metadata"]["annotations"] = {CASE: isolation.run(RecoveryMode.SCALE_TO_ZERO).id}

    found = dict(isolation.harness.codes(two[1]))

    assert sorted(opened) == [["drift.foreign"], ["drift.quarantined"], ["drift.quarantined"]]
    assert found.pop("foreign") == ["drift.foreign"]
    assert found.pop("hello") == ["drift.isolated"] and list(found.values()) == [["drift.quarantined"]] * 2
    assert isolation.isolator.find_case("hello").id == case.id


def test_isolation_does_not_wait_for_pods_of_other_controllers(isolation, cluster, two):
    """Whoever may label a pod could hold it up otherwise."""
    cluster.add_pod("kept", "shop", "registry/x@y", owner="theirs", **{QUARANTINE: "hello"})

    assert isolation.run(RecoveryMode.SCALE_TO_ZERO).recovery.outcome == "scaled-to-zero"
    assert cluster.read(DEPLOYMENTS, "hello", "shop")["spec"]["replicas"] == 0


def test_terminating_pod_is_named_as_uncollected(isolation, cluster, two):
    """Otherwise nobody learns that somebody deleted it in time."""
    name = cluster.list(PODS, "shop")[0]["metadata"]["name"]
    cluster.objects[PODS.name, "shop", name]["metadata"]["deletionTimestamp"] = NOON.isoformat()

    record = isolation.run()

    assert name not in {each.name for each in record.pods} and len(record.pods) == 1
    assert ("it is ending", f"pods/{name}") in {(each.why, each.item) for each in record.uncollected}


def test_failed_deployment_of_rollback_is_not_tried_with_older_images(isolation, monkeypatch):
    """Each may take minutes; the application is at zero already."""
    for _ in range(3):
        isolation.harness.deploy(isolation.harness.good())
    tried = []

    def fail(verdict):
        tried.append(verdict)
        raise DeploymentFailed("no\nno")

    monkeypatch.setattr(isolation, "_deploy", fail)

    assert isolation.run().recovery.outcome == "scaled-to-zero" and len(tried) == 1


def test_rollback_refused_before_it_serves_scales_to_zero(isolation, monkeypatch):
    """A block may come after the gate admitted the image."""
    earlier = isolation.harness.deploy(isolation.harness.good()).digest
    isolation.harness.deploy(isolation.harness.good())
    monkeypatch.setattr(isolation, "_deploy", lambda _: refusal(earlier))

    recovery = isolation.run().recovery

    assert recovery.outcome == "scaled-to-zero" and "is refused (scan.critical)" in recovery.why


def test_deployed_images_are_listed_newest_first_for_one_environment(isolation, two):
    """A record of another environment is no candidate there."""
    history = [each.expected for each in two]

    found = list_deployed([*history, history[0].model_copy(update={"environment": "other"})], "staging")

    assert [each.digest for each in found] == [two[1].digest, two[0].digest]
