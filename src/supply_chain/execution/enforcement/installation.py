"""What a cluster has of the generated objects: what installing them would change, and what somebody changed since."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal, Protocol

import yaml
from pydantic import Field

from supply_chain.concurrency import map_concurrently
from supply_chain.errors import SettingInvalid
from supply_chain.execution.enforcement.admitted import AdmittedImages, describe_difference
from supply_chain.execution.enforcement.pod_security import NO_IMAGE, make_trial, try_template
from supply_chain.execution.enforcement.policies import ADMISSION, EnforcedNamespace, Mode
from supply_chain.execution.enforcement.verification import CRD, PATH, POLICY_KIND, POLICY_VERSION, WEBHOOKS
from supply_chain.execution.kubernetes.cluster import (
    FIELD_MANAGER,
    NAMESPACES,
    POD_TEMPLATES,
    PODS,
    SERVICE_ACCOUNTS,
    Document,
    Kind,
)
from supply_chain.execution.kubernetes.differences import find_differences
from supply_chain.execution.kubernetes.selectors import selects
from supply_chain.execution.kubernetes.workloads import list_images
from supply_chain.execution.observation import Deviation
from supply_chain.model.container import QUARANTINE
from supply_chain.model.image import Model
from supply_chain.policy.activation import PolicyState
from supply_chain.text import list_remedies, pluralize

KINDS = {
    kind.name: kind
    for kind in (
        NAMESPACES,
        SERVICE_ACCOUNTS,
        Kind("rbac.authorization.k8s.io/v1", "ClusterRole", "clusterroles", namespaced=False),
        Kind("rbac.authorization.k8s.io/v1", "Role", "roles"),
        Kind("rbac.authorization.k8s.io/v1", "RoleBinding", "rolebindings"),
        Kind(ADMISSION, "ValidatingAdmissionPolicy", "validatingadmissionpolicies", namespaced=False),
        Kind(ADMISSION, "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", namespaced=False),
        Kind(ADMISSION, "MutatingAdmissionPolicy", "mutatingadmissionpolicies", namespaced=False),
        Kind(ADMISSION, "MutatingAdmissionPolicyBinding", "mutatingadmissionpolicybindings", namespaced=False),
        Kind(POLICY_VERSION, POLICY_KIND, "imagevalidatingpolicies", namespaced=False),
    )
}
"""The kinds of the generated objects."""
WORKLOADS = (
    PODS,
    POD_TEMPLATES,
    Kind("v1", "ReplicationController", "replicationcontrollers"),
    *(Kind("apps/v1", name, f"{name.lower()}s") for name in ("DaemonSet", "Deployment", "ReplicaSet", "StatefulSet")),
    *(Kind("batch/v1", name, f"{name.lower()}s") for name in ("CronJob", "Job")),
)
"""The kinds that the policy judges."""
DEFINITIONS = Kind("apiextensions.k8s.io/v1", "CustomResourceDefinition", "customresourcedefinitions", namespaced=False)
CONFIGURATIONS = Kind(ADMISSION, "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", namespaced=False)
EXCEPTIONS = Kind("policies.kyverno.io/v1", "PolicyException", "policyexceptions")
BOOTSTRAP = (
    '!(request.resource.group == "" && request.resource.resource == "nodes")'
    ' && !(request.resource.group == "certificates.k8s.io"'
    ' && request.resource.resource == "certificatesigningrequests")'
)
"""The condition that Kyverno (1.19) adds to webhooks that fail, so that nodes can register."""
LAPSED = "enforcement.lapsed"
"""The deviation of an image that stays admitted although its verdict has lapsed."""
ORPHANED = "enforcement.orphaned"
"""The deviation of another namespace that is judged for an environment that the project has in no cluster."""
ENFORCE = "Find out who changed it, then run `cscm enforce apply ENVIRONMENT`."


class AdmissionCluster(Protocol):
    """The API server of a cluster; every call raises `ClusterUnavailable` and `ClusterRefused`."""

    def read(self, kind: Kind, name: str, namespace: str = "") -> Document | None:
        """Return an object; None if there is none."""

    def list(self, kind: Kind, namespace: str = "") -> Sequence[Document]:
        """Return all objects of a namespace."""

    def apply(self, kind: Kind, document: Document, *, dry_run: bool = False) -> object:
        """Apply the fields of an object by server-side apply."""

    def create(self, kind: Kind, document: Document, *, dry_run: bool = False) -> object:
        """Make an object."""

    def list_warnings(self, kind: Kind, document: Document) -> Sequence[str]:
        """Return the warnings with which the API server would make an object; it stores nothing."""

    def replace(self, kind: Kind, document: Document, *, dry_run: bool = False) -> object:
        """Replace an object of the same version, also the fields that others added to it."""

    def delete(self, kind: Kind, name: str, namespace: str = "") -> object:
        """Delete an object, if it is there."""


def read_objects(directory: Path) -> tuple[Document, ...]:
    """Return the objects of all YAML files of a directory, namespaces first.

    Raises `SettingInvalid` for what is not an object of a kind that is installed here.
    """
    objects: list[Document] = []
    for path in sorted(directory.glob("*.yaml")):
        try:
            documents = [*yaml.safe_load_all(path.read_bytes())]
            objects += [each for each in documents if each["metadata"]["name"] and KINDS[each["kind"]]]
        except (yaml.YAMLError, KeyError, TypeError) as error:
            raise SettingInvalid(
                f"{path} has something else than objects that are installed in a cluster: {error}\n"
                f"Write only {', '.join(KINDS)}, each with a name."
            ) from error
    return tuple(sorted(objects, key=lambda each: each["kind"] != "Namespace"))


class Change(Model):
    """What an installation does to one object."""

    action: Literal["create", "change", "remove", "leave"]
    kind: str
    name: str
    fields: tuple[str, ...] = Field(default=(), description="those that differ")
    why: str = Field(default="", description="why it stays, and what to do")

    def __str__(self) -> str:
        fields = ", ".join(self.fields)
        return ": ".join(filter(None, (f"{self.action} {self.kind} {self.name}", fields, self.why)))


def install(documents: Iterable[Document], cluster: AdmissionCluster, *, dry_run: bool = False) -> tuple[Change, ...]:
    """Make or replace what a cluster lacks or has otherwise, in this order; return the changes.

    With `dry_run`, the API server checks each change and stores none. It cannot check an object in a namespace that
    does not exist yet.
    """
    changes: list[Change] = []
    for document in documents:
        kind, live = KINDS[document["kind"]], _read(document, cluster)
        namespace = document["metadata"].get("namespace", "")
        name = "/".join(filter(None, (namespace, document["metadata"]["name"])))
        fields = tuple(compare_object(document, live)) if live else ()
        if live and not fields:
            continue
        changes.append(Change(action="change" if live else "create", kind=kind.name, name=name, fields=fields))
        if dry_run and namespace and cluster.read(NAMESPACES, namespace) is None:
            continue
        if kind.name == "Namespace":  # others set labels there too
            cluster.apply(kind, document, dry_run=dry_run)
        elif live:
            version = {**document["metadata"], "resourceVersion": live["metadata"]["resourceVersion"]}
            cluster.replace(kind, {**document, "metadata": version}, dry_run=dry_run)
        else:
            cluster.create(kind, document, dry_run=dry_run)
    return tuple(changes)


def remove(
    objects: Iterable[tuple[str, str]], cluster: AdmissionCluster, *, dry_run: bool = False
) -> tuple[Change, ...]:
    """Remove objects of a cluster, each with its kind and name, if they are there; return the changes."""
    changes = tuple(Change(action="remove", kind=kind, name=name) for kind, name in find_left(objects, cluster))
    for each in () if dry_run else changes:
        cluster.delete(KINDS[each.kind], each.name)
    return changes


def find_left(objects: Iterable[tuple[str, str]], cluster: AdmissionCluster) -> Iterator[tuple[str, str]]:
    """Yield those of the objects, each with its kind and name, that a cluster has."""
    yield from ((kind, name) for kind, name in objects if cluster.read(KINDS[kind], name) is not None)


def compare_object(generated: Document, live: Document) -> Iterator[str]:
    """Yield the paths at which an object is not as generated: a field too few, too many or with another value.

    Of the metadata, only the generated labels count, and those of a namespace that were generated for other settings.
    """
    if generated["kind"] == "Namespace":
        yield from (f"metadata.labels.{key}" for key in _labels_left(generated, live))
    yield from (
        f"metadata.labels.{key}"
        for key, value in generated["metadata"].get("labels", {}).items()
        if live["metadata"].get("labels", {}).get(key) != value
    )
    for name, value in generated.items():
        if name not in ("apiVersion", "kind", "metadata"):
            yield from find_differences(value, live.get(name), name, absent_is_empty=False)


def _labels_left(generated: Document, live: Document) -> Iterator[str]:
    """Yield the labels that were applied earlier and are not generated any more; those of others stay."""
    for entry in live["metadata"].get("managedFields", ()):
        if (entry["manager"], entry["operation"]) == (FIELD_MANAGER, "Apply"):
            labels = entry.get("fieldsV1", {}).get("f:metadata", {}).get("f:labels", {})
            applied = {key.removeprefix("f:") for key in labels if key.startswith("f:")}
            yield from sorted(applied - {*generated["metadata"].get("labels", {})})


def compare_installed(generated: Iterable[Document], cluster: AdmissionCluster) -> Iterator[Deviation]:
    """Yield a deviation for each object that was removed or changed."""
    for document in generated:
        name = f"{document['kind']} {document['metadata']['name']}"
        live = _read(document, cluster)
        if live is None:
            yield Deviation(code="enforcement.removed", fact=f"{name} is gone", remedy=ENFORCE)
        elif fields := list(compare_object(document, live)):
            yield Deviation(
                code="enforcement.weakened",
                fact=f"{name} is not as it was generated: {', '.join(fields)}",
                remedy=ENFORCE,
            )


def compare_left(objects: Iterable[tuple[str, str]], cluster: AdmissionCluster) -> Iterator[Deviation]:
    """Yield a deviation for each object, with its kind and name, that a cluster still has from other settings."""
    for kind, name in find_left(objects, cluster):
        yield Deviation(
            code="enforcement.left",
            fact=f"{kind} {name} is of earlier settings of the environment",
            remedy="Run `cscm enforce apply ENVIRONMENT`, which removes it.",
        )


def find_unsigned(place: EnforcedNamespace, state: PolicyState) -> Iterator[Deviation]:
    """Yield a deviation if the environment is not active: nobody signed its mode, cluster and namespace."""
    if not state.active:
        yield Deviation(
            code="enforcement.unsigned",
            fact=f"{place.environment} is not active: {state.why}",
            remedy="Find out who changed it, and restore it or sign it: `cscm policy sign --key REF`.",
        )


def require_kyverno(cluster: AdmissionCluster) -> None:
    """Raise `SettingInvalid` if a cluster does not know Kyverno's policies."""
    if cluster.read(DEFINITIONS, CRD) is None:
        raise SettingInvalid(
            f"The cluster has no {CRD}: Kyverno is not installed there, or an earlier version than 1.17.\n"
            "Install Kyverno, or remove `kyverno` from the environment's `enforcement`."
        )


