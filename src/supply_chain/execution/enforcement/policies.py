"""The admission policies of a cluster and their bindings to namespaces, as the objects that its API server stores.

Every field that the API server would fill in has a value here, so that an installed object can be compared with a
generated one as it is. Nothing here depends on the images: these are the parameters of the policies (`admitted`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

GROUP, KIND, PLURAL = "cscm.internal", "AdmittedImages", "admittedimages"
"""The custom resource with the parameters; a ConfigMap could be written by everyone with the role `edit`."""
PARAMETERS = "admitted"
"""The name of the parameters in each namespace."""
SYSTEM, PUBLISHER = "cscm-system", "cscm-publisher"
"""Namespace and name of the service account that alone may write parameters."""
HARDENED = "cscm.hardened"
"""The annotation that names the settings that a pod came in without."""
ADMISSION = "admissionregistration.k8s.io/v1"

Object = Mapping[str, Any]
"""A Kubernetes object as JSON."""


class Mode(StrEnum):
    """What happens to a pod with an image that is not admitted."""

    WARN = "warn"
    AUDIT = "audit"
    DENY = "deny"


ACTIONS = {Mode.WARN: ("Warn",), Mode.AUDIT: ("Audit",), Mode.DENY: ("Deny", "Audit")}


@dataclass(frozen=True)
class EnforcedNamespace:
    """The namespace of an environment, and how its admission is enforced."""

    environment: str
    namespace: str
    mode: Mode
    lapsing: frozenset[str] = frozenset()
    """Reasons of a refusal that come with time alone; an image that should run stays admitted despite them."""


@dataclass(frozen=True)
class Policies:
    """The policies of one supply chain in a cluster; `prefix` begins the names of its cluster-wide objects."""

    prefix: str = "cscm"

    def of_cluster(self) -> tuple[Object, ...]:
        """Return the objects that a cluster needs once, in the order in which they are made."""
        return (
            _definition(),
            self._validating("admitted-images", ADMITTED_IMAGES),
            self._validating("lapsed", LAPSED),
            self._validating("writer", WRITER),
            self._binding("writer", "writer", {}, validationActions=["Deny", "Audit"]),
            _object(ADMISSION, "MutatingAdmissionPolicy", f"{self.prefix}-hardened", HARDENING),
        )

    def of_namespace(self, enforced: EnforcedNamespace) -> tuple[Object, ...]:
        """Return the objects that bind the policies to a namespace.

        In the modes `warn` and `audit`, missing parameters refuse nothing: an API server refuses for them whatever the
        actions of the binding are.
        """
        selector = {"matchLabels": {"kubernetes.io/metadata.name": enforced.namespace}}  # nobody can change this label
        deny = enforced.mode is Mode.DENY
        return (
            _namespace(enforced.namespace, namespace_labels(enforced.mode)),
            _publisher(enforced.namespace),
            self._binding(
                f"admitted-images-{enforced.environment}",
                "admitted-images",
                selector,
                paramRef={"name": PARAMETERS, "parameterNotFoundAction": "Deny" if deny else "Allow"},
                validationActions=list(ACTIONS[enforced.mode]),
            ),
            self._binding(
                f"lapsed-{enforced.environment}",
                "lapsed",
                selector,
                paramRef={"name": PARAMETERS, "parameterNotFoundAction": "Allow"},
                validationActions=["Warn", "Audit"],
            ),
            self._binding(
                f"hardened-{enforced.environment}", "hardened", selector, kind="MutatingAdmissionPolicyBinding"
            ),
        )

    def _validating(self, name: str, spec: Object) -> Object:
        return _object(ADMISSION, "ValidatingAdmissionPolicy", f"{self.prefix}-{name}", spec)

    def _binding(
        self,
        name: str,
        policy: str,
        namespaces: Object,
        *,
        kind: str = "ValidatingAdmissionPolicyBinding",
        **spec: Any,
    ) -> Object:
        where = {"matchPolicy": "Equivalent", "namespaceSelector": namespaces, "objectSelector": {}}
        spec = {"policyName": f"{self.prefix}-{policy}", "matchResources": where, **spec}
        return _object(ADMISSION, kind, f"{self.prefix}-{name}", spec)


def namespace_labels(mode: Mode) -> dict[str, str]:
    """Return the labels of a namespace for Pod Security: `restricted` warns and audits, and with `deny` is enforced."""
    levels = ("audit", "warn") if mode is not Mode.DENY else ("audit", "enforce", "warn")
    return {f"pod-security.kubernetes.io/{level}": "restricted" for level in levels}


def _object(version: str, kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _namespace(name: str, labels: Mapping[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}


def _publisher(namespace: str) -> Object:
    """Return the binding that lets the service account write the parameters of a namespace."""
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": PUBLISHER, "namespace": namespace},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": PUBLISHER},
        "subjects": [{"kind": "ServiceAccount", "name": PUBLISHER, "namespace": SYSTEM}],
    }


def _definition() -> Object:
    """Return the definition of the custom resource; its map is atomic, so that no field is tracked for each digest."""
    images = {
        "type": "object",
        "description": "The repository with its registry → the admitted digest → why it is still admitted, if its "
        "verdict has lapsed.",
        "x-kubernetes-map-type": "atomic",
        "additionalProperties": {"type": "object", "additionalProperties": {"type": "string", "maxLength": 200}},
    }
    spec = {
        "type": "object",
        "required": ["environment", "images"],
        "properties": {"environment": {"type": "string"}, "images": images},
    }
    schema = {"type": "object", "required": ["spec"], "properties": {"spec": spec}}
    names = {"kind": KIND, "listKind": f"{KIND}List", "plural": PLURAL, "singular": PLURAL}
    version = {"name": "v1", "served": True, "storage": True, "schema": {"openAPIV3Schema": schema}}
    body = {"group": GROUP, "scope": "Namespaced", "names": names, "versions": [version]}
    body |= {"conversion": {"strategy": "None"}}
    return _object("apiextensions.k8s.io/v1", "CustomResourceDefinition", f"{PLURAL}.{GROUP}", body)


def _rule(group: str, resources: Sequence[str], operations: Sequence[str]) -> dict[str, Any]:
    return {
        "apiGroups": [group],
        "apiVersions": ["*"],
        "operations": list(operations),
        "resources": list(resources),
        "scope": "*",
    }


def _constraints(rules: Iterable[Object]) -> dict[str, Any]:
    return {
        "matchPolicy": "Equivalent",
        "namespaceSelector": {},
        "objectSelector": {},
        "resourceRules": list(rules),
    }


WRITES = ("CREATE", "UPDATE")
WORKLOADS = (
    _rule("", ("pods", "pods/ephemeralcontainers", "podtemplates", "replicationcontrollers"), WRITES),
    _rule("apps", ("daemonsets", "deployments", "replicasets", "statefulsets"), WRITES),
    _rule("batch", ("cronjobs", "jobs"), WRITES),
)
"""Everything that runs a container or has the template of a pod, with the subresource that adds containers to a pod."""
CONTAINERS = ("containers", "initContainers", "ephemeralContainers")


def _pod_of(root: str) -> str:
    """Return the CEL expression of the pod's specification in an object."""
    return (
        f"{root}.kind == 'Pod' ? {root}.spec : {root}.kind == 'PodTemplate' ? {root}.template.spec"
        f" : {root}.kind == 'CronJob' ? {root}.spec.jobTemplate.spec.template.spec : {root}.spec.template.spec"
    )


