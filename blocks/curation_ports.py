"""What the steps of curation use."""

from __future__ import annotations

from dataclasses import replace

from blocks.layers import layers_of
from blocks.tier_ports import TierPorts
from orchestration.clock import read_clock
from supply_chain.curation.rescan import read_base_decisions
from supply_chain.errors import ImageNotFound
from supply_chain.fleet.rescan import RescanPorts
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName, name_curated_repository, name_development_repository
from supply_chain.policy.facts import IntakeFacts, ReleaseFacts
from supply_chain.policy.outcome import Admitted, Refused
from supply_chain.policy.reading import read_intake_facts, read_release_facts
from supply_chain.policy.rejudge import judge_published
from supply_chain.vulnerability.scanner import Scanner


class CurationPorts(TierPorts):
    """The dependencies of curation's steps."""

    name = TierName.CURATION

    def intake_facts(self, ref: ImageRef) -> IntakeFacts:
        """Return the facts of the intake gate about an offered image."""
        registered, before = self.workbench.registered(ref.application), self.list_curated_images(ref.application)
        return read_intake_facts(ref, self.evidence, before, registered)

    def release_facts(self, ref: ImageRef) -> ReleaseFacts:
        """Return the facts of the release gate about a curated image."""
        minimum = self.workbench.minimum_classification(ref.application)
        return read_release_facts(ref, self.evidence, self.layers(), self.list_base_images(), minimum)

    def judge_published(self, ref: ImageRef) -> Admitted[ReleaseFacts] | Refused | None:
        """Judge an image again if a verdict of the release gate about it is published; return a changed verdict."""
        ports = self.verdict_ports(Gate.RELEASE, lambda: self.workbench.policies().release)
        return judge_published(ref, "", lambda: self.release_facts(ref), ports)

    def judge_published_intake(self, ref: ImageRef) -> Admitted[IntakeFacts] | Refused | None:
        """Judge an image again if a verdict of the intake gate about it is published; return a changed verdict."""
        ports = self.verdict_ports(Gate.INTAKE, lambda: self.workbench.policies().intake)
        offered = ref.with_repository(name_development_repository(ref.application))
        return judge_published(offered, "", lambda: self._read_offered_facts(offered), ports)

    def _read_offered_facts(self, offered: ImageRef) -> IntakeFacts:
        """Return the facts of the intake gate, from curation's copy of the evidence if development's image is gone."""
        try:
            self.repositories.status(offered)
        except ImageNotFound:
            copied = offered.with_repository(name_curated_repository(offered.application))
            self.repositories.status(copied)  # raises if nothing is left
            return replace(self.intake_facts(copied), ref=offered)
        return self.intake_facts(offered)

    def rescan_ports(self, scanner: Scanner) -> RescanPorts:
        """Return the dependencies of a rescan; content that is read by digest is cached for the next one."""
        workbench = self.workbench
        registry = replace(self.registry, memory=workbench.content_cache)
        evidence = replace(self.evidence, referrers=registry, wide=1)
        bases = self.list_base_images()
        return RescanPorts(
            generator=self.sbom_generator,
            scanner=scanner,
            results=workbench.report_cache,
            registry=registry,
            evidence=evidence,
            repositories=self.repositories,
            layers=layers_of(registry, evidence, workbench.content_cache),
            bases=bases,
            base_decisions=read_base_decisions(bases, evidence),
            minimum_classification=workbench.names().minimum_classification,
            policy=workbench.policies().release,
            production=workbench.production_environments(),
            now=read_clock,
        )
