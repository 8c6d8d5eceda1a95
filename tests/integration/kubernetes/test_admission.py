"""The API server itself admits only images that the deploy gate admits, whoever creates what runs them."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx2
import pytest
from lightkube.core.exceptions import ApiError
from lightkube.resources.core_v1 import Pod, PodEphemeralcontainers
from lightkube.types import PatchType

from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.adapters.kubernetes.parameters import ClusterParameters
from supply_chain.adapters.kubernetes.private_names import find_sender
from supply_chain.errors import ClusterRefused
from supply_chain.execution.enforcement.admitted import AdmittedImages, Parameters
from supply_chain.execution.enforcement.installation import (
    KINDS,
    WORKLOADS,
    find_unadmitted,
    install,
    read_objects,
    read_status,
    remove,
)
from supply_chain.execution.enforcement.policies import (
    HARDENED,
    PUBLISHER,
    SYSTEM,
    Mode,
    Policies,
    make_parameters_name,
)
from supply_chain.execution.enforcement.trial import find_ineffective
from supply_chain.execution.isolation.collector import COMMAND
from supply_chain.execution.kubernetes.cluster import (
    CONFIG_MAPS,
    NAMESPACES,
    NODES,
    POD_TEMPLATES,
    PODS,
    SERVICE_ACCOUNTS,
    Kind,
)
from supply_chain.model.container import QUARANTINE
from tests.support.admission import (
    REPOSITORIES,
    ROLES,
    Enforced,
    enforce,
    install_policies,
    is_enforced,
    pod,
    refusal,
    wait_until,
)
from tests.support.cluster_roles import wait_for_role
from tests.support.node import secure_pod

HELLO = f"{REPOSITORIES}hello"
ADMITTED = f"{HELLO}@sha256:{'a' * 64}"
OTHER_NAMESPACES = f"{HELLO}@sha256:{'b' * 64}"
REFUSED = {
    "unknown digest": f"{HELLO}@sha256:{'c' * 64}",
    "tag": f"{HELLO}:latest",
    "tag and digest": f"{HELLO}:latest@sha256:{'a' * 64}",
    "foreign registry": f"docker.io/curated/hello@sha256:{'a' * 64}",
    "another application with the digest": f"{REPOSITORIES}shop@sha256:{'a' * 64}",
    "digest of another namespace": OTHER_NAMESPACES,
    "two lines of the parameters": f"{HELLO}@sha256:{'a' * 64} hello\n{'a' * 64}",
}
CLUSTER_ROLE_BINDINGS = Kind(
    "rbac.authorization.k8s.io/v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False
)


def workload(kind: Kind, image: str) -> dict[str, Any]:
    """Return a controller, or a template, whose pods have an image in an init container."""
    containers: dict[str, Any] = {
        "containers": [{"name": "app", "image": ADMITTED}],
        "initContainers": [{"name": "i", "image": image}],
    }
    template: dict[str, Any] = {"metadata": {"labels": {"app": "x"}}, "spec": containers}
    selector: dict[str, Any] = {"matchLabels": {"app": "x"}}
    job: dict[str, Any] = {"template": {**template, "spec": {**containers, "restartPolicy": "Never"}}}
    specs: dict[str, dict[str, Any]] = {
        "ReplicationController": {"selector": {"app": "x"}, "template": template},
        "StatefulSet": {"selector": selector, "template": template, "serviceName": "x"},
        "Job": job,
        "CronJob": {"schedule": "@daily", "jobTemplate": {"spec": job}},
    }
    spec = specs.get(kind.name, {"selector": selector, "template": template})
    body = {"template": template} if kind.name == "PodTemplate" else {"spec": spec}
    return {"apiVersion": kind.api_version, "kind": kind.name, "metadata": {"name": "x"}, **body}


@pytest.fixture(scope="module")
def admin(kubeconfig: Path) -> ClusterClient:
    return ClusterClient.of_context(kubeconfig, None)


@pytest.fixture(scope="module")
def policies(admin: ClusterClient) -> Iterator[Policies]:
    with install_policies(admin) as made:
        yield made


@pytest.fixture(scope="module")
def enforced(admin: ClusterClient, policies: Policies) -> Iterator[Enforced]:
    """A namespace that admits one image."""
    with enforce(admin, policies) as made:
        made.admit(ADMITTED)
        wait_until(partial(is_enforced, made, ADMITTED))
        yield made


@pytest.fixture(scope="module")
def elsewhere(admin: ClusterClient, policies: Policies) -> Iterator[Enforced]:
    """Another namespace that admits another digest of the same application."""
    with enforce(admin, policies) as made:
        made.admit(OTHER_NAMESPACES)
        wait_until(lambda: not made.refusal_of(OTHER_NAMESPACES) and made.refusal_of(ADMITTED))
        yield made


@pytest.fixture
def running(enforced: Enforced) -> Iterator[str]:
    """The name of a pod with the admitted image, which no node starts, and a volume."""
    document = pod(ADMITTED, volumes=[{"name": "a", "emptyDir": {}}])
    namespace = enforced.place.namespace
    enforced.admin.create(PODS, {**document, "metadata": {**document["metadata"], "namespace": namespace}})
    yield document["metadata"]["name"]
    enforced.admin.delete(PODS, document["metadata"]["name"], namespace)


def test_namespace_admits_the_admitted_image(enforced: Enforced) -> None:
    """In each kind of workload."""
    assert [kind.name for kind in WORKLOADS[1:] if enforced.refusal(kind, workload(kind, ADMITTED))] == []


@pytest.mark.parametrize("image", REFUSED.values(), ids=REFUSED)
def test_namespace_refuses_every_other_image(enforced: Enforced, elsewhere: Enforced, image: str) -> None:
    """The message names the image, and the parameters agree with what `cscm enforce status` reports."""
    refusal = enforced.refusal_of(image)

    assert "ValidatingAdmissionPolicy" in refusal and image.replace("\n", " ") in refusal
    found = enforced.parameters.read(enforced.place.parameters)
    assert found and find_unadmitted([pod(image)], found[0])


def test_each_namespace_has_its_own_images(enforced: Enforced, elsewhere: Enforced) -> None:
    """What one admits is nothing to the other."""
    assert not elsewhere.refusal_of(OTHER_NAMESPACES)
    assert "not admitted" in elsewhere.refusal_of(ADMITTED)


@pytest.mark.parametrize("kind", WORKLOADS[1:], ids=lambda kind: kind.name)
def test_namespace_refuses_templates_of_every_kind(enforced: Enforced, kind: Kind) -> None:
    """Also an image in an init container alone."""
    image = REFUSED["unknown digest"]

    assert image in enforced.refusal(kind, workload(kind, image))


@pytest.mark.parametrize("place", ["initContainers", "volumes"])
def test_namespace_refuses_other_image_in_init_container_or_volume(enforced: Enforced, place: str) -> None:
    """Init containers run first, and a volume can have the files of an image."""
    image = REFUSED["unknown digest"]
    item: dict[str, Any] = {"name": "x", "image": image if place == "initContainers" else {"reference": image}}

    assert image in enforced.refusal(PODS, pod(ADMITTED, **{place: [item]}))
    item["image"] = ADMITTED if place == "initContainers" else {"reference": ADMITTED}
    assert not enforced.refusal(PODS, pod(ADMITTED, **{place: [item]}))


def test_update_to_another_image_is_refused(enforced: Enforced, running: str) -> None:
    """The image of a running pod can be changed; other changes are admitted."""
    change: Any = {"spec": {"containers": [{"name": "app", "image": REFUSED["unknown digest"]}]}}
    label: Any = {"metadata": {"labels": {"a": "b"}}}

    def patch(body: Any) -> None:
        enforced.admin.client.patch(
            Pod, running, body, namespace=enforced.place.namespace, patch_type=PatchType.STRATEGIC, dry_run=True
        )

    patch(label)
    with pytest.raises(ApiError, match="not admitted"):
        patch(change)


IDLE: dict[str, dict[str, Any]] = {
    **{key: {"replicas": 0} for key in ("Deployment", "ReplicaSet", "ReplicationController", "StatefulSet")},
    "CronJob": {"suspend": True},
}
"""Fields by which controllers make no pods."""


@pytest.mark.parametrize(
    "kind", [each for each in WORKLOADS[1:] if each.name != "Job"], ids=lambda kind: kind.name
)  # the template of a Job cannot be changed
def test_update_of_controller_to_another_image_is_refused(enforced: Enforced, kind: Kind) -> None:
    """`kubectl set image` changes the template; other changes are admitted."""
    admin, name, namespace = enforced.admin, f"x-{uuid4().hex[:8]}", enforced.place.namespace

    def made(image: str, **metadata: Any) -> dict[str, Any]:
        document = workload(kind, image)
        if kind.name == "DaemonSet":
            document["spec"]["template"]["spec"]["nodeSelector"] = {"test": "never"}
        spec = {"spec": {**document["spec"], **IDLE.get(kind.name, {})}} if "spec" in document else {}
        return {**document, **spec, "metadata": {"name": name, "namespace": namespace, **metadata}}

    admin.apply(kind, made(ADMITTED))
    try:
        admin.apply(kind, made(ADMITTED, labels={"a": "b"}), dry_run=True)
        with pytest.raises(ClusterRefused, match="not admitted"):
            admin.apply(kind, made(REFUSED["unknown digest"]), dry_run=True)
    finally:
        admin.delete(kind, name, namespace)


def post(client: ClusterClient, where: str, document: Mapping[str, Any], headers: Mapping[str, str]) -> httpx2.Response:
    """Create an object with headers of its own, for which the client has no method."""
    return find_sender(client.client).send(httpx2.Request("POST", where, json=document, headers=headers))


def test_mirror_pod_with_other_image_is_refused(admin: ClusterClient, enforced: Enforced) -> None:
    """The node runs a static pod all the same: nothing in the cluster refuses or shows it then, only the node."""
    node = admin.list(NODES)[0]["metadata"]
    headers = {"Impersonate-User": f"system:node:{node['name']}", "Impersonate-Group": "system:nodes"}
    where = f"{admin.address}/api/v1/namespaces/{enforced.place.namespace}/pods?dryRun=All"
    owner = {"apiVersion": "v1", "kind": "Node", "name": node["name"], "uid": node["uid"], "controller": True}

    def mirror(image: str) -> dict[str, Any]:
        marks = {"kubernetes.io/config.mirror": "x", "kubernetes.io/config.source": "file"}
        return {
            "apiVersion": "v1", "kind": "Pod",
            "metadata": {"name": f"static-{node['name']}", "annotations": marks, "ownerReferences": [owner]},
            "spec": {"containers": [{"name": "app", "image": image}], "nodeName": node["name"]},
        }  # fmt: skip

    refused = post(admin, where, mirror(REFUSED["unknown digest"]), headers)
    admitted = post(admin, where, mirror(ADMITTED), headers)

    assert refused.status_code == 403 and "ValidatingAdmissionPolicy" in refused.text, refused.text
    assert admitted.is_success, admitted.text


def debug(enforced: Enforced, running: str, image: str) -> None:
    """Add an ephemeral container to a pod, in a dry run, as `kubectl debug` does."""
    container = {
        "name": "debug",
        "image": image,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "runAsNonRoot": True,
            "capabilities": {"drop": ["ALL"]},
            "seccompProfile": {"type": "RuntimeDefault"},
        },
    }
    body: Any = {"spec": {"ephemeralContainers": [container]}}
    enforced.admin.client.patch(
        PodEphemeralcontainers, running, body, namespace=enforced.place.namespace, patch_type=PatchType.STRATEGIC,
        dry_run=True,
    )  # fmt: skip


def test_ephemeral_container_with_another_image_is_refused(enforced: Enforced, running: str) -> None:
    """`kubectl debug` adds a container to a running pod."""
    debug(enforced, running, ADMITTED)
    with pytest.raises(ApiError, match="not named by its digest"):
        debug(enforced, running, "busybox:latest")


COLLECTOR = f"{REPOSITORIES}base/python@sha256:{'d' * 64}"
COLLECTING: dict[str, Any] = {
    "name": "cscm-collector-0", "image": COLLECTOR, "command": [*COMMAND], "args": ["0", "1", "2"],
    "securityContext": {
        "allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    },
}  # fmt: skip


def test_collector_runs_as_itself_in_quarantine_only(enforced: Enforced, running: str) -> None:
    """Its image is admitted for nothing else: no other command, container or pod, also not once it is in a pod."""
    namespace, client = enforced.place.namespace, enforced.admin.client

    def add(dry_run: bool = True, **changes: Any) -> str:
        """Return why a pod gets no such ephemeral container; empty if it does."""
        body: Any = {"spec": {"ephemeralContainers": [{**COLLECTING, **changes}]}}
        try:
            client.patch(
                PodEphemeralcontainers, running, body, namespace=namespace, patch_type=PatchType.STRATEGIC,
                dry_run=dry_run,
            )  # fmt: skip
        except ApiError as error:
            return str(error)
        return ""

    def label(value: str | None) -> None:
        body: Any = {"metadata": {"labels": {QUARANTINE: value}}}
        client.patch(Pod, running, body, namespace=namespace, patch_type=PatchType.STRATEGIC)

    enforced.admit(ADMITTED, collector=COLLECTOR)
    try:
        label("hello")
        wait_until(lambda: not add())
        assert "not admitted" in enforced.refusal_of(COLLECTOR), "it is no application"
        others: dict[str, Any] = {
            "command": ["/usr/bin/python3", "-c", "print()"], "image": f"{REPOSITORIES}base/python@sha256:{'e' * 64}",
            "env": [{"name": "A", "value": "b"}], "volumeMounts": [{"name": "a", "mountPath": "/a"}],
            "envFrom": [{"configMapRef": {"name": "a"}}],
        }  # fmt: skip
        assert [key for key, value in others.items() if "not admitted" not in add(**{key: value})] == []
        label(None)
        assert "not admitted" in add()
        label("hello")
        assert not add(dry_run=False)
        assert "not admitted" in add(name="second", command=["/usr/bin/python3"])
        body: Any = {"spec": {"containers": [{"name": "app", "image": COLLECTOR}]}}
        with pytest.raises(ApiError, match="not admitted"):
            client.patch(Pod, running, body, namespace=namespace, patch_type=PatchType.STRATEGIC, dry_run=True)
        label("other")
        enforced.admit(ADMITTED)
        wait_until(lambda: "not admitted" in add(name="third"))
        label("hello")
    finally:
        enforced.admit(ADMITTED)


def test_labels_of_running_pod_can_be_changed_after_block(enforced: Enforced, running: str) -> None:
    """Finalizers and labels of what runs can still be changed after a block."""
    enforced.admit()
    try:
        wait_until(lambda: enforced.refusal_of(ADMITTED))
        enforced.admin.client.patch(
            Pod, running, {"metadata": {"labels": {"a": "b"}}}, namespace=enforced.place.namespace,
            patch_type=PatchType.STRATEGIC, dry_run=True,
        )  # fmt: skip
        with pytest.raises(ApiError, match="not admitted"):  # it has a command of its own
            debug(enforced, running, ADMITTED)
    finally:
        enforced.admit(ADMITTED)
        wait_until(lambda: not enforced.refusal_of(ADMITTED))


def test_pod_is_refused_within_seconds_of_block(enforced: Enforced) -> None:
    """From the write of the parameters to the first refused pod."""
    enforced.admit()
    seconds = wait_until(lambda: enforced.refusal_of(ADMITTED))
    enforced.admit(ADMITTED)
    wait_until(lambda: not enforced.refusal_of(ADMITTED))

    assert seconds < 15


def test_every_image_is_refused_while_parameters_are_missing(admin: ClusterClient, policies: Policies) -> None:
    """Nothing is admitted by an enforcement without a list; in the gradual modes nothing is refused."""
    with enforce(admin, policies) as strict, enforce(admin, policies, Mode.WARN) as gradual:
        wait_until(lambda: "no params found" in strict.refusal_of(ADMITTED))
        assert not gradual.refusal_of(ADMITTED)
        gradual.admit()
        assert not gradual.refusal_of("busybox:latest")


def test_pod_without_security_profile_gets_hardened_profile(enforced: Enforced) -> None:
    """The annotation names what was added; a value that is there stays, and Pod Security judges it."""
    document = pod(ADMITTED, initContainers=[{"name": "i", "image": ADMITTED}])
    document["spec"]["containers"][0]["securityContext"] = {"readOnlyRootFilesystem": False}
    document["metadata"] |= {"namespace": enforced.place.namespace, "annotations": {"team": "shop"}}

    found = enforced.admin.create(PODS, document, dry_run=True)

    spec, added = found["spec"], found["metadata"]["annotations"][HARDENED].split(",")
    assert spec["securityContext"] == {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
    hardened = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}, "readOnlyRootFilesystem": True}
    assert spec["initContainers"][0]["securityContext"] == hardened
    assert spec["containers"][0]["securityContext"] == {**hardened, "readOnlyRootFilesystem": False}
    assert {"runAsNonRoot", "app.capabilities", "i.readOnlyRootFilesystem"} <= {*added}
    assert "app.readOnlyRootFilesystem" not in added and found["metadata"]["annotations"]["team"] == "shop"


def test_pod_security_refuses_a_pod_with_the_processes_of_its_node(enforced: Enforced) -> None:
    """The namespace is `restricted`."""
    assert "restricted" in enforced.refusal(PODS, pod(ADMITTED, hostPID=True))


def test_user_with_the_role_edit_starts_no_other_image(enforced: Enforced, editor: ClusterClient) -> None:
    """Whoever may create pods may create admitted ones."""
    assert not enforced.refusal(PODS, pod(ADMITTED), editor)
    assert REFUSED["tag"] in enforced.refusal(PODS, pod(REFUSED["tag"]), editor)


@contextmanager
def account(admin: ClusterClient, namespace: str, *roles: tuple[str, str, str]) -> Iterator[ClusterClient]:
    """Yield a client of a new service account; each role has a kind, a name and the namespace of its binding."""
    name = f"user-{uuid4().hex[:8]}"
    subject = {"name": name, "namespace": namespace}
    admin.create(SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": subject})
    for kind, role, where in roles:
        binding = KINDS["RoleBinding"] if where else CLUSTER_ROLE_BINDINGS
        document = {
            "apiVersion": binding.api_version,
            "kind": binding.name,
            "metadata": {"name": name, **({"namespace": where} if where else {})},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": role},
            "subjects": [{"kind": "ServiceAccount", **subject}],
        }
        admin.create(binding, document)
        bound = admin.read(KINDS[kind], role, where if kind == "Role" else "")
        assert bound
        wait_for_role(admin, bound, f"system:serviceaccount:{namespace}:{name}", where)
    yield admin.for_service_account(namespace, name, "test", 600)
    for _, _, where in roles:
        admin.delete(KINDS["RoleBinding"] if where else CLUSTER_ROLE_BINDINGS, name, where)
    admin.delete(SERVICE_ACCOUNTS, name, namespace)


@pytest.fixture(scope="module")
def editor(admin: ClusterClient, enforced: Enforced) -> Iterator[ClusterClient]:
    namespace = enforced.place.namespace
    with account(admin, namespace, ("ClusterRole", "edit", namespace)) as client:
        yield client


@pytest.fixture
def administrator(admin: ClusterClient) -> Iterator[ClusterClient]:
    with account(admin, "default", ("ClusterRole", "cluster-admin", "")) as client:
        yield client


@pytest.fixture
def execution(admin: ClusterClient, policies: Policies) -> Iterator[ClusterClient]:
    """An identity with the roles that are documented for the block of a cluster."""
    roles = ("Role", "cscm-execution", SYSTEM), ("ClusterRole", "cscm-execution-enforcement", "")
    with account(admin, "default", *roles) as client:
        yield client


def refusals_of_writes(enforced: Enforced, client: ClusterClient) -> list[str]:
    """Return why an identity may not write the parameters, for an update and a creation; empty texts if it may."""
    found = enforced.admin.read(CONFIG_MAPS, enforced.place.parameters, SYSTEM)
    assert found
    more = copy.deepcopy(dict(found))
    more["data"]["dd"] = f"\n{'d' * 64} hello\n"
    other = {**more, "metadata": {"name": make_parameters_name("other"), "namespace": SYSTEM}}
    refusals = []
    for write, document in ((client.replace, more), (client.create, other)):
        try:
            write(CONFIG_MAPS, document, dry_run=True)
            refusals.append("")
        except ClusterRefused as error:
            refusals.append(str(error))
    return refusals


def test_no_other_service_account_writes_the_parameters(
    admin: ClusterClient, enforced: Enforced, editor: ClusterClient
) -> None:
    """Every one of the cluster is tried, by its own token; only the publisher may."""
    ends = {each["metadata"]["name"] for each in admin.list(NAMESPACES) if each["status"]["phase"] != "Active"}
    accounts = [each["metadata"] for each in admin.list(SERVICE_ACCOUNTS)]
    may = []
    for metadata in (each for each in accounts if each["namespace"] not in ends):
        client = admin.for_service_account(metadata["namespace"], metadata["name"], "test", 600)
        if not all(refusals_of_writes(enforced, client)):
            may.append((metadata["namespace"], metadata["name"]))

    assert may == [(SYSTEM, PUBLISHER)]
    assert all(refusals_of_writes(enforced, editor))


def test_administrator_of_the_cluster_writes_no_parameters(
    admin: ClusterClient, administrator: ClusterClient, enforced: Enforced
) -> None:
    """Not as themselves: they need a token of the publisher, which their role gives, or to change the policy."""
    for client in (admin, administrator):
        assert all("only the service account" in each for each in refusals_of_writes(enforced, client))


def test_impersonated_publisher_cannot_write_parameters(admin: ClusterClient, enforced: Enforced) -> None:
    """The role `edit` allows that in the namespace; only a token has an id, which is not impersonated by itself."""
    where = f"{admin.address}/api/v1/namespaces/{SYSTEM}/configmaps?dryRun=All"
    metadata = {"name": make_parameters_name("other"), "namespace": SYSTEM}
    headers = {"Impersonate-User": f"system:serviceaccount:{SYSTEM}:{PUBLISHER}"}
    document = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {}}

    answer = post(admin, where, document, headers)

    assert answer.status_code == 403 and "only the service account" in answer.text
    assert post(admin, where, {**document, "metadata": {**metadata, "name": "x"}}, headers).is_success


def test_user_with_edit_in_system_namespace_gets_no_token_of_publisher(
    admin: ClusterClient, execution: ClusterClient, enforced: Enforced
) -> None:
    """That role gives tokens of every other service account there; the documented role gives this one."""
    with account(admin, "default", ("ClusterRole", "edit", SYSTEM)) as client:
        wait_until(lambda: "needs the permission" in refused_token(client, PUBLISHER))
        assert not refused_token(client, "default")
        assert all(refusals_of_writes(enforced, client))
    assert not refused_token(execution, PUBLISHER) and not refused_token(admin, PUBLISHER)


def refused_token(client: ClusterClient, name: str) -> str:
    """Return why an identity gets no token of a service account of the system namespace; empty if it does."""
    try:
        client.for_service_account(SYSTEM, name, "test", 600)
    except ClusterRefused as error:
        return str(error)
    return ""


def test_no_pod_runs_as_the_publisher(admin: ClusterClient, enforced: Enforced) -> None:
    """It could read the token that it asks for."""
    document: dict[str, Any] = secure_pod(SYSTEM, "publisher", ADMITTED)
    mine = {**document, "spec": {**document["spec"], "serviceAccountName": PUBLISHER}}

    assert "no pod runs as" in refusal(admin, SYSTEM, PODS, mine)
    assert not refusal(admin, SYSTEM, PODS, document)


def test_documented_role_writes_parameters_and_no_policies(
    admin: ClusterClient, execution: ClusterClient, enforced: Enforced
) -> None:
    """The identity of the cluster's block needs no other permission, and cannot change a policy."""
    parameters, name = ClusterParameters(lambda: execution), enforced.place.parameters
    found = parameters.read(name)
    assert found
    wanted = (*read_objects(ROLES), *enforced.policies.list_cluster_objects(), *enforced.objects)

    assert read_status(enforced.place, wanted, found[0], found[0], execution).deviations == ()
    assert not [*find_ineffective(enforced.place, parameters, REPOSITORIES, execution, time.sleep)]
    assert parameters.write(name, found[0], found[1])
    assert all(refusals_of_writes(enforced, execution)), "it writes as the publisher only"
    kind = KINDS["ValidatingAdmissionPolicy"]
    policy = admin.read(kind, enforced.policies.policy)
    assert policy
    with pytest.raises(ClusterRefused):
        execution.replace(kind, policy)


