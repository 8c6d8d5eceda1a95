"""Manifests that are brought along: what is refused, and what is made of the rest."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from supply_chain.errors import DeclarationInvalid, ManifestsRefused
from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement
from supply_chain.execution.kubernetes.brought import adopt, read_brought, read_manifests
from supply_chain.execution.kubernetes.cluster import (
    AUTOSCALERS,
    DEPLOYMENTS,
    INGRESSES,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from supply_chain.execution.kubernetes.manifest_files import PlainOnly, Release
from supply_chain.execution.kubernetes.rendering import DRAIN, Workload, render
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.model.image import ImageRef
from tests.contract.target import Harness
from tests.support.memory_cluster import NOON, MemoryCluster

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
CONTAINER = {
    "name": "application", "image": "hello", "args": ["--fast"], "env": [{"name": "MODE", "value": "fast"}],
    "readinessProbe": {"httpGet": {"path": "/", "port": 8080}},
    "resources": {"limits": {"cpu": "500m", "memory": "64Mi"}},
    "securityContext": {
        "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
    },
    "volumeMounts": [{"name": "work", "mountPath": "/tmp"}, {"name": "pages", "mountPath": "/pages"}],
}  # fmt: skip
POD = {
    "securityContext": {
        "runAsNonRoot": True, "runAsUser": 10001, "runAsGroup": 10001, "seccompProfile": {"type": "RuntimeDefault"},
    },
    "containers": [CONTAINER],
    "volumes": [{"name": "work", "emptyDir": {}}, {"name": "pages", "configMap": {"name": "pages"}}],
}  # fmt: skip
DEPLOYMENT = {
    "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "hello", "labels": {"team": "a"}},
    "spec": {
        "replicas": 9, "selector": {"matchLabels": {"app": "hello"}},
        "template": {"metadata": {"labels": {"app": "hello"}}, "spec": POD},
    },
}  # fmt: skip
PAGES = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "pages"}, "data": {"index": "hi"}}
ADMIN = {
    "apiVersion": "v1", "kind": "Service", "metadata": {"name": "admin"},
    "spec": {"selector": {"app": "hello"}, "ports": [{"port": 8080}]},
}  # fmt: skip
ALL = (DEPLOYMENT, PAGES, ADMIN)
ACCOUNT = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "hello", "labels": {"team": "a"}}}
SCALER: dict[str, Any] = {
    "apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "hello"},
    "spec": {
        "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop"},
        "minReplicas": 1, "maxReplicas": 90, "behavior": {"scaleDown": {"stabilizationWindowSeconds": 60}},
    },
}  # fmt: skip
BACKEND = {"service": {"name": "admin", "port": {"number": 8080}}}
INGRESS: dict[str, Any] = {
    "apiVersion": "networking.k8s.io/v1", "kind": "Ingress", "metadata": {"name": "hello"},
    "spec": {
        "ingressClassName": "public", "tls": [{"hosts": ["hello.example"], "secretName": "hello"}],
        "rules": [{"host": "hello.example",
                   "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": BACKEND}]}}],
    },
}  # fmt: skip


@pytest.fixture
def workload(make) -> Workload:
    environment = KubernetesEnvironment(
        name="staging", target="kubernetes", cluster="c", namespace="shop",
        applications={"hello": KubernetesPlacement(replicas=3, environment={"GREETING": "hi"})},
    )  # fmt: skip
    declaration = make.declaration(
        runtime={
            "writable": ("/tmp",), "memory": "64MiB", "cpu": 0.5, "configuration_paths": ("/pages",),
            "commands": ({"args": ("--fast",)}, {"command": ("/hello", "check")}),
        }
    )  # fmt: skip
    return Workload(declaration, REF, environment, "registry.test")


def changed(document: Any, path: str, value: object) -> Any:
    """Return a document with another value at a path; it is removed if the value is None."""
    made = copy.deepcopy(document)
    place: Any = made
    *parents, last = [int(each) if each.isdigit() else each for each in path.split("/")]
    for each in parents:
        place = place[each]
    if value is None:
        del place[last]
    else:
        place[last] = value
    return made


def test_manifests_get_admitted_digest_and_settings_of_environment(workload):
    """The admitted digest, its number of pods, its settings, and labels by which it is found."""
    objects = {(kind.name, each["metadata"]["name"]): each for kind, each in adopt(workload, render(workload), ALL)}

    deployment = objects["Deployment", "hello"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert container["image"] == f"registry.test/{REF}" and container["args"] == ["--fast"]
    assert container["envFrom"] == [{"configMapRef": {"name": workload.config_map}}]
    assert deployment["metadata"]["namespace"] == "shop" and deployment["spec"]["replicas"] == 3
    assert deployment["spec"]["selector"] == {"matchLabels": workload.selector}
    assert workload.selector.items() <= deployment["spec"]["template"]["metadata"]["labels"].items()
    assert deployment["spec"]["template"]["metadata"]["annotations"]["cscm.digest"] == REF.digest
    assert pod["volumes"][0] == {"name": "work", "emptyDir": {"medium": "Memory"}}
    assert pod["serviceAccountName"] == "hello" and pod["automountServiceAccountToken"] is False
    assert pod["terminationGracePeriodSeconds"] == workload.declaration.probe.stop_timeout + DRAIN
    assert objects["Service", "admin"]["spec"]["selector"] == {"app": "hello", **workload.selector}
    assert objects["ConfigMap", "pages"]["data"] == {"index": "hi"}
    assert ("NetworkPolicy", "cscm-deny-all") in objects and ("ServiceAccount", "hello") in objects
    assert list(objects)[-1] == ("Deployment", "hello")


CONTAINERS, TEMPLATE = "spec/template/spec/containers/0", "spec/template/metadata"
CONTEXT = f"{CONTAINERS}/securityContext"


@pytest.mark.parametrize(
    ("path", "value", "violation"),
    [
        ("spec/template/spec/hostNetwork", True, "hostNetwork is not allowed"),
        (TEMPLATE, {"annotations": {"iam.amazonaws.com/role": "admin"}},
         "Deployment hello: template.metadata.annotations: iam.amazonaws.com/role is not allowed"),
        (TEMPLATE, {"labels": {"azure.workload.identity/use": "true"}},
         "template.metadata.labels: azure.workload.identity/use is not allowed"),
        (TEMPLATE, {"labels": {"cscm.application": "shop"}}, "template.metadata.labels: cscm.application is not"),
        (f"{CONTAINERS}/resources/limits/memory", "0", "resources.limits.memory is missing"),
        (f"{CONTAINERS}/resources/limits/cpu", "0m", "resources.limits.cpu is missing"),
        ("spec/template/spec/hostUsers", False, "hostUsers is not allowed"),
        ("spec/template/spec/runtimeClassName", "fast", "runtimeClassName is not allowed"),
        ("spec/template/spec/serviceAccountName", "admin", "serviceAccountName has to be hello"),
        ("spec/template/spec/automountServiceAccountToken", True, "automountServiceAccountToken has to be false"),
        ("spec/template/spec/securityContext", None, "securityContext.runAsNonRoot differs"),
        ("spec/template/spec/securityContext/runAsUser", 0, "securityContext.runAsUser differs"),
        ("spec/template/spec/securityContext/sysctls", [{}], "securityContext.sysctls differs"),
        ("spec/template/spec/volumes/0", {"name": "work", "hostPath": {"path": "/"}}, "volume work: hostPath"),
        ("spec/template/spec/volumes/1", {"name": "pages", "emptyDir": {}}, "/pages is not declared as writable"),
        ("spec/template/spec/initContainers", [{**CONTAINER, "name": "first", "image": "busybox"}],
         "first: no gate admitted busybox"),
        (f"{CONTEXT}", None, "securityContext.allowPrivilegeEscalation differs"),
        (f"{CONTEXT}/privileged", True, "securityContext.privileged differs"),
        (f"{CONTEXT}/readOnlyRootFilesystem", None, "securityContext.readOnlyRootFilesystem differs"),
        (f"{CONTEXT}/runAsUser", 0, "securityContext.runAsUser differs"),
        (f"{CONTEXT}/procMount", "Unmasked", "securityContext.procMount differs"),
        (f"{CONTEXT}/capabilities/drop", ["NET_RAW"], "securityContext.capabilities.drop"),
        (f"{CONTEXT}/capabilities/add", ["SYS_ADMIN"], "the capabilities SYS_ADMIN are not declared"),
        (f"{CONTAINERS}/image", "hello:1.0", "no gate admitted hello:1.0; the image has to be hello"),
        (f"{CONTAINERS}/image", f"registry.test/curated/hello@sha256:{'b' * 64}", "no gate admitted registry.test"),
        (f"{CONTAINERS}/image", None, "no gate admitted None"),
        (f"{CONTAINERS}/volumeDevices", [{}], "volumeDevices is not allowed"),
        (f"{CONTAINERS}/ports", [{"containerPort": 80, "hostPort": 80}], "ports: hostPort is not allowed"),
        (f"{CONTAINERS}/readinessProbe/httpGet/host", "10.0.0.1", "readinessProbe: host is not allowed"),
        (f"{CONTAINERS}/lifecycle", {"preStop": {"tcpSocket": {"host": "x"}}}, "preStop: host is not allowed"),
        (f"{CONTAINERS}/lifecycle", {"preStop": {"exec": {"command": ["/bin/sh"]}}}, "preStop: exec is not among the"),
        (f"{CONTAINERS}/livenessProbe", {"exec": {"command": ["--fast"]}}, "livenessProbe: exec is not among the"),
        (f"{CONTAINERS}/args", ["--fast", "--debug"], "command and args are not among the declared `runtime.commands`"),
        (f"{CONTAINERS}/command", ["/bin/sh", "-c", "true"], "command and args are not among the declared"),
        (f"{CONTAINERS}/command", ["/hello", "check"], "command and args are not among the declared"),
        (f"{CONTAINERS}/workingDir", "/tmp", "workingDir is not allowed"),
        (f"{CONTAINERS}/volumeMounts/1/mountPath", "/app", "/app is not at or below one of the declared"),
        (f"{CONTAINERS}/volumeMounts/1/mountPath", "/pages/../app", "/pages/../app is not at or below one of"),
        (f"{CONTAINERS}/volumeMounts/1/mountPath", "/tmp", "/tmp is not at or below one of the declared"),
        (f"{CONTAINERS}/readinessProbe", None, "a container application with a readinessProbe"),
        (f"{CONTAINERS}/name", "main", "a container application with a readinessProbe"),
        (f"{CONTAINERS}/resources/limits/memory", None, "resources.limits.memory is missing"),
        (f"{CONTAINERS}/resources/limits/memory", "65Mi", "resources.limits.memory is 68157440, and 67108864 is"),
        (f"{CONTAINERS}/resources/limits/cpu", "0.6", "resources.limits.cpu is 0.6, and 0.5 is declared"),
        (f"{CONTAINERS}/resources/limits/cpu", "many", "resources.limits.cpu is missing"),
        ("spec/template/spec/containers", [CONTAINER, {**CONTAINER, "name": "second"}], "memory is 134217728"),
        ("spec/template/spec/containers", "none", "not have the form that Kubernetes' API describes"),
        ("spec/paused", True, "spec.paused is not allowed"),
        ("spec/template", None, "it has no template"),
        ("spec", None, "it has no spec"),
        ("status", {}, "status is not allowed"),
        ("metadata/namespace", "other", "its namespace has to be shop"),
        ("metadata/ownerReferences", [], "metadata.ownerReferences is not allowed"),
        ("metadata/name", "other", "there has to be one Deployment, hello"),
        ("apiVersion", "apps/v1beta1", "apps/v1beta1 is not one of"),
    ],
)  # fmt: skip
def test_manifest_that_allows_more_than_the_profile_is_refused(workload, path, value, violation):
    """It would run with less protection than what was tested and admitted."""
    with pytest.raises(ManifestsRefused) as raised:
        adopt(workload, render(workload), (changed(DEPLOYMENT, path, value), PAGES, ADMIN))

    assert violation in str(raised.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{CONTAINERS}/args", None),
        ("spec/template/spec/initContainers",
         [{**CONTAINER, "name": "first", "command": ["/hello", "check"], "args": []}]),
        (f"{CONTAINERS}/lifecycle", {"preStop": {"exec": {"command": ["/hello", "check"]}}}),
        (f"{CONTAINERS}/lifecycle", {"preStop": {"exec": None, "sleep": {"seconds": 1}}, "postStart": None}),
        (f"{CONTAINERS}/volumeMounts/1/mountPath", "/pages/index"),
        (TEMPLATE, {"annotations": {"checksum/config": "1", "prometheus.io/scrape": "true"},
                    "labels": {"app": "hello", "app.kubernetes.io/name": "hello", "helm.sh/chart": "hello-1"}}),
    ],
)  # fmt: skip
def test_manifest_that_runs_and_mounts_as_declared_is_adopted(workload, path, value):
    """The image's own command needs no declaration."""
    assert adopt(workload, render(workload), (changed(DEPLOYMENT, path, value), PAGES, ADMIN))