def require_no_exceptions(prefix: str, cluster: AdmissionCluster) -> None:
    """Raise `SettingInvalid` if Kyverno's exceptions name policies with a prefix; a policy refuses later ones only."""
    if names := list(_list_exceptions(prefix, cluster)):
        raise SettingInvalid(
            f"Exceptions from the policies of the chain are in the cluster: {', '.join(names)}\n"
            "Find out who made them and why, and delete each: kubectl delete policyexception NAME -n NAMESPACE"
        )


def compare_exceptions(prefix: str, verifying: str, cluster: AdmissionCluster) -> Iterator[Deviation]:
    """Yield a deviation for each exception from policies with a prefix, if the policy `verifying` is there."""
    if cluster.read(KINDS[POLICY_KIND], verifying) is None:
        return  # reported as removed; without Kyverno, the cluster has no exceptions
    for name in _list_exceptions(prefix, cluster):
        yield Deviation(
            code="enforcement.excepted",
            fact=f"the PolicyException {name} exempts from policies of the chain",
            remedy="Find out who made it and when, and delete it: kubectl delete policyexception NAME -n NAMESPACE",
        )


def _list_exceptions(prefix: str, cluster: AdmissionCluster) -> Iterator[str]:
    """Yield namespace and name of the exceptions from policies with a prefix, of any namespace."""
    for each in cluster.list(EXCEPTIONS, ""):
        if any(ref["name"].startswith(f"{prefix}-") for ref in each["spec"].get("policyRefs") or ()):
            yield f"{each['metadata']['namespace']}/{each['metadata']['name']}"


