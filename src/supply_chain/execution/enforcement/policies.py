"""The admission policies of a cluster and their bindings to namespaces, as the objects that its API server stores.

Every field that the API server would fill in has a value here, so that an installed object can be compared with a
generated one as it is. Nothing here depends on the images: these are the parameters of the policies (`admitted`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from secrets import token_hex
from typing import Any

from supply_chain.execution.enforcement.verification import (
    POLICY_KIND,
    POLICY_VERSION,
    Verification,
    make_exceptions_policy,
)
from supply_chain.execution.kubernetes.cluster import CONTAINERS
from supply_chain.model.container import QUARANTINE

SYSTEM, PUBLISHER = "cscm-system", "cscm-publisher"
"""The namespace of the parameters, and the service account there that alone may write them, with a token of its own.

They are ConfigMaps, of which an API server reads the values that an expression names; a custom resource it would encode
and decode for each pod. In the namespace that they are about, everyone with the role `edit` could write them.
"""
PARAMETERS = "admitted-"
"""How the names of all parameters begin."""
REPOSITORIES, LAPSED_IMAGES = "repositories", "lapsed"
"""Keys of the parameters: the begin of all repositories, and the images whose verdict has lapsed."""
COLLECTOR, PROGRAM = "collector", "program"
"""Keys of the parameters: the image that reads isolated applications, and the command with which it may."""
SHARD = 2
"""Each other key is the first digits of digests, and its value the images with these; a long text would be searched for
each image."""
CREDENTIAL = "authentication.kubernetes.io/credential-id"
"""What an API server (1.37) sets of a request with a token: `JTI=` and its id. Who impersonates sets it only with a
permission for just that (`userextras`), and tokens in Secrets have no id."""
HARDENED = "cscm.hardened"
"""The annotation that names the settings that a pod came in without."""
HARDEN = "MutatingAdmissionPolicyBinding"
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
    tolerated_refusals: frozenset[str] = frozenset()
    """Reasons of a refusal that come with time alone; an image that should run stays admitted despite them."""
    parameters: str = ""
    """The name of the ConfigMap with its admitted images; empty: nothing is installed."""
    verification: Verification | None = None
    """How Kyverno verifies the verdicts as well; None: it does not."""
    collector: str = ""
    """The curated image that may read isolated applications; empty: none."""


@dataclass(frozen=True)
class Policies:
    """The policies of one supply chain in a cluster; `prefix` begins the names of its cluster-wide objects."""

    prefix: str = "cscm"

    def list_cluster_objects(self) -> tuple[Object, ...]:
        """Return the objects that a cluster needs once, in the order in which they are made."""
        return (
            self._validating("admitted-images", ADMITTED_IMAGES),
            self._validating("lapsed", LAPSED),
            self._validating("writer", WRITER),
            self._binding("writer", "writer", _only(SYSTEM), validationActions=["Deny", "Audit"]),
            self._validating("publisher", NO_PUBLISHING_PODS),
            self._binding("publisher", "publisher", _only(SYSTEM), validationActions=["Deny", "Audit"]),
            self._validating("token", PERMITTED_TOKENS),
            self._binding("token", "token", _only(SYSTEM), validationActions=["Deny", "Audit"]),
            _object(ADMISSION, "MutatingAdmissionPolicy", f"{self.prefix}-hardened", HARDENING),
        )

    @property
    def policy(self) -> str:
        """The name of the policy that refuses images."""
        return f"{self.prefix}-admitted-images"

    def name_binding(self, environment: str) -> str:
        """Return the name of the binding of this policy to an environment."""
        return f"{self.policy}-{environment}"

    def list_namespace_objects(self, enforced: EnforcedNamespace) -> tuple[Object, ...]:
        """Return the objects that bind the policies to a namespace.

        The modes `warn` and `audit` change and refuse nothing, also without parameters: for missing ones, an API server
        refuses whatever the actions of the binding are.
        """
        selector, deny = _only(enforced.namespace), enforced.mode is Mode.DENY
        parameters = {"name": enforced.parameters, "namespace": SYSTEM}
        return (
            _namespace(enforced.namespace, make_namespace_labels(enforced.mode)),
            self._binding(
                f"admitted-images-{enforced.environment}",
                "admitted-images",
                selector,
                paramRef={**parameters, "parameterNotFoundAction": "Deny" if deny else "Allow"},
                validationActions=list(ACTIONS[enforced.mode]),
            ),
            self._binding(
                f"lapsed-{enforced.environment}",
                "lapsed",
                selector,
                paramRef={**parameters, "parameterNotFoundAction": "Allow"},
                validationActions=["Warn", "Audit"],
            ),
            *([self._binding(f"hardened-{enforced.environment}", "hardened", selector, kind=HARDEN)] if deny else ()),
            *(self._verifying(enforced.verification, enforced) if enforced.verification else ()),
        )

    def list_other_settings_objects(self, enforced: EnforcedNamespace) -> tuple[tuple[str, str], ...]:
        """Return kind and name of the objects that `of_namespace` returns only for other settings of the environment.

        What refuses exceptions from Kyverno's policies stays: other environments of the cluster may need it.
        """
        hardened = (HARDEN, f"{self.prefix}-hardened-{enforced.environment}")
        verifying = (POLICY_KIND, self.name_verifying_policy(enforced.environment))
        return (
            *(() if enforced.mode is Mode.DENY else (hardened,)),
            *(() if enforced.verification else (verifying,)),
        )

    def list_environment_objects(self, environment: str) -> tuple[tuple[str, str], ...]:
        """Return kind and name of the objects that bind the policies for an environment, by any settings."""
        binding = "ValidatingAdmissionPolicyBinding"
        return (
            (binding, self.name_binding(environment)),
            (binding, f"{self.prefix}-lapsed-{environment}"),
            (HARDEN, f"{self.prefix}-hardened-{environment}"),
            (POLICY_KIND, self.name_verifying_policy(environment)),
        )

    def name_verifying_policy(self, environment: str) -> str:
        """Return the name of the policy with which Kyverno verifies the verdicts of an environment."""
        return f"{self.prefix}-verdicts-{environment}"

    def _verifying(self, verification: Verification, enforced: EnforcedNamespace) -> tuple[Object, ...]:
        """Return the policy with which Kyverno verifies verdicts, after what refuses exceptions from it."""
        spec = verification.policy(enforced.environment, dict(_only(enforced.namespace)), ACTIONS[enforced.mode])
        return (
            self._validating("exceptions", make_exceptions_policy(self.prefix)),
            self._binding("exceptions", "exceptions", {}, validationActions=["Deny", "Audit"]),
            _object(POLICY_VERSION, POLICY_KIND, self.name_verifying_policy(enforced.environment), spec),
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


def make_namespace_labels(mode: Mode) -> dict[str, str]:
    """Return the labels of a namespace for Pod Security: `restricted` warns and audits, and with `deny` is enforced.

    The version is that of the cluster: by an earlier one, what was found since would be admitted.
    """
    levels = [f"pod-security.kubernetes.io/{each}" for each in ("audit", "enforce", "warn") if _uses(each, mode)]
    return dict.fromkeys(levels, "restricted") | {f"{each}-version": "latest" for each in levels}


def _uses(level: str, mode: Mode) -> bool:
    return level != "enforce" or mode is Mode.DENY


def _object(version: str, kind: str, name: str, spec: Object) -> Object:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _namespace(name: str, labels: Mapping[str, str]) -> Object:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": dict(labels)}}


def make_parameters_name(namespace: str) -> str:
    """Return a new name for the ConfigMap with the images that a namespace admits.

    When the last policy with ConfigMaps as parameters is removed, an API server (observed: 1.37) stops to watch them,
    and does not begin again: it goes on with what it last read. A ConfigMap of a new name it reads for each request.
    """
    return f"{PARAMETERS}{namespace}-{token_hex(4)}"


def is_parameters_name(name: str, namespace: str) -> bool:
    """Return whether `make_parameters_name` may have returned a name for a namespace."""
    return re.fullmatch(rf"{re.escape(PARAMETERS + namespace)}-[0-9a-f]{{8}}", name) is not None


def _only(namespace: str) -> Object:
    """Return the selector of one namespace, by a label that nobody can change."""
    return {"matchLabels": {"kubernetes.io/metadata.name": namespace}}


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


def _pod_of(root: str) -> str:
    """Return the CEL expression of the pod's specification in an object."""
    return (
        f"{root}.kind == 'Pod' ? {root}.spec : {root}.kind == 'PodTemplate' ? {root}.template.spec"
        f" : {root}.kind == 'CronJob' ? {root}.spec.jobTemplate.spec.template.spec : {root}.spec.template.spec"
    )


