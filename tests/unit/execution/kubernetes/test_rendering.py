"""Objects of an application in a cluster, from its declaration and its environment."""

import pytest

from supply_chain.errors import SettingInvalid
from supply_chain.execution.environment import KubernetesEnvironment, KubernetesPlacement, SecretKey
from supply_chain.execution.kubernetes.rendering import LABEL, Workload, make_object_name, render
from supply_chain.model.image import ImageRef

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)


@pytest.fixture
def rendered(make):
    """Return a function that renders the objects, by kind; of network policies, the application's own."""

    def run(placement=None, **declared):
        declaration = make.declaration(**declared)
        environment = KubernetesEnvironment(
            name="staging", target="kubernetes", cluster="c", namespace="shop",
            applications={declaration.name: KubernetesPlacement(**placement or {})},
        )  # fmt: skip
        objects = render(Workload(declaration, REF, environment, "registry.test"))
        return {kind.name: document for kind, document in objects}

    return run


def pod_of(objects):
    return objects["Deployment"]["spec"]["template"]["spec"]


def test_pods_run_admitted_digest_with_hardened_profile(rendered):
    """Pod Security `restricted` admits them."""
    objects = rendered(runtime={"writable": ("/tmp",), "memory": "64MiB", "cpu": 0.5, "uid": 1234})

    pod = pod_of(objects)
    (container,) = pod["containers"]
    assert container["image"] == f"registry.test/{REF}"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False, "privileged": False, "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }  # fmt: skip
    assert pod["securityContext"] == {
        "runAsNonRoot": True, "runAsUser": 1234, "runAsGroup": 1234, "seccompProfile": {"type": "RuntimeDefault"},
    }  # fmt: skip
    assert container["resources"]["limits"] == {"cpu": "500m", "memory": str(64 * 1024**2)}
    assert container["volumeMounts"] == [{"name": "writable-0", "mountPath": "/tmp"}]
    assert pod["automountServiceAccountToken"] is objects["ServiceAccount"]["automountServiceAccountToken"] is False


def test_pod_answers_while_nodes_learn_that_it_ends(rendered):
    """Without the drain, requests at the time of a rollout are lost."""
    objects = rendered(probe={"port": 8080, "path": "/ready", "start_timeout": 7, "stop_timeout": 3})

    pod = pod_of(objects)
    (container,) = pod["containers"]
    assert container["lifecycle"] == {"preStop": {"sleep": {"seconds": 5}}}
    assert pod["terminationGracePeriodSeconds"] == 8
    assert container["startupProbe"]["failureThreshold"] * container["startupProbe"]["periodSeconds"] == 7
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": 8080, "scheme": "HTTP"}
    assert objects["Deployment"]["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_settings_of_environment_override_declared_ones(rendered):
    """Other settings have another name, so that a rollback finds its own."""
    declared = {"runtime": {"environment": {"A": "1", "B": "2"}}}
    objects, same = rendered({"environment": {"B": "3"}}, **declared), rendered({"environment": {"B": "3"}}, **declared)
    others = rendered(**declared)

    assert objects["ConfigMap"]["data"] == {"A": "1", "B": "3"} and objects == same
    assert objects["ConfigMap"]["metadata"]["name"] != others["ConfigMap"]["metadata"]["name"]
    (source,) = pod_of(objects)["containers"][0]["envFrom"]
    assert source == {"configMapRef": {"name": objects["ConfigMap"]["metadata"]["name"]}}


def test_secrets_are_referenced(rendered):
    """Their values are nowhere in what is applied and recorded."""
    objects = rendered({"secrets": {"TOKEN": SecretKey(secret="shop", key="token")}})

    assert pod_of(objects)["containers"][0]["env"] == [
        {"name": "TOKEN", "valueFrom": {"secretKeyRef": {"name": "shop", "key": "token"}}}
    ]


def test_network_policy_admits_environment_and_declared_namespaces(rendered):
    """Further ports are for the environment alone."""
    objects = rendered({"reached_from": ("ingress",)}, runtime={"ports": (9090,)})

    own, ingress = objects["NetworkPolicy"]["spec"]["ingress"]
    assert [port["port"] for port in own["ports"]] == [8080, 9090] and own["from"] == [{"podSelector": {}}]
    assert [port["port"] for port in ingress["ports"]] == [8080]
    assert ingress["from"] == [{"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "ingress"}}}]


SELECTED = {"cscm.application": "hello", "cscm.environment": "staging", "cscm.role": "application"}


def test_disruptions_end_one_pod_of_the_application_at_a_time(rendered):
    """A wrong selector protects nothing, or all pods of the namespace together. Pods that fail are always evicted."""
    objects = rendered()

    assert objects["PodDisruptionBudget"]["spec"] == {
        "maxUnavailable": 1, "selector": {"matchLabels": SELECTED}, "unhealthyPodEvictionPolicy": "AlwaysAllow",
    }  # fmt: skip
    assert SELECTED.items() <= objects["Deployment"]["spec"]["template"]["metadata"]["labels"].items()


def test_pods_are_spread_over_nodes_and_zones(rendered):
    """By the pods of the application alone; one node that is left takes them all."""
    spread = pod_of(rendered())["topologySpreadConstraints"]

    assert spread == [
        {"maxSkew": 1, "topologyKey": key, "whenUnsatisfiable": "ScheduleAnyway",
         "labelSelector": {"matchLabels": SELECTED}}
        for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
    ]  # fmt: skip


def test_pod_labels_equal_container_labels(rendered):
    """Values that no label can have are annotations."""
    template = rendered()["Deployment"]["spec"]["template"]["metadata"]

    assert template["labels"] == {
        "cscm.managed": "true", "cscm.application": "hello", "cscm.environment": "staging", "cscm.role": "application",
    }  # fmt: skip
    assert template["annotations"]["cscm.digest"] == REF.digest


@pytest.mark.parametrize(
    ("declared", "message"),
    [({"classification": "confidential"}, "confidential"), ({"runtime": {"init": True}}, "init process")],
    ids=str,
)
def test_declaration_that_cluster_cannot_honour_is_refused(rendered, declared, message):
    """It would run with less protection, or end late."""
    with pytest.raises(SettingInvalid, match=message):
        rendered(**declared)


def test_application_without_place_is_refused(make):
    """The error names the document to edit."""
    environment = KubernetesEnvironment(name="staging", target="kubernetes", cluster="c", namespace="shop")

    with pytest.raises(SettingInvalid, match=r"hello has no place in staging"):
        render(Workload(make.declaration(), REF, environment, "registry.test"))


@pytest.mark.parametrize("application", ["hello", "team/hello", "2048", "a.b", "a_b", "x" * 128, "a" * 51])
def test_object_name_is_valid_and_unique(application):
    """A Service's name is a DNS label that begins with a letter."""
    name = make_object_name(application)

    assert LABEL.fullmatch(name) and len(name) <= 50
    assert make_object_name(f"{application}x") != name


@pytest.mark.parametrize("application", ["team/hello", "2048", "a.b"])
def test_object_name_cannot_be_name_of_another_application(application):
    """Whoever takes such a name would replace the other application's objects."""
    assert make_object_name(make_object_name(application)) != make_object_name(application)
