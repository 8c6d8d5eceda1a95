"""Manifests that are brought along for an application: read, held against its profile, and pinned.

They are read once: what is held against the profile is what is applied and recorded.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from supply_chain.errors import DeclarationInvalid, ManifestsRefused
from supply_chain.execution.kubernetes.cluster import (
    AUTOSCALERS,
    CONFIG_MAPS,
    DEPLOYMENTS,
    DISRUPTION_BUDGETS,
    INGRESSES,
    NETWORK_POLICIES,
    SERVICE_ACCOUNTS,
    SERVICES,
    Cluster,
    Document,
    Kind,
)
from supply_chain.execution.kubernetes.hardening import find_violations
from supply_chain.execution.kubernetes.manifest_files import (
    CHART,
    KUSTOMIZATION,
    Release,
    Renderer,
    read_chart,
    read_kustomization,
)
from supply_chain.execution.kubernetes.rendering import CONTAINER, Workload, make_object_name
from supply_chain.model.container import APPLICATION, BROUGHT, ENVIRONMENT, MANAGED, ROLE
from supply_chain.model.documents import decode_document, parse_stream, read_content
from supply_chain.text import truncate_lines

KINDS = {
    kind.name: kind
    for kind in (
        SERVICE_ACCOUNTS, CONFIG_MAPS, NETWORK_POLICIES, SERVICES, DISRUPTION_BUDGETS, DEPLOYMENTS, AUTOSCALERS,
        INGRESSES,
    )
}  # fmt: skip
"""The kinds that manifests may have, in the order in which they are applied."""
REPLACED = (SERVICE_ACCOUNTS, SERVICES, DISRUPTION_BUDGETS, DEPLOYMENTS, AUTOSCALERS)
"""The kinds of objects of the chain that one of the same name replaces."""
DEPLOYMENT_FIELDS = frozenset({
    "minReadySeconds", "progressDeadlineSeconds", "replicas", "revisionHistoryLimit", "selector", "strategy",
    "template",
})  # fmt: skip
SERVICE_FIELDS = frozenset({"clusterIP", "ports", "publishNotReadyAddresses", "selector", "sessionAffinity", "type"})
AUTOSCALER_FIELDS = frozenset({"behavior", "maxReplicas", "metrics", "minReplicas", "scaleTargetRef"})
OF_AUTOSCALERS = ("behavior", "metrics")
"""The fields of an autoscaler that are its own; the environment decides the others."""
SPEC_FIELDS = {
    AUTOSCALERS: AUTOSCALER_FIELDS, DEPLOYMENTS: DEPLOYMENT_FIELDS, SERVICES: SERVICE_FIELDS,
    INGRESSES: frozenset({"ingressClassName", "rules", "tls"}),
    NETWORK_POLICIES: frozenset({"egress", "ingress", "podSelector", "policyTypes"}),
}  # fmt: skip
CONTENT = {"apiVersion", "automountServiceAccountToken", "data", "kind", "metadata", "spec"}
HOOK = "helm.sh/hook"
OF_NODES = tuple(map(ip_network, ("127.0.0.0/8", "169.254.0.0/16", "::1/128", "fe80::/10", "fd00:ec2::/32")))
"""Addresses of a node itself and of the metadata service of its cloud."""
MOST_FILES, MOST_VIOLATIONS, MOST_NAMED = 64, 100, 5
UNREAD = ("Kustomization", ".yml", ".json")
"""Names and endings of files that kubectl and kustomize apply, and this module does not."""
Objects = tuple[tuple[Kind, Document], ...]


def read_brought(root: Path, workload: Workload, renderer: Renderer) -> tuple[Document, ...]:
    """Return the objects that an application brings along, of manifests, a kustomization or a chart below `root`.

    Raises `DeclarationInvalid` for files that cannot be read or rendered as they are declared, and `ManifestsRefused`
    if the renderer does not render them.
    """
    where, values = workload.placement.manifests, workload.placement.values
    if where is None:
        return ()
    is_chart = (root / where / CHART).exists()
    if values and not is_chart:
        raise DeclarationInvalid(
            f"{root / where} has no {CHART}, and only a chart has `values`.\nRemove them from the environment."
        )
    if is_chart:
        files = read_chart(root, where, values)
        release = Release(workload.name, workload.environment.namespace, values or "")
        return _parse_objects(renderer.template_chart(files, where, release), f"{root / where}, as rendered,")
    if (root / where / KUSTOMIZATION).exists():
        files = read_kustomization(root, where)
        return _parse_objects(renderer.build_kustomization(files, where), f"{root / where}, as rendered,")
    return read_manifests(root / where)


def read_manifests(directory: Path) -> tuple[Document, ...]:
    """Return the objects of the YAML files of a directory, in the order of their names.

    Raises `DeclarationInvalid` for what is not an object, and if there is none.
    """
    if unread := sorted(path.name for path in directory.glob("*") if path.name in UNREAD or path.suffix in UNREAD):
        raise DeclarationInvalid(
            f"{directory} has {', '.join(truncate_lines(MOST_NAMED, unread))}, which would not be applied.\n"
            f"Call manifests *.yaml, and a kustomization {KUSTOMIZATION}; keep other files elsewhere."
        )
    paths = sorted(directory.glob("*.yaml"))
    if not paths or len(paths) > MOST_FILES or any(path.is_symlink() for path in paths):
        raise DeclarationInvalid(
            f"{directory} has {len(paths)} manifests (*.yaml), or links instead.\n"
            f"Bring 1 to {MOST_FILES} files along, or remove `manifests` from the environment."
        )
    return tuple(each for path in paths for each in _parse_objects(read_content(path), str(path)))


def _parse_objects(content: bytes, name: str) -> tuple[Document, ...]:
    """Return the objects of a stream of YAML documents; raise `DeclarationInvalid`, which calls it `name`."""
    objects = parse_stream(decode_document(content, name), name)
    for each in objects:
        metadata = each.get("metadata") if isinstance(each, dict) else None
        if not isinstance(metadata, dict) or not isinstance(metadata.get("name"), str):
            raise DeclarationInvalid(f"{name} has something else than objects with a name.\nRemove it.")
    if not objects:
        raise DeclarationInvalid(f"{name} has no objects.\nWrite a Deployment, or remove it.")
    return tuple(objects)


def adopt(workload: Workload, rendered: Objects, brought: Sequence[Document]) -> Objects:
    """Return the objects of an application with those that were brought along.

    A Deployment, Service or disruption budget with the name of the application's replaces the chain's own. Images are
    pinned to the admitted digest; namespace, labels, selectors, nodes and settings are the environment's. Raises
    `ManifestsRefused` with everything that is not allowed.
    """
    if not brought:
        return rendered
    try:
        violations = list(_find_all(workload, rendered, brought))
    except (AttributeError, KeyError, TypeError) as error:
        violations = [f"a value does not have the form that Kubernetes' API describes: {error}"]
    if violations:
        raise ManifestsRefused(
            f"The manifests of {workload.declaration.name} in {workload.environment.name} are refused:\n- "
            + "\n- ".join(truncate_lines(MOST_VIOLATIONS, violations))
            + "\nNothing was changed. Correct the manifests, or what supply-chain.yaml declares."
        )
    ours = {(kind.name, document["metadata"]["name"]): document for kind, document in rendered}
    added = [(KINDS[each["kind"]], _adopt_object(workload, each, ours)) for each in brought]
    names = {(kind.name, document["metadata"]["name"]) for kind, document in added}
    others = [(kind, each) for kind, each in rendered if (kind.name, each["metadata"]["name"]) not in names]
    order = list(KINDS.values())
    return tuple(sorted((*others, *added), key=lambda pair: order.index(pair[0])))


def check_owners(name: str, live: Sequence[Document | None]) -> None:
    """Raise `ManifestsRefused` if one of the objects that would be changed is part of another application."""
    for each in live:
        labels = (each["metadata"].get("labels") or {}) if each else {}
        if labels.get(MANAGED) == "true" and labels.get(APPLICATION, name) != name and each:
            raise ManifestsRefused(
                f"{each.get('kind', 'an object')} {each['metadata']['name']} is part of {labels[APPLICATION]}, and "
                f"{name} brings one of this name along.\nNothing was changed. Give it another name."
            )


def find_left(
    name: str, documents: Sequence[Document], live: Mapping[tuple[str, str], Document]
) -> list[tuple[str, str]]:
    """Return kind and name of the live objects that were brought along and are not among `documents`."""
    applied = {(each["kind"], each["metadata"]["name"]) for each in documents}
    labels = {MANAGED: "true", APPLICATION: name, ROLE: BROUGHT}
    return [
        key
        for key, each in live.items()
        if key not in applied and labels.items() <= (each["metadata"].get("labels") or {}).items()
    ]


def remove_left(cluster: Cluster, name: str, namespace: str, documents: Sequence[Document]) -> None:
    """Remove the objects that were brought along for an earlier deployment and are not among `documents`."""
    labels = {MANAGED: "true", APPLICATION: name, ROLE: BROUGHT}
    live = {
        (kind.name, each["metadata"]["name"]): each
        for kind in KINDS.values()
        for each in cluster.list(kind, namespace, labels)
    }
    for kind, left in find_left(name, documents, live):
        cluster.delete(KINDS[kind], left, namespace)


def _find_all(workload: Workload, rendered: Objects, brought: Sequence[Document]) -> Iterator[str]:
    ours = {(kind.name, document["metadata"]["name"]): document for kind, document in rendered}
    names: set[tuple[Any, str]] = set()
    services = {each["metadata"]["name"] for each in (*ours.values(), *brought) if each.get("kind") == SERVICES.name}
    for each in brought:
        kind, name = each.get("kind"), each["metadata"]["name"]
        violations = [*_find_in_object(workload, each)]
        if kind == INGRESSES.name and not violations:
            violations += _find_in_ingress(workload, each["spec"], services)
        if kind == NETWORK_POLICIES.name and not violations:
            violations += _find_in_policy(each["spec"], ours[kind, workload.name]["spec"])
        if kind in (SERVICE_ACCOUNTS.name, AUTOSCALERS.name) and (kind, name) not in ours:
            violations.append(f"there may be one, {workload.name}, and an autoscaler only with `autoscaling`")
        if (kind, name) in names or ((kind, name) in ours and KINDS.get(str(kind)) not in REPLACED):
            violations.append("there is another object of this name")
        names.add((kind, name))
        yield from (f"{kind} {name}: {violation}" for violation in violations)
        if kind == DEPLOYMENTS.name and not violations:
            hardened = ours[kind, workload.name]["spec"]["template"]["spec"]
            template = each["spec"]["template"]
            yield from (f"{kind} {name}: {line}" for line in _find_in_template(workload, template, hardened))
    if [name for kind, name in names if kind == DEPLOYMENTS.name] != [workload.name]:
        yield f"there has to be one Deployment, {workload.name}"


def _find_in_object(workload: Workload, document: Document) -> Iterator[str]:
    kind = KINDS.get(str(document.get("kind")))
    if kind is None or document.get("apiVersion") != kind.api_version:
        kinds = ", ".join(f"{each.api_version} {each.name}" for each in KINDS.values())
        yield f"{document.get('apiVersion')} is not one of {kinds}"
        return
    yield from (f"{key} is not allowed" for key in sorted(document.keys() - CONTENT))
    metadata = document["metadata"]
    if hook := (metadata.get("annotations") or {}).get(HOOK):
        yield f"it is a hook ({hook}), and nothing runs hooks"
    yield from (
        f"metadata.{key} is not allowed" for key in sorted(metadata.keys() - {"labels", "name", "namespace"})
    )  # fmt: skip
    if metadata["name"] in {make_object_name(each) for each in workload.environment.applications} - {workload.name}:
        yield "it has the name of another application"
    if metadata.get("namespace", workload.environment.namespace) != workload.environment.namespace:
        yield f"its namespace has to be {workload.environment.namespace}"
    if document.get("automountServiceAccountToken"):
        yield "automountServiceAccountToken has to be false"
    if kind in (CONFIG_MAPS, SERVICE_ACCOUNTS):
        return
    spec = document.get("spec")
    if not isinstance(spec, dict):
        yield "it has no spec"
        return
    yield from (f"spec.{key} is not allowed" for key in sorted(spec.keys() - SPEC_FIELDS.get(kind, spec.keys())))
    if kind == SERVICES:
        yield from _find_in_service(spec)
    if kind == DEPLOYMENTS and not isinstance(spec.get("template"), dict):
        yield "it has no template"


def _find_in_service(spec: Mapping[str, Any]) -> Iterator[str]:
    """Yield what would make a Service reachable from outside of the cluster, or lead out of it."""
    if spec.get("type", "ClusterIP") != "ClusterIP" or spec.get("clusterIP") not in (None, "None"):
        yield "its type has to be ClusterIP, without an address"
    if any("nodePort" in each for each in spec.get("ports") or ()):
        yield "spec.ports.nodePort is not allowed"


def _find_in_ingress(workload: Workload, spec: Mapping[str, Any], services: Collection[str]) -> Iterator[str]:
    """Yield what would lead elsewhere than to the application's Services, or to them for any host."""
    if not workload.placement.reached_from:
        yield "the environment has no `reached_from`, which names the namespace of who sends the requests"
    for rule in spec.get("rules") or ():
        if not rule.get("host"):
            yield "spec.rules.host is missing"
        for path in (rule.get("http") or {}).get("paths") or ():
            backend = path["backend"]
            if backend.keys() != {"service"} or backend["service"]["name"] not in services:
                yield "spec.rules.http.paths.backend has to be one of its Services"
    if not all(each.get("hosts") for each in spec.get("tls") or ()):
        yield "spec.tls.hosts is missing"