def _images_of(pod: str) -> str:
    """Return the CEL expression of the images of a pod: of its containers, and those that are mounted as volumes.

    Those of ephemeral containers are not among them.
    """
    lists = [f"{pod}.?{kind}.orValue([]).map(c, c.?image.orValue(''))" for kind in CONTAINERS[:2]]
    volumes = f"{pod}.?volumes.orValue([]).filter(v, has(v.image)).map(v, v.image.?reference.orValue(''))"
    return " + ".join([*lists, volumes])


def _ephemeral_images_of(pod: str, judged: str = "true") -> str:
    """Return the CEL expression of the images of ephemeral containers; `judged` says of one, `c`, whether it counts."""
    return f"{pod}.?{CONTAINERS[2]}.orValue([]).filter(c, {judged}).map(c, c.?image.orValue(''))"


BY_DIGEST = "i.matches('^[^@[:space:]]+@sha256:[0-9a-f]{64}$')"
"""Whether the image `i` is named by its digest."""
OURS = f"i.startsWith(params.data['{REPOSITORIES}'])"
"""Whether the image `i` is in a repository of curated images of the registry."""
LINE = f"'\\n' + i.substring(i.size() - 64) + ' ' + i.substring(params.data['{REPOSITORIES}'].size(), i.size() - 72)"
"""How the parameters begin the line of the image `i`: its digest, and its repository without what all have."""
ADMITS = (
    f"{BY_DIGEST} && {OURS}"
    f" && params.data[?i.substring(i.size() - 64, i.size() - {64 - SHARD})].orValue('').contains({LINE} + '\\n')"
)
"""Whether the parameters have the image `i`: a tag, another registry and another name differ."""
COLLECTS = (
    f"params.data[?'{COLLECTOR}'].hasValue() && c.?image.orValue('') == params.data['{COLLECTOR}']"
    f" && object.metadata.?labels[?'{QUARANTINE}'].hasValue()"
    f" && c.?command.orValue([]).join('\\n') == params.data[?'{PROGRAM}'].orValue('')"
    " && !has(c.env) && !has(c.envFrom) && !has(c.volumeMounts) && !has(c.volumeDevices)"
)
"""Whether the ephemeral container `c` is the collector and nothing else, in a pod in quarantine."""
WHY = (
    f"!{BY_DIGEST} ? i + ' is not named by its digest: write REPOSITORY@sha256:DIGEST'"
    f" : !{OURS} ? i + ' is not curated: only images below ' + params.data['{REPOSITORIES}'] + ' are admitted'"
    " : i + ' is not admitted to ' + params.data['environment'] + ' (version ' + params.metadata.resourceVersion"
    " + '): ask why with cscm verdict '"
    " + i.substring(i.size() - 64) + ' --environment ' + params.data['environment']"
)
"""Why the image `i` is refused; the version is that of the parameters by which the API server judges."""
PARAMETER_KIND = {"apiVersion": "v1", "kind": "ConfigMap"}
ADMITTED_IMAGES: Object = {
    "failurePolicy": "Fail",
    "paramKind": PARAMETER_KIND,
    "matchConstraints": _constraints(WORKLOADS),
    "variables": [
        {"name": "pod", "expression": _pod_of("object")},
        {"name": "oldPod", "expression": f"oldObject == null ? {{}} : dyn({_pod_of('oldObject')})"},
        {
            "name": "oldNames",
            "expression": f"variables.oldPod.?{CONTAINERS[2]}.orValue([]).map(c, c.name)",
        },
        {"name": "oldImages", "expression": _images_of("variables.oldPod")},
        {
            "name": "images",
            "expression": f"({_images_of('variables.pod')}).filter(i, !(i in variables.oldImages)) + "
            + _ephemeral_images_of("variables.pod", f"!(c.name in variables.oldNames) && !({COLLECTS})"),
        },
        {"name": "refused", "expression": f"variables.images.filter(i, !({ADMITS}))"},
    ],
    "validations": [
        {
            "expression": "variables.refused.size() == 0",
            "messageExpression": f"variables.refused.map(i, {WHY}).join('; ').replace('\\n', ' ')",
            "reason": "Forbidden",
        }
    ],
}
"""Refuse what has an image that is not admitted.

An update is judged by the images that it adds: otherwise nobody could remove the finalizers of a pod whose image was
blocked. An ephemeral container cannot be changed once it is there. A new one is judged in any case, because it has a
command of its own: neither its image in the pod nor that of another one admits it.
"""

