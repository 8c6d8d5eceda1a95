"""The collector in a cluster in memory: where it is added, what of it is sealed, and what is said if it fails."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from datetime import timedelta
from itertools import count
from typing import Any

import pytest

from supply_chain.errors import BaseMissing, ClusterRefused, ClusterUnavailable, EvidenceInvalid
from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.isolation.collection import Room, Uncollected
from supply_chain.execution.isolation.collector import COMMAND, Collected
from supply_chain.execution.isolation.collector_program import format_lines
from supply_chain.execution.isolation.record import IsolationRecord
from supply_chain.execution.isolation.settings import CollectorSettings, ResponseSettings
from supply_chain.execution.kubernetes import isolator
from supply_chain.execution.kubernetes.cluster import PODS
from supply_chain.execution.kubernetes.collector import Collector, Subject, list_subjects
from supply_chain.execution.kubernetes.isolator import KubernetesIsolator
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.model.image import digest_of
from tests.contract.target import Harness
from tests.support.isolation import Isolation
from tests.support.memory_cluster import NOON, MemoryCluster
from tests.support.present import present

IMAGE = "curated/base/python@sha256:" + "c" * 64
SETTINGS = CollectorSettings(image=IMAGE, contents=100, timeout=30)
ENVIRONMENT = KubernetesEnvironment(
    name="staging", target="kubernetes", cluster="c", namespace="shop",
    applications={"hello": KubernetesPlacement(replicas=2)}, response=ResponseSettings(collector=SETTINGS),
)  # fmt: skip
FILE = {
    "path": "/tmp/x", "mode": "-rw-r--r--", "size": 4, "user": 7, "group": 7, "changed": "2026-11-24T12:00:00+00:00",
    "modified": "2026-11-24T12:00:00+00:00", "digest": digest_of(b"evil"),
}  # fmt: skip
FOUND: dict[str, Any] = {
    "processes": [{"pid": 1}], "files": [FILE], "unread": {}, "contents": [base64.b64encode(b"evil").decode()],
}  # fmt: skip
ENDED = {"terminated": {"reason": "Completed", "exitCode": 0}}


@pytest.fixture
def cluster() -> MemoryCluster:
    return MemoryCluster(collected="\n".join(format_lines(FOUND)), ephemeral_state=ENDED)


@pytest.fixture
def isolation(cluster: MemoryCluster, make: Any, world: Any) -> Isolation:
    """An application of which one image is deployed, in an environment with a collector."""
    numbers, clock = count(1), count(1)

    def now() -> Any:
        return NOON + timedelta(seconds=next(clock))

    target = KubernetesTarget(ENVIRONMENT, lambda: cluster, "registry", lambda: NOON, lambda _: None)
    harness = Harness(target, make.declaration(), lambda: f"sha256:{next(numbers):064x}", "", set, str)
    inside = KubernetesIsolator(
        ENVIRONMENT, lambda: cluster, now, lambda _: None, "registry/{}".format, count().__next__
    )
    made = Isolation(harness, inside, world, now)
    made.harness.deploy(made.harness.good())
    return made


def opened(isolation: Isolation, record: IsolationRecord) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(isolation.opened(record))) as archive:
        return {each.name: present(archive.extractfile(each)).read() for each in archive}


def whys(record: IsolationRecord) -> set[str]:
    return {each.why for each in record.uncollected}


def test_processes_and_changed_files_of_each_container_are_sealed(isolation: Isolation, cluster: MemoryCluster) -> None:
    """The contents of files have their digests as names: what the container calls them is no path of ours."""
    names = [pod["metadata"]["name"] for pod in cluster.list(PODS, "shop")]

    record = isolation.run()

    assert record.uncollected == () and len(names) == 2
    files = opened(isolation, record)
    for name in names:
        path = f"pods/{name}/application"
        assert json.loads(files[f"{path}/processes.json"]) == [{"pid": 1}]
        listed = json.loads(files[f"{path}/changed-files.json"])
        assert [each["path"] for each in listed["files"]] == ["/tmp/x"] and listed["unread"] == {}
        assert files[f"{path}/files/{digest_of(b'evil').removeprefix('sha256:')}"] == b"evil"


def test_collector_starts_after_pods_are_isolated(isolation: Isolation, cluster: MemoryCluster) -> None:
    """It must not reach anything either, and the application must not be recovered before."""
    isolation.run()

    writes = [each for each in cluster.applied if each.startswith(("add ", "patch Pod", "Deployment"))]
    assert list(dict.fromkeys(each.split()[0] for each in writes[1:])) == ["patch", "Deployment", "add"]


def test_collector_is_hardened_and_runs_as_the_user_of_its_subject(
    isolation: Isolation, cluster: MemoryCluster
) -> None:
    """Only that user may read the files below /proc; the time is that of the container's start."""
    isolation.run()

    for pod in cluster.list(PODS, "shop"):
        (added,) = pod["spec"]["ephemeralContainers"]
        assert (added["name"], added["image"]) == ("cscm-collector-0", f"registry/{IMAGE}")
        assert (added["targetContainerName"], added["command"]) == ("application", [*COMMAND])
        assert added["args"] == [str(NOON.timestamp()), "100", "30"]
        uid = pod["spec"]["securityContext"]["runAsUser"]
        assert added["securityContext"] == {
            "runAsUser": uid, "runAsGroup": uid, "runAsNonRoot": True, "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        }  # fmt: skip
        assert uid > 0 and added.keys() - {"imagePullPolicy"} == {
            "name", "image", "command", "args", "targetContainerName", "securityContext"
        }  # fmt: skip


@pytest.mark.parametrize(
    ("pod", "container", "actual", "expected"),
    [
        ({"runAsUser": 1, "runAsGroup": 2}, {}, {"uid": 9, "gid": 9}, {"runAsUser": 1, "runAsGroup": 2}),
        ({"runAsUser": 1, "runAsGroup": 2}, {"runAsUser": 3}, {}, {"runAsUser": 3, "runAsGroup": 2}),
        ({}, {}, {"uid": 5, "gid": 6}, {"runAsUser": 5, "runAsGroup": 6}),
        ({}, {"runAsUser": 0}, {}, {"runAsUser": 0}),
        (None, None, None, {}),
    ],
    ids=["pod", "container", "image", "root", "unknown"],
)
def test_user_is_the_one_of_the_first_process(pod: Any, container: Any, actual: Any, expected: dict[str, int]) -> None:
    """Of the container, the pod, or, if neither names one, of the image."""
    status = {"state": {"running": {"startedAt": "2026-11-24T12:00:00Z"}}, "user": actual and {"linux": actual}}
    described = {"metadata": {"name": "p"}, "spec": {"securityContext": pod}}
    subject = Subject(described, 0, {"name": "a", "securityContext": container}, status)
    collector = Collector(MemoryCluster(), "shop", {}, "i", SETTINGS, lambda _: None, lambda: 0)

    security = collector.render(subject)["securityContext"]

    assert {key: security[key] for key in ("runAsUser", "runAsGroup") if key in security} == expected
    assert security["runAsNonRoot"] is (expected.get("runAsUser") != 0)


def test_containers_of_a_pod_are_those_that_should_run() -> None:
    """A sidecar is an init container that runs; the others ended as they should."""
    running = {"running": {"startedAt": "2026-11-24T12:00:00Z"}}
    pod = {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "a"}, {"name": "b"}], "initContainers": [{"name": "c"}, {"name": "d"}]},
        "status": {
            "containerStatuses": [{"name": "b", "state": {"terminated": {}}}, {"name": "a", "state": running}],
            "initContainerStatuses": [{"name": "c", "state": {"terminated": {}}}, {"name": "d", "state": running}],
        },
    }

    found = list(list_subjects(pod))

    assert [(each.collector, each.path, each.obstacle) for each in found] == [
        ("cscm-collector-0", "pods/p/a", ""), ("cscm-collector-1", "pods/p/b", "it does not run"),
        ("cscm-collector-3", "pods/p/d", ""),
    ]  # fmt: skip
    assert [each.obstacle for each in list_subjects({**pod, "status": {}})] == ["it does not run"] * 2


