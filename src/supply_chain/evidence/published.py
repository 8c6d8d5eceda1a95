"""Published verdicts: for each image, gate and environment the current verdict, in a repository that others read.

A repository is of one gate, of one environment at the deploy gate, and of one application. It holds the current verdict
of each image and nothing else: clients that take any verdict about a digest take this one. It is signed with a key that
signs nothing else. What it replaces is removed; the history is the evidence, which the tier's own key signs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from pydantic import Field

from supply_chain.errors import RegistryFailed, VerdictMissing
from supply_chain.evidence.reading import SignedValue, read_again_if_removed, read_statements
from supply_chain.evidence.statement import SUMMARY
from supply_chain.evidence.store import EvidenceStore, Reading
from supply_chain.evidence.summary import Summary, name_verifier
from supply_chain.model.image import Digest, ImageRef, Model
from supply_chain.model.registry_ports import ManifestLister, ManifestRemover, RepositoryCreator
from supply_chain.model.tier import (
    JUDGE,
    Gate,
    name_curated_repository,
    name_development_repository,
    name_verdict_repository,
)
from supply_chain.text import list_remedies

GONE = "ImageNotFound"
"""ECR's code for what another writer removed before."""


class VerdictRepositories(RepositoryCreator, ManifestRemover, Protocol):
    """A registry in which repositories can be created and manifests removed."""

    @property
    def host(self) -> str:
        """Its name, with which the references of its images begin."""


@dataclass(frozen=True)
class PublishedVerdicts:
    """The published verdicts of one tier. `store` signs with its verdict key, and trusts only verdict keys."""

    store: EvidenceStore
    repositories: VerdictRepositories

    def prepare(self, ref: ImageRef, predicate: Mapping[str, Any], now: datetime) -> Callable[[], None]:
        """Sign a verdict about an image, and return the function that makes it the current one.

        `resourceUri` gets the name of the registry: enforcers compare it with the reference of the image that runs.

        Nothing is signed if the current verdict is newer, or the same. Of two with the same time, the refusal counts.
        Concurrent writers need no lock: each removes all verdicts except the newest after it has added its own. A
        refusal replaces an admission by removing that first, so that an interrupted run leaves no verdict instead of
        two. Both functions raise the errors of the registry, of the signer and of `EvidenceStore.read`.
        """
        verdict = Summary.model_validate(predicate)
        place = locate_verdict(ref, _gate_of(verdict), verdict.cscm.environment)
        before = self._read(place)
        if before and _rank(before[-1].value) >= _rank(verdict):
            return lambda: self._remove(place, before[:-1])
        bundle = self.store.sign(place, SUMMARY, name_in_registry(predicate, self.repositories.host))

        def publish() -> None:
            self.repositories.ensure_repository(place.repository, immutable=True, key=None)
            if not verdict.passed:
                self._remove(place, before)
            self.store.attach_signed(place, SUMMARY, bundle, now)
            self._remove(place, self._read(place)[:-1])

        return publish

    def find_newer_opposite(self, ref: ImageRef, predicate: Mapping[str, Any]) -> datetime | None:
        """Return the time of the published verdict if it is later and says the opposite; raise as `prepare`."""
        verdict = Summary.model_validate(predicate)
        newer = (each for each in self._current(ref, verdict) if _rank(each) > _rank(verdict))
        return next((each.time_verified for each in newer if each.passed is not verdict.passed), None)

    def admits(self, ref: ImageRef, predicate: Mapping[str, Any], now: datetime) -> bool:
        """Return whether the published verdict of this one's gate and environment admits the image; raise as `prepare`.

        It does not after its end.
        """
        current = self._current(ref, Summary.model_validate(predicate))
        return any(each.passed and not each.has_expired(now) for each in current)

    def _current(self, ref: ImageRef, verdict: Summary) -> tuple[Summary, ...]:
        """Return the verdict that is published for the gate and the environment of this one; empty without one."""
        place = locate_verdict(ref, _gate_of(verdict), verdict.cscm.environment)
        return tuple(each.value for each in self._read(place)[-1:])

    def _read(self, place: ImageRef) -> tuple[SignedValue[Summary], ...]:
        """Return the verdicts in a place that this tier's verdict key signed, the current one last."""
        signed = _read_place(place, self.store).list_signed_by(self.store.tier)
        return _sort(read_statements(signed, SUMMARY, Summary.model_validate))

    def _remove(self, place: ImageRef, superseded: Sequence[SignedValue[Summary]]) -> None:
        _remove_verdicts(place.repository, [each.evidence.digest for each in superseded], self.repositories)


def name_in_registry(predicate: Mapping[str, Any], host: str) -> dict[str, Any]:
    """Return the verdict with the image's reference in a registry."""
    return {**predicate, "resourceUri": f"{host}/{predicate['resourceUri']}"}


class ListedRepositories(VerdictRepositories, ManifestLister, Protocol):
    """A registry that also lists its content."""


def list_published_environments(application: str, repositories: ListedRepositories) -> tuple[str, ...]:
    """Return the environments for which verdicts about an application are or were published, sorted."""
    prefix = name_verdict_repository(Gate.DEPLOY, "")
    named = (each.removeprefix(prefix).partition("/") for each in repositories.repositories(prefix))
    return tuple(sorted(environment for environment, _, name in named if name == application))