def compare_webhook(name: str, place: EnforcedNamespace, cluster: AdmissionCluster) -> Iterator[Deviation]:
    """Yield a deviation if Kyverno does not judge pods by a policy, or if pods are admitted without it.

    Whoever removes Kyverno, or stops it in the usual way, also removes its webhooks. Kyverno's own configuration can
    leave out namespaces, objects and requests that the policy selects.
    """
    policy = cluster.read(KINDS[POLICY_KIND], name)
    if policy is None:
        return  # reported as removed
    webhooks = (cluster.read(CONFIGURATIONS, WEBHOOKS) or {}).get("webhooks", [])
    ours = [each for each in webhooks if _path_of(each).endswith(f"{PATH}{name}")]
    ready = policy.get("status", {}).get("conditionStatus", {}).get("ready", False)
    failing = "Fail" if place.mode is Mode.DENY else "Ignore"
    if not ready or [each["failurePolicy"] for each in ours] != [failing]:
        yield Deviation(
            code="enforcement.unverified",
            fact=f"Kyverno does not judge pods by {name}: the policy is not ready, or its webhook is missing",
            remedy="Look at Kyverno's admission controller and its log.",
        )
        return
    labels = (cluster.read(NAMESPACES, place.namespace) or {"metadata": {}})["metadata"].get("labels") or {}
    if left_out := [*_find_left_out(ours[0], policy["spec"], labels)]:
        yield Deviation(
            code="enforcement.webhook-selects-less",
            fact=f"Kyverno's webhook for {name} excludes pods by {', '.join(left_out)}",
            remedy="Look at Kyverno's ConfigMap (`webhooks`, `matchConditions`) and who changed it.",
        )


