"""The policy of each gate: which rules hold there, and what its admissions note."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supply_chain.model.tier import Gate
from supply_chain.policy import notes, rules
from supply_chain.policy.facts import DeployFacts, IntakeFacts, ReleaseFacts
from supply_chain.policy.gate import Policy

INTAKE = Policy[IntakeFacts](
    Gate.INTAKE,
    rules=(
        rules.image_not_blocked, rules.provenance_signed, rules.application_names_match, rules.name_belongs_to_source,
        rules.required_checks_present, rules.checks_passed, rules.source_within_limits,
    ),
    notes=(
        notes.uncurated_bases, notes.uncommitted_changes, notes.starter_database_of_source, notes.ignored_referrers,
        notes.unproven_tests,
    ),
)  # fmt: skip
RELEASE = Policy[ReleaseFacts](
    Gate.RELEASE,
    rules=(
        rules.image_not_blocked, rules.base_images_not_blocked, rules.provenance_signed,
        rules.application_names_match, rules.sbom_present, rules.base_packages_listed, rules.image_examined,
        rules.layers_unambiguous, rules.distribution_consistent, rules.distribution_matches_base,
        rules.single_package_database, rules.archives_accepted, rules.image_scanned, rules.distribution_supported,
        rules.findings_within_limits, rules.encrypted_at_rest,
    ),
    notes=(
        notes.uncurated_bases, notes.copied_bases, notes.uncommitted_changes, notes.accepted_packages,
        notes.accepted_content, notes.accepted_distribution, notes.starter_database, notes.ignored_referrers,
        notes.unproven_tests,
    ),
)  # fmt: skip
DEPLOY = Policy[DeployFacts](
    Gate.DEPLOY,
    rules=(
        rules.image_not_blocked, rules.base_images_not_blocked, rules.provenance_signed,
        rules.application_names_match, rules.signature_present, rules.earlier_verdicts_passed, rules.sbom_present,
        rules.image_examined, rules.layers_unambiguous, rules.distribution_consistent, rules.single_package_database,
        rules.archives_accepted, rules.image_scanned, rules.scan_up_to_date, rules.distribution_supported,
        rules.findings_within_limits, rules.encrypted_at_rest, rules.environment_declared, rules.tests_reported,
        rules.soak_completed, rules.approval_given,
    ),
    notes=(
        notes.uncurated_bases, notes.uncommitted_changes, notes.accepted_packages, notes.accepted_content,
        notes.starter_database, notes.ignored_referrers, notes.unproven_tests,
    ),
)  # fmt: skip
POLICIES: Mapping[Gate, Policy[Any]] = {each.gate: each for each in (INTAKE, RELEASE, DEPLOY)}
"""Gate → its policy, for what shows policies. A gate uses its own policy, whose type names its facts."""