def withdraw_removed(gate: Gate, repositories: ListedRepositories) -> tuple[ImageRef, ...]:
    """Remove the published verdicts of a gate about images that the registry no longer has; return these images.

    Of the intake gate, an offered image counts too. Verdicts are listed before images, so that an image which is pushed
    meanwhile keeps its verdict. Raise `RegistryFailed` if one stays, and the registry's errors.
    """
    prefix, withdrawn = name_verdict_repository(gate, ""), list[ImageRef]()
    for repository in repositories.repositories(prefix):
        rest = repository.removeprefix(prefix)
        application = rest.partition("/")[2] if gate is Gate.DEPLOY else rest
        published = [each for each in repositories.images(repository) if each.subjects]
        offered = [name_development_repository(application)] if gate is Gate.INTAKE else []
        places = [name_curated_repository(application), *offered] if published else []
        present = {each.digest for place in places for each in repositories.images(place)}
        orphaned = [each for each in published if present.isdisjoint(each.subjects)]
        _remove_verdicts(repository, [each.digest for each in orphaned], repositories)
        subjects = dict.fromkeys(subject for each in orphaned for subject in each.subjects)
        withdrawn += (ImageRef(repository=places[0], digest=subject) for subject in subjects)
    return tuple(withdrawn)


def _remove_verdicts(repository: str, digests: Sequence[Digest], repositories: VerdictRepositories) -> None:
    """Remove verdicts; raise `RegistryFailed` if one stays."""
    left = [each for each in repositories.delete(repository, digests) if each.code not in (None, GONE)]
    if left:
        raise RegistryFailed(
            f"{repository} keeps a verdict that should be gone: {left[0].name}: {left[0].reason}.\n"
            "Let the tier remove images there (deployments/iam), then run the step again."
        )


def locate_verdict(ref: ImageRef, gate: Gate, environment: str) -> ImageRef:
    """Return the place of the current verdict about an image."""
    return ref.with_repository(name_verdict_repository(gate, ref.application, environment))


class CurrentVerdict(Model):
    """The verdict that counts for enforcers."""

    statement: ImageRef = Field(description="the signed statement")
    verdict: Summary
    admits: bool = Field(description="whether an enforcer lets the image run; not after its end")

    def __str__(self) -> str:
        verdict, own = self.verdict, self.verdict.cscm
        result = "PASSED but expired" if verdict.passed and not self.admits else verdict.verification_result
        lines = [f"{verdict.resource_uri}: {result}", f"  by {verdict.verifier.id}, {verdict.time_verified:%F %T} UTC"]
        lines += [f"  for {own.environment}"] if own.environment else []
        reasons = ((f"  {each['code']}: {each['fact']}", each["remedy"]) for each in own.reasons)
        lines += list_remedies(reasons, "      ")
        lines += [f"  {each}" for each in own.refused_rules]
        lines += [f"  waived by {', '.join(own.waivers)}"] if own.waivers else []
        lines += [f"  by break-glass {own.break_glass}"] if own.break_glass else []
        lines += [f"  until {own.expires:%F %T} UTC"] if own.expires else []
        return "\n".join([*lines, f"  {self.statement}"])


def read_current_verdict(verdicts: EvidenceStore, ref: ImageRef, gate: Gate, environment: str = "") -> CurrentVerdict:
    """Return the current verdict of a gate about an image, as an enforcer reads it.

    `verdicts` trusts only verdict keys. `environment` is empty except at the deploy gate. The newest verdict counts, of
    two with the same time the refusal. It has to be signed with the verdict key of the gate's tier, and to name this
    gate, this image and this environment.

    Raises `VerdictMissing` if there is none that counts, with the reasons why others do not, and the errors of
    `EvidenceStore.read`.
    """
    place = locate_verdict(ref, gate, environment)
    reading = _read_place(place, verdicts)
    signed = _sort(read_statements(reading.list_signed_by(JUDGE[gate]), SUMMARY, Summary.model_validate))
    counted = [each for each in signed if _is_about(each.value, ref, gate, environment)]
    if not counted:
        others = f"{len(signed)} of another gate, image or environment" if signed else ""
        notes = "; ".join(filter(None, (others, *reading.notes())))
        raise VerdictMissing(
            f"{place} has no verdict that counts{f': {notes}' if notes else ''}.\n"
            f"Without one, an image is not admitted. `cscm explain {ref.short}` shows what was decided about it."
        )
    last = counted[-1]
    statement = place.with_digest(last.evidence.digest)
    admits = last.value.passed and not last.value.has_expired(verdicts.now())
    return CurrentVerdict(statement=statement, verdict=last.value, admits=admits)


@read_again_if_removed
def _read_place(place: ImageRef, verdicts: EvidenceStore) -> Reading:
    """Read the verdicts in a place, which other writers may replace meanwhile."""
    return verdicts.read(place, SUMMARY)


def _is_about(verdict: Summary, ref: ImageRef, gate: Gate, environment: str) -> bool:
    repository = (name_development_repository if gate is Gate.INTAKE else name_curated_repository)(ref.application)
    return (
        verdict.verifier.id == name_verifier(gate)
        and verdict.resource_uri.endswith(f"/{ref.with_repository(repository)}")
        and verdict.cscm.environment == environment
    )


def _gate_of(verdict: Summary) -> Gate:
    return next(gate for gate in Gate if name_verifier(gate) == verdict.verifier.id)


def _rank(verdict: Summary) -> tuple[datetime, bool]:
    return verdict.time_verified, not verdict.passed


def _sort(verdicts: Iterable[SignedValue[Summary]]) -> tuple[SignedValue[Summary], ...]:
    return tuple(sorted(verdicts, key=lambda each: _rank(each.value)))