def _find_left_out(webhook: Document, spec: Document, labels: Mapping[str, str]) -> Iterator[str]:
    """Yield the fields of a webhook by which it leaves out what a policy selects in a namespace with these labels."""
    if not selects(webhook.get("namespaceSelector") or {}, labels):
        yield "namespaceSelector"
    if any((webhook.get("objectSelector") or {}).values()):
        yield "objectSelector"
    required = [
        (operation, resource)
        for rule in spec["matchConstraints"]["resourceRules"]
        for operation in rule["operations"]
        for resource in rule["resources"]
    ]
    if not all(any(_covers(rule, *each) for rule in webhook.get("rules") or ()) for each in required):
        yield "rules"
    conditions = {each["expression"] for each in webhook.get("matchConditions") or ()}
    if conditions - {BOOTSTRAP, *(each["expression"] for each in spec.get("matchConditions") or ())}:
        yield "matchConditions"


def _covers(rule: Document, operation: str, resource: str) -> bool:
    """Return whether a rule of a webhook has an operation on a resource of core/v1, such as `pods`, of a namespace."""
    name, _, below = resource.partition("/")
    alike = {resource, "*/*", f"{name}/*"} | ({f"*/{below}"} if below else {"*"})
    return bool(
        {operation, "*"} & {*rule["operations"]}
        and {"", "*"} & {*rule["apiGroups"]}
        and {"v1", "*"} & {*rule["apiVersions"]}
        and alike & {*rule["resources"]}
        and rule.get("scope", "*") in ("*", "Namespaced")
    )


def _path_of(webhook: Document) -> str:
    """Return the path of a webhook, or its URL where Kyverno runs outside of the cluster."""
    config = webhook["clientConfig"]
    return str(config.get("url") or config.get("service", {}).get("path", ""))


class Unadmitted(Model):
    """A pod, or a template of pods, that the API server refuses in the mode `deny`."""

    kind: str
    name: str
    image: str = Field(default="", description="the image that is not admitted; empty: Pod Security refuses the pod")
    why: str

    def __str__(self) -> str:
        return ": ".join(filter(None, (f"{self.kind} {self.name}", self.image, self.why)))


class EnforcementStatus(Model):
    """How the admission to an environment is enforced."""

    environment: str
    namespace: str
    mode: Mode
    admitted: int = Field(description="how many images may run")
    deviations: tuple[Deviation, ...]
    would_refuse: tuple[Unadmitted, ...] = Field(description="what is there and `deny` would refuse")
    unchecked_policy: str = Field(
        default="", description="the policy of Kyverno, which may refuse more; empty: `would_refuse` is all"
    )

    @property
    def is_weak(self) -> bool:
        """Whether the cluster may admit what it should refuse, or refuse what it should admit."""
        return any(each.code not in (LAPSED, ORPHANED) for each in self.deviations)

    def __str__(self) -> str:
        mode = f"{self.environment}: {self.mode.value} in namespace {self.namespace}, "
        mode += f"{pluralize(self.admitted, 'image')} admitted"
        lines = list_remedies(((f"  {each.code}: {each.fact}", each.remedy) for each in self.deviations), "      ")
        refused = [f"  deny would refuse {each}" for each in self.would_refuse]
        unchecked = [f"  deny may refuse more: the Kyverno policy {self.unchecked_policy} was not evaluated"]
        return "\n".join([mode, *lines, *refused, *(unchecked if self.unchecked_policy else ())])


