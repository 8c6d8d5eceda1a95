"""Environments: a container host or a namespace of a cluster, and how each application is reached there."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import Discriminator, Field, StringConstraints, Tag, TypeAdapter, model_validator

from supply_chain.errors import SettingInvalid
from supply_chain.execution.delivery.settings import Delivery
from supply_chain.execution.enforcement.settings import EnforcementSettings
from supply_chain.execution.isolation.settings import ResponseSettings
from supply_chain.execution.kubernetes.names import Label, ObjectName
from supply_chain.execution.nodes import ReservedNodes
from supply_chain.model.container import ENVIRONMENT, MANAGED
from supply_chain.model.declaration import Duration, Service, Variable
from supply_chain.model.image import Digest, Model
from supply_chain.policy.facts import EnvironmentRequirements, RequiredSoak

EnvironmentName = Annotated[str, StringConstraints(pattern=r"^[a-z][a-z0-9]*(?:-[a-z0-9]+)*$", max_length=32)]


class Placement(Model):
    """The configuration of an application in an environment."""

    environment: dict[Variable, str] = Field(default_factory=dict, description="environment variables, never secrets")

    def join_settings(self, declaration: Service) -> dict[str, str]:
        """Return the environment variables that an application declares, with those of the environment on top."""
        return {**declaration.runtime.environment, **self.environment}


class DockerPlacement(Placement):
    """The address of an application in an environment, and its configuration there."""

    address: Annotated[str, StringConstraints(pattern=r"^127(?:\.\d{1,3}){3}$|^::1$")] = Field(
        default="127.0.0.1", description="a loopback address of the host"
    )
    port: int = Field(ge=1024, le=65535, description="the application's stable port")


PathBelow = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)*$")]
"""A path below a directory."""


class SecretKey(Model):
    """A value in a Secret of the namespace, which somebody else makes there."""

    secret: ObjectName = Field(description="the Secret's name")
    key: Annotated[str, StringConstraints(pattern=r"^[-._a-zA-Z0-9]+$", max_length=253)] = Field(
        description="the key in it"
    )


class Autoscaling(Model):
    """How a cluster changes the number of an application's pods by their load."""

    minimum: int = Field(default=2, ge=1, le=1000, description="the fewest pods")
    maximum: int = Field(ge=1, le=1000, description="the most pods")
    cpu_percent: int = Field(default=70, ge=1, le=100, description="the load of its processors to keep")

    @model_validator(mode="after")
    def _check_range(self) -> Self:
        if self.maximum < self.minimum:
            raise ValueError(f"the maximum, {self.maximum}, is less than the minimum, {self.minimum}")
        return self


class KubernetesPlacement(Placement):
    """How many pods of an application run in a namespace, and who reaches them."""

    replicas: int = Field(default=2, ge=1, le=1000, description="the number of pods")
    autoscaling: Autoscaling | None = Field(default=None, description="in place of `replicas`; null: none")
    manifests: PathBelow | None = Field(
        default=None,
        description="a directory of manifests, a kustomization or a Helm chart below deployments/",
    )
    values: PathBelow | None = Field(default=None, description="values for the chart, below deployments/")
    secrets: dict[Variable, SecretKey] = Field(
        default_factory=dict, description="environment variable → its value in a Secret of the namespace"
    )
    reached_from: tuple[Label, ...] = Field(
        default=(), description="further namespaces that reach the port of its probe"
    )

    @model_validator(mode="after")
    def _check_variables(self) -> Self:
        if twice := sorted(set(self.environment) & set(self.secrets)):
            raise ValueError(f"{', '.join(twice)}: both a setting and a secret; write one of them")
        return self

    @model_validator(mode="after")
    def _check_number(self) -> Self:
        if self.autoscaling and "replicas" in self.model_fields_set:
            raise ValueError("both `replicas` and `autoscaling`; write one of them")
        return self

    @model_validator(mode="after")
    def _check_values(self) -> Self:
        if self.values and not self.manifests:
            raise ValueError("`values` without `manifests`; name the directory of the chart there")
        return self