@pytest.mark.parametrize(
    ("document", "violation"),
    [
        ({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {}}, "Secret s: v1 is not one of"),
        ({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n"}}, "Namespace n: v1 is not one of"),
        ({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": POD}, "Pod p: v1 is not one of"),
        ({"apiVersion": "v1", "metadata": {"name": "p"}}, "None p: v1 is not one of"),
        (changed(ADMIN, "spec/type", "LoadBalancer"), "its type has to be ClusterIP"),
        (changed(ADMIN, "spec/clusterIP", "10.0.0.9"), "its type has to be ClusterIP"),
        (changed(ADMIN, "spec/externalIPs", ["192.0.2.1"]), "spec.externalIPs is not allowed"),
        (changed(ADMIN, "spec/ports/0/nodePort", 30000), "spec.ports.nodePort is not allowed"),
        (changed(ADMIN, "metadata/annotations", {"a": "b"}), "metadata.annotations is not allowed"),
        (changed(ADMIN, "metadata/annotations", {"helm.sh/hook": "pre-install"}),
         "Service admin: it is a hook (pre-install), and nothing runs hooks"),
        (changed(ACCOUNT, "automountServiceAccountToken", True), "automountServiceAccountToken has to be false"),
        (changed(ACCOUNT, "secrets", [{"name": "token"}]), "secrets is not allowed"),
        (changed(ACCOUNT, "metadata/name", "admin"), "ServiceAccount admin: there may be one, hello"),
        (changed(ACCOUNT, "apiVersion", "v2"), "v2 is not one of v1 ServiceAccount"),
        (SCALER, "there may be one, hello, and an autoscaler only with `autoscaling`"),
        (changed(SCALER, "spec/paused", True), "spec.paused is not allowed"),
        (changed(SCALER, "spec", None), "HorizontalPodAutoscaler hello: it has no spec"),
        (INGRESS, "Ingress hello: the environment has no `reached_from`"),
        (PAGES, "ConfigMap pages: there is another object of this name"),
        ({"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "cscm-deny-all"},
          "spec": {"egress": [{}]}}, "there is another object of this name"),
        ({**DEPLOYMENT, "metadata": {"name": "second"}}, "there has to be one Deployment, hello"),
    ],
)  # fmt: skip
def test_object_with_effect_beyond_application_is_refused(workload, document, violation):
    """Other kinds, names of the chain's own objects, and Services with addresses outside of the cluster."""
    with pytest.raises(ManifestsRefused) as raised:
        adopt(workload, render(workload), (DEPLOYMENT, PAGES, document))

    assert violation in str(raised.value)


def placed(workload: Workload, **placement: Any) -> Workload:
    """Return a workload with another placement."""
    environment = workload.environment.model_copy(
        update={"applications": {"hello": KubernetesPlacement(**placement), "shop": KubernetesPlacement()}}
    )
    return replace(workload, environment=environment)


def test_service_account_has_no_token(workload):
    """It replaces the one that the chain makes, for the pods' sake."""
    objects = adopt(workload, render(workload), (*ALL, ACCOUNT))

    (account,) = [each for kind, each in objects if kind == SERVICE_ACCOUNTS]
    assert objects[0] == (SERVICE_ACCOUNTS, account) and account["automountServiceAccountToken"] is False
    assert account["metadata"]["labels"] == {
        "team": "a", "cscm.managed": "true", "cscm.application": "hello", "cscm.environment": "staging",
        "cscm.role": "brought",
    }  # fmt: skip


def test_autoscaler_keeps_limits_of_environment(workload):
    """What it measures is its own; whom it scales and how far, the environment decides."""
    scaled = placed(workload, autoscaling={"minimum": 2, "maximum": 5})

    objects = adopt(scaled, render(scaled), (*ALL, SCALER))

    (own,) = [each for kind, each in render(scaled) if kind == AUTOSCALERS]
    (scaler,) = [each for kind, each in objects if kind == AUTOSCALERS]
    assert scaler["spec"] == {**own["spec"], "behavior": SCALER["spec"]["behavior"]}
    assert scaler["spec"]["maxReplicas"] == 5 and scaler["spec"]["scaleTargetRef"]["name"] == "hello"
    assert [kind for kind, _ in objects][-2:] == [DEPLOYMENTS, AUTOSCALERS]


def test_ingress_leads_to_services_of_application(workload):
    """Where the environment names who sends the requests; it is applied when everything else is there."""
    reached = placed(workload, reached_from=("ingress",))

    objects = adopt(reached, render(reached), (*ALL, INGRESS))

    assert objects[-1][0] == INGRESSES and objects[-1][1]["spec"] == INGRESS["spec"]
    assert objects[-1][1]["metadata"]["labels"]["cscm.application"] == "hello"
    to_own = changed(INGRESS, f"{PATHS}/0/backend/service/name", "hello")
    assert adopt(reached, render(reached), (*ALL, to_own))[-1][1]["spec"] == to_own["spec"]


PATHS = "spec/rules/0/http/paths"


@pytest.mark.parametrize(
    ("path", "value", "violation"),
    [
        ("spec/rules/0/host", None, "spec.rules.host is missing"),
        ("spec/rules/0/host", "", "spec.rules.host is missing"),
        (f"{PATHS}/0/backend/service/name", "shop", "backend has to be one of its Services"),
        (f"{PATHS}/0/backend", {"resource": {"kind": "Bucket", "name": "b"}}, "backend has to be one of its Services"),
        (f"{PATHS}/0/backend", {**BACKEND, "resource": {}}, "backend has to be one of its Services"),
        (f"{PATHS}/0/backend", None, "not have the form that Kubernetes' API describes"),
        ("spec/tls/0/hosts", None, "spec.tls.hosts is missing"),
        ("spec/tls/0/hosts", [], "spec.tls.hosts is missing"),
        ("spec/tls", [{"hosts": ["hello.example"]}, {"secretName": "other"}], "spec.tls.hosts is missing"),
        ("spec/tls", "hello.example", "not have the form that Kubernetes' API describes"),
        ("spec/defaultBackend", BACKEND, "spec.defaultBackend is not allowed"),
        ("metadata/annotations", {"a": "b"}, "metadata.annotations is not allowed"),
    ],
)
def test_ingress_that_leads_elsewhere_is_refused(workload, path, value, violation):
    """It would send requests of others to what is not the application's, or take those of every host."""
    reached = placed(workload, reached_from=("ingress",))

    with pytest.raises(ManifestsRefused) as raised:
        adopt(reached, render(reached), (*ALL, changed(INGRESS, path, value)))

    assert violation in str(raised.value)


def test_ingress_without_paths_is_passed_unchanged(workload):
    """The API server says what is missing."""
    reached = placed(workload, reached_from=("ingress",))

    for path in ("spec/rules", "spec/rules/0/http", PATHS):
        without = changed(INGRESS, path, None)
        assert adopt(reached, render(reached), (*ALL, without))[-1][1]["spec"] == without["spec"]


POLICY: dict[str, Any] = {
    "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "admin"},
    "spec": {
        "podSelector": {}, "policyTypes": ["Ingress", "Egress"],
        "ingress": [{"from": [{"podSelector": {"matchLabels": {"app": "peer"}}}], "ports": [{"port": 8080}]}],
        "egress": [{"to": [{"podSelector": {}}]}],
    },
}  # fmt: skip
INTERNET = {"ipBlock": {"cidr": "0.0.0.0/0"}}


def of_namespace(name: str, **pods: str) -> dict[str, Any]:
    selector = {"podSelector": {"matchLabels": pods}} if pods else {}
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}, **selector}


@pytest.mark.parametrize(
    ("way", "rule"),
    [
        ("ingress", {"from": [of_namespace("ingress")], "ports": [{"port": 8080, "protocol": "TCP"}]}),
        ("ingress", {"from": [of_namespace("ingress", app="proxy")], "ports": [{"port": 8080}]}),
        ("egress", {"to": [of_namespace("kube-system", **{"k8s-app": "kube-dns"})],
                    "ports": [{"port": 53, "protocol": "UDP"}]}),
        ("egress", {"to": [{"podSelector": {"matchLabels": {"app": "shop"}}}], "ports": [{"port": 5432}]}),
        ("egress", {"to": [{"ipBlock": {"cidr": "10.20.0.0/16"}}], "ports": [{"port": 5432}]}),
        ("egress", {"to": [{"ipBlock": {"cidr": "2001:db8::/32"}}]}),
    ],
)  # fmt: skip
def test_network_policy_that_allows_no_more_is_applied(workload, way, rule):
    """It may be narrower than the chain's own; its pods are the application's."""
    reached = placed(workload, reached_from=("ingress",))

    objects = adopt(reached, render(reached), (*ALL, changed(POLICY, f"spec/{way}", [rule])))

    (policy,) = [each for _, each in objects if (each["kind"], each["metadata"]["name"]) == ("NetworkPolicy", "admin")]
    assert policy["spec"][way] == [rule] and policy["spec"]["podSelector"] == {"matchLabels": reached.selector}


@pytest.mark.parametrize(
    ("way", "rule"),
    [
        ("ingress", {}),
        ("ingress", {"from": []}),
        ("ingress", {"from": [{"podSelector": {}}]}),
        ("ingress", {"from": [{"podSelector": {}}], "ports": [{"port": 9090}]}),
        ("ingress", {"from": [{"podSelector": {}}], "ports": [{"port": 8080, "endPort": 9090}]}),
        ("ingress", {"from": [{"podSelector": {}}], "ports": [{"port": 8080, "protocol": "UDP"}]}),
        ("ingress", {"from": [{"podSelector": {}}, INTERNET], "ports": [{"port": 8080}]}),
        ("ingress", {"from": [{"namespaceSelector": {}}], "ports": [{"port": 8080}]}),
        ("ingress", {"from": [of_namespace("other")], "ports": [{"port": 8080}]}),
        ("egress", {}),
        ("egress", {"to": [INTERNET]}),
        ("egress", {"to": [INTERNET], "ports": [{"port": 443}]}),
        ("egress", {"to": [{"ipBlock": {"cidr": "169.254.169.254/32"}}]}),
        ("egress", {"to": [{"ipBlock": {"cidr": "fd00:ec2::254/128"}}]}),
        ("egress", {"to": [{"ipBlock": {"cidr": "::/0"}}]}),
        ("egress", {"to": [{"ipBlock": {"cidr": "x"}}]}),
        ("ingress", {"from": [{"ipBlock": {"cidr": "10.20.0.0/16"}}], "ports": [{"port": 8080}]}),
        ("egress", {"to": [{"namespaceSelector": {}}]}),
        ("egress", {"to": [of_namespace("kube-system")], "ports": [{"port": 53, "protocol": "UDP"}]}),
        ("egress", {"to": [of_namespace("kube-system", **{"k8s-app": "kube-dns"})]}),
    ],
)
def test_network_policy_that_allows_more_is_refused(workload, way, rule):
    """Policies only allow, so that one rule would open what the chain's own closes."""
    reached = placed(workload, reached_from=("ingress",))

    with pytest.raises(ManifestsRefused, match=f"NetworkPolicy admin: spec.{way} allows more"):
        adopt(reached, render(reached), (*ALL, changed(POLICY, f"spec/{way}", [rule])))


VOLUMES = "spec/template/spec/volumes"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (f"{VOLUMES}/1", {"name": "pages", "secret": {"secretName": "NAME"}}),
        (f"{CONTAINERS}/env", [{"name": "A", "valueFrom": {"secretKeyRef": {"name": "NAME", "key": "k"}}}]),
        (f"{CONTAINERS}/envFrom", [{"secretRef": {"name": "NAME"}}]),
    ],
    ids=["mounted", "variable", "variables"],
)
@pytest.mark.parametrize("init", [False, True])
def test_only_secrets_of_the_environment_are_referred_to(workload, path, value, init):
    """Others in the namespace are of other applications, or tokens of service accounts."""
    own = placed(workload, secrets={"TOKEN": {"secret": "hello", "key": "token"}})

    def made(name: str) -> Any:
        with_secret = changed(DEPLOYMENT, path, yaml.safe_load(yaml.safe_dump(value).replace("NAME", name)))
        pod = with_secret["spec"]["template"]["spec"]
        if init and CONTAINERS in path:
            pod["initContainers"], pod["containers"] = [{**pod["containers"][0], "name": "first"}], [CONTAINER]
        return with_secret

    assert adopt(own, render(own), (made("hello"), PAGES, ADMIN))
    with pytest.raises(ManifestsRefused, match="`secrets` of the environment do not have the Secret theirs"):
        adopt(own, render(own), (made("theirs"), PAGES, ADMIN))