LAPSED: Object = {
    "failurePolicy": "Fail",
    "paramKind": PARAMETER_KIND,
    "matchConstraints": _constraints([_rule("", ("pods",), ("CREATE",))]),
    "variables": [
        {"name": "images", "expression": f"{_images_of('object.spec')} + {_ephemeral_images_of('object.spec')}"},
        {
            "name": "lapsed",
            "expression": f"variables.images.filter(i, {ADMITS}"
            f" && params.data[?'{LAPSED_IMAGES}'].orValue('').contains({LINE} + ' '))",
        },
    ],
    "validations": [
        {
            "expression": "variables.lapsed.size() == 0",
            "messageExpression": "'the verdict has lapsed: scan again and deploy ' + variables.lapsed.join(', ')",
            "reason": "Forbidden",
        }
    ],
}
"""Warn of a pod whose image is admitted although its verdict has lapsed; nothing is refused for that."""

WRITER: Object = {
    "failurePolicy": "Fail",
    "matchConstraints": _constraints([_rule("", ("configmaps",), WRITES)]),
    "matchConditions": [
        {"name": "parameters", "expression": f"object.metadata.name.startsWith('{PARAMETERS}')"},
    ],
    "validations": [
        {
            "expression": f"request.userInfo.username == 'system:serviceaccount:{SYSTEM}:{PUBLISHER}'"
            f" && request.userInfo.?extra[?'{CREDENTIAL}'].orValue([]).exists(i, i.startsWith('JTI='))",
            "message": f"only the service account {SYSTEM}/{PUBLISHER} writes the images that are admitted,"
            " with a token of its own",
            "reason": "Forbidden",
        }
    ],
}
"""Refuse parameters by anybody else, also where a role allows it, and by who impersonates the service account."""