class HostAgent(Model):
    """A container of the host itself, such as a node agent, that may reach the host."""

    image: Digest = Field(description="the digest of its image")
    reason: Annotated[str, StringConstraints(pattern=r"^\S[^\n]*$", max_length=300)] = Field(description="its purpose")


def name_network(environment: str) -> str:
    """Return the name of the network of an environment's applications."""
    return f"cscm-{environment}"


class Environment(Model):
    """One document of `deployments/environments/`."""

    name: EnvironmentName = Field(description="the name of the file, without .yaml")
    description: str = Field(default="", description="for people")
    soak: Duration | None = Field(
        default=None,
        description="how long an image has to be healthy here before the next environment, as 30min, 2h or 1d; null: "
        "nothing goes on from here",
    )
    after: EnvironmentName | None = Field(
        default=None,
        description="the environment in which every image has to soak first; null: none",
    )
    production: bool = Field(default=False, description="whether users reach it; its findings are reported first")
    approval: Literal["signed", "required", "none"] = Field(
        default="none",
        description="whether a person has to approve each image; required: an unsigned approval is enough; signed: "
        "with a key of their own",
    )
    approvers: int = Field(default=1, ge=1, le=10, description="with approval: signed, how many people have to approve")
    test_report: Literal["required", "optional"] = Field(
        default="optional",
        description="whether a test runner's report has to show that tests ran",
    )

    @model_validator(mode="after")
    def _check_approvers(self) -> Self:
        if self.approvers > 1 and self.approval != "signed":
            raise ValueError("only keys distinguish several approvers; write approval: signed")
        return self

    @model_validator(mode="after")
    def _check_after(self) -> Self:
        if self.after == self.name:
            raise ValueError(f"{self.name} cannot require a soak in itself")
        return self

    @property
    @abstractmethod
    def place(self) -> str:
        """Where it runs: the name of its container host, or cluster and namespace."""

    @abstractmethod
    def placement(self, application: str) -> Placement:
        """Return the configuration of `application`; raise `SettingInvalid` if it has none here."""

    @property
    def signed_content(self) -> bytes:
        """What people sign of the document: all but its description and how its applications are placed.

        What has its default value is left out, so that a later version with one key more needs no new signature.
        """
        return self.model_dump_json(exclude={"description", "applications"}, exclude_defaults=True).encode()

    @property
    def requires_approval(self) -> bool:
        """Whether a person has to approve each image for this environment."""
        return self.approval != "none"

    @property
    def signed_approvals(self) -> int:
        """How many people have to approve each image with keys of their own; 0 if an unsigned approval is enough."""
        return self.approvers if self.approval == "signed" else 0

    def requirements(self, read: Callable[[str], Environment]) -> EnvironmentRequirements:
        """Return what the deploy gate requires of an image here; `read` returns an environment by its name.

        Raises `SettingInvalid` if the environment in `after` does not exist or has no `soak`: no image could ever come
        here.
        """
        return EnvironmentRequirements(
            name=self.name,
            approval=self.requires_approval,
            signed_approvals=self.signed_approvals,
            soak=self._required_soak(read),
            test_report=self.test_report == "required",
        )

    def _required_soak(self, read: Callable[[str], Environment]) -> RequiredSoak | None:
        if self.after is None:
            return None
        seconds = read(self.after).soak
        if seconds is None:
            raise SettingInvalid(
                f"{self.name} requires a soak in {self.after}, which has no `soak`.\n"
                f"Set it, for example `soak: 1h`, in deployments/environments/{self.after}.yaml."
            )
        return RequiredSoak(self.after, seconds)