def test_secret_variable_of_environment_replaces_that_of_manifest(workload):
    """The API server refuses two of one name, and a manifest refers only to Secrets that the environment has."""
    own = placed(workload, secrets={"TOKEN": {"secret": "hello", "key": "token"}})
    variable = {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "hello", "key": "other"}}}
    document = changed(DEPLOYMENT, f"{CONTAINERS}/env", [*CONTAINER["env"], variable])

    adopted = [each for kind, each in adopt(own, render(own), (document, PAGES, ADMIN)) if kind == DEPLOYMENTS]

    (container,) = adopted[0]["spec"]["template"]["spec"]["containers"]
    assert [each["name"] for each in container["env"]] == ["MODE", "TOKEN"]
    assert container["env"][1]["valueFrom"]["secretKeyRef"]["key"] == "token"


def test_refusal_lists_all_violations(workload):
    """Who corrects them corrects them at once."""
    bad = changed(changed(DEPLOYMENT, f"{CONTAINERS}/image", "busybox"), f"{CONTEXT}/privileged", True)

    with pytest.raises(ManifestsRefused) as raised:
        adopt(workload, render(workload), (bad, changed(ADMIN, "spec/type", "NodePort")))

    assert str(raised.value).count("\n- ") == 3 and raised.value.code == "manifests.refused"


