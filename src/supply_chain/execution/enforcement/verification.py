"""The policy with which Kyverno verifies the published verdicts of the deploy gate, before a pod is admitted.

It needs neither the parameters of the other policies nor our publisher: for each request, Kyverno reads the verdict in
the registry and verifies its signature. What Kyverno itself leaves open is closed here:

- It verifies only images that match a pattern. So the images are taken from the pod, and one of another form, another
  registry or an application that the environment does not have is refused.
- It keeps what it verified for an hour, by the text of the reference. So each request verifies references of its own:
  with a random tag, which no registry sees, because a digest follows it.
- It takes any statement that the key signed. So everything is compared that `published.read_current_verdict` compares.
- The policy names `pods/ephemeralcontainers`, of which `pods` is not a part.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from supply_chain.evidence.clock import SKEW
from supply_chain.evidence.envelope import parse_keys
from supply_chain.evidence.statement import SUMMARY
from supply_chain.evidence.summary import name_verifier
from supply_chain.model.tier import CURATED, Gate, name_verdict_repository

POLICY_VERSION, POLICY_KIND = "policies.kyverno.io/v1", "ImageValidatingPolicy"
CRD = "imagevalidatingpolicies.policies.kyverno.io"
"""The definition of the policy's kind, which a cluster with Kyverno has."""
WEBHOOKS = "kyverno-resource-validating-webhook-cfg"
"""The configuration in which Kyverno has a webhook for each policy."""
PATH = "/ivpol/validate/"
"""How the path of such a webhook begins; the name of its policy follows."""
SECONDS = 15
"""After which a pod is refused without an answer."""
DIGEST = 72
"""Characters of `@sha256:` and a digest."""
CONTAINERS, EPHEMERAL = ("containers", "initContainers"), "ephemeralContainers"
"""The kinds of containers of a pod."""


@dataclass(frozen=True)
class Verification:
    """What Kyverno needs to verify the verdicts about the images of an environment."""

    registry: str
    """The registry's host, as pods name it."""
    keys: tuple[str, ...]
    """The public keys (PEM) for verdicts of the deploy gate's tier."""
    applications: tuple[str, ...]
    """All applications of the environment: Kyverno reads a repository of verdicts only if the policy names it."""
    max_age: timedelta
    """The age from which a verdict does not count any more."""
    secret: str = ""
    """The Secret in Kyverno's namespace with the registry's credentials; empty: the role of Kyverno's pod in AWS."""
    insecure: bool = False
    """Whether the registry uses HTTP."""

    def policy(self, environment: str, namespaces: dict[str, Any], actions: Iterable[str]) -> dict[str, Any]:
        """Return the specification of the policy that verifies the verdicts about pods in some namespaces.

        Without `Deny`, also a pod that Kyverno cannot judge is admitted.
        """
        actions = list(actions)
        return {
            "attestations": [{"name": "verdict", "intoto": {"type": SUMMARY}}],
            "attestors": self._attestors(environment),
            "autogen": {"podControllers": {"controllers": []}},  # they make pods, and templates cannot run
            "credentials": self._credentials(),
            "evaluation": {
                "admission": {"enabled": True},
                "background": {"enabled": False},
                "mode": "Kubernetes",
            },
            "failurePolicy": "Fail" if "Deny" in actions else "Ignore",
            "matchConditions": [{"name": "new-images", "expression": f"size({_new_images()}) > 0"}],
            "matchConstraints": {
                "matchPolicy": "Equivalent",
                "namespaceSelector": namespaces,
                "objectSelector": {},
                "resourceRules": [
                    {
                        "apiGroups": [""],
                        "apiVersions": ["v1"],
                        "operations": ["CREATE", "UPDATE"],
                        "resources": ["pods", "pods/ephemeralcontainers"],
                        "scope": "*",
                    }
                ],
            },
            "matchImageReferences": [{"glob": f"{self.registry}/{CURATED}*:*@sha256:*"}],
            "validationActions": actions,
            "validationConfigurations": {"mutateDigest": False, "required": True, "verifyDigest": True},
            "validations": self._validations(environment),
            "variables": self._variables(),
            "webhookConfiguration": {"timeoutSeconds": SECONDS},
        }

    def _attestors(self, environment: str) -> list[dict[str, Any]]:
        return [
            {
                "name": f"{application}/{number}",
                "cosign": {
                    "ctlog": {"insecureIgnoreSCT": True, "insecureIgnoreTlog": True},  # the key is ours alone
                    "key": {"data": key, "hashAlgorithm": "sha256"},
                    "source": {
                        "repository": self.registry
                        + "/"
                        + name_verdict_repository(Gate.DEPLOY, application, environment)
                    },
                },
            }
            for application in self.applications
            for number, key in enumerate(self.keys)
        ]

    def _credentials(self) -> dict[str, Any]:
        credentials: dict[str, Any] = {"allowInsecureRegistry": self.insecure}
        return credentials | ({"secrets": [self.secret]} if self.secret else {"providers": ["amazon"]})

    def _variables(self) -> list[dict[str, str]]:
        """Return the variables: what the images of the request are called, and the verdicts about them.

        Kyverno (1.19) waits for itself when it fetches a second image after it has read a first one again. So each
        place has a reference of its own, and all are verified before the first statement is read.
        """
        begin = f"{self.registry}/{CURATED}"
        place = (
            f"{{'application': i.substring({len(begin)}, i.size() - {DIGEST}), 'digest': i.substring(i.size() - 64),"
            f" 'reference': i.substring(0, i.size() - {DIGEST}) + ':' + random('[a-z0-9]{{32}}')"
            f" + i.substring(i.size() - {DIGEST})}}"
        )
        form = json.dumps(f"^{_escape(begin)}[a-z0-9._/-]+@sha256:[0-9a-f]{{64}}$")
        applications = json.dumps(list(self.applications))
        is_known = f"i.substring({len(begin)}, i.size() - {DIGEST}) in {applications}" if self.applications else "false"
        return [
            {"name": "images", "expression": _new_images()},
            {"name": "foreign", "expression": f"variables.images.filter(i, !(i.matches({form}) && {is_known}))"},
            {"name": "places", "expression": f"variables.images.map(i, {place})"},
            {
                "name": "statements",
                "expression": "variables.places.map(p, {'of': dyn(p), 'statement':"
                " dyn(extractPayload(p.reference, attestations.verdict))})",
            },
        ]

    def _validations(self, environment: str) -> list[dict[str, str]]:
        keys = ", ".join(f"attestors[p.application + '/{number}']" for number in range(len(self.keys)))
        signed = f"verifyAttestationSignatures(p.reference, attestations.verdict, [{keys}]) > 0"
        predicate, own = "s.statement.predicate", "s.statement.predicate.cscm"
        about = " && ".join(
            (
                "s.statement.subject.exists(o, o.?digest.?sha256.orValue('') == s.of.digest)",
                f"{predicate}.verifier.id == '{name_verifier(Gate.DEPLOY)}'",
                f"{predicate}.resourceUri == '{self.registry}/{CURATED}' + s.of.application + '@sha256:' + s.of.digest",
                f"{own}.environment == '{environment}'",
            )
        )
        verified, expires = f"timestamp({predicate}.timeVerified)", f"{own}.?expires"
        fresh = " && ".join(
            (
                f"{verified} - duration('{_seconds(SKEW)}') <= time.now()",
                f"time.now() - {verified} < duration('{_seconds(self.max_age)}')",
                f"(!{expires}.hasValue() || {expires}.value() == null"
                f" || timestamp(string({expires}.value())) > time.now())",
            )
        )
        where = f"for {environment}: ask why with cscm verdict DIGEST --environment {environment}"
        return [
            {
                "expression": "variables.foreign.size() == 0",
                "message": f"an image is not of an application of {environment} below {self.registry}/{CURATED},"
                " named by its digest",
            },
            {
                "expression": f"variables.places.all(p, {signed})",
                "message": f"an image has no signed verdict {where}",
            },
            {
                "expression": f"variables.statements.all(s, {about})",
                "message": f"a verdict is not about its image {where}",
            },
            {
                "expression": f"variables.statements.all(s, {predicate}.verificationResult == 'PASSED')",
                "message": f"the deploy gate refuses an image {where}",
            },
            {
                "expression": f"variables.statements.all(s, {fresh})",
                "message": f"a verdict is too old or has expired {where}",
            },
        ]


