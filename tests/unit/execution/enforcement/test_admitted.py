"""The images that a namespace admits follow the published verdicts of its environment, and no other."""

from dataclasses import replace
from datetime import timedelta
from types import SimpleNamespace

import pytest
from pydantic import ValidationError

from supply_chain.errors import ClusterUnavailable
from supply_chain.evidence.published import PublishedVerdicts
from supply_chain.evidence.summary import make_summary
from supply_chain.execution.enforcement.admitted import (
    AdmissionPorts,
    AdmittedImages,
    describe_difference,
    publish_all,
    publish_image,
)
from supply_chain.execution.enforcement.policies import EnforcedNamespace, Mode
from supply_chain.execution.enforcement.publisher import EnforcedPublisher
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import Gate, TierName
from tests.support.builders import NOON
from tests.support.facts import CURATED
from tests.support.memory_admission import MemoryParameters

REGISTRY = "registry.test:5000"
BEGIN = f"{REGISTRY}/curated/"
OTHER = CURATED.with_digest("sha256:" + "b" * 64)
SHOP = OTHER.with_repository("curated/team/shop")


def images(*refs, environment="staging", repositories=BEGIN):
    made = AdmittedImages(environment=environment, repositories=repositories, images={})
    for ref in refs:
        made = made.with_image(ref, "")
    return made


STAGING = EnforcedNamespace("staging", "apps", Mode.DENY, frozenset({"scan.old", "verdict.ended"}), "apps")


@pytest.fixture
def cluster(world):
    """A namespace without parameters; `judge` publishes a verdict, and `deployed` is what should run."""
    parameters = MemoryParameters()
    deployed: set[ImageRef] = set()
    ports = AdmissionPorts(REGISTRY, world.verdict_store(TierName.EXECUTION), world.ecr, lambda _: deployed, parameters)
    published = PublishedVerdicts(ports.verdicts, world.ecr)

    def judge(ref, *codes, at=0, environment="staging", publisher=published, **changes):
        reasons = [{"code": code, "fact": "a fact", "remedy": "a remedy"} for code in codes]
        predicate = make_summary(
            ref, Gate.DEPLOY, "sha256:" + "9" * 64, reasons=reasons, notes=(), inputs=(),
            now=NOON + timedelta(seconds=at), environment=environment, **changes,
        ).predicate()  # fmt: skip
        publisher.prepare(ref, predicate, world.now)()

    def admitted():
        return parameters.stored["apps"][0].all

    return SimpleNamespace(
        ports=ports, parameters=parameters, deployed=deployed, judge=judge, admitted=admitted, published=published
    )


def test_admitted_images_follow_each_verdict(cluster):
    """An admission adds an image, a refusal removes it, and others stay."""
    for ref in (CURATED, OTHER, SHOP):
        cluster.judge(ref)
        publish_image(ref, STAGING, cluster.ports)
    assert len(cluster.admitted()) == 3

    cluster.judge(OTHER, "image.blocked", at=1)
    publish_image(OTHER, STAGING, cluster.ports)

    assert cluster.admitted() == {f"{REGISTRY}/{CURATED}", f"{REGISTRY}/{SHOP}"}


def test_first_publication_admits_all_that_verdicts_admit(cluster):
    """Parameters that somebody removed come back complete with the next image."""
    for ref in (CURATED, SHOP):
        cluster.judge(ref)
    publish_image(CURATED, STAGING, cluster.ports)

    assert cluster.admitted() == {f"{REGISTRY}/{CURATED}", f"{REGISTRY}/{SHOP}"}


def test_verdict_for_another_environment_admits_nothing(cluster):
    """What staging admits is nothing to production's namespace."""
    cluster.judge(CURATED, environment="production")
    publish_all(STAGING, cluster.ports)

    assert not cluster.admitted()


def test_full_publication_removes_image_without_admission(cluster):
    """Somebody wrote a digest into the parameters."""
    cluster.judge(CURATED)
    forged = images(OTHER)
    cluster.parameters.put("apps", forged)

    publish_all(STAGING, cluster.ports)

    assert cluster.admitted() == {f"{REGISTRY}/{CURATED}"}