def test_pod_that_shares_its_processes_is_not_read(isolation: Isolation, cluster: MemoryCluster) -> None:
    """The first process is then that of no container."""
    for pod in cluster.list(PODS, "shop"):
        cluster.change(PODS, pod["metadata"]["name"], "shop", shareProcessNamespace=True)

    record = isolation.run()

    assert ["shares the processes" in each.why for each in record.uncollected] == [True] * 2
    assert not any(each.startswith("add ") for each in cluster.applied)


@pytest.mark.parametrize(
    ("state", "printed", "expected"),
    [
        (
            {"waiting": {"reason": "ImagePullBackOff", "message": "not found"}},
            "",
            "in time: ImagePullBackOff: not found",
        ),
        ({"waiting": {"reason": "ContainerCreating"}}, "", "in time: ContainerCreating"),
        ({"running": {}}, "", "in time: it still runs"),
        ({}, "", "in time: it was not started"),
        (
            {"terminated": {"reason": "OOMKilled", "exitCode": 137}},
            "half",
            "(OOMKilled, exit code 137), and its output",
        ),
        (ENDED, "the runtime does not share", "(Completed, exit code 0), and its output is incomplete"),
    ],
    ids=["no image", "slow", "running", "absent", "killed", "wrong"],
)
def test_collector_that_does_not_finish_is_named_with_the_reason(
    isolation: Isolation, cluster: MemoryCluster, state: dict[str, Any], printed: str, expected: str
) -> None:
    """Everything else is sealed nevertheless, and the application recovers."""
    cluster.ephemeral_state, cluster.collected = state, printed

    record = isolation.run()

    assert ["application" in each.item for each in record.uncollected] == [True] * 2
    assert all(expected in each.why for each in record.uncollected), whys(record)
    assert record.recovery and "deployment.json" in opened(isolation, record)


