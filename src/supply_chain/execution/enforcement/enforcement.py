"""The enforcement of the admission to one environment: planned, installed, observed, and led by its verdicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from time import sleep

from supply_chain.errors import SettingInvalid
from supply_chain.execution.enforcement.admitted import AdmissionPorts, publish_all, publish_image, read_admitted
from supply_chain.execution.enforcement.installation import (
    KINDS,
    AdmissionCluster,
    Change,
    EnforcementStatus,
    compare_exceptions,
    compare_installed,
    compare_left,
    find_unsigned,
    install,
    read_status,
    remove,
    require_kyverno,
    require_no_exceptions,
)
from supply_chain.execution.enforcement.orphans import Orphan, describe_orphan, find_orphans
from supply_chain.execution.enforcement.policies import (
    PARAMETERS,
    SYSTEM,
    EnforcedNamespace,
    Mode,
    Policies,
    is_parameters_name,
    make_parameters_name,
)
from supply_chain.execution.enforcement.trial import find_ineffective
from supply_chain.execution.kubernetes.cluster import CONFIG_MAPS, Document
from supply_chain.execution.observation import Deviation
from supply_chain.model.container import Wait
from supply_chain.model.image import ImageRef
from supply_chain.policy.activation import PolicyState, require_active


@dataclass(frozen=True)
class Enforcement:
    """The enforcement of one environment.

    `roles` are RBAC documents, which a cluster needs once. `state` says whether the environment is active. Without
    that, whoever changed the file would choose the mode, cluster and namespace. `environments` names the project's
    environments in clusters.
    """

    place: EnforcedNamespace
    connect: Callable[[], AdmissionCluster]
    ports: AdmissionPorts
    roles: tuple[Document, ...]
    state: PolicyState
    environments: frozenset[str]
    policies: Policies = field(default_factory=Policies)
    wait: Wait = sleep

    def plan(self) -> tuple[Change, ...]:
        """Return what `apply` would change; the API server checks it and stores nothing.

        What is of environments that the project has in no cluster is named too: `apply` leaves it, because nobody but a
        person knows whether something still runs there.
        """
        cluster = self._connect()
        place = self._place(cluster)
        changes = install(self._objects(place), cluster, dry_run=True)
        changes += remove(self.policies.list_other_settings_objects(place), cluster, dry_run=True)
        changes += tuple(map(_remove_parameters, self._find_left(place, cluster)))
        return changes + tuple(each.change for each in self._find_orphans(cluster))

    def apply(self) -> tuple[Change, ...]:
        """Install what is missing or differs, remove what is of other settings, and return the changes.

        The parameters come before the bindings, so that a first installation does not refuse what is admitted. They are
        read again after new bindings: a verdict that changed meanwhile followed the earlier parameters. Raise
        `PolicyUnsigned` if the environment is not active.
        """
        name = self.place.environment
        require_active(self.state, f"The environment {name} is not active, so nothing is installed in its cluster")
        cluster = self._connect()
        if self.place.verification:
            require_no_exceptions(self.policies.prefix, cluster)
        place = self._place(cluster)
        namespace, *bindings = self.policies.list_namespace_objects(place)
        changes = install((*self.roles, *self.policies.list_cluster_objects(), namespace), cluster)
        publish_all(place, self.ports)
        if bound := install(bindings, cluster):
            publish_all(place, self.ports)
        changes += bound
        changes += remove(self.policies.list_other_settings_objects(place), cluster)
        return changes + self._remove_left(place, cluster)

    def status(self) -> EnforcementStatus:
        """Compare the cluster with what was generated, and its parameters with the verdicts.

        In an environment that is not active, this may be another cluster or namespace than that of the installation.
        """
        cluster = self.connect()
        place = replace(self.place, parameters=self._find_parameters(cluster))
        stored = self.ports.parameters.read(place.parameters) if place.parameters else None
        admits = read_admitted(place, self.ports)
        verifying = self.policies.name_verifying_policy(place.environment) if place.verification else ""
        status = read_status(place, self._objects(place), admits, stored[0] if stored else None, cluster, verifying)
        deviations = (
            *find_unsigned(place, self.state),
            *status.deviations,
            *(compare_exceptions(self.policies.prefix, verifying, cluster) if verifying else ()),
            *compare_left(self.policies.list_other_settings_objects(place), cluster),
            *self._find_ineffective(place, cluster),
            *(describe_orphan(each, place.namespace) for each in self._find_orphans(cluster)),
        )
        return status.model_copy(update={"deviations": deviations})

    def follow(self, ref: ImageRef) -> None:
        """Admit an image or no longer, by its current verdict, where it is installed.

        Raise `SettingInvalid` if that is nowhere, or after that if it is for another namespace.
        """
        if not self.follow_installed(ref):
            raise SettingInvalid(
                f"The admission to {self.place.environment} is not enforced by its cluster yet.\n"
                f"Run `cscm enforce apply {self.place.environment}`, or remove `enforcement` from the environment."
            )

    def follow_installed(self, ref: ImageRef) -> bool:
        """Do the same without an error, and return whether it is installed for the namespace of the environment."""
        name = self._find_installed(self.connect())
        if name:
            publish_image(ref, replace(self.place, parameters=name), self.ports)
        return self._is_own(name)

    def follow_all(self) -> None:
        """Admit exactly what the verdicts admit now, where it is installed for the namespace of the environment.

        Time and later deployments change that without a verdict: an admission ends, and a lapsed image is replaced. Do
        nothing while the environment is not active, because it says which verdicts may lapse.
        """
        if self.state.active and (name := self._find_parameters(self.connect())):
            publish_all(replace(self.place, parameters=name), self.ports)

    def _connect(self) -> AdmissionCluster:
        """Return the cluster; raise `SettingInvalid` if it lacks what the environment asks for."""
        cluster = self.connect()
        if self.place.verification:
            require_kyverno(cluster)
        return cluster

    def _objects(self, place: EnforcedNamespace) -> tuple[Document, ...]:
        """Return all generated objects, in the order in which they are made."""
        return (*self.roles, *self.policies.list_cluster_objects(), *self.policies.list_namespace_objects(place))

    def _place(self, cluster: AdmissionCluster) -> EnforcedNamespace:
        """Return the namespace with the name of its parameters.

        It is a new one if the policy or its binding is missing, or if the API server does not follow the parameters.
        """
        place = replace(self.place, parameters=self._find_parameters(cluster))
        is_there = place.parameters and cluster.read(KINDS["ValidatingAdmissionPolicy"], self.policies.policy)
        if is_there and not self._find_ineffective(place, cluster):
            return place
        return replace(place, parameters=make_parameters_name(place.namespace))

    def _find_ineffective(self, place: EnforcedNamespace, cluster: AdmissionCluster) -> tuple[Deviation, ...]:
        """Return a deviation if policy and binding are as generated, and the API server does not refuse by them."""
        names = (self.policies.policy, self.policies.name_binding(place.environment))
        judging = [each for each in self._objects(place) if each["metadata"]["name"] in names]
        if place.mode is not Mode.DENY or any(compare_installed(judging, cluster)):
            return ()
        return tuple(find_ineffective(place, self.ports.parameters, self.ports.begin, cluster, self.wait))

    def _remove_left(self, place: EnforcedNamespace, cluster: AdmissionCluster) -> tuple[Change, ...]:
        """Remove the parameters of earlier installations, unless the API server may still refuse by them."""
        left = self._find_left(place, cluster)
        if not left or self._find_ineffective(place, cluster):
            return ()
        for name in left:
            cluster.delete(CONFIG_MAPS, name, SYSTEM)
        return tuple(map(_remove_parameters, left))

    def _find_left(self, place: EnforcedNamespace, cluster: AdmissionCluster) -> tuple[str, ...]:
        """Return the names of the parameters of earlier installations in the namespace that no other binding names.

        A renamed environment leaves its binding, which would refuse everything without its parameters.
        """
        own, bindings = (
            self.policies.name_binding(place.environment),
            cluster.list(KINDS["ValidatingAdmissionPolicyBinding"]),
        )
        others = (each for each in bindings if each["metadata"]["name"] != own)
        needed = {place.parameters, *((each["spec"].get("paramRef") or {}).get("name") for each in others)}
        names = (each["metadata"]["name"] for each in cluster.list(CONFIG_MAPS, SYSTEM))
        return tuple(name for name in names if is_parameters_name(name, place.namespace) and name not in needed)

    def _find_orphans(self, cluster: AdmissionCluster) -> Iterator[Orphan]:
        """Yield what the cluster has of environments that the project does not have."""
        return find_orphans(self.policies, cluster, self.ports.parameters, self.ports.begin, self.environments)

    def _find_parameters(self, cluster: AdmissionCluster) -> str:
        """Return the name of the parameters that the binding names; empty if there are none for the namespace."""
        name = self._find_installed(cluster)
        return name if self._is_own(name) else ""

    def _is_own(self, parameters: str) -> bool:
        return parameters.startswith(f"{PARAMETERS}{self.place.namespace}-")

    def _find_installed(self, cluster: AdmissionCluster) -> str:
        """Return the name of the parameters that the binding names, of any namespace; empty if there are none."""
        name = self.policies.name_binding(self.place.environment)
        binding = cluster.read(KINDS["ValidatingAdmissionPolicyBinding"], name) or {}
        parameters = str(binding.get("spec", {}).get("paramRef", {}).get("name", ""))
        return parameters if parameters.startswith(PARAMETERS) else ""


def _remove_parameters(name: str) -> Change:
    return Change(action="remove", kind=CONFIG_MAPS.name, name=f"{SYSTEM}/{name}")
