"""What a cluster has of environments that the project has in no cluster: they were renamed, moved or removed."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from supply_chain.execution.enforcement.admitted import Parameters
from supply_chain.execution.enforcement.installation import KINDS, ORPHANED, AdmissionCluster, Change, find_left
from supply_chain.execution.enforcement.policies import SYSTEM, Policies
from supply_chain.execution.kubernetes.cluster import CONFIG_MAPS
from supply_chain.execution.observation import Deviation


@dataclass(frozen=True)
class Orphan:
    """The objects of one environment that the project has in no cluster, and the namespace that they judge.

    `objects` are kind and name, the binding first; those of the kind ConfigMap are in the namespace `SYSTEM`.
    """

    environment: str
    namespace: str
    objects: tuple[tuple[str, str], ...]

    @property
    def remedy(self) -> str:
        """What a person does about it."""
        names = " ".join(f"{kind.lower()}/{name}" for kind, name in self.objects)
        return f"If it was renamed, moved or removed, and nothing runs there, run: kubectl delete -n {SYSTEM} {names}"

    @property
    def change(self) -> Change:
        """What an installation leaves there, as a plan has it."""
        kind, name = self.objects[0]
        why = f"the project has no environment {self.environment} in a cluster. {self.remedy}"
        return Change(action="leave", kind=kind, name=name, why=why)


def find_orphans(
    policies: Policies, cluster: AdmissionCluster, parameters: Parameters, begin: str, environments: Collection[str]
) -> Iterator[Orphan]:
    """Yield what a supply chain left in a cluster; `environments` names those that its project has in clusters.

    Several chains may share a cluster. Those whose parameters have other repositories than `begin` are another one's,
    which alone knows its environments.
    """
    for binding in cluster.list(KINDS["ValidatingAdmissionPolicyBinding"]):
        prefix, spec = policies.name_binding(""), binding["spec"]
        environment = binding["metadata"]["name"].removeprefix(prefix)
        if spec["policyName"] != policies.policy or policies.name_binding(environment) != binding["metadata"]["name"]:
            continue
        name = (spec.get("paramRef") or {}).get("name", "")
        stored = parameters.read(name) if name else None
        if environment in environments or (stored and stored[0].repositories not in ("", begin)):
            continue
        selector = (spec.get("matchResources") or {}).get("namespaceSelector") or {}
        namespace = (selector.get("matchLabels") or {}).get("kubernetes.io/metadata.name", "every namespace")
        objects = (
            *find_left(policies.list_environment_objects(environment), cluster),
            *_config_map(name if stored else ""),
        )
        yield Orphan(environment, namespace, objects)


def _config_map(name: str) -> tuple[tuple[str, str], ...]:
    return ((CONFIG_MAPS.name, name),) if name else ()


def describe_orphan(orphan: Orphan, namespace: str) -> Deviation:
    """Return the deviation, as an environment with a namespace reports it."""
    deviation = Deviation(
        code=ORPHANED,
        fact=f"policies of {orphan.environment}, which the project has in no cluster, apply to {orphan.namespace}",
        remedy=orphan.remedy,
    )
    refuses_ours = orphan.namespace == namespace  # whatever is not in its parameters, which nobody publishes
    return deviation.model_copy(update={"code": "enforcement.left"}) if refuses_ours else deviation
