"""What the steps of the execution tier use."""

from __future__ import annotations

from functools import cache

from blocks.cluster import KubernetesCluster
from blocks.host import ContainerHost
from blocks.tier_ports import TierPorts
from orchestration.clock import now
from supply_chain.adapters.process.command import cancellation, defer_cancellation
from supply_chain.execution.docker import DockerTarget
from supply_chain.execution.environment import DockerEnvironment, Environment, KubernetesEnvironment
from supply_chain.execution.kubernetes.target import KubernetesTarget
from supply_chain.execution.service import DeployPorts
from supply_chain.execution.supply import DecryptingSupply, PullSupply
from supply_chain.execution.target import Target
from supply_chain.execution.verdicts import VerdictPorts, judge_published
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.reading import read_deploy_facts


class ExecutionPorts(TierPorts):
    """The dependencies of the execution tier's steps."""

    name = TierName.EXECUTION

    def deploy_facts(self, ref: ImageRef, environment: Environment) -> DeployFacts:
        """Return the facts of the deploy gate about a curated image in an environment."""
        requirements = environment.requirements(self.workbench.environment)
        return read_deploy_facts(ref, requirements, self.evidence, bases=self.list_base_images())

    def judge_published(self, ref: ImageRef, environment: Environment) -> Admitted[DeployFacts] | Refused | None:
        """Judge an image again if a verdict about it is published for an environment; return a changed verdict."""
        policy = self.workbench.policies().deploy
        ports = VerdictPorts(self.evidence, self.verdicts, self.repositories, policy, now)
        return judge_published(ref, environment.name, lambda: self.deploy_facts(ref, environment), ports)

    def deploy_ports(self, target: Target) -> DeployPorts:
        """Return the dependencies of a deployment to a target."""
        return DeployPorts(
            target=target,
            bases=self.list_base_images,
            repositories=self.repositories,
            evidence=self.evidence,
            policy=self.workbench.policies().deploy,
            now=now,
            to_its_end=defer_cancellation,
        )

    async def load_target(self, environment: DockerEnvironment | KubernetesEnvironment) -> Target:
        """Return what an environment runs on; raise `SettingInvalid` if its block is missing or invalid.

        The first call of the target connects to it.
        """
        if isinstance(environment, KubernetesEnvironment):
            cluster: KubernetesCluster = await KubernetesCluster.aload(environment.cluster)
            return KubernetesTarget(
                environment, cache(lambda: cluster.client(self.tier.session)), self.tier.registry, now,
                cancellation().wait,
            )  # fmt: skip
        host: ContainerHost = await ContainerHost.aload(environment.host)
        return DockerTarget(
            environment=environment,
            connect=host.engine,
            plain=lambda engine: PullSupply(engine, self.tier.registry, self.repositories.credentials),
            confidential=lambda engine: DecryptingSupply(engine, self.evidence, self.tier.kms, self.skopeo),
            released=lambda name: self.bases.curated(name)[1].digest,
            registry=self.tier.registry,
            now=now,
            wait=cancellation().wait,
        )
