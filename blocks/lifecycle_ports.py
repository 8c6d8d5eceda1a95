"""What the steps of the lifecycle use."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from prefect.settings import get_current_settings

from blocks.layers import layers_of
from blocks.tier_ports import TierPorts
from orchestration.clock import read_clock
from supply_chain.adapters.files.plan_journal import FileJournal
from supply_chain.fleet.gate_facts import FactsReader
from supply_chain.lifecycle.decisions import DecisionPorts
from supply_chain.lifecycle.plan import Plan
from supply_chain.lifecycle.reading import RegistryReader
from supply_chain.model.tier import TierName


class LifecyclePorts(TierPorts):
    """The dependencies of the lifecycle's steps."""

    name = TierName.LIFECYCLE

    @property
    def reader(self) -> RegistryReader:
        """The current state, as the lifecycle sees it."""
        return RegistryReader(
            self.repositories,
            self.registry,
            self.evidence,
            lambda: self.workbench.environment_documents().readable,
        )

    @property
    def decision_ports(self) -> DecisionPorts:
        """The dependencies of signing and applying a decision."""
        return DecisionPorts(self.evidence, self.repositories, self.reader)

    def facts_reader(self) -> FactsReader:
        """Return what reads the facts of the gates; content that is read by digest is cached for the next time."""
        workbench = self.workbench
        registry = replace(self.registry, memory=workbench.content_cache)
        evidence = replace(self.evidence, referrers=registry, wide=1)
        layers = layers_of(registry, evidence, workbench.content_cache)
        return FactsReader(
            evidence,
            layers,
            cache(self.list_base_images),
            cache(self.list_curated_images),
            cache(workbench.registered),
            workbench.unsigned_names().minimum_classification,
            workbench.requirements,
            workbench.people(),
            read_clock,
        )

    def journal(self, plan: Plan) -> FileJournal:
        """Return the journal of a plan, which outlives the run that applies it."""
        name = f"{plan.digest.removeprefix('sha256:')}.journal"
        return FileJournal(get_current_settings().home / "lifecycle" / name)