def _images_of(pod: str) -> str:
    """Return the CEL expression of all images of a pod: of its containers, and those that are mounted as volumes."""
    lists = [f"{pod}.?{kind}.orValue([]).map(c, c.?image.orValue(''))" for kind in CONTAINERS]
    volumes = f"{pod}.?volumes.orValue([]).filter(v, has(v.image)).map(v, v.image.?reference.orValue(''))"
    return " + ".join([*lists, volumes])


ADMITS = (
    "i.split('@').size() == 2 && i.split('@')[0] in params.spec.images"
    " && i.split('@')[1] in params.spec.images[i.split('@')[0]]"
)
"""Whether the parameters have the image `i`: exact text, so that a tag, another registry or another name differs."""
WHY = (
    "!i.matches('@sha256:[0-9a-f]{64}$') ? i + ' is not named by its digest: write REPOSITORY@sha256:DIGEST'"
    " : !(i.split('@')[0] in params.spec.images) ? i + ' is of no repository with an image that is admitted to '"
    " + params.spec.environment + ': deploy the image that curation released (cscm deploy)'"
    " : i + ' is not admitted to ' + params.spec.environment"
    " + ': ask why with cscm verdict ' + i.split('@')[1] + ' --environment ' + params.spec.environment"
)
ADMITTED_IMAGES: Object = {
    "failurePolicy": "Fail",
    "paramKind": {"apiVersion": f"{GROUP}/v1", "kind": KIND},
    "matchConstraints": _constraints(WORKLOADS),
    "variables": [
        {"name": "pod", "expression": _pod_of("object")},
        {"name": "images", "expression": _images_of("variables.pod")},
        {"name": "oldPod", "expression": f"oldObject == null ? {{}} : dyn({_pod_of('oldObject')})"},
        {"name": "oldImages", "expression": _images_of("variables.oldPod")},
        {
            "name": "refused",
            "expression": f"variables.images.filter(i, !(i in variables.oldImages) && !({ADMITS}))",
        },
    ],
    "validations": [
        {
            "expression": "variables.refused.size() == 0",
            "messageExpression": f"variables.refused.map(i, {WHY}).join('; ')",
            "reason": "Forbidden",
        }
    ],
}
"""Refuse what has an image that is not admitted.

An update is judged by the images that it adds: otherwise nobody could remove the finalizers of a pod whose image was
blocked.
"""