def test_status_reports_weakened_policy_and_binding(admin: ClusterClient, enforced: Enforced) -> None:
    """And an installation restores it. Right after an installation, the API server has what was generated."""
    wanted = (*enforced.policies.list_cluster_objects(), *enforced.objects)
    found = enforced.parameters.read(enforced.place.parameters)
    assert found

    def codes() -> list[str]:
        status = read_status(enforced.place, wanted, found[0], found[0], admin)
        return [f"{each.code} {each.fact}" for each in status.deviations]

    assert codes() == []
    binding = next(each for each in enforced.objects if each["kind"] == "ValidatingAdmissionPolicyBinding")
    kind, name = KINDS[binding["kind"]], binding["metadata"]["name"]
    live = admin.read(kind, name)
    assert live
    weak = copy.deepcopy(dict(live))
    weak["spec"]["validationActions"] = ["Warn"]
    admin.replace(kind, weak)
    assert ["enforcement.weakened" in each and "validationActions" in each for each in codes()] == [True]

    admin.delete(kind, name)
    assert ["enforcement.removed" in each for each in codes()] == [True]

    assert [each.action for each in install(wanted, admin)] == ["create"]
    assert codes() == []
    wait_until(lambda: enforced.refusal_of(REFUSED["tag"]))


class Later:
    """Implements `Parameters`: those of a cluster, in a version that its API server does not have yet."""

    def __init__(self, parameters: ClusterParameters) -> None:
        self.read_now, self.write = parameters.read, parameters.write

    def read(self, name: str) -> tuple[AdmittedImages, str] | None:
        found = self.read_now(name)
        return found and (found[0], f"{found[1]}0")