class DockerEnvironment(Environment):
    """An environment on a container host."""

    target: Literal["docker"] = Field(default="docker", description="where it runs")
    host: str = Field(default="laptop", description="the container host block")
    proxy: Digest | None = Field(default=None, description="the curated reverse proxy; null: the newest one")
    agents: tuple[HostAgent, ...] = Field(
        default=(), description="containers that may reach the host without being reported"
    )
    applications: dict[str, DockerPlacement] = Field(
        default_factory=dict, description="application → its address; no other is deployed"
    )

    @model_validator(mode="after")
    def _check_addresses(self) -> Self:
        taken: dict[tuple[str, int], str] = {}
        for name, place in self.applications.items():
            other = taken.setdefault((place.address, place.port), name)
            if other != name:
                raise ValueError(f"{other} and {name} are both at {place.address}:{place.port}")
        return self

    @property
    def place(self) -> str:
        """The name of its container host."""
        return self.host

    @property
    def network(self) -> str:
        """The network that the applications share, without access to the outside."""
        return name_network(self.name)

    @property
    def edge(self) -> str:
        """The network through which the host reaches the reverse proxies."""
        return f"cscm-{self.name}-edge"

    @property
    def labels(self) -> dict[str, str]:
        """The labels of the environment's networks."""
        return {MANAGED: "true", ENVIRONMENT: self.name}

    def placement(self, application: str) -> DockerPlacement:
        """Return the address and configuration of `application`.

        Raises `SettingInvalid` if it has none here; it needs one before it can be deployed.
        """
        return _placement(self.applications, application, self.name, "address", "a free port")


OWN_BINDINGS = ("RoleBinding/cscm-deployer", "RoleBinding/cscm-isolator")
"""The bindings of deployments/kubernetes/rbac in a namespace: each gives the role of its name to who deploys there."""


class KubernetesEnvironment(Environment):
    """An environment in a namespace of a cluster."""

    target: Literal["kubernetes"] = Field(description="where it runs")
    cluster: str = Field(description="the cluster block")
    namespace: Label = Field(description="its namespace, of no other environment")
    applications: dict[str, KubernetesPlacement] = Field(
        default_factory=dict, description="application → its pods; no other is deployed"
    )
    delivery: Delivery | None = Field(default=None, description="what delivers images; null: the chain itself")
    response: ResponseSettings = Field(default=ResponseSettings(), description="how applications are isolated")
    ignored_objects: tuple[str, ...] = Field(
        default=OWN_BINDINGS, description="objects not to report, such as Ingress/shop"
    )
    enforcement: EnforcementSettings | None = Field(
        default=None, description="how the cluster itself refuses other images; null: it refuses none"
    )
    nodes: tuple[ReservedNodes, ...] = Field(default=(), description="all that concern an application apply")

    @model_validator(mode="after")
    def _check_delivery(self) -> Self:
        if self.delivery and (placed := sorted(name for name, at in self.applications.items() if at.model_fields_set)):
            raise ValueError(f"with `delivery`, only the repository says how {', '.join(placed)} runs; write {{}}")
        if self.delivery and self.response.isolate:
            raise ValueError("with `delivery`, its controller undoes an isolation; remove `response.isolate`")
        return self

    @model_validator(mode="after")
    def _check_collector(self) -> Self:
        if self.response.collector and self.enforcement and self.enforcement.kyverno:
            raise ValueError("Kyverno admits no collector, because no verdict is about it; write one of them")
        return self

    @property
    def place(self) -> str:
        """Its cluster and namespace."""
        return f"{self.cluster}/{self.namespace}"

    def placement(self, application: str) -> KubernetesPlacement:
        """Return the configuration of `application`.

        Raises `SettingInvalid` if it has none here; it needs one before it can be deployed.
        """
        return _placement(self.applications, application, self.name, "place", "its `replicas`")


P = TypeVar("P", bound=Placement)


def _placement(applications: Mapping[str, P], application: str, environment: str, lacks: str, needs: str) -> P:
    try:
        return applications[application]
    except KeyError:
        raise SettingInvalid(
            f"{application} has no {lacks} in {environment}.\n"
            f"Add it under `applications` in deployments/environments/{environment}.yaml, with {needs}."
        ) from None


def _target_of(value: Any) -> Any:
    return value.get("target", "docker") if isinstance(value, dict) else getattr(value, "target", None)


AnyEnvironment = Annotated[
    Annotated[DockerEnvironment, Tag("docker")] | Annotated[KubernetesEnvironment, Tag("kubernetes")],
    Discriminator(_target_of),
]
ENVIRONMENT_DOCUMENT: TypeAdapter[DockerEnvironment | KubernetesEnvironment] = TypeAdapter(AnyEnvironment)