def write(directory: Path, *documents: object) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "all.yaml").write_text("---\n".join(yaml.safe_dump(each) for each in documents))


def test_directory_is_read_in_order_of_names(tmp_path):
    """Documents of one file are separated; empty ones do not count."""
    write(tmp_path, PAGES, None, ADMIN)
    (tmp_path / "a.yaml").write_text(yaml.safe_dump(DEPLOYMENT))

    assert read_manifests(tmp_path) == (DEPLOYMENT, PAGES, ADMIN)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "has 0 manifests"),
        ("---\n---\n", "has no objects"),
        ("- 1", "something else than objects"),
        ("metadata: {name: 1}", "something else than objects"),
        ("a: &a 1\nb: *a", "aliases are not allowed"),
        ("a: 2026-01-01", "a value that JSON cannot represent"),
        ("a: .nan", "a value that JSON cannot represent"),
        ("{" * 2000, "maximum nesting depth"),
        ("a: 1\na: 2", "twice"),
    ],
)
def test_unreadable_manifests_are_refused(tmp_path, text, message):
    """The error names the file."""
    if text is not None:
        (tmp_path / "a.yaml").write_text(text)

    with pytest.raises(DeclarationInvalid, match=message):
        read_manifests(tmp_path)


@pytest.mark.parametrize("name", ["ingress.yml", "kustomization.yml", "Kustomization", "service.json"])
def test_manifest_file_that_is_not_applied_is_refused(tmp_path, name):
    """kubectl and kustomize apply these."""
    write(tmp_path, PAGES)
    (tmp_path / name).write_text(yaml.safe_dump(ADMIN))

    with pytest.raises(DeclarationInvalid, match=f"{name}, which would not be applied"):
        read_manifests(tmp_path)


