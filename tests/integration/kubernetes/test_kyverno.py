"""Kyverno admits a pod only with a verdict that it verified itself, whatever the other controls say.

The matrix runs each attack against each control alone: the policies of the API server (1), and Kyverno (2). What the
registry alone (3) withholds from a node is in `tests/integration/emulator/test_pulls.py`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from lightkube.core.exceptions import ApiError
from lightkube.resources.core_v1 import Pod, PodEphemeralcontainers
from lightkube.types import PatchType

from cscm_laptop.home import Home
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.adapters.kubernetes.parameters import ClusterParameters
from supply_chain.errors import ClusterRefused, ClusterUnavailable
from supply_chain.execution.enforcement.admitted import AdmissionPorts, publish_all
from supply_chain.execution.enforcement.installation import (
    KINDS,
    compare_installed,
    compare_webhook,
    install,
    read_objects,
    remove,
    require_kyverno,
)
from supply_chain.execution.enforcement.policies import EnforcedNamespace, Mode, Policies, make_parameters_name
from supply_chain.execution.enforcement.verification import POLICY_KIND
from supply_chain.execution.kubernetes.cluster import CONFIG_MAPS, DEPLOYMENTS, NAMESPACES, PODS, SERVICE_ACCOUNTS, Kind
from tests.support.admission import ROLES, SOON, pod, refusal, wait_until
from tests.support.attacks import (
    Prepare,
    by_tag,
    by_tag_and_digest,
    expired,
    foreign_registry,
    of_another_digest,
    other_application,
    other_environment,
    other_gate,
    other_statement,
    outside_of_curated,
    refused,
    superseded,
    unknown_application,
    unsigned,
    wrong_digest,
)
from tests.support.emulator import Emulator, crane, python, running
from tests.support.kyverno import Kyverno, running_kyverno
from tests.support.verified import APPLICATIONS, MAX_AGE, Controlled, Verdicts, Verified, clock, verified

__all__ = ["crane", "python"]

pytestmark = pytest.mark.real

EXCEPTIONS = Kind("policies.kyverno.io/v1", "PolicyException", "policyexceptions")


@pytest.fixture(scope="module")
def admin(kubeconfig: Path) -> ClusterClient:
    return ClusterClient.of_context(kubeconfig, None)


@pytest.fixture(scope="module")
def registry(python: Path, crane: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Emulator]:
    with running(python, crane, tmp_path_factory.mktemp("registry")) as started:
        yield started


@pytest.fixture(scope="module")
def kyverno(
    home: Home, admin: ClusterClient, kubeconfig: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Kyverno]:
    with running_kyverno(home, admin, kubeconfig, tmp_path_factory.mktemp("kyverno")) as started:
        yield started


@pytest.fixture(scope="module")
def verdicts(registry: Emulator) -> Verdicts:
    return Verdicts(registry)


@pytest.fixture(scope="module")
def second(admin: ClusterClient, verdicts: Verdicts, kyverno: Kyverno) -> Iterator[Verified]:
    """A namespace in which Kyverno alone decides."""
    kyverno.add_login("registry", verdicts.registry.host, verdicts.registry.login())
    with verified(admin, verdicts, kyverno) as made:
        yield made


class Followed(Controlled):
    """A namespace of the same environment in which the policies of the API server alone decide."""

    lag = SOON

    @property
    def refuser(self) -> str:
        return f"ValidatingAdmissionPolicy '{self.policies.policy}'"

    def follow(self) -> None:
        parameters = ClusterParameters(lambda: self.admin)
        store, ecr = self.verdicts.store(), self.verdicts.ecr
        publish_all(self.place, AdmissionPorts(self.verdicts.registry.host, store, ecr, lambda _: (), parameters))


@pytest.fixture(scope="module")
def first(admin: ClusterClient, verdicts: Verdicts) -> Iterator[Followed]:
    name = f"first-{uuid4().hex[:8]}"
    place = EnforcedNamespace(verdicts.environment, name, Mode.DENY, parameters=make_parameters_name(name))
    made = Followed(admin, place, Policies(f"test-{uuid4().hex[:8]}"), verdicts)
    objects = (*made.policies.list_cluster_objects(), *made.policies.list_namespace_objects(place))
    install((*read_objects(ROLES), *objects), admin)
    try:
        wait_until(lambda: admin.read(SERVICE_ACCOUNTS, "default", name))
        made.follow()
        wait_until(lambda: made.refuser in made.refusal("other:latest"))
        yield made
    finally:
        for each in reversed(objects):
            admin.delete(KINDS[each["kind"]], each["metadata"]["name"])
        admin.delete(CONFIG_MAPS, place.parameters, "cscm-system")


@pytest.fixture(params=["first", "second"])
def control(request: pytest.FixtureRequest) -> Controlled:
    """Each control alone: the policies of the API server (1), and Kyverno (2)."""
    found: Controlled = request.getfixturevalue(request.param)
    return found


FOREIGN, UNSIGNED, OTHER = "is not of an application", "has no signed verdict", "is not about its image"
FAILED, LATE = "the deploy gate refuses", "too old or has expired"
ATTACKS: dict[Prepare, str] = {
    unsigned: UNSIGNED, refused: FAILED, superseded: FAILED, wrong_digest: "MANIFEST_UNKNOWN",
    of_another_digest: UNSIGNED, by_tag: FOREIGN, by_tag_and_digest: FOREIGN, foreign_registry: FOREIGN,
    outside_of_curated: FOREIGN, other_application: OTHER, unknown_application: FOREIGN, other_environment: OTHER,
    other_gate: OTHER, other_statement: UNSIGNED, expired: LATE,
}  # fmt: skip
"""Each attack with why Kyverno refuses it."""


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda each: each.__name__)
def test_single_enforcement_control_refuses_attack(control: Controlled, attack: Prepare, verdicts: Verdicts) -> None:
    """So each may be off: the other one refuses. An admitted image shows that it is not refused for another reason."""
    verdicts.publish(good := verdicts.push("hello"))
    image, reason = attack(verdicts), ATTACKS[attack] if isinstance(control, Verified) else ""
    control.wait_for(verdicts.image(good))

    for first, spec in (
        (image, {}),
        (verdicts.image(good), {"initContainers": [{"name": "x", "image": image}]}),
        (verdicts.image(good), {"volumes": [{"name": "x", "image": {"reference": image}}]}),
    ):
        refusal = control.refusal(first, **spec)
        assert control.refuser in refusal and reason in refusal


def test_image_is_refused_after_block_despite_cached_verification(control: Controlled, verdicts: Verdicts) -> None:
    """Kyverno keeps what it verified for an hour, which must not outlast a block."""
    verdicts.publish(ref := verdicts.push("hello"))
    control.wait_for(verdicts.image(ref))

    verdicts.publish(ref, passed=False)
    control.wait_for(verdicts.image(ref), refused=True)
    verdicts.publish(ref)
    control.wait_for(verdicts.image(ref))


def test_container_that_is_added_or_changed_is_judged(control: Controlled, verdicts: Verdicts) -> None:
    """`kubectl debug` adds a container to a running pod, `kubectl set image` changes one."""
    for each in (good := verdicts.push("hello"), other := verdicts.push("shop")):
        verdicts.publish(each)
        control.wait_for(verdicts.image(each))
    with control.waiting_pod(verdicts.image(good)) as name:
        for resource, containers in ((PodEphemeralcontainers, "ephemeralContainers"), (Pod, "containers")):
            change(control, resource, name, containers, verdicts.image(other))
            with pytest.raises(ApiError, match=re.escape(control.refuser)):
                change(control, resource, name, containers, unsigned(verdicts))


def test_update_of_controller_starts_no_other_image(control: Controlled, verdicts: Verdicts) -> None:
    """The policies of the API server refuse the template already, Kyverno the pods of it."""
    verdicts.publish(good := verdicts.push("hello"))
    control.wait_for(verdicts.image(good))
    image, admin, where = unsigned(verdicts), control.admin, control.place.namespace
    name = f"x-{uuid4().hex[:8]}"

    def deployment(image: str) -> dict[str, Any]:
        labels = {"app": name}
        spec = {"containers": [{"name": "app", "image": image}], "schedulingGates": [{"name": "test/never"}]}
        return {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": where},
            "spec": {
                "replicas": 1, "selector": {"matchLabels": labels},
                "template": {"metadata": {"labels": labels}, "spec": spec},
            },
        }  # fmt: skip

    def refusals() -> str:
        """Return why pods of the Deployment are refused."""
        conditions = (admin.read(DEPLOYMENTS, name, where) or {}).get("status", {}).get("conditions", ())
        return " ".join(each.get("message", "") for each in conditions if each["type"] == "ReplicaFailure")

    admin.apply(DEPLOYMENTS, deployment(verdicts.image(good)))
    try:
        wait_until(lambda: len(admin.list(PODS, where, {"app": name})) == 1)
        if isinstance(control, Verified):
            admin.apply(DEPLOYMENTS, deployment(image))
            wait_until(lambda: control.refuser in refusals())
        else:
            with pytest.raises(ClusterRefused, match=re.escape(control.refuser)):
                admin.apply(DEPLOYMENTS, deployment(image))
        found = {each["spec"]["containers"][0]["image"] for each in admin.list(PODS, where, {"app": name})}
        assert found == {verdicts.image(good)}
    finally:
        admin.delete(DEPLOYMENTS, name, where)


def test_user_with_role_edit_starts_no_other_image(control: Controlled, verdicts: Verdicts) -> None:
    """Nor does that role give an exception from the control, or the labels by which it knows its namespace."""
    verdicts.publish(good := verdicts.push("hello"))
    control.wait_for(verdicts.image(good))
    where, name = control.place.namespace, f"editor-{uuid4().hex[:8]}"
    metadata = {"name": name, "namespace": where}
    control.admin.create(SERVICE_ACCOUNTS, {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata})
    control.admin.create(KINDS["RoleBinding"], {
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": metadata,
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
        "subjects": [{"kind": "ServiceAccount", **metadata}],
    })  # fmt: skip
    editor = control.admin.for_service_account(where, name, "test", 600)
    reference = {"name": control.policies.name_verifying_policy(control.place.environment), "kind": POLICY_KIND}
    exception = {
        "apiVersion": EXCEPTIONS.api_version, "kind": EXCEPTIONS.name, "metadata": {"name": "all", "namespace": where},
        "spec": {"policyRefs": [reference]},
    }  # fmt: skip
    try:
        wait_until(lambda: refusal(editor, where, PODS, pod(verdicts.image(good))) == "")
        assert control.refuser in refusal(editor, where, PODS, pod(unsigned(verdicts)))
        with pytest.raises(ClusterRefused):
            editor.create(EXCEPTIONS, exception, dry_run=True)
        with pytest.raises(ClusterRefused, match="namespaces"):
            editor.patch(NAMESPACES, where, {"metadata": {"labels": {"kubernetes.io/metadata.name": "other"}}})
    finally:
        control.admin.delete(SERVICE_ACCOUNTS, name, where)


def test_pod_of_a_blocked_image_can_be_changed(control: Controlled, verdicts: Verdicts) -> None:
    """Otherwise its finalizers could not be removed."""
    verdicts.publish(ref := verdicts.push("hello"))
    control.wait_for(verdicts.image(ref))
    with control.waiting_pod(verdicts.image(ref)) as name:
        verdicts.publish(ref, passed=False)
        control.wait_for(verdicts.image(ref), refused=True)
        patch(control, Pod, name, {"metadata": {"labels": {"a": "b"}}})
        with pytest.raises(ApiError, match=re.escape(control.refuser)):  # with a command of its own
            change(control, PodEphemeralcontainers, name, "ephemeralContainers", verdicts.image(ref))


def change(control: Controlled, resource: Any, name: str, containers: str, image: str) -> None:
    """Change the container `app` of a pod, or add an ephemeral one, in a dry run."""
    security = {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    container: dict[str, Any] = {"name": "app", "image": image}
    if resource is PodEphemeralcontainers:
        container |= {"name": "debug", "securityContext": security}
    patch(control, resource, name, {"spec": {containers: [container]}})


def patch(control: Controlled, resource: Any, name: str, body: Any) -> None:
    control.admin.client.patch(
        resource, name, body, namespace=control.place.namespace, patch_type=PatchType.STRATEGIC, dry_run=True
    )


def test_pod_is_refused_if_one_of_many_images_is_unsigned(second: Verified, verdicts: Verdicts) -> None:
    """Kyverno would wait for itself if it read the images in another order."""
    for ref in (refs := [verdicts.push(name) for name in APPLICATIONS]):
        verdicts.publish(ref)
    images = [verdicts.image(ref) for ref in refs]

    def named(*images: str) -> list[dict[str, str]]:
        return [{"name": f"c-{uuid4().hex[:8]}", "image": image} for image in images]

    assert second.refusal("", containers=named(*images, *images), initContainers=named(*reversed(images))) == ""
    assert UNSIGNED in second.refusal(images[0], initContainers=named(*images, unsigned(verdicts)))


def test_image_with_outdated_verdict_is_refused(second: Verified, verdicts: Verdicts) -> None:
    verdicts.publish(ref := verdicts.push("hello"), at=clock() - MAX_AGE - timedelta(minutes=1))
    assert LATE in second.refusal(verdicts.image(ref))

    verdicts.publish(ref, at=clock() - MAX_AGE + timedelta(minutes=1))
    assert second.refusal(verdicts.image(ref)) == ""


def test_mode_warn_refuses_nothing(admin: ClusterClient, verdicts: Verdicts, kyverno: Kyverno, second: object) -> None:
    with verified(admin, verdicts, kyverno, Mode.WARN) as warned:
        assert warned.refusal(unsigned(verdicts)) == warned.refusal("busybox:latest") == ""


def test_removed_setting_removes_the_policy(
    admin: ClusterClient, verdicts: Verdicts, kyverno: Kyverno, second: object
) -> None:
    """Kyverno then refuses nothing in the namespace."""
    with verified(admin, verdicts, kyverno) as made:
        image = unsigned(verdicts)
        assert UNSIGNED in made.refusal(image)
        without = replace(made.place, verification=None)

        (change,) = remove(made.policies.list_other_settings_objects(without), admin)

        assert change.name == made.policies.name_verifying_policy(made.place.environment)
        wait_until(lambda: made.refusal(image) == "")


def test_exception_from_the_policy_is_refused(second: Verified) -> None:
    """Kyverno itself would let each who may make one go round the policy."""
    reference = {"name": second.policies.name_verifying_policy(second.place.environment), "kind": POLICY_KIND}
    document = {
        "apiVersion": EXCEPTIONS.api_version,
        "kind": EXCEPTIONS.name,
        "metadata": {"name": "all", "namespace": second.place.namespace},
        "spec": {"policyRefs": [reference]},
    }
    with pytest.raises(ClusterRefused, match="has no exception"):
        second.admin.create(EXCEPTIONS, document)


def test_change_of_the_policy_is_reported(second: Verified) -> None:
    """Until `cscm enforce apply` made it again."""
    require_kyverno(second.admin)
    assert not deviations(second)
    policy = second.objects[-1]

    weak = {**policy, "spec": {**policy["spec"], "validationActions": ["Audit"]}}
    install([weak], second.admin)
    assert deviations(second)
    install([policy], second.admin)
    wait_until(lambda: not deviations(second))


def deviations(made: Verified) -> list[str]:
    name = made.policies.name_verifying_policy(made.place.environment)
    found = (*compare_installed(made.objects, made.admin), *compare_webhook(name, made.place, made.admin))
    return [each.code for each in found]


def test_every_image_is_refused_while_registry_or_kyverno_is_down(
    second: Verified, verdicts: Verdicts, kyverno: Kyverno
) -> None:
    """What Kyverno cannot verify is not admitted, and neither is anything while it does not answer."""
    verdicts.publish(ref := verdicts.push("hello"))
    image = verdicts.image(ref)
    verdicts.registry.end()
    assert second.refuser in second.refusal(image)
    verdicts.registry.start()
    assert second.refusal(image) == ""

    kyverno.end()
    with pytest.raises(ClusterUnavailable, match=second.refuser):
        second.refusal(image)
    kyverno.start()
    wait_until(lambda: second.refusal(image) == "")
