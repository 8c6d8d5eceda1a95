"""Attacks on what may run: each prepares an image that the deploy gate does not admit, and how a pod would name it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

from supply_chain.evidence.statement import SUMMARY, VULNERABILITIES
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate
from tests.support.signer import EcdsaSigner
from tests.support.verified import Verdicts, clock

Prepare = Callable[[Verdicts], str]
"""Prepares an attack, and returns the image that must not run."""


def unsigned(made: Verdicts) -> str:
    return made.image(made.push("hello"))


def refused(made: Verdicts) -> str:
    made.publish(ref := made.push("hello"), passed=False)
    return made.image(ref)


def superseded(made: Verdicts) -> str:
    """The evidence of an earlier admission, which the tier's other key signed, stands where the verdict was."""
    ref = made.push("hello")
    made.publish(ref, at=clock() - timedelta(hours=1))
    made.publish(ref, passed=False)
    made.attach(made.place_of(ref), made.predicate(ref), signer=EcdsaSigner())
    return made.image(ref)


def wrong_digest(made: Verdicts) -> str:
    made.publish(ref := made.push("hello"))
    return made.image(ref.with_digest("sha256:" + "0" * 64))


def of_another_digest(made: Verdicts) -> str:
    """A verdict about another image is attached to this one."""
    good, bad = made.push("hello"), made.push("hello")
    made.attach_signed(made.place_of(bad), made.store().sign(good, SUMMARY, made.predicate(good)))
    return made.image(bad)


def by_tag(made: Verdicts) -> str:
    made.publish(ref := made.push("hello"))
    tagged = made.registry.run_crane(made.registry.login(), "tag", made.image(ref), "latest")
    assert tagged.returncode == 0, tagged.stderr
    return made.image(ref).partition("@")[0] + ":latest"


def by_tag_and_digest(made: Verdicts) -> str:
    made.publish(ref := made.push("hello"))
    repository, _, digest = made.image(ref).partition("@")
    return f"{repository}:latest@{digest}"


def foreign_registry(made: Verdicts) -> str:
    made.publish(ref := made.push("hello"))
    return f"docker.io/{ref}"


def outside_of_curated(made: Verdicts) -> str:
    """The digest is admitted; it is pulled from where development offered it."""
    made.publish(ref := made.push("hello"))
    copy_image(made, ref, other := ref.with_repository("dev/hello"))
    return made.image(other)


def other_application(made: Verdicts) -> str:
    """The verdict about one application is attached to the same digest of another one."""
    ref = made.push("hello")
    made.publish(ref)
    place = made.place_of(other := ref.with_repository("curated/shop"))
    made.attach(place, made.predicate(ref))
    copy_image(made, ref, other)
    return made.image(other)


def unknown_application(made: Verdicts) -> str:
    ref = made.push("stranger")
    return made.image(ref)


def other_environment(made: Verdicts) -> str:
    ref = made.push("hello")
    made.publish(ref, environment="elsewhere")
    made.attach(made.place_of(ref), made.predicate(ref, environment="elsewhere"))
    return made.image(ref)


def other_gate(made: Verdicts) -> str:
    ref = made.push("hello")
    made.attach(made.place_of(ref), made.predicate(ref, gate=Gate.RELEASE))
    return made.image(ref)


def other_statement(made: Verdicts) -> str:
    ref = made.push("hello")
    made.attach(made.place_of(ref), made.predicate(ref), kind=VULNERABILITIES)
    return made.image(ref)


def expired(made: Verdicts) -> str:
    made.publish(ref := made.push("hello"), expires=clock() - timedelta(seconds=1))
    return made.image(ref)


def copy_image(made: Verdicts, source: ImageRef, target: ImageRef) -> None:
    made.ecr.ensure_repository(target.repository, immutable=False, key=None)
    done = made.registry.run_crane(
        made.registry.login(), "copy", made.image(source), f"{made.registry.host}/{target.repository}:copy"
    )
    assert done.returncode == 0, done.stderr