NO_PUBLISHING_PODS: Object = {
    "failurePolicy": "Fail",
    "matchConstraints": _constraints([_rule("", ("pods",), ("CREATE",))]),
    "validations": [
        {
            "expression": f"object.spec.?serviceAccountName.orValue('') != '{PUBLISHER}'",
            "message": f"no pod runs as {SYSTEM}/{PUBLISHER}: it would get a token of it",
            "reason": "Forbidden",
        }
    ],
}
"""Refuse pods of the publisher's service account."""

PERMITTED_TOKENS: Object = {
    "failurePolicy": "Fail",
    "matchConstraints": _constraints([_rule("", ("serviceaccounts/token",), ("CREATE",))]),
    "validations": [
        {
            "expression": f"request.name != '{PUBLISHER}' || authorizer.group('cscm').resource('admissions')"
            f".namespace('{SYSTEM}').check('publish').allowed()",
            "message": f"a token of {SYSTEM}/{PUBLISHER} needs the permission to `publish` `admissions` of the group"
            " `cscm`: see the Role cscm-execution",
            "reason": "Forbidden",
        }
    ],
}
"""Refuse tokens of the publisher to who lacks a permission of our own: the role `edit` gives those of all accounts."""

POD_DEFAULTS: Object = {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}}
CONTAINER_DEFAULTS: Object = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
"""Settings of the hardened profile. Only what is missing is added; a value that is there is judged by Pod Security."""


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
    before = f"[object.metadata.?annotations[?'{HARDENED}'].orValue('')].filter(a, a != '')"
    text = f"({before} + variables.missing).join(',')"
    record = (
        "(variables.missing.size() == 0 ? [] : has(object.metadata.annotations)"
        f" ? [JSONPatch{{op: 'add', path: '/metadata/annotations/{HARDENED}', value: {text}}}]"
        f" : [JSONPatch{{op: 'add', path: '/metadata/annotations', value: {{'{HARDENED}': {text}}}}}])"
    )
    where = "/spec/securityContext"
    pod = [f"(has(object.spec.securityContext) ? [] : [JSONPatch{{op: 'add', path: '{where}', value: {{}}}}])"]
    pod += [
        f"(object.spec.?securityContext.?{name}.hasValue() ? []"
        f" : [JSONPatch{{op: 'add', path: '{where}/{name}', value: {json.dumps(value)}}}])"
        for name, value in POD_DEFAULTS.items()
    ]
    return " + ".join([record, *pod, *map(_container_patches, CONTAINERS[:2])])


def _container_patches(kind: str) -> str:
    """Return the CEL expression of the patches of the containers of one kind."""
    listed, where = f"object.spec.?{kind}.orValue([])", f"'/spec/{kind}/' + string(i) + '/securityContext'"
    fields = [("!has(c.securityContext)", where, "{}")]
    fields += [
        (f"!c.?securityContext.?{name}.hasValue()", f"{where} + '/{name}'", json.dumps(value))
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
