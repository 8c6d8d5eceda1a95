"""Plans promotions to environments, for the images in `curated/*`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta

from supply_chain.errors import UNREADABLE, DeclarationInvalid, RuleNotEvaluated, SettingInvalid
from supply_chain.evidence.approval import find_last_approval, list_signed_approvals
from supply_chain.evidence.clock import SKEW
from supply_chain.evidence.provenance import find_last_provenance
from supply_chain.evidence.reading import SignedValue
from supply_chain.evidence.soak import find_last_soak, find_longest_soak
from supply_chain.evidence.statement import (
    APPROVAL,
    DEPLOYMENT,
    PROVENANCE,
    SIGNATURE,
    SOAK,
    SUMMARY,
    VerifiedStatement,
)
from supply_chain.evidence.store import EvidenceStore
from supply_chain.evidence.summary import Summary, find_last_verdict, is_released, list_verdicts
from supply_chain.execution.environment import Environment
from supply_chain.execution.records import read_records
from supply_chain.model.declaration import Service
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import CURATED, CURATION_GATES, Gate, TierName
from supply_chain.policy.facts import DeployFacts
from supply_chain.policy.outcome import BASE_BLOCKED, IMAGE_BLOCKED
from supply_chain.policy.policies import GatePolicy
from supply_chain.policy.reading import read_execution_statements
from supply_chain.promotion.planned_promotion import (
    PlannedPromotion,
    PromotableImages,
    explain_refusal,
    make_empty_promotion,
    make_unreadable_promotion,
    plan_each,
)
from supply_chain.promotion.soaking import Soaking
from supply_chain.text import join_lines, summarize_error

EXECUTION_STATEMENTS = (DEPLOYMENT, SUMMARY, SOAK, APPROVAL)
REASONS_THAT_END = {
    IMAGE_BLOCKED, BASE_BLOCKED, f"verdict.{Gate.RELEASE}.refused", "scan.old",
    *(f"verdict.{gate}.{end}" for gate in CURATION_GATES for end in ("ended", "waived")),
}  # fmt: skip
"""Reasons of a refusal that end when curation admits the image again: a block, an admission or a waiver that ended, and
what follows from them."""


@dataclass(frozen=True)
class PromotionSources:
    """What promotions to environments are planned from."""

    images: PromotableImages
    store: EvidenceStore
    read: Callable[[str], Environment]
    """Returns an environment by its name; raises `SettingInvalid` if there is none."""
    invalid: Mapping[str, DeclarationInvalid | SettingInvalid]
    """Name of an environment → why nothing may be deployed there."""
    current: Callable[[str, str], ImageRef | None]
    """Application and environment → the image that should run there."""
    policy: GatePolicy[DeployFacts]

    def releases(self, ref: ImageRef) -> bool:
        """Return whether curation released the image: admitted and signed it."""
        own = self.store.read_verified(ref, TierName.CURATION, SUMMARY, SIGNATURE)
        return is_released(own, ref.digest, self.store.now())


def plan_promotion_to_environment(ref: ImageRef, after: str | None, sources: PromotionSources) -> PlannedPromotion:
    """Return the promotion of an image in `curated/*` to its first declared environment, or to the one after `after`.

    The image must have soaked in `after`. It never replaces an image that was curated after it. Raise
    `DeclarationInvalid` or `SettingInvalid` if the next environment is invalid, or `after` cannot be read, and
    `RuleNotEvaluated` if a schedule cannot be evaluated.
    """
    built = find_last_provenance(sources.store.read_verified(ref, TierName.DEVELOPMENT, PROVENANCE))
    declaration = built.declaration if built else None
    if not isinstance(declaration, Service):
        return make_empty_promotion(
            ref, "it is not a service" if declaration else "development signed no provenance of it"
        )
    to = find_next_environment(declaration.environments, after)
    if to is None:
        return make_empty_promotion(
            ref, f"it declares no environment after {after}" if after else "it declares no environment"
        )
    own = read_execution_statements(ref, sources.store, *EXECUTION_STATEMENTS)
    if why := next(_list_objections(ref, after, to, own, sources), ""):
        return make_empty_promotion(ref, why)
    place = sources.read(to)
    return PlannedPromotion(
        image=ref, to=to, after=after, awaits_approval=_awaits_approval(place, ref, own), signers=place.signed_approvals
    )


def _awaits_approval(environment: Environment, ref: ImageRef, own: Sequence[VerifiedStatement]) -> bool:
    """Return whether people still have to decide. Whether they may, and whether they signed, the gate verifies."""
    if not environment.signed_approvals:
        return environment.requires_approval and find_last_approval(own, environment.name, ref.digest) is None
    signers = {each.by for each in list_signed_approvals(own, environment.name, ref.digest)}
    return len(signers) < environment.signed_approvals


def find_missed_deployments(sources: PromotionSources) -> tuple[PlannedPromotion, ...]:
    """Return promotions of each application's newest released image that runs nowhere, and of images that have soaked.

    An image that cannot be judged, by its signed statements or for an invalid environment, is returned as `unreadable`;
    other applications and environments are not affected.
    """
    repositories = sources.images.repositories(CURATED)
    return plan_each(map(sources.images.list_newest_first, repositories), lambda newest: _plan_all(newest[0], sources))


def _plan_all(newest: ImageRef, sources: PromotionSources) -> Sequence[PlannedPromotion]:
    """Return the plans of an application, by its newest image."""
    try:
        promotable = _list_promotable(newest.repository, sources)
        return [_plan_promotable(ref, after, sources) for ref, after in promotable]
    except UNREADABLE as error:
        return [make_unreadable_promotion(newest, join_lines(error))]


def _plan_promotable(ref: ImageRef, after: str | None, sources: PromotionSources) -> PlannedPromotion:
    try:
        return plan_promotion_to_environment(ref, after, sources)
    except (DeclarationInvalid, RuleNotEvaluated, SettingInvalid) as error:
        return make_unreadable_promotion(ref, join_lines(error))


def skip_unhealthy(promotion: PlannedPromotion, deployed: ImageRef | None, soaking: Soaking | None) -> PlannedPromotion:
    """Return the promotion, or none if the image soaked, still runs, and was unhealthy at the last look.

    `deployed` is the image that should run in the environment `after`, `soaking` is the state stored for it.
    """
    if deployed is None or deployed.digest != promotion.image.digest or (soaking and soaking.digest == deployed.digest):
        return promotion
    return make_empty_promotion(promotion.image, f"it was not healthy in {promotion.after} at the last observation")


def find_next_environment(environments: Sequence[str], after: str | None) -> str | None:
    """Return the first declared environment, or the one after `after`; None if there is none."""
    if after is None:
        return next(iter(environments), None)
    names = list(environments)
    return next(iter(names[names.index(after) + 1 :]), None) if after in names else None


def _list_promotable(repository: str, sources: PromotionSources) -> list[tuple[ImageRef, str | None]]:
    """Return the newest released image, and the images that run in environments from which they could be promoted."""
    for ref in filter(sources.releases, sources.images.list_newest_first(repository)):
        built = find_last_provenance(sources.store.read_verified(ref, TierName.DEVELOPMENT, PROVENANCE))
        places = built.declaration.environments if built else ()
        running = [(deployed, place) for place in places[:-1] if (deployed := sources.current(ref.application, place))]
        return [(ref, None), *((deployed.with_repository(repository), place) for deployed, place in running)]
    return []


def _list_objections(
    ref: ImageRef, after: str | None, to: str, own: Sequence[VerifiedStatement], sources: PromotionSources
) -> Iterator[str]:
    """Yield the reasons against a promotion to `to`. `own` are the statements that execution signed."""
    if not sources.releases(ref):
        yield "curation did not release it"
    if any(each.value.environment == to for each in read_records(own)):
        yield f"it was deployed to {to}"
    if to in sources.invalid:
        raise sources.invalid[to]
    try:
        environment = sources.read(to)
        environment.placement(ref.application)
        required_soak = environment.requirements(sources.read).soak
    except SettingInvalid as error:
        yield summarize_error(error)
        return
    if after is not None and (why := _explain_soak(ref, after, own, sources)):
        yield why
    longest = find_longest_soak(own, required_soak.environment, ref.digest) if required_soak else None
    if required_soak and not required_soak.is_met_by(longest.value if longest else None):
        yield f"{to} requires a soak in {required_soak.environment}, and it did not soak there"
    verdict = find_last_verdict(own, Gate.DEPLOY, ref.digest)
    if verdict and not verdict.value.passed and not _no_longer_counts(verdict, ref, to, sources):
        yield explain_refusal(verdict.value, Gate.DEPLOY)
    if later := _explain_newer(ref, sources.current(ref.application, to), after, sources):
        yield later
    decision = find_last_approval(own, to, ref.digest)
    if decision and not decision.value.approved:
        yield f"{decision.value.by} denied it for {to}: {decision.value.reason}"


def _explain_soak(ref: ImageRef, after: str, own: Sequence[VerifiedStatement], sources: PromotionSources) -> str:
    """Return why an image was not healthy for as long as `after` requires today; empty if it was.

    An image that was deployed there again after its soak, perhaps with other settings, has to soak again.
    """
    try:
        required_soak = sources.read(after).soak
    except SettingInvalid:
        if after in sources.invalid:
            raise
        return f"it has not soaked in {after}, which is not an environment here"
    if required_soak is None:
        return f"{after} has no `soak`, so images are not promoted from there"
    deployed = [each.value for each in read_records(own) if each.value.environment == after]
    if not deployed:
        return f"it was never deployed to {after}"
    signed = find_last_soak(own, after, ref.digest, deployed[-1].container)
    if signed is None:
        return f"it has not been healthy in {after} for {timedelta(seconds=required_soak)} without interruption yet"
    if signed.value.seconds < required_soak:
        soaked = timedelta(seconds=int(signed.value.seconds))
        return f"it has soaked in {after} for {soaked} of {timedelta(seconds=required_soak)}"
    return ""


def _explain_newer(ref: ImageRef, deployed: ImageRef | None, after: str | None, sources: PromotionSources) -> str:
    """Return why an image is too old: a newer one runs there, or is released and comes first."""
    if deployed and deployed.digest != ref.digest and (why := _explain_not_newer(ref, deployed, sources)):
        return why
    for newer in sources.images.list_newest_first(ref.repository) if after is None else ():
        if newer.digest == ref.digest:
            return ""
        if sources.releases(newer):
            return f"{newer.short} was curated after it"
    return ""


def _explain_not_newer(ref: ImageRef, deployed: ImageRef, sources: PromotionSources) -> str:
    """Return why an image is not newer than the one deployed there, even if that is blocked and archived by now.

    Empty if it is newer. If the deployed image is no longer in the registry, an image counts as newer if it was judged
    after that deployment.
    """
    digests = [each.digest for each in sources.images.list_newest_first(ref.repository, archived=True)]
    if deployed.digest in digests:
        newer = ref.digest in digests[: digests.index(deployed.digest)]
        return "" if newer else f"{deployed.short} runs there, and was curated after it"
    judged = list_verdicts(sources.store.read_verified(ref, TierName.CURATION, SUMMARY), Gate.RELEASE, ref.digest)
    records = read_records(read_execution_statements(deployed, sources.store, DEPLOYMENT))
    if judged and records and judged[0].at > records[0].at + SKEW:
        return ""
    return f"{deployed.short} runs there and is no longer in the registry, so it is unknown which is newer"


def _no_longer_counts(verdict: SignedValue[Summary], ref: ImageRef, to: str, sources: PromotionSources) -> bool:
    """Return whether a refusal no longer counts for a promotion to `to`.

    It does not if it was about one environment or about a time that is over, by rules that there are no longer, or if
    it was due to what ends, and curation has admitted the image since.
    """
    policy, now = sources.policy, sources.store.now()
    if verdict.value.codes & policy.schedules and policy.is_closed(ref.application, to, now):
        return False
    codes = (verdict.value.codes & policy.ids) - policy.environment_rules - policy.schedules
    if not codes:
        return True
    judged = find_last_verdict(sources.store.read_verified(ref, TierName.CURATION, SUMMARY), Gate.RELEASE, ref.digest)
    return codes <= REASONS_THAT_END and judged is not None and judged.value.passed and judged.at > verdict.at