def test_parameters_of_another_environment_are_replaced(cluster):
    """They are no base for a change of one image."""
    cluster.judge(CURATED)
    cluster.parameters.put("apps", images(OTHER, environment=""))

    publish_image(CURATED, STAGING, cluster.ports)

    assert cluster.admitted() == {f"{REGISTRY}/{CURATED}"}


def test_block_meanwhile_is_not_undone_by_an_admission(cluster):
    """A deployment read the admission, then the block was published and its parameters were written."""
    cluster.judge(CURATED)
    publish_all(STAGING, cluster.ports)
    cluster.judge(OTHER)

    def block(parameters):
        parameters.before_write = lambda _: None
        cluster.judge(OTHER, "image.blocked", at=1)
        publish_image(OTHER, STAGING, cluster.ports)
        publish_image(CURATED, STAGING, cluster.ports)
        parameters.put("apps", parameters.stored["apps"][0])  # a write by others in any case

    cluster.parameters.before_write = block
    publish_image(OTHER, STAGING, cluster.ports)

    assert cluster.admitted() == {f"{REGISTRY}/{CURATED}"}


def test_parameters_that_change_all_the_time_are_an_error_to_retry(cluster):
    """No write is lost, and no run waits forever."""
    cluster.judge(CURATED)
    cluster.parameters.before_write = lambda it: it.put("apps", images())

    with pytest.raises(ClusterUnavailable) as error:
        publish_all(STAGING, cluster.ports)
    assert error.value.retryable


@pytest.mark.parametrize(
    ("codes", "runs", "admitted"),
    [
        (["scan.old"], True, True),
        (["scan.old"], False, False),
        (["scan.old", "image.blocked"], True, False),
        (["image.blocked"], True, False),
    ],
)
def test_verdict_lapsed_by_age_still_admits_image_that_should_run(cluster, codes, runs, admitted):
    """Its pods can move to another node; a block stops them, and an image that runs nowhere is not started."""
    cluster.deployed.update([CURATED] if runs else [])
    cluster.judge(CURATED, *codes)
    publish_all(STAGING, cluster.ports)

    assert bool(cluster.admitted()) is admitted
    assert bool(cluster.parameters.stored["apps"][0].lapsed) is admitted


def test_expired_admission_still_admits_image_that_should_run(cluster, world):
    """A waiver ended, and nobody judged the image since."""
    cluster.deployed.add(CURATED)
    world.now = NOON
    cluster.judge(CURATED, expires=NOON + timedelta(seconds=5))
    publish_all(STAGING, cluster.ports)
    assert not cluster.parameters.stored["apps"][0].lapsed

    world.now = NOON + timedelta(minutes=1)
    publish_all(STAGING, cluster.ports)

    ended = f"expired {NOON + timedelta(seconds=5):%F %T} UTC"
    assert list(cluster.parameters.stored["apps"][0].lapsed.values()) == [ended]


@pytest.mark.parametrize(
    ("lapsing", "admitted"), [({"verdict.ended"}, True), ({"scan.old"}, False), ((), False)], ids=str
)
def test_policy_decides_whether_expired_admission_counts(cluster, world, lapsing, admitted):
    """Where a waiver protects nothing after its end, its image does not start again."""
    cluster.deployed.add(CURATED)
    world.now = NOON
    cluster.judge(CURATED, expires=NOON + timedelta(seconds=5))
    world.now = NOON + timedelta(minutes=1)

    publish_all(replace(STAGING, tolerated_refusals=frozenset(lapsing)), cluster.ports)

    assert bool(cluster.admitted()) is admitted


def test_publisher_follows_verdicts_of_the_deploy_gate(cluster):
    """An error of the cluster ends the step, which is repeated."""
    followed = []
    publisher = EnforcedPublisher(cluster.published, lambda *about: followed.append(about))

    cluster.judge(CURATED, publisher=publisher)
    cluster.judge(CURATED, at=1, environment="", publisher=publisher)
    assert followed == [(CURATED, "staging")]

    def fail(*_):
        raise ClusterUnavailable("away")

    with pytest.raises(ClusterUnavailable):
        cluster.judge(CURATED, at=2, publisher=EnforcedPublisher(cluster.published, fail))