def test_link_among_manifests_is_refused(tmp_path):
    """It may lead to a file of the host."""
    write(tmp_path / "real", PAGES)
    (tmp_path / "a.yaml").symlink_to(tmp_path / "real/all.yaml")

    with pytest.raises(DeclarationInvalid, match="links"):
        read_manifests(tmp_path)


class StandIn:
    """A renderer that returns what it is given, and keeps what it got."""

    def __init__(self, *documents: object) -> None:
        self.content = "---\n".join(yaml.safe_dump(each) for each in documents).encode()
        self.got: list[tuple[Any, ...]] = []

    def build_kustomization(self, files: Mapping[str, bytes], place: str) -> bytes:
        self.got.append((sorted(files), place))
        return self.content

    def template_chart(self, files: Mapping[str, bytes], place: str, release: Release) -> bytes:
        self.got.append((sorted(files), place, release))
        return self.content


def test_kustomization_is_built_of_its_files(workload, tmp_path):
    """What it renders is read as manifests are."""
    write(tmp_path / "apps/hello", *ALL)
    (tmp_path / "apps/hello/kustomization.yaml").write_text("resources: [all.yaml]")
    placed_workload, renderer = placed(workload, manifests="apps/hello"), StandIn(*ALL)

    assert read_brought(tmp_path, placed_workload, renderer) == ALL
    assert renderer.got == [(["apps/hello/all.yaml", "apps/hello/kustomization.yaml"], "apps/hello")]