def _find_in_policy(spec: Mapping[str, Any], rendered: Mapping[str, Any]) -> Iterator[str]:
    """Yield the rules of a NetworkPolicy that allow more than the chain's own: `rendered`, for the same pods."""
    for way, key in (("ingress", "from"), ("egress", "to")):
        allowed = [(peer, rule.get("ports")) for rule in rendered[way] for peer in rule[key]]
        for rule in spec.get(way) or ():
            peers = rule.get(key)
            if not peers or not all(
                any(_is_within(peer, own) and _has_ports(rule, ports) for own, ports in allowed)
                or (way == "egress" and _is_network(peer))
                for peer in peers
            ):
                yield (
                    f"spec.{way} allows more than the application has: its namespace, `reached_from`, DNS and, for "
                    "egress, networks (`ipBlock`) without link-local and loopback addresses"
                )


def _is_network(peer: Mapping[str, Any]) -> bool:
    """Return whether a peer is a network in which no address is the node's own or a metadata service's."""
    try:
        network = ip_network(peer["ipBlock"]["cidr"])
    except (KeyError, TypeError, ValueError):
        return False
    return peer.keys() == {"ipBlock"} and not any(
        network.version == each.version and network.overlaps(each) for each in OF_NODES
    )


def _is_within(peer: Mapping[str, Any], allowed: Mapping[str, Any]) -> bool:
    """Return whether a peer of a NetworkPolicy selects no pods beyond those of an allowed one."""
    if not peer.keys() <= {"podSelector", "namespaceSelector"}:
        return False
    if peer.get("namespaceSelector") != allowed.get("namespaceSelector"):
        return False
    allowed_labels = (allowed.get("podSelector") or {}).get("matchLabels") or {}
    return allowed_labels.items() <= ((peer.get("podSelector") or {}).get("matchLabels") or {}).items()


