"""Deployments: what should run in an environment, and how it got there, as deployment records have it."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from supply_chain.model.container import Profile
from supply_chain.model.declaration import Probe, Runtime
from supply_chain.model.image import Digest, ImageRef, Model, Provable
from supply_chain.model.tier import name_curated_repository
from supply_chain.policy.outcome import UsedBreakGlass


class Place(Model):
    """Where a deployment runs."""

    model_config = ConfigDict(extra="ignore")  # records are read again, and another version may have signed more


class DockerPlace(Place):
    """A container on a container host, behind its reverse proxy."""

    target: Literal["docker"] = "docker"
    reverse_proxy: str = Field(description="the reverse proxy's container id")
    proxy: Digest = Field(description="the reverse proxy's image")
    address: str
    port: int

    def __str__(self) -> str:
        return f"a container host, at {self.address}:{self.port}"


class GitRevision(Model):
    """The commit that brought a digest into an environment's repository."""

    model_config = ConfigDict(extra="ignore")  # as in `Place`

    repository: str = Field(description="its address")
    branch: str
    path: str = Field(description="the file with the digest")
    commit: str = Field(description="the commit's id; of the branch's head, if the digest was there already")
    runtime: Runtime | None = Field(default=None, description="the declaration that holds for what is applied")


class KubernetesPlace(Place):
    """A Deployment in a namespace of a cluster."""

    target: Literal["kubernetes"] = "kubernetes"
    cluster: str = Field(description="the cluster block")
    namespace: str
    documents: tuple[dict[str, Any], ...] = Field(description="the objects that the chain applied; none: git has them")
    git: GitRevision | None = Field(default=None, description="what a controller applies; null: nothing")

    def __str__(self) -> str:
        return f"{self.cluster}/{self.namespace}"


class Expected(Model):
    """What runs for an application in an environment if all is well."""

    environment: str
    application: str
    digest: Digest = Field(description="the signed image")
    container: str = Field(description="the container's id; in a cluster, that of the ReplicaSet")
    name: str = Field(description="of the container, or of the Deployment")
    place: Annotated[DockerPlace | KubernetesPlace, Field(discriminator="target")]
    probe: Probe
    settings: dict[str, str] = Field(description="the declared settings, overridden by the environment's")
    profile: Profile
    configuration: Digest = Field(description="of settings and profile")
    break_glass: UsedBreakGlass | None = Field(
        default=None, description="what overrides the deploy gate's refusal; null: the gate admitted it"
    )

    @property
    def url(self) -> str:
        """The URL at which the application is probed; in a cluster, only its pods reach it."""
        place = self.place
        if isinstance(place, KubernetesPlace):
            return f"http://{self.name}.{place.namespace}.svc:{self.probe.port}{self.probe.path}"
        host = f"[{place.address}]" if ":" in place.address else place.address
        return f"http://{host}:{place.port}{self.probe.path}"

    @property
    def workload(self) -> str:
        """Its kind and name with cluster and namespace; empty on a container host."""
        return f"Deployment/{self.name} in {self.place}" if isinstance(self.place, KubernetesPlace) else ""

    @property
    def proxy(self) -> Digest | None:
        """The image of its reverse proxy; None if it has none."""
        return self.place.proxy if isinstance(self.place, DockerPlace) else None

    @property
    def reverse_proxy(self) -> str:
        """The id of its reverse proxy's container; empty if it has none."""
        return self.place.reverse_proxy if isinstance(self.place, DockerPlace) else ""


def read_deployed_image(expected: Expected) -> ImageRef:
    """Return the image of a deployment."""
    return ImageRef(repository=name_curated_repository(expected.application), digest=expected.digest)


def read_docker_place(expected: Expected) -> DockerPlace:
    """Return where a deployment to a container host runs."""
    assert isinstance(expected.place, DockerPlace)  # a container host is given only its own deployments
    return expected.place


def read_kubernetes_place(expected: Expected) -> KubernetesPlace:
    """Return where a deployment to a cluster runs."""
    assert isinstance(expected.place, KubernetesPlace)  # a cluster is given only its own deployments
    return expected.place


class Deployed(Expected):
    """What runs after a deployment, and how the change went."""

    model_config = ConfigDict(extra="ignore")  # as in `Place`

    changed: bool = Field(description="false if it already ran and was healthy")
    previous: str | None = Field(default=None, description="name of the replaced container")
    previous_digest: Digest | None = None
    ready_seconds: float | None = Field(default=None, description="from its start until it was ready")
    gap_seconds: float | None = Field(
        default=None, description="the longest time without an answer, if it was measured"
    )
    requests: int = Field(default=0, description="requests during the switch")
    failed_requests: int = 0
    reverse_proxy_replaced: bool = Field(default=False, description="whether the reverse proxy was replaced")
    started_at: datetime

    @property
    def expected(self) -> Expected:
        """What should run from then on."""
        return Expected.model_validate(self.model_dump(include=set(Expected.model_fields)))


class Deployment(Deployed, Provable):
    """The result of a deployment."""