@pytest.mark.parametrize("values", [None, "hello.yaml"])
def test_chart_is_rendered_for_its_environment(workload, tmp_path, values):
    """As a release with the name of the application's objects, in its namespace, with the values of its environment."""
    write(tmp_path / "hello", *ALL)
    (tmp_path / "hello/Chart.yaml").write_text("name: hello")
    (tmp_path / "hello/kustomization.yaml").write_text("a chart may have one for others")
    (tmp_path / "hello.yaml").write_text("replicas: 3")
    placed_workload, renderer = placed(workload, manifests="hello", values=values), StandIn(*ALL)

    assert read_brought(tmp_path, placed_workload, renderer) == ALL
    files = ["hello/Chart.yaml", "hello/all.yaml", "hello/kustomization.yaml"]
    assert renderer.got == [
        (sorted([*files, *([values] if values else [])]), "hello", Release("hello", "shop", values or ""))
    ]


@pytest.mark.parametrize("kind", ["Chart.yaml", "kustomization.yaml"])
def test_rendered_stream_is_read_as_strictly_as_manifests(workload, tmp_path, kind):
    """Without objects the chain would deploy its own; a long stream is not read to its end."""
    write(tmp_path / "hello", *ALL)
    (tmp_path / "hello" / kind).write_text("resources: [all.yaml]")
    placed_workload, renderer = placed(workload, manifests="hello"), StandIn()

    for content, message in ((b"---\n", "no objects"), (b"- 1", "something else"), (b"#" * 262145, "than 256 KiB")):
        renderer.content = content
        with pytest.raises(DeclarationInvalid, match=f"hello, as rendered, has .*{message}"):
            read_brought(tmp_path, placed_workload, renderer)