def test_status_reports_api_server_with_earlier_parameters(enforced: Enforced) -> None:
    """It refuses the image, and names the version of the parameters by which it does."""
    place, admin = enforced.place, enforced.admin

    def facts(parameters: Parameters) -> list[str]:
        return [each.fact for each in find_ineffective(place, parameters, REPOSITORIES, admin, lambda _: None)]

    found = enforced.parameters.read(place.parameters)
    assert found and facts(enforced.parameters) == []
    assert [f"(version {found[1]})" in each for each in facts(Later(enforced.parameters))] == [True]
    enforced.admit(ADMITTED, OTHER_NAMESPACES)
    wait_until(lambda: facts(enforced.parameters) == [])
    enforced.admit(ADMITTED)


def test_status_reports_pods_that_pod_security_would_refuse(admin: ClusterClient, policies: Policies) -> None:
    """By the API server's own word; a pod that only lacks the hardened profile gets it."""
    with enforce(admin, policies, Mode.WARN) as made:
        made.admit(ADMITTED)
        found = made.parameters.read(made.place.parameters)
        assert found
        metadata = {"namespace": made.place.namespace}
        shared, plain = pod(ADMITTED, hostPID=True), pod(ADMITTED)
        for each in (shared, plain):
            admin.create(PODS, {**each, "metadata": {**each["metadata"], **metadata}})

        status = read_status(made.place, made.objects, found[0], found[0], admin)

        assert [each.name for each in status.would_refuse] == [shared["metadata"]["name"]]
        assert "hostPID=true" in status.would_refuse[0].why


