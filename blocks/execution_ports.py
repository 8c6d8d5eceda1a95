"""What the steps of the execution tier use."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache, cached_property, partial
from pathlib import Path
from typing import Self

from blocks.cluster import KubernetesCluster
from blocks.git import GitRepository
from blocks.host import ContainerHost
from blocks.tier_ports import TierPorts
from blocks.workbench import Workbench
from orchestration.clock import read_clock
from orchestration.steps import make_run_mark
from supply_chain.adapters.aws.kms import Kms
from supply_chain.adapters.aws.session import make_user_client
from supply_chain.adapters.kubernetes.client import ClusterClient
from supply_chain.adapters.kubernetes.parameters import ClusterParameters
from supply_chain.adapters.process.cancellation import defer_cancellation, sleep
from supply_chain.adapters.tools.manifest_renderer import ManifestRenderer
from supply_chain.errors import UNREADABLE, BaseMissing, ClusterRefused, SettingInvalid
from supply_chain.evidence.published import CurrentVerdict, list_published_environments
from supply_chain.evidence.store import EvidenceStore
from supply_chain.execution.break_glass import find_overridable
from supply_chain.execution.delivery.repository import FetchedBranches
from supply_chain.execution.delivery.target import GitTarget
from supply_chain.execution.deployment import Expected, read_deployed_image
from supply_chain.execution.docker import DockerTarget
from supply_chain.execution.enforcement.admitted import AdmissionPorts
from supply_chain.execution.enforcement.enforcement import Enforcement
from supply_chain.execution.enforcement.installation import read_objects
from supply_chain.execution.enforcement.policies import EnforcedNamespace, Mode
from supply_chain.execution.enforcement.publisher import EnforcedPublisher
from supply_chain.execution.enforcement.verification import Verification, split_pem_keys
from supply_chain.execution.environment import DockerEnvironment, Environment, KubernetesEnvironment
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.execution.isolation.record import IsolationRecord
from supply_chain.execution.isolation.sequence import IsolationPorts, list_deployed
from supply_chain.execution.kubernetes.isolator import KubernetesIsolator
from supply_chain.execution.kubernetes.same_content import has_same_content
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.execution.records import read_expected, read_history, read_isolations
from supply_chain.execution.service import DeployPorts, take_into_service
from supply_chain.execution.supply import DecryptingSupply, PullSupply
from supply_chain.execution.target import Target
from supply_chain.model.image import ImageRef, digest_of
from supply_chain.model.tier import Gate, TierName
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.reading import read_deploy_facts
from supply_chain.policy.rejudge import (
    UNDECIDED,
    VerdictPorts,
    judge_published,
    read_published,
    refuse_blocked,
    renew_published,
)
from supply_chain.policy.verdict import decide
from supply_chain.text import summarize_error

ROLES = Path("deployments/kubernetes/rbac")
"""The directory of the RBAC documents that enforcement needs in a cluster, in the project."""


@dataclass(frozen=True, eq=False)
class ExecutionPorts(TierPorts):
    """The dependencies of the execution tier's steps.

    `clusters` are the blocks of those of environments, or why a block cannot be loaded.
    """

    name = TierName.EXECUTION
    clusters: Mapping[str, KubernetesCluster | SettingInvalid] = field(default_factory=dict)

    @classmethod
    async def aload(cls) -> Self:
        """Load the blocks; raise `SettingInvalid` if one does not exist or is invalid.

        That of a cluster is raised only by what needs the cluster: other environments do not depend on it.
        """
        tier, workbench = await cls._load()
        clusters: dict[str, KubernetesCluster | SettingInvalid] = {}
        for name in sorted({each.cluster for each in _in_clusters(workbench)}):
            try:
                clusters[name] = await KubernetesCluster.aload(name)
            except SettingInvalid as error:
                clusters[name] = error
        return cls(tier, workbench, clusters)

    @cached_property
    def evidence(self) -> EvidenceStore:
        """The evidence as the tier sees it. What the deploy gate publishes, clusters learn too."""
        store: EvidenceStore = super().evidence
        if not self.clusters or store.publisher is None:
            return store
        return replace(store, publisher=EnforcedPublisher(store.publisher, self.follow_verdict))

    @cached_property
    def enforcements(self) -> Mapping[str, Enforcement]:
        """What enforces the admission of images to each environment with `enforcement`, by its name."""
        return {each.name: self._enforcement(each) for each in _in_clusters(self.workbench) if each.enforcement}

    def enforcement(self, environment: str) -> Enforcement:
        """Return what enforces the admission of images to an environment.

        Raise `SettingInvalid` if nothing does, or as `Workbench.valid_environment`.
        """
        self.workbench.valid_environment(environment)
        if environment not in self.enforcements:
            raise SettingInvalid(
                f"{environment} has no `enforcement`.\n"
                f"Add it to deployments/environments/{environment}.yaml, which needs `target: kubernetes`."
            )
        return self.enforcements[environment]

    def follow_verdict(self, ref: ImageRef, environment: str) -> None:
        """Let the cluster of an environment admit an image or no longer, by its current verdict.

        Without `enforcement`, what was installed before follows: the cluster goes on to admit by it.
        """
        if environment in self.enforcements:
            self.enforcements[environment].follow(ref)
            return
        for each in _in_clusters(self.workbench):
            if each.name == environment:
                with suppress(ClusterRefused):  # whoever may not read it has not installed anything
                    self._enforcement(each).follow_installed(ref)

    def _enforcement(self, environment: KubernetesEnvironment) -> Enforcement:
        settings, state = environment.enforcement, self.workbench.environment_state(environment)
        tolerated = settings.tolerated_refusals if settings and state.active else ()  # else unsigned
        collector = environment.response.collector
        connect = cache(partial(self._connect, environment.cluster))
        return Enforcement(
            place=EnforcedNamespace(
                environment.name, environment.namespace, settings.mode if settings else Mode.DENY, frozenset(tolerated),
                verification=self._verification(environment),
                collector=collector.image if collector and state.active else "",
            ),
            connect=connect,
            ports=AdmissionPorts(
                self.tier.registry, self.cached_verdicts, self.repositories, self._list_deployed,
                ClusterParameters(connect), self._find_admitted_collector,
            ),
            roles=read_objects(Path(self.workbench.project) / ROLES),
            state=state,
            environments=_names_in_clusters(self.workbench),
            wait=sleep,
        )  # fmt: skip

    def _find_collector(self, image: str) -> str:
        """Return a collector as pods name it; raise `BaseMissing` if it is not released, or blocked."""
        return self.bases.find_released(image)[0]

    def _find_admitted_collector(self, image: str) -> str:
        """Return a collector as pods name it; empty if it may not be used, or if nobody can know that."""
        try:
            return self._find_collector(image)
        except (*UNREADABLE, BaseMissing):
            return ""

    def _verification(self, environment: KubernetesEnvironment) -> Verification | None:
        """Return what Kyverno needs to verify the verdicts of an environment; None if it does not."""
        settings = environment.enforcement.kyverno if environment.enforcement else None
        if settings is None:
            return None
        return Verification(
            registry=self.tier.registry,
            keys=split_pem_keys(self.tier.trusted_verdict_key(TierName.EXECUTION), TierName.EXECUTION),
            applications=tuple(sorted(environment.applications)),
            max_age=timedelta(days=settings.max_days),
            secret=settings.secret or "",
            insecure=self.tier.insecure_registry,
        )

    @cached_property
    def cached_verdicts(self) -> EvidenceStore:
        """The published verdicts: every look reads those of all images, and downloads each once."""
        return replace(self.verdicts, referrers=replace(self.registry, memory=self.workbench.content_cache))

    def _connect(self, name: str) -> ClusterClient:
        cluster = self.clusters[name]
        if isinstance(cluster, SettingInvalid):
            raise cluster
        return cluster.client(self.tier.session)

    def _list_deployed(self, environment: str) -> frozenset[ImageRef]:
        """Return the images that should run in an environment."""
        expected = read_expected([environment], self.repositories, self.registry, self.evidence)
        return frozenset(map(read_deployed_image, expected))

    def deploy_facts(self, ref: ImageRef, environment: Environment) -> DeployFacts:
        """Return the facts of the deploy gate about a curated image in an environment.

        Raise `PolicyUnsigned` if what the environment requires is not active.
        """
        requirements = self.workbench.active_requirements(environment)
        return read_deploy_facts(
            ref,
            requirements,
            self.evidence,
            bases=self.list_base_images(),
            minimum_classification=self.workbench.minimum_classification(ref.application),
        )

    def find_overridable(self, ref: ImageRef, environment: Environment) -> tuple[str, ...] | Refused:
        """Return what a new break-glass has to override; raise as the function."""
        return find_overridable(self.deploy_facts(ref, environment), self.workbench.policies().deploy, read_clock())

    def judge_published(
        self, ref: ImageRef, environment: Environment, current: CurrentVerdict | None = None
    ) -> Admitted[DeployFacts] | Refused | None:
        """Judge an image again if a verdict about it is published for an environment; return a changed verdict.

        `current` is what is published; None: it is read. If nothing is published again, the cluster follows what is:
        an earlier run may not have reached it.
        """
        read = partial(self.deploy_facts, ref, environment)
        try:
            verdict = judge_published(ref, environment.name, read, self._verdict_ports, current)
        except UNDECIDED:
            self.follow_verdict(ref, environment.name)
            raise
        if verdict is None:
            self.follow_verdict(ref, environment.name)
        return verdict

    def read_published(self, ref: ImageRef, environment: str) -> CurrentVerdict | None:
        """Return the published verdict for an environment, also one that has ended; None if there is none."""
        return read_published(ref, environment, self._verdict_ports)

    def renew_published(
        self, ref: ImageRef, environment: Environment, current: CurrentVerdict | None = None
    ) -> Admitted[DeployFacts] | Refused | None:
        """Judge an image again if its published admission for an environment ends soon; return the verdict then.

        `current` is what is published; None: it is read. The flow lets clusters follow what is not published again.
        """
        read = partial(self.deploy_facts, ref, environment)
        max_age = self._max_age(environment.name)
        return renew_published(ref, environment.name, read, self._verdict_ports, max_age, current)

    def list_undescribed(self, ref: ImageRef) -> Mapping[str, str]:
        """Return the environments with published verdicts about an application that no document describes now, and why.

        Nobody can deploy there, and what was published would go on to admit the image.
        """
        documents = self.workbench.environment_documents()
        described = {each.name for each in documents.readable}
        published = list_published_environments(ref.application, self.repositories)
        unreadable = {name: summarize_error(error) for name, error in documents.unreadable.items()}
        return {
            name: unreadable.get(name, "the environment was removed") for name in published if name not in described
        }

    def refuse_blocked(self, ref: ImageRef, environment: str, why: str) -> Refused | None:
        """Publish the refusal of a blocked image for an environment in which the gate does not decide; return it."""
        return refuse_blocked(ref, environment, self._verdict_ports, why)

    def decision_version(self) -> str:
        """Return a text that differs if other policies, decisions of people or environments decide at the gate."""
        environments = [each.signed_content for each in self.workbench.environment_documents().readable]
        classifications = f"{self.workbench.unsigned_names().classifications}"
        policies = self.workbench.unsigned_policies().deploy.version
        return digest_of(b"\n".join([policies.encode(), classifications.encode(), *environments]))

    def _max_age(self, environment: str) -> timedelta | None:
        """Return the age from which a verdict does not count any more in an environment."""
        enforced = self.enforcements.get(environment)
        verification = enforced.place.verification if enforced else None
        return verification.max_age if verification else None

    @property
    def _verdict_ports(self) -> VerdictPorts[DeployFacts]:
        return self.verdict_ports(Gate.DEPLOY, lambda: self.workbench.policies().deploy)

    def deploy_ports(self, target: Target) -> DeployPorts:
        """Return the dependencies of a deployment to a target."""
        return DeployPorts(
            target=target,
            bases=self.list_base_images,
            minimum_classification=self.workbench.minimum_classification,
            repositories=self.repositories,
            evidence=self.evidence,
            policy=self.workbench.policies().deploy,
            now=read_clock,
            to_its_end=defer_cancellation,
            max_age=self._max_age,
        )

    async def load_isolation(self, name: str) -> tuple[KubernetesEnvironment, IsolationPorts]:
        """Return an environment in a cluster, and what isolates its applications.

        Raise `SettingInvalid` if the environment is on a container host or delivered by git, or if its block is missing
        or invalid.
        """
        environment = self.workbench.environment(name)
        if not isinstance(environment, KubernetesEnvironment):
            raise SettingInvalid(
                f"{name} is on a container host, and only what runs in a cluster can be isolated.\n"
                "Stop it there: `docker network disconnect` its containers, keep them for the investigation, and "
                "deploy another image."
            )
        if environment.delivery:
            raise SettingInvalid(
                f"{name} is delivered by git, whose controller undoes an isolation.\n"
                "Suspend that controller, deny its pods traffic, and keep them for the investigation."
            )
        cluster: KubernetesCluster = await KubernetesCluster.aload(environment.cluster)
        connect, target = cache(lambda: cluster.client(self.tier.session)), await self.load_target(environment)
        return environment, IsolationPorts(
            isolator=KubernetesIsolator(environment, connect, read_clock, sleep, self._find_collector),
            evidence=self.evidence,
            repositories=self.repositories,
            keys=self.tier.kms,
            key=lambda: self.tier.key("forensics_key"),
            list_isolations=partial(self._list_isolations, name),
            find_deployed=partial(self._find_deployed, name),
            list_earlier=partial(self._list_earlier, name),
            judge=partial(self._judge, environment=environment),
            deploy=lambda admitted: take_into_service(admitted, self.deploy_ports(target), make_run_mark()),
            now=read_clock,
            run=make_run_mark(),
        )

    def load_own_kms(self) -> Kms:
        """Return KMS with the AWS credentials of whoever runs this, where the tier's keys are."""
        session = self.tier.session
        return Kms(make_user_client("kms", session.region, session.endpoint_url))

    def _list_isolations(self, environment: str, application: str) -> tuple[IsolationRecord, ...]:
        return read_isolations(environment, self.repositories, self.registry, self.evidence, application)

    def _find_deployed(self, environment: str, application: str) -> Expected | None:
        where = (self.repositories, self.registry, self.evidence)
        return next(iter(read_expected([environment], *where, application)), None)

    def _list_earlier(self, environment: str, application: str) -> tuple[ImageRef, ...]:
        history = read_history(self.repositories, self.registry, self.evidence, application)
        return list_deployed([each.value for each in history], environment)

    def _judge(self, ref: ImageRef, environment: Environment) -> Admitted[DeployFacts] | Refused:
        """Decide the deploy gate; raise `ImageNotFound` for an image that is not there."""
        self.repositories.status(ref)
        facts, policy = self.deploy_facts(ref, environment), self.workbench.policies().deploy
        return decide(facts, policy, self.repositories, self.evidence, read_clock())

    async def load_target(
        self, environment: DockerEnvironment | KubernetesEnvironment, fetched: FetchedBranches | None = None
    ) -> Target:
        """Return what an environment runs on; raise `SettingInvalid` if its block is missing or invalid.

        The first call of the target connects to it. With `fetched`, what is observed is compared with the branches
        there; targets that observe at the same time share it.
        """
        if isinstance(environment, KubernetesEnvironment):
            return await self.load_namespace(environment, fetched)
        host: ContainerHost = await ContainerHost.aload(environment.host)
        return DockerTarget(
            environment=environment,
            connect=host.engine,
            plain=lambda engine: PullSupply(engine, self.tier.registry, self.repositories.credentials),
            confidential=lambda engine: DecryptingSupply(engine, self.evidence, self.tier.kms, self.skopeo),
            released=lambda name: self.bases.find_released(name)[1].digest,
            registry=self.tier.registry,
            now=read_clock,
            wait=sleep,
        )

    async def load_namespace(
        self, environment: KubernetesEnvironment, fetched: FetchedBranches | None = None
    ) -> KubernetesTarget | GitTarget:
        """Return the namespace of an environment, as `load_target`."""
        cluster: KubernetesCluster = await KubernetesCluster.aload(environment.cluster)
        target = KubernetesTarget(
            environment, cache(lambda: cluster.client(self.tier.session)), self.tier.registry, read_clock, sleep,
            Path(self.workbench.project) / "deployments", ManifestRenderer(self.workbench.tool),
            partial(self._list_isolations, environment.name),
            lambda ref, digest: has_same_content(self.registry, ref, digest),
        )  # fmt: skip
        if environment.delivery is None:
            return target
        repository: GitRepository = await GitRepository.aload(environment.delivery.git.repository)
        branch = repository.branch(environment.delivery.git.branch)
        return GitTarget(target, branch, partial(self._find_deployed, environment.name), fetched=fetched)


def _names_in_clusters(workbench: Workbench) -> frozenset[str]:
    """Return the names of the environments in clusters, with those whose documents cannot be read."""
    documents = workbench.environment_documents()
    return frozenset([*documents.unreadable, *(each.name for each in _select_clusters(documents))])


def _in_clusters(workbench: Workbench) -> tuple[KubernetesEnvironment, ...]:
    """Return the environments in clusters, as far as their documents can be read."""
    return _select_clusters(workbench.environment_documents())


def _select_clusters(documents: EnvironmentDocuments) -> tuple[KubernetesEnvironment, ...]:
    return tuple(each for each in documents.readable if isinstance(each, KubernetesEnvironment))