def test_values_without_chart_are_refused(workload, tmp_path):
    """They would change nothing, and nobody would notice."""
    write(tmp_path / "hello", *ALL)
    placed_workload = placed(workload, manifests="hello", values="hello.yaml")

    with pytest.raises(DeclarationInvalid, match=r"hello has no Chart\.yaml, and only a chart has `values`"):
        read_brought(tmp_path, placed_workload, StandIn())


def test_plain_manifests_need_no_renderer(workload, tmp_path):
    """Nor does an application that brings nothing along."""
    write(tmp_path / "hello", *ALL)

    assert read_brought(tmp_path, placed(workload, manifests="hello"), PlainOnly()) == ALL
    assert read_brought(tmp_path, placed(workload), PlainOnly()) == ()


def test_target_renders_chart_of_application(workload, tmp_path):
    """A chart that is refused is not applied, like manifests that are."""
    cluster, renderer = MemoryCluster(), StandIn(*ALL)
    environment = placed(workload, manifests="hello").environment
    target = KubernetesTarget(
        environment, lambda: cluster, "registry", lambda: NOON, lambda _: None, tmp_path, renderer
    )
    harness = Harness(target, workload.declaration, str, "", set, str)
    write(tmp_path / "hello", *ALL)
    (tmp_path / "hello/Chart.yaml").write_text("name: hello")

    assert harness.codes(harness.deploy(REF.digest)) == [("hello", [])]
    renderer.content = yaml.safe_dump(changed(DEPLOYMENT, f"{CONTAINERS}/image", "busybox")).encode()
    applied = list(cluster.applied)
    with pytest.raises(ManifestsRefused, match="no gate admitted busybox"):
        harness.deploy(REF.digest)
    assert cluster.applied == applied


