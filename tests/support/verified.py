"""Namespaces of a real cluster in which Kyverno verifies the verdicts of a real registry."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, ClassVar
from uuid import uuid4

from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.errors import ClusterRefused
from supply_chain.evidence.published import PublishedVerdicts, locate_verdict, name_in_registry
from supply_chain.evidence.statement import SUMMARY
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import make_summary
from supply_chain.execution.enforcement.installation import KINDS, install
from supply_chain.execution.enforcement.policies import EnforcedNamespace, Mode, Policies
from supply_chain.execution.enforcement.verification import POLICY_KIND, Verification
from supply_chain.execution.kubernetes.cluster import PODS, SERVICE_ACCOUNTS, Document
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName, name_curated_repository
from tests.support.admission import pod, wait_until
from tests.support.emulator import Emulator
from tests.support.kyverno import Kyverno
from tests.support.signer import EcdsaSigner

APPLICATIONS = ("hello", "shop", "team/tool")
REASON = {"code": "image.blocked", "fact": "ann blocked it", "remedy": "unblock it"}
MAX_AGE = timedelta(days=30)


def clock() -> datetime:
    return datetime.now(UTC)


@dataclass
class Verdicts:
    """Images in a registry, and verdicts about them that a key of its own signed."""

    registry: Emulator
    environment: str = field(default_factory=lambda: f"env-{uuid4().hex[:8]}")
    signer: EcdsaSigner = field(default_factory=EcdsaSigner)

    @property
    def ecr(self) -> Ecr:
        return Ecr(self.registry.client("ecr"), self.registry.host)

    def store(self, signer: EcdsaSigner | None = None) -> EvidenceStore:
        """Return the published verdicts as the execution tier sees them; it signs with this key or its own."""
        registry = Registry(RegistryHttp(self.registry.host, self.ecr.credentials, insecure=True))
        trusted = {TierName.EXECUTION: self.signer.public, TierName.CURATION: EcdsaSigner().public}
        return EvidenceStore(TierName.EXECUTION, registry, signer or self.signer, trusted, clock)

    def push(self, application: str) -> ImageRef:
        """Push a new image of an application."""
        repository = name_curated_repository(application)
        self.ecr.ensure_repository(repository, immutable=False, key=None)
        done = self.registry.push(self.registry.login(), f"{repository}:{uuid4().hex[:8]}")
        assert done.returncode == 0, done.stderr
        return ImageRef(repository=repository, digest=done.stdout.strip().partition("@")[2])

    def image(self, ref: ImageRef) -> str:
        """Return how a pod names an image."""
        return f"{self.registry.host}/{ref}"

    def predicate(self, ref: ImageRef, **about: Any) -> dict[str, Any]:
        """Return a verdict about an image as it is published."""
        return name_in_registry(self._judge(ref, **about), self.registry.host)

    def _judge(
        self,
        ref: ImageRef,
        *,
        gate: Gate = Gate.DEPLOY,
        passed: bool = True,
        at: datetime | None = None,
        environment: str = "",
        expires: datetime | None = None,
    ) -> dict[str, Any]:
        return make_summary(
            ref, gate, "sha256:" + "9" * 64, reasons=[] if passed else [REASON], notes=(), inputs=(),
            now=at or clock(), environment=environment or self.environment, expires=expires,
        ).predicate()  # fmt: skip

    def publish(self, ref: ImageRef, **about: Any) -> None:
        """Publish a verdict as the execution tier does."""
        PublishedVerdicts(self.store(), self.ecr).prepare(ref, self._judge(ref, **about), clock())()

    def attach(
        self, place: ImageRef, predicate: dict[str, Any], *, signer: EcdsaSigner | None = None, kind: str = SUMMARY
    ) -> None:
        """Attach a statement about an image beside or instead of the verdict in this place."""
        self.attach_signed(place, self.store(signer).sign(place, kind, predicate), kind)

    def attach_signed(self, place: ImageRef, bundle: bytes, kind: str = SUMMARY) -> None:
        """Attach what was signed about any image in this place."""
        self.ecr.ensure_repository(place.repository, immutable=False, key=None)
        self.store().attach_signed(place, kind, bundle, clock())

    def place_of(self, ref: ImageRef, environment: str = "") -> ImageRef:
        """Return where the verdict about an image is."""
        return locate_verdict(ref, Gate.DEPLOY, environment or self.environment)


@dataclass
class Controlled(ABC):
    """A namespace of a real cluster in which one control alone decides."""

    admin: ClusterClient
    place: EnforcedNamespace
    policies: Policies
    verdicts: Verdicts
    lag: ClassVar[float]
    """Seconds until the control knows a published verdict."""

    @property
    @abstractmethod
    def refuser(self) -> str:
        """What each of its refusals names."""

    @abstractmethod
    def follow(self) -> None:
        """Let the control learn of the published verdicts."""

    def refusal(self, image: str, **spec: Any) -> str:
        """Return why a pod with an image is refused; empty if it is admitted."""
        document = pod(image, **spec)
        document["metadata"]["namespace"] = self.place.namespace
        try:
            self.admin.create(PODS, document, dry_run=True)
        except ClusterRefused as error:
            return str(error)
        return ""

    def wait_for(self, image: str, *, refused: bool = False) -> None:
        """Wait until a pod with an image is admitted, or refused."""
        self.follow()
        wait_until(lambda: bool(self.refusal(image)) is refused, self.lag)

    @contextmanager
    def waiting_pod(self, image: str) -> Iterator[str]:
        """Yield the name of a pod with an image that no node gets; remove it afterwards."""
        document = pod(image)
        name, namespace = document["metadata"]["name"], self.place.namespace
        self.admin.create(PODS, {**document, "metadata": {"name": name, "namespace": namespace}})
        try:
            yield name
        finally:
            self.admin.delete(PODS, name, namespace)


class Verified(Controlled):
    """A namespace with the policy of Kyverno alone."""

    lag = 0.0

    def follow(self) -> None:
        """Kyverno reads each verdict when it needs it."""

    @property
    def objects(self) -> tuple[Document, ...]:
        """The generated objects without those of the other controls."""
        namespace, *others = (
            each for each in self.policies.list_namespace_objects(self.place)
            if each["kind"] in (POLICY_KIND, "Namespace") or "exceptions" in each["metadata"]["name"]
        )  # fmt: skip
        return {**namespace, "metadata": {"name": self.place.namespace}}, *others

    @property
    def refuser(self) -> str:
        return (
            f"ivpol.validate.kyverno.svc-fail-finegrained-{self.policies.name_verifying_policy(self.place.environment)}"
        )


@contextmanager
def verified(
    admin: ClusterClient, verdicts: Verdicts, kyverno: Kyverno, mode: Mode = Mode.DENY, secret: str = "registry"
) -> Iterator[Verified]:
    """Yield a namespace in which Kyverno verifies verdicts; remove it afterwards."""
    name = f"verified-{uuid4().hex[:8]}"
    verification = Verification(
        verdicts.registry.host, (verdicts.signer.public,), APPLICATIONS, MAX_AGE, secret, insecure=True
    )
    place = EnforcedNamespace(verdicts.environment, name, mode, parameters="none", verification=verification)
    made = Verified(admin, place, Policies(f"test-{uuid4().hex[:8]}"), verdicts)
    try:
        install(made.objects, admin)
        wait_until(lambda: admin.read(SERVICE_ACCOUNTS, "default", name))
        kyverno.wait_for(made.policies.name_verifying_policy(place.environment))
        yield made
    finally:
        for document in reversed(made.objects):
            admin.delete(KINDS[document["kind"]], document["metadata"]["name"])