LAPSED: Object = {
    "failurePolicy": "Fail",
    "paramKind": {"apiVersion": f"{GROUP}/v1", "kind": KIND},
    "matchConstraints": _constraints([_rule("", ("pods",), ("CREATE",))]),
    "variables": [
        {"name": "images", "expression": _images_of("object.spec")},
        {
            "name": "lapsed",
            "expression": f"variables.images.filter(i, {ADMITS}"
            " && params.spec.images[i.split('@')[0]][i.split('@')[1]] != '')",
        },
    ],
    "validations": [
        {
            "expression": "variables.lapsed.size() == 0",
            "messageExpression": "variables.lapsed.map(i, 'the verdict about ' + i + ' has lapsed ('"
            " + params.spec.images[i.split('@')[0]][i.split('@')[1]] + '): deploy it again').join('; ')",
            "reason": "Forbidden",
        }
    ],
}
"""Warn of a pod whose image is admitted although its verdict has lapsed; nothing is refused for that."""

WRITER: Object = {
    "failurePolicy": "Fail",
    "matchConstraints": _constraints([_rule(GROUP, (PLURAL,), WRITES)]),
    "validations": [
        {
            "expression": f"request.userInfo.username == 'system:serviceaccount:{SYSTEM}:{PUBLISHER}'",
            "message": f"only the service account {SYSTEM}/{PUBLISHER} writes the images that are admitted",
            "reason": "Forbidden",
        }
    ],
}
"""Refuse parameters by anybody else, also where a role allows it."""

POD_DEFAULTS = {"runAsNonRoot": "true", "seccompProfile": "{'type': 'RuntimeDefault'}"}
CONTAINER_DEFAULTS = {
    "allowPrivilegeEscalation": "false",
    "capabilities": "{'drop': ['ALL']}",
    "readOnlyRootFilesystem": "true",
}
"""Settings of the hardened profile and their values in CEL. Only what is missing is added; a value that is there is
judged by Pod Security."""


def _missing() -> str:
    """Return the CEL expression of the names of all settings that a pod lacks."""
    pod = [f"(object.spec.?securityContext.?{name}.hasValue() ? [] : ['{name}'])" for name in POD_DEFAULTS]
    containers = [
        f"object.spec.?{kind}.orValue([]).filter(c, !c.?securityContext.?{name}.hasValue()).map(c, c.name + '.{name}')"
        for kind in CONTAINERS[:2]
        for name in CONTAINER_DEFAULTS
    ]
    return " + ".join([*pod, *containers])


def _patches() -> str:
    """Return the CEL expression of the patches that add what is missing, and the annotation that names it."""
    text = f"object.metadata.?annotations[?'{HARDENED}'].map(a, a + ',').orValue('') + variables.missing.join(',')"
    record = (
        "(variables.missing.size() == 0 ? [] : has(object.metadata.annotations)"
        f" ? [JSONPatch{{op: 'add', path: '/metadata/annotations/{HARDENED}', value: {text}}}]"
        f" : [JSONPatch{{op: 'add', path: '/metadata/annotations', value: {{'{HARDENED}': {text}}}}}])"
    )
    where = "/spec/securityContext"
    pod = [f"(has(object.spec.securityContext) ? [] : [JSONPatch{{op: 'add', path: '{where}', value: {{}}}}])"]
    pod += [
        f"(object.spec.?securityContext.?{name}.hasValue() ? []"
        f" : [JSONPatch{{op: 'add', path: '{where}/{name}', value: {value}}}])"
        for name, value in POD_DEFAULTS.items()
    ]
    return " + ".join([record, *pod, *map(_container_patches, CONTAINERS[:2])])


def _container_patches(kind: str) -> str:
    """Return the CEL expression of the patches of the containers of one kind."""
    listed, where = f"object.spec.?{kind}.orValue([])", f"'/spec/{kind}/' + string(i) + '/securityContext'"
    fields = [("!has(c.securityContext)", where, "{}")]
    fields += [
        (f"!c.?securityContext.?{name}.hasValue()", f"{where} + '/{name}'", value)
        for name, value in CONTAINER_DEFAULTS.items()
    ]
    return " + ".join(
        f"{listed}.transformList(i, c, {lacks}, JSONPatch{{op: 'add', path: {path}, value: {value}}})"
        for lacks, path, value in fields
    )


HARDENING: Object = {
    "failurePolicy": "Fail",
    "reinvocationPolicy": "IfNeeded",
    "matchConstraints": _constraints([_rule("", ("pods",), ("CREATE",))]),
    "variables": [{"name": "missing", "expression": _missing()}],
    "mutations": [{"patchType": "JSONPatch", "jsonPatch": {"expression": _patches()}}],
}
"""Give a pod the settings of the hardened profile that it lacks, and record that in an annotation."""