def read_status(
    place: EnforcedNamespace,
    generated: Iterable[Document],
    admits: AdmittedImages,
    stored: AdmittedImages | None,
    cluster: AdmissionCluster,
    verifying: str = "",
) -> EnforcementStatus:
    """Compare a cluster with what was generated for an environment.

    `admits` are the images that the verdicts admit, `stored` the parameters that the cluster has, and `verifying` is
    the name of the policy with which Kyverno verifies the verdicts; empty: it does not.
    """
    workloads = [each for each in _list_workloads(place.namespace, cluster) if not _has_ended(each)]
    unadmitted = find_unadmitted(workloads, admits)
    return EnforcementStatus(
        environment=place.environment,
        namespace=place.namespace,
        mode=place.mode,
        admitted=len(admits.all),
        deviations=(
            *compare_installed(generated, cluster),
            *(compare_webhook(verifying, place, cluster) if verifying else ()),
            *_compare_parameters(place, admits, stored),
            *(_find_bypassed(unadmitted) if place.mode is Mode.DENY else ()),
        ),
        would_refuse=(*unadmitted, *find_insecure(workloads, place, stored, cluster)),
        unchecked_policy=verifying,
    )


def _list_workloads(namespace: str, cluster: AdmissionCluster) -> Iterator[Document]:
    """Yield what the policy judges; the items of a list do not name their kind."""
    for kind in WORKLOADS:
        yield from ({**each, "kind": kind.name} for each in cluster.list(kind, namespace))


def find_unadmitted(workloads: Iterable[Document], admitted: AdmittedImages) -> tuple[Unadmitted, ...]:
    """Return each image of pods and of templates of pods that is not admitted."""
    return tuple(
        Unadmitted(kind=each["kind"], name=each["metadata"]["name"], image=image, why=why)
        for each in workloads
        for image in dict.fromkeys(list_images(each["kind"], each))
        if not _is_collector(image, each, admitted) and (why := admitted.explain(image))
    )


def find_insecure(
    workloads: Sequence[Document], place: EnforcedNamespace, stored: AdmittedImages | None, cluster: AdmissionCluster
) -> tuple[Unadmitted, ...]:
    """Return the pods, and the templates of pods, that Pod Security refuses although they get the hardened profile.

    Templates with an image that `stored` admits are tried: another one is refused first, and reported by itself.
    Without such an image, the mode `deny` refuses all pods anyway.
    """
    image = min(stored.all, default="") if stored else ""
    if not image and place.mode is Mode.DENY:
        return ()
    trials = [make_trial(each["kind"], each, image or NO_IMAGE, place.namespace) for each in workloads]
    distinct = {json.dumps(each["template"], sort_keys=True): each for each in trials}
    refusals = dict(zip(distinct, map_concurrently(partial(try_template, cluster), [*distinct.values()]), strict=True))
    return tuple(
        Unadmitted(kind=each["kind"], name=each["metadata"]["name"], why=why)
        for each, trial in zip(workloads, trials, strict=True)
        if (why := refusals[json.dumps(trial["template"], sort_keys=True)])
    )


def _has_ended(workload: Document) -> bool:
    return workload.get("status", {}).get("phase") in ("Succeeded", "Failed")


def _is_collector(image: str, workload: Document, admitted: AdmittedImages) -> bool:
    return image == admitted.collector and QUARANTINE in (workload["metadata"].get("labels") or {})


def _compare_parameters(
    place: EnforcedNamespace, admits: AdmittedImages, stored: AdmittedImages | None
) -> Iterator[Deviation]:
    if stored is None:
        yield Deviation(
            code="enforcement.no-parameters",
            fact=f"nothing can start in {place.namespace}: it has no admitted images",
            remedy=f"Find out who removed it, then run `cscm enforce apply {place.environment}`.",
        )
    elif differs := describe_difference(admits, stored):
        yield Deviation(
            code="enforcement.parameters",
            fact=f"{place.namespace} admits other images than its verdicts: {differs}",
            remedy="Find out who wrote it, or why it was not published; then run "
            f"`cscm enforce apply {place.environment}`.",
        )
    for image, why in admits.lapsed.items():
        yield Deviation(
            code=LAPSED,
            fact=f"the verdict about {image} has lapsed: {why}",
            remedy="Scan the image again or replace it, then deploy it again.",
        )


def _find_bypassed(unadmitted: Iterable[Unadmitted]) -> Iterator[Deviation]:
    for each in unadmitted:
        if each.kind == "Pod":
            yield Deviation(
                code="enforcement.bypassed",
                fact=f"the pod {each.name} runs {each.image}: {each.why}",
                remedy="Find out who started it and when. Remove it; a static pod is removed on its node.",
            )


def _read(document: Document, cluster: AdmissionCluster) -> Document | None:
    metadata = document["metadata"]
    return cluster.read(KINDS[document["kind"]], metadata["name"], metadata.get("namespace", ""))