def test_object_of_another_application_is_refused(workload, tmp_path):
    """Its requests would go to this application."""
    cluster = MemoryCluster()
    applications = {"hello": KubernetesPlacement(manifests="hello"), "shop": KubernetesPlacement()}
    environment = workload.environment.model_copy(update={"applications": applications})
    target = KubernetesTarget(environment, lambda: cluster, "registry", lambda: NOON, lambda _: None, tmp_path)
    harness = Harness(target, workload.declaration, str, "", set, str)
    write(tmp_path / "hello", *ALL, changed(ADMIN, "metadata/name", "shop"))
    with pytest.raises(ManifestsRefused, match="Service shop: it has the name of another application"):
        harness.deploy(REF.digest)
    write(tmp_path / "hello", *ALL)
    labels = {"cscm.managed": "true", "cscm.application": "shop"}
    cluster.objects["Service", "shop", "admin"] = {"kind": "Service", "metadata": {"name": "admin", "labels": labels}}

    with pytest.raises(ManifestsRefused, match="Service admin is part of shop"):
        harness.deploy(REF.digest)

    assert cluster.applied == []


@pytest.mark.parametrize("late", [False, True], ids=["before", "at the same time"])
def test_host_of_another_application_is_refused(workload, tmp_path, late):
    """At the same time, both deployments see both Ingresses once they are applied; then nothing of this one stays."""
    cluster = MemoryCluster()
    placement = KubernetesPlacement(manifests="hello", reached_from=("ingress",))
    environment = workload.environment.model_copy(update={"applications": {"hello": placement}})
    target = KubernetesTarget(environment, lambda: cluster, "registry", lambda: NOON, lambda _: None, tmp_path)
    harness = Harness(target, workload.declaration, str, "", set, str)
    write(tmp_path / "hello", *ALL, INGRESS)
    labels = {"cscm.managed": "true", "cscm.application": "shop", "cscm.environment": "other"}
    other = {**INGRESS, "metadata": {"name": "shop", "namespace": "other", "labels": labels}}

    def deploy_other() -> None:
        cluster.objects["Ingress", "other", "shop"] = other

    if not late:
        deploy_other()
    with pytest.raises(ManifestsRefused, match=r"hello.example overlaps with hello.example of shop in other"):
        harness.deploy(REF.digest, may_serve=deploy_other)

    assert bool(cluster.applied) is late and cluster.read(INGRESSES, "hello", "shop") is None
    assert cluster.read(DEPLOYMENTS, "hello", "shop") is None and harness.recorded == []


def test_target_removes_objects_missing_in_new_manifests(workload, tmp_path):
    """A Service of an earlier version would go on leading to the new one."""
    cluster = MemoryCluster()
    placement = KubernetesPlacement(replicas=3, manifests="hello")
    environment = workload.environment.model_copy(update={"applications": {"hello": placement}})
    target = KubernetesTarget(environment, lambda: cluster, "registry", lambda: NOON, lambda _: None, tmp_path)
    harness = Harness(target, workload.declaration, str, "", set, str)
    write(tmp_path / "hello", *ALL)
    first = harness.deploy(REF.digest)
    assert harness.codes(first) == [("hello", [])] and not harness.deploy(REF.digest).changed
    write(tmp_path / "hello", DEPLOYMENT, PAGES)

    second = harness.deploy(REF.digest)

    assert harness.codes(first) == [("hello", ["drift.missing"])]
    assert cluster.read(SERVICES, "admin", "shop") is None and cluster.deleted == ["Service admin"]
    assert second.changed and harness.codes(second) == [("hello", [])]
    target.remove_unneeded(REF)
    assert harness.codes(second) == [("hello", [])]
    write(tmp_path / "hello", changed(DEPLOYMENT, f"{CONTAINERS}/image", "busybox"))
    with pytest.raises(ManifestsRefused):
        harness.deploy(REF.digest)