@pytest.mark.parametrize(("state", "looks"), [({"waiting": {"reason": "ImagePullBackOff"}}, 0), ({"running": {}}, 90)])
def test_collector_is_awaited_up_to_its_time_limit(
    isolation: Isolation, cluster: MemoryCluster, state: dict[str, Any], looks: int
) -> None:
    """A minute to start and the time of the search; not for what seldom changes."""
    cluster.ephemeral_state = state
    waits: list[float] = []
    pods = cluster.list(PODS, "shop")

    list(Collector(cluster, "shop", {}, "i", SETTINGS, waits.append, count(0, 1).__next__).collect(pods))

    assert waits == [0.5] * looks


def test_refusal_of_the_cluster_is_named(isolation: Isolation, cluster: MemoryCluster) -> None:
    """By its admission policy, its roles, or Pod Security; an outage is no refusal, and the step is repeated."""
    cluster.failing["add Container"] = ClusterRefused("not admitted to staging\nask why")

    assert whys(isolation.run()) == {"not admitted to staging"}

    cluster.failing["add Container"] = ClusterUnavailable("no answer\nno")
    isolation.harness.deploy(isolation.harness.good())
    with pytest.raises(ClusterUnavailable):
        isolation.run()


def test_log_that_is_refused_is_named(isolation: Isolation, cluster: MemoryCluster, monkeypatch: Any) -> None:
    """Its node may have gone meanwhile."""

    def refuse(*_: Any, **__: Any) -> str:
        raise ClusterRefused("the node is gone\nno")

    monkeypatch.setattr(cluster, "logs", refuse)

    assert whys(isolation.run()) == {"the node is gone"}