def split_pem_keys(pem: str, name: str) -> tuple[str, ...]:
    """Return each public key of a tier as PEM; raise `SettingInvalid` as `parse_keys`."""
    form = PublicFormat.SubjectPublicKeyInfo
    return tuple(key.public_bytes(Encoding.PEM, form).decode() for key in parse_keys(pem, name))


def make_exceptions_policy(prefix: str) -> dict[str, Any]:
    """Return the specification of an admission policy that refuses Kyverno's exceptions from policies of ours."""
    rule = {
        "apiGroups": ["policies.kyverno.io"],
        "apiVersions": ["*"],
        "operations": ["CREATE", "UPDATE"],
        "resources": ["policyexceptions"],
        "scope": "*",
    }
    return {
        "failurePolicy": "Fail",
        "matchConstraints": {
            "matchPolicy": "Equivalent",
            "namespaceSelector": {},
            "objectSelector": {},
            "resourceRules": [rule],
        },
        "validations": [
            {
                "expression": f"object.spec.policyRefs.all(r, !r.name.startsWith('{prefix}-'))",
                "message": "what the deploy gate refuses has no exception: ask for a waiver, or use break-glass",
                "reason": "Forbidden",
            }
        ],
    }


def _images_of(pod: str) -> str:
    """Return the CEL expression of the images of a pod, but for those of ephemeral containers: also of volumes."""
    lists = [f"{pod}.?{kind}.orValue([]).map(c, string(c.?image.orValue('')))" for kind in CONTAINERS]
    volumes = f"{pod}.?volumes.orValue([]).filter(v, has(v.image)).map(v, string(v.image.?reference.orValue('')))"
    return " + ".join([*lists, volumes])


def _new_images() -> str:
    """Return the CEL expression of the images that a request adds; all those of a new pod.

    Before a new pod there is nothing: null for the API server, and a map without keys for Kyverno. A new ephemeral
    container counts whatever its image is, because it has a command of its own.
    """
    old = f"(oldObject == null ? [] : {_images_of('oldObject.?spec')})"
    names = f"(oldObject == null ? [] : oldObject.?spec.?{EPHEMERAL}.orValue([]).map(c, string(c.name)))"
    added = f"object.spec.?{EPHEMERAL}.orValue([]).filter(c, !(string(c.name) in {names}))"
    return f"({_images_of('object.spec')}).filter(i, !(i in {old})) + {added}.map(c, string(c.?image.orValue('')))"


def _escape(text: str) -> str:
    """Return a regular expression of RE2 that matches a registry's name literally."""
    return text.replace(".", "[.]")


def _seconds(duration: timedelta) -> str:
    return f"{duration // timedelta(seconds=1)}s"