def test_status_reports_api_server_that_admits_trial_image(admin: ClusterClient, policies: Policies) -> None:
    with enforce(admin, policies, Mode.WARN) as made:
        made.admit(ADMITTED)

        (found,) = find_ineffective(made.place, made.parameters, REPOSITORIES, admin, lambda _: None)

        assert "admits a trial" in found.fact and not admin.list(POD_TEMPLATES, made.place.namespace)


def test_gradual_mode_removes_objects_of_deny_mode(admin: ClusterClient, policies: Policies) -> None:
    """The hardening and the label of Pod Security; the label of another one stays."""
    with enforce(admin, policies) as made:
        made.admit(ADMITTED)
        wait_until(partial(is_enforced, made, ADMITTED))
        name, gradual = made.place.namespace, replace(made.place, mode=Mode.WARN)
        admin.patch(NAMESPACES, name, {"metadata": {"labels": {"team": "shop"}}})
        assert made.refusal(PODS, pod(ADMITTED, hostPID=True))

        install(policies.list_namespace_objects(gradual), admin)
        removed = remove(policies.list_other_settings_objects(gradual), admin)

        assert [each.kind for each in removed] == ["MutatingAdmissionPolicyBinding"]
        namespace = admin.read(NAMESPACES, name)
        assert namespace and namespace["metadata"]["labels"]["team"] == "shop"
        assert "pod-security.kubernetes.io/enforce" not in namespace["metadata"]["labels"]
        wait_until(lambda: not made.refusal(PODS, pod(ADMITTED, hostPID=True)))
        wait_until(lambda: HARDENED not in started(made).get("annotations", {}))
        assert install(policies.list_namespace_objects(gradual), admin) == ()


def started(made: Enforced) -> dict[str, Any]:
    """Return the metadata of a pod as the API server would make it."""
    document = pod(ADMITTED)
    metadata = {**document["metadata"], "namespace": made.place.namespace}
    found: dict[str, Any] = made.admin.create(PODS, {**document, "metadata": metadata}, dry_run=True)["metadata"]
    return found


def test_block_is_followed_after_all_policies_were_removed(admin: ClusterClient) -> None:
    """An API server stops to watch ConfigMaps with its last policy for them, and does not begin again."""
    for _ in range(2):
        with install_policies(admin) as made, enforce(admin, made) as installed:
            installed.admit(ADMITTED)
            wait_until(partial(is_enforced, installed, ADMITTED))
            installed.admit()
            wait_until(partial(installed.refusal_of, ADMITTED))
