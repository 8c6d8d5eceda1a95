"""What the steps of the execution tier use."""

from __future__ import annotations

from blocks.host import ContainerHost
from blocks.tier_ports import TierPorts
from orchestration.clock import now
from supply_chain.adapters.process.command import cancellation, defer_cancellation
from supply_chain.execution.break_glass import find_overridable
from supply_chain.execution.environment import Environment
from supply_chain.execution.service import PROXY, DeployPorts
from supply_chain.execution.supply import DecryptingSupply, PullSupply, remove_unneeded
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.reading import read_deploy_facts
from supply_chain.policy.rejudge import VerdictPorts, judge_published, renew_published


class ExecutionPorts(TierPorts):
    """The dependencies of the execution tier's steps."""

    name = TierName.EXECUTION

    def deploy_facts(self, ref: ImageRef, environment: Environment) -> DeployFacts:
        """Return the facts of the deploy gate about a curated image in an environment.

        Raise `PolicyUnsigned` if what the environment requires is not active.
        """
        requirements = self.workbench.active_requirements(environment)
        return read_deploy_facts(ref, requirements, self.evidence, bases=self.list_base_images())

    def find_overridable(self, ref: ImageRef, environment: Environment) -> tuple[str, ...] | Refused:
        """Return the codes that a new break-glass has to override; raise as the function."""
        return find_overridable(self.deploy_facts(ref, environment), self.workbench.policies().deploy, now())

    def judge_published(self, ref: ImageRef, environment: Environment) -> Admitted[DeployFacts] | Refused | None:
        """Judge an image again if a verdict about it is published for an environment; return a changed verdict."""
        return judge_published(ref, environment.name, lambda: self.deploy_facts(ref, environment), self._verdict_ports)

    def renew_published(self, ref: ImageRef, environment: Environment) -> Admitted[DeployFacts] | Refused | None:
        """Judge an image again if its published admission for an environment ends soon; return the verdict then."""
        return renew_published(ref, environment.name, lambda: self.deploy_facts(ref, environment), self._verdict_ports)

    @property
    def _verdict_ports(self) -> VerdictPorts[DeployFacts]:
        policy = self.workbench.policies().deploy
        return VerdictPorts(self.evidence, self.verdicts, self.repositories, policy, now)

    def deploy_ports(self, host: ContainerHost) -> DeployPorts:
        """Return the dependencies of a deployment to a host."""
        engine, bases = host.engine(), self.bases
        return DeployPorts(
            engine=engine,
            plain=PullSupply(engine, self.tier.registry, self.repositories.credentials),
            confidential=DecryptingSupply(engine, self.evidence, self.tier.kms, self.skopeo),
            released=lambda name: bases.curated(name)[1].digest,
            bases=self.list_base_images,
            repositories=self.repositories,
            evidence=self.evidence,
            policy=self.workbench.policies().deploy,
            now=now,
            wait=cancellation().wait,
            to_its_end=defer_cancellation,
        )

    def remove_replaced(self, ref: ImageRef, host: ContainerHost) -> None:
        """Remove from the engine the images of earlier deployments that nothing there needs any more."""
        remove_unneeded(host.engine, self.tier.registry, (ref.repository, PROXY))
