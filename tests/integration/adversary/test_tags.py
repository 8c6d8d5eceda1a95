"""Tags that move: a tag is no reference here, and its target has no influence."""

from __future__ import annotations

from collections.abc import Callable

import docker
import pytest

from supply_chain.evidence.statement import SIGNATURE
from supply_chain.model.image import ImageRef
from tests.integration.adversary.attacked import PLACE, Adversary
from tests.support.access import Prefect
from tests.support.command import cscm

pytestmark = pytest.mark.real


def tag_of(adversary: Adversary, ref: ImageRef) -> str:
    (tag,) = (tag for digest, tags in adversary.everything()[ref.repository] if digest == ref.digest for tag in tags)
    return tag


def test_tag_is_refused_as_image_reference(
    offered: ImageRef, curated: ImageRef, adversary: Adversary, prefect: Prefect
) -> None:
    """The command and Prefect's form ask for a digest, and no tag is resolved."""
    for verb, ref, parameters in (("curate", offered, {}), ("deploy", curated, {"environment": PLACE})):
        named = f"{ref.repository}:{tag_of(adversary, ref)}"
        options = [word for name, value in parameters.items() for word in (f"--{name}", value)]

        typed = cscm(verb, named, *options)
        run = prefect.ended(prefect.start(f"{verb}/on-demand", image=named, **parameters))

        assert typed.status == 2 and "does not name an image: write NAME@sha256:" in typed.stderr, typed.stderr
        assert run["state_type"] == "FAILED"
        assert "[declaration.invalid]" in run["state"]["message"] and "by digest" in run["state"]["message"]


def test_tag_moved_between_two_steps_changes_nothing(
    offered: ImageRef, curated: ImageRef, adversary: Adversary, engine: docker.DockerClient, place: dict[str, int]
) -> None:
    """The judged digest runs, although the tags in both repositories moved.

    Curation stores nothing in a repository with mutable tags until its owner makes them immutable again.
    """
    for ref in (offered, curated):
        adversary.ecr.put_image_tag_mutability(repositoryName=ref.repository, imageTagMutability="MUTABLE")
        tag = tag_of(adversary, ref)
        assert tag_of(adversary, adversary.alter(ref, tag)) == tag

    ran = cscm("deploy", str(curated), "--environment", PLACE, "--json")
    movable = cscm("curate", str(offered), "--json")
    adversary.ecr.batch_delete_image(repositoryName=curated.repository, imageIds=[{"imageTag": tag}])
    adversary.ecr.put_image_tag_mutability(repositoryName=curated.repository, imageTagMutability="IMMUTABLE")
    again = cscm("curate", str(offered), "--json")

    assert ran.status == 0, ran.stderr
    assert ran.result["digest"] == curated.digest
    assert engine.containers.get(ran.result["container"]).attrs["Image"] == curated.digest
    assert movable.status == 1 and "[setting.invalid]" in movable.stderr, movable.stderr
    assert again.status == 0, again.stderr
    assert again.result["ref"]["digest"] == offered.digest


def test_curation_stops_if_the_tag_exists_for_another_image(
    offered: ImageRef, curated: ImageRef, vouched: Callable[[str], ImageRef], adversary: Adversary
) -> None:
    """The image is not stored under another tag, not signed, and no tag moves."""
    ref = vouched("awaited")
    revision = tag_of(adversary, curated).rpartition("-")[0]
    taken = adversary.alter(curated, f"{revision}-{ref.short}")

    ran = cscm("curate", str(ref), "--json")

    assert ran.status == 1
    assert "[registry.failed]" in ran.stderr, ran.stderr
    assert tag_of(adversary, taken) == f"{revision}-{ref.short}"
    assert SIGNATURE not in [kind for kind, _ in adversary.bundles(ref.with_repository(curated.repository))]


def test_base_pushed_by_an_adversary_is_not_used(bases: None, adversary: Adversary) -> None:
    """The newest image in a base's repository has copied signatures, so the latest genuine base is used."""
    genuine = ImageRef.model_validate(cscm("bases", "python", "--json").result[0])
    pushed = adversary.alter(genuine, "zzzzzzz-ffffffffffff")
    try:
        for kind, bundle in adversary.bundles(genuine):
            adversary.attach(pushed, kind, bundle)

        ran = cscm("bases", "python", "--json")

        assert ran.result == [genuine.model_dump(mode="json")], ran.stderr
    finally:
        adversary.ecr.batch_delete_image(repositoryName=pushed.repository, imageIds=[{"imageDigest": pushed.digest}])
