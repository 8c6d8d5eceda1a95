"""Facts of each gate that pass all its rules; keyword arguments change them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from supply_chain.evidence.checks import list_required_checks
from supply_chain.evidence.encryption import EncryptionRecord
from supply_chain.evidence.examination import Examination
from supply_chain.evidence.image_status import ImageStatus
from supply_chain.evidence.provenance import Provenance, make_provenance
from supply_chain.evidence.sbom import Listing, Package
from supply_chain.evidence.summary import Summary, make_summary
from supply_chain.model.declaration import Base, Classification, Service
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from supply_chain.policy.facts import (
    CuratedFacts,
    DeployFacts,
    EnvironmentRequirements,
    F,
    ImageFacts,
    IntakeFacts,
    ReleaseFacts,
)
from supply_chain.policy.outcome import Admitted
from supply_chain.policy.policies import GatePolicy
from tests.support import builders
from tests.support.builders import DIGEST, NOON, built, check, report

OFFERED = ImageRef(repository="dev/hello", digest=DIGEST)
CURATED = ImageRef(repository="curated/hello", digest=DIGEST)
PACKAGES = frozenset({("deb", "openssl", "pkg:deb/openssl@3"), ("python", "flask", "")})


def _image_facts(ref: ImageRef, declaration: Service | Base | None) -> ImageFacts:
    declaration = declaration or builders.declaration()
    return ImageFacts(
        ref=ref,
        provenance=make_provenance(built(), declaration),
        checks=tuple(check(each) for each in list_required_checks(declaration.kind)),
        status=ImageStatus(),
        evidence=(),
        minimum_classification=None,
        ignored_referrers=(),
        attached=(),
    )


def _curated_facts(declaration: Service | Base | None) -> CuratedFacts:
    return CuratedFacts(
        **vars(_image_facts(CURATED, declaration)),
        blocked_bases={},
        bases={},
        sbom=listing(),
        examination=Examination(),
        examined_bases=(),
        report=report(),
        encryption=encryption(),
    )


def intake_facts(declaration: Service | Base | None = None, **changes: Any) -> IntakeFacts:
    """Return the facts of the intake gate about an image with this declaration."""
    good = IntakeFacts(
        **vars(_image_facts(OFFERED, declaration)),
        holder=None,
        source_report=report(),
    )
    return replace(good, **changes)


def listing(packages: frozenset[Package] = PACKAGES, **changes: Any) -> Listing:
    """Return what an SBOM with these packages lists; it has no `configuration`, so no rule reads `image.container`."""
    return Listing(packages, {}, frozenset(), None, None)._replace(**changes)


def _with_listing(changes: dict[str, Any]) -> dict[str, Any]:
    """Return the changes with an SBOM of `packages` and of the examined distribution, unless an SBOM is given.

    There is no SBOM if `packages` is None.
    """
    others = {name: each for name, each in changes.items() if name != "packages"}
    packages, examination = changes.get("packages", PACKAGES), changes.get("examination") or Examination()
    made = None if packages is None else listing(packages, distribution=examination.distribution)
    return {"sbom": made, **others}


def release_facts(declaration: Service | Base | None = None, **changes: Any) -> ReleaseFacts:
    """Return the facts of the release gate about an image with this declaration."""
    good = ReleaseFacts(
        **vars(_curated_facts(declaration)),
        base_packages={},
        base_distributions={},
        copied_bases=(),
    )
    return replace(good, **_with_listing(changes))


def deploy_facts(declaration: Service | Base | None = None, **changes: Any) -> DeployFacts:
    """Return the facts of the deploy gate about an image with this declaration."""
    good = DeployFacts(
        **vars(_curated_facts(declaration)),
        signed=True,
        verdicts=verdicts(intake=True, release=True),
        environment=requirements(),
        approval=None,
        signed_approvals=(),
        break_glass=(),
        soak=None,
    )
    return replace(good, **_with_listing(changes))


def no_minimum(name: str) -> None:
    """Return the lowest classification of a name register that has none."""


FACTS = {Gate.INTAKE: intake_facts, Gate.RELEASE: release_facts, Gate.DEPLOY: deploy_facts}
"""Gate → the function that returns its facts."""


def provenance_of(declaration: Service | Base | None = None, **changes: Any) -> Provenance:
    """Return the provenance of a build with these changes."""
    return make_provenance(built(**changes), declaration or builders.declaration())


def requirements(name: str = "staging", **changes: Any) -> EnvironmentRequirements:
    """Return the requirements of an environment that takes every released image."""
    required = EnvironmentRequirements(name=name, approval=False, signed_approvals=0, soak=None, test_report=False)
    return replace(required, **changes)


def encryption(**changes: Any) -> EncryptionRecord:
    """Return the record of an encrypted repository."""
    good = EncryptionRecord(
        repository=CURATED.repository,
        type="KMS",
        key="arn:aws:kms:eu-west-1:1:key/s",
        rotates=True,
        classification=Classification.INTERNAL,
        verified=NOON,
    )
    return good.model_copy(update=changes)


def verdicts(**results: bool) -> dict[Gate, Summary]:
    """Return a verdict of each gate in `results`; False: a refusal."""
    refused, policy = [{"code": "x", "fact": "f", "remedy": "r"}], "sha256:" + "9" * 64
    return {
        Gate(name): make_summary(
            CURATED, Gate(name), policy, reasons=[] if passed else refused, notes=(), inputs=(), now=NOON
        )
        for name, passed in results.items()
    }


def admitted(facts: F, policy: GatePolicy[F]) -> Admitted[F]:
    """Return the admission of these facts by this policy, whatever its rules say."""
    return Admitted(facts=facts, gate=policy.gate, policy=policy.digest, notes=())