def _has_ports(rule: Mapping[str, Any], allowed: Sequence[Mapping[str, Any]] | None) -> bool:
    """Return whether a rule of a NetworkPolicy has only allowed ports; None allows all."""
    ports = [{"protocol": "TCP", **each} for each in rule.get("ports") or ()]
    return allowed is None or (bool(ports) and all(each in allowed for each in ports))


def _list_secrets(pod: Mapping[str, Any]) -> Iterator[str]:
    """Yield the names of the Secrets that a pod mounts or that its containers refer to."""
    yield from (str(each["secret"].get("secretName")) for each in pod.get("volumes") or () if "secret" in each)
    for each in (*(pod.get("containers") or ()), *(pod.get("initContainers") or ())):
        sources = [variable.get("valueFrom") or {} for variable in each.get("env") or ()]
        yield from (str(source["secretKeyRef"].get("name")) for source in sources if "secretKeyRef" in source)
        yield from (
            str(source["secretRef"].get("name")) for source in each.get("envFrom") or () if "secretRef" in source
        )


def _find_in_template(workload: Workload, template: Mapping[str, Any], hardened: Mapping[str, Any]) -> Iterator[str]:
    yield from find_violations(template, hardened, workload.declaration.runtime)
    pod = template.get("spec") or {}
    named = {each.secret for each in workload.placement.secrets.values()}
    if others := sorted({*_list_secrets(pod)} - named):
        yield f"`secrets` of the environment do not have the Secret {', '.join(others)}"
    containers = pod.get("containers") or ()
    for each in (*containers, *(pod.get("initContainers") or ())):
        if (image := each.get("image")) not in _admitted(workload):
            yield f"{each.get('name')}: no gate admitted {image}; the image has to be {workload.declaration.name}"
    main = [each for each in containers if each.get("name") == CONTAINER]
    if not any(each.get("readinessProbe") for each in main):
        yield f"there has to be a container {CONTAINER} with a readinessProbe"