def test_image_that_is_not_admitted_is_explained():
    """A tag, another repository and another digest are different mistakes."""
    admitted = images(CURATED)

    assert admitted.explain(f"{REGISTRY}/{CURATED}") == ""
    assert "digest" in admitted.explain(f"{BEGIN}hello:latest")
    assert "does not admit" in admitted.explain(f"{REGISTRY}/{OTHER}")
    assert "not curated" in admitted.explain(f"docker.io/curated/hello@{CURATED.digest}")
    assert "does not admit" in admitted.explain(f"{BEGIN}hello:latest@{CURATED.digest}")


def test_difference_of_parameters_names_both_sides():
    """Too many are a risk, too few an outage."""
    one = images(CURATED)
    other = images(OTHER)

    assert describe_difference(one, one) == ""
    assert f"1 without an admission, such as {REGISTRY}/{OTHER}" in describe_difference(one, other)
    assert f"not 1 that are admitted, such as {REGISTRY}/{CURATED}" in describe_difference(one, other)


def test_parameters_with_notes_are_read_back_as_written():
    """With the notes of verdicts that lapsed; the same digest can be of two applications."""
    written = images(CURATED, OTHER, SHOP).with_image(SHOP, "scan.old since Monday")

    assert AdmittedImages.of_data(written.data) == written
    assert written.data["bb"] == f"\n{'b' * 64} hello\n{'b' * 64} team/shop\n"
    assert written.lapsed == {f"{REGISTRY}/{SHOP}": "scan.old since Monday"}


@pytest.mark.parametrize("data", [{}, {"environment": "staging"}, {**images().data, "aa": "latest hello\n"}])
def test_invalid_content_of_parameters_is_an_error(data):
    """It is not taken for an empty list."""
    with pytest.raises(ValidationError):
        AdmittedImages.of_data(data)


COLLECTOR = ImageRef(repository="curated/base/python", digest="sha256:" + "c" * 64)
COLLECTING = replace(STAGING, collector=str(COLLECTOR))


def test_collector_is_published_and_withdrawn_with_its_own_state(cluster):
    """A block of it starts `respond`, which lets every environment follow; other images say nothing about it."""
    usable = {str(COLLECTOR): f"{REGISTRY}/{COLLECTOR}"}
    ports = replace(cluster.ports, collector=lambda image: usable.get(image, ""))
    cluster.judge(CURATED)

    assert publish_all(COLLECTING, ports).collector == f"{REGISTRY}/{COLLECTOR}"
    usable.clear()
    assert publish_image(CURATED, COLLECTING, ports).collector == f"{REGISTRY}/{COLLECTOR}"
    withdrawn = publish_image(COLLECTOR, COLLECTING, ports)
    assert (withdrawn.collector, withdrawn.program) == ("", "")
    assert cluster.admitted() == {f"{REGISTRY}/{CURATED}"}


def test_environment_without_collector_asks_for_none(cluster):
    """Nobody reads evidence for nothing."""

    def fail(image):
        pytest.fail(f"nobody asked for {image}")

    ports = replace(cluster.ports, collector=fail)

    assert publish_all(STAGING, ports).collector == ""
    assert publish_image(CURATED, STAGING, ports).collector == ""


def test_collector_is_no_admitted_image_and_differs_by_image_and_program():
    """Only as itself may it run. Another version of it is another program."""
    without = images(CURATED)
    made = without.with_collector(f"{REGISTRY}/{COLLECTOR}")
    older = made.model_copy(update={"program": "other"})

    assert AdmittedImages.of_data(made.data) == made and AdmittedImages.of_data(without.data) == without
    assert made.data["program"].startswith("/usr/bin/python3\n-I\n-S\n-c\n") and "program" not in without.data
    assert made.all == without.all and "does not admit" in made.explain(f"{REGISTRY}/{COLLECTOR}")
    assert f"none as the collector instead of {REGISTRY}/{COLLECTOR}" in describe_difference(made, without)
    assert f"{REGISTRY}/{COLLECTOR} as the collector instead of none" in describe_difference(without, made)
    assert "as the collector" in describe_difference(made, older) and describe_difference(made, made) == ""