@pytest.mark.parametrize("error", [BaseMissing("it is blocked\nno"), EvidenceInvalid("it is damaged\nno")])
def test_collector_that_may_not_be_used_is_not_started(
    isolation: Isolation, cluster: MemoryCluster, error: Exception
) -> None:
    """A blocked image must not read an application, and the isolation goes on."""

    def fail(_: str) -> str:
        raise error

    isolation.isolator = KubernetesIsolator(ENVIRONMENT, lambda: cluster, isolation.now, lambda _: None, fail)

    record = isolation.run()

    assert [(each.item, each.why) for each in record.uncollected] == [
        ("processes and changed files", str(error.args[0]).split("\n")[0])
    ]
    assert not any(each.startswith("add ") for each in cluster.applied)


def test_repeated_collection_starts_no_second_collector(isolation: Isolation, cluster: MemoryCluster) -> None:
    """A killed run continues; what somebody else started under its name is not taken for it."""
    case = isolation.isolator.quarantine(isolation.case())
    first = isolation.isolator.collect(case)

    assert isolation.isolator.collect(case).uncollected == first.uncollected == ()
    assert sum(each.startswith("add ") for each in cluster.applied) == 2
    name = cluster.list(PODS, "shop")[0]["metadata"]["name"]
    cluster.objects["Pod", "shop", name]["spec"]["ephemeralContainers"][0]["command"] = ["/other"]
    assert [each.why for each in isolation.isolator.collect(case).uncollected] == [
        "existing ephemeral containers may not be changed"
    ]


def test_unread_paths_are_named_with_their_number(isolation: Isolation, cluster: MemoryCluster) -> None:
    """The list in the bundle has each."""
    files = [{**FILE, "path": f"/{name}" + "x" * 300, "digest": digest_of(name.encode())} for name in "ba"]
    unread = {"/z" + "y" * 300: "denied", "/q": "gone"}
    cluster.collected = "\n".join(format_lines({**FOUND, "files": files, "unread": unread}))
    pod = cluster.list(PODS, "shop")[0]["metadata"]["name"]

    record = isolation.run()

    path = f"pods/{pod}/application"
    assert [(each.item, each.why) for each in record.uncollected if path in each.item] == [
        (f"2 paths of {path}, such as /z{'y' * 198}", "denied"),
        (
            f"contents of 2 changed files of {path}, such as /a{'x' * 198}",
            "they are above the limit `contents`; the list has their digests",
        ),
    ]


def test_collected_contents_leave_room_for_logs(isolation: Isolation, cluster: MemoryCluster, monkeypatch: Any) -> None:
    """A container must not push its own log out of the bundle."""
    large = b"x" * 40_000
    cluster.collected = "\n".join(format_lines({**FOUND, "contents": [base64.b64encode(large).decode()]}))
    cluster.output[isolation.harness.recorded[-1].digest] = "y" * 15_000
    monkeypatch.setattr(isolator, "MOST", 100_000)

    record = isolation.run()

    sizes = [each.size for each in record.items]
    assert sizes.count(15_000) == 2 and sum(sizes) <= 100_000 and sizes.count(40_000) <= 1
    assert "files/" in next(each.item for each in record.uncollected if " bytes, and " in each.why)


def test_room_excludes_bytes_reserved_for_others() -> None:
    """A file that fits exactly is added."""
    room = Room(10, lambda: NOON)

    assert room.add("a", b"12345", reserved=6) == Uncollected(item="a", why="it has 5 bytes, and 4 are left")
    assert not isinstance(room.add("a", b"12345", reserved=5), Uncollected)
    assert room.add("b", b"1", reserved=6) == Uncollected(item="b", why="it has 1 bytes, and 0 are left")
    assert not isinstance(room.add("b", b"12345"), Uncollected) and room.left == 0


def test_collected_names_no_missing_contents_without_files() -> None:
    """An application that changed nothing has nothing to miss."""
    assert Collected([], [], {}, {}).missing == []