def _admitted(workload: Workload) -> tuple[str, ...]:
    """Return the names of the admitted image in manifests; a tag may mean another one at any time."""
    address = f"{workload.registry}/{workload.ref.repository}"
    return workload.declaration.name, address, f"{address}@{workload.ref.digest}"


def _adopt_object(workload: Workload, document: Document, ours: Mapping[tuple[str, str], Document]) -> Document:
    kind, metadata = document["kind"], document["metadata"]
    labels = {MANAGED: "true", APPLICATION: workload.name, ENVIRONMENT: workload.environment.name, ROLE: BROUGHT}
    adopted = {
        **document,
        "metadata": {
            "name": metadata["name"],
            "namespace": workload.environment.namespace,
            "labels": {**(metadata.get("labels") or {}), **labels},
        },
    }
    if kind == DEPLOYMENTS.name:
        adopted["spec"] = _adopt_deployment(document["spec"], ours[kind, workload.name]["spec"])
    elif kind == SERVICES.name:
        adopted["spec"] = {
            **document["spec"],
            "selector": {**(document["spec"].get("selector") or {}), **workload.selector},
        }
    elif kind == SERVICE_ACCOUNTS.name:
        adopted["automountServiceAccountToken"] = False
    elif kind == AUTOSCALERS.name:
        own = {key: document["spec"][key] for key in OF_AUTOSCALERS if key in document["spec"]}
        adopted["spec"] = {**ours[kind, workload.name]["spec"], **own}
    elif kind in (DISRUPTION_BUDGETS.name, NETWORK_POLICIES.name):
        key = "selector" if kind == DISRUPTION_BUDGETS.name else "podSelector"
        adopted["spec"] = {**document["spec"], key: {"matchLabels": workload.selector}}
    return adopted


