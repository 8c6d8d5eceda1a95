"""The collector in a namespace: ephemeral containers that read the processes and changed files of others in their pods.

An ephemeral container shares the processes of one other container, and reads its files below /proc as the same user.
So the collector needs no permission to run anything in a container, and no more privileges than the container has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from supply_chain.concurrency import map_concurrently
from supply_chain.errors import ClusterRefused
from supply_chain.execution.isolation.collection import Uncollected
from supply_chain.execution.isolation.collector import COMMAND, Collected, read_output
from supply_chain.execution.isolation.settings import CollectorSettings
from supply_chain.execution.kubernetes.cluster import PODS, Cluster, Document
from supply_chain.execution.kubernetes.rollout import STUCK
from supply_chain.model.container import Wait
from supply_chain.text import summarize_error

NAME = "cscm-collector-"
"""Begins the names of the containers; the number of the container that it reads follows."""
STARTING, POLL = 60.0, 0.5
"""Seconds for pulling and starting the collector, and between two looks at it."""
LINES = 10_000
LONGEST = 200
"""Characters of a path in a sentence."""


@dataclass(frozen=True)
class Subject:
    """A container that the collector reads: its description, and its status."""

    pod: Document
    number: int
    container: Mapping[str, Any]
    status: Mapping[str, Any]

    @property
    def pod_name(self) -> str:
        """The name of its pod."""
        name: str = self.pod["metadata"]["name"]
        return name

    @property
    def collector(self) -> str:
        """The name of the ephemeral container."""
        return f"{NAME}{self.number}"

    @property
    def path(self) -> str:
        """Where its files are in the bundle."""
        return f"pods/{self.pod_name}/{self.container['name']}"

    @property
    def obstacle(self) -> str:
        """Why the collector cannot read it; empty if it can."""
        if "running" not in self.status.get("state", {}):
            return "it does not run"
        shared = self.pod["spec"].get("shareProcessNamespace")
        return "its pod shares the processes of all containers, so its own processes are unknown" if shared else ""

    @property
    def users(self) -> dict[str, int]:
        """The user and the group of its first process, as far as the API knows them."""
        security = {**(self.pod["spec"].get("securityContext") or {}), **(self.container.get("securityContext") or {})}
        actual = (self.status.get("user") or {}).get("linux") or {}
        users = {"runAsUser": security.get("runAsUser", actual.get("uid")),
                 "runAsGroup": security.get("runAsGroup", actual.get("gid"))}  # fmt: skip
        return {key: value for key, value in users.items() if value is not None}


@dataclass(frozen=True)
class Collector:
    """Reads the containers of pods with some labels by an image. `wait` sleeps, or raises `Cancelled`."""

    cluster: Cluster
    namespace: str
    labels: Mapping[str, str]
    image: str
    settings: CollectorSettings
    wait: Wait
    clock: Callable[[], float]

    def collect(self, pods: Sequence[Document]) -> Iterator[tuple[str, Collected | Uncollected]]:
        """Yield the path of each container of the pods, and what was read in it, or why it was not.

        The same collector is not started twice, so that an interrupted run continues. Raises `ClusterUnavailable`.
        """
        subjects = [each for pod in pods for each in list_subjects(pod)]
        obstacles = map_concurrently(self._start, subjects)
        started = [each for each, obstacle in zip(subjects, obstacles, strict=True) if not obstacle]
        states = self._wait_until_ended(started) if started else {}
        for each, obstacle in zip(subjects, obstacles, strict=True):
            yield each.path, self._read(each, obstacle, states)

    def _start(self, subject: Subject) -> str:
        """Start the collector for a container; return why it cannot be started, otherwise an empty text."""
        if subject.obstacle:
            return subject.obstacle
        try:
            self.cluster.add_ephemeral_container(self.namespace, subject.pod_name, self.render(subject))
        except ClusterRefused as error:
            return summarize_error(error)
        return ""

    def render(self, subject: Subject) -> dict[str, Any]:
        """Return the ephemeral container, within Pod Security `restricted` unless the subject runs as root."""
        since = datetime.fromisoformat(subject.status["state"]["running"]["startedAt"]).timestamp()
        users = subject.users
        return {
            "name": subject.collector,
            "image": self.image,
            "imagePullPolicy": "IfNotPresent",
            "command": list(COMMAND),
            "args": [str(since), str(self.settings.contents), str(self.settings.timeout)],
            "targetContainerName": subject.container["name"],
            "securityContext": {
                **users,
                "runAsNonRoot": users.get("runAsUser") != 0,
                "allowPrivilegeEscalation": False,
                "readOnlyRootFilesystem": True,
                "capabilities": {"drop": ["ALL"]},
                "seccompProfile": {"type": "RuntimeDefault"},
            },
        }

    def _wait_until_ended(self, subjects: Sequence[Subject]) -> dict[tuple[str, str], Mapping[str, Any]]:
        """Return the last state of the ephemeral containers by pod and name, once all ended or their time is over."""
        until = self.clock() + STARTING + self.settings.timeout
        while True:
            states = {
                (pod["metadata"]["name"], each["name"]): each.get("state", {})
                for pod in self.cluster.list(PODS, self.namespace, self.labels)
                for each in pod.get("status", {}).get("ephemeralContainerStatuses") or ()
            }
            ended = all(_is_over(states.get((each.pod_name, each.collector), {})) for each in subjects)
            if ended or self.clock() > until:
                return states
            self.wait(POLL)

    def _read(
        self, subject: Subject, obstacle: str, states: Mapping[tuple[str, str], Mapping[str, Any]]
    ) -> Collected | Uncollected:
        state = states.get((subject.pod_name, subject.collector), {})
        if not obstacle and "terminated" not in state:
            obstacle = f"the collector did not end in time: {_explain(state)}"
        if not obstacle:
            try:
                return read_output(self.cluster.logs(self.namespace, subject.pod_name, subject.collector, LINES))
            except ClusterRefused as error:
                obstacle = summarize_error(error)
            except ValueError as error:
                obstacle = f"the collector ended ({_explain(state)}), and {error}"
        return Uncollected(item=f"processes and changed files of {subject.path}", why=obstacle)


def list_subjects(pod: Document) -> Iterator[Subject]:
    """Yield the containers of a pod that run or should run; an init container counts while it runs. Pure."""
    status = pod.get("status", {})
    statuses = {
        each["name"]: each for kind in ("initContainerStatuses", "containerStatuses") for each in status.get(kind) or ()
    }
    initial = pod["spec"].get("initContainers") or []
    for number, container in enumerate([*pod["spec"]["containers"], *initial]):
        subject = Subject(pod, number, container, statuses.get(container["name"], {}))
        if container not in initial or not subject.obstacle:
            yield subject


def describe_gaps(path: str, collected: Collected) -> Iterator[Uncollected]:
    """Yield what the collector named and did not read, each kind with its number and the first one. Pure."""
    if collected.unread:
        first, why = next(iter(collected.unread.items()))
        yield Uncollected(item=f"{len(collected.unread)} paths of {path}, such as {first[:LONGEST]}", why=why)
    if missing := collected.missing:
        what = f"contents of {len(missing)} changed files of {path}, such as {missing[0][:LONGEST]}"
        yield Uncollected(item=what, why="they are above the limit `contents`; the list has their digests")


def encode_json(document: object) -> bytes:
    """Return a document as it is in a bundle."""
    return json.dumps(document, indent=1, sort_keys=True).encode()


def _is_over(state: Mapping[str, Any]) -> bool:
    """Return whether a container ended, or waits for what seldom changes."""
    return "terminated" in state or state.get("waiting", {}).get("reason") in STUCK


def _explain(state: Mapping[str, Any]) -> str:
    """Return the state of a container in words."""
    if "terminated" in state:
        return f"{state['terminated'].get('reason')}, exit code {state['terminated'].get('exitCode')}"
    waiting = state.get("waiting", {})
    text = ": ".join(part for part in (waiting.get("reason"), waiting.get("message")) if part)
    return text or ("it still runs" if "running" in state else "it was not started")