def _adopt_deployment(spec: Mapping[str, Any], hardened: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the specification of a Deployment with what the environment decides."""
    metadata, own_metadata = spec["template"].get("metadata") or {}, hardened["template"]["metadata"]
    pod, own = spec["template"]["spec"], hardened["template"]["spec"]
    decided = {
        "serviceAccountName": own["serviceAccountName"],
        "automountServiceAccountToken": False,
        "nodeSelector": {**(pod.get("nodeSelector") or {}), **own["nodeSelector"]},
        "tolerations": own["tolerations"],
        "terminationGracePeriodSeconds": own["terminationGracePeriodSeconds"],
    }
    containers = {
        key: [_adopt_container(each, own["containers"][0]) for each in pod[key]]
        for key in ("initContainers", "containers")
        if pod.get(key)
    }
    return {
        **{key: value for key, value in spec.items() if key != "replicas"},
        **{key: hardened[key] for key in ("replicas", "selector", "progressDeadlineSeconds") if key in hardened},
        "template": {
            "metadata": {
                "labels": {**(metadata.get("labels") or {}), **own_metadata["labels"]},
                "annotations": {**(metadata.get("annotations") or {}), **own_metadata["annotations"]},
            },
            "spec": {
                **pod,
                **decided,
                **containers,
                "volumes": [_in_memory(each) for each in pod.get("volumes") or ()],
            },
        },
    }


def _in_memory(volume: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a volume that is kept in memory if the application writes to it, as the declaration promises."""
    if "emptyDir" not in volume:
        return volume
    return {**volume, "emptyDir": {**(volume["emptyDir"] or {}), "medium": "Memory"}}


def _adopt_container(container: Mapping[str, Any], own: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a container with the admitted image and the settings and secrets of the environment.

    A variable that the environment takes from a Secret replaces that of the manifest.
    """
    replaced = {each["name"] for each in own["env"]}
    variables = [each for each in container.get("env") or () if each.get("name") not in replaced]
    return {
        **container,
        "image": own["image"],
        "envFrom": [*(container.get("envFrom") or ()), *own["envFrom"]],
        "env": [*variables, *own["env"]],
    }
