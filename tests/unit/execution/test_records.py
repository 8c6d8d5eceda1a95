"""Deployment records: the latest record signed by execution determines what should run."""

import json
from datetime import timedelta

import pytest

from supply_chain.errors import EvidenceInvalid
from supply_chain.evidence.statement import DEPLOYMENT, SUMMARY
from supply_chain.execution.deployment import DockerPlace
from supply_chain.execution.records import read_expected
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.support.records import EXECUTION, FIRST, SECOND

PLACE = DockerPlace(reverse_proxy="3" * 64, proxy="sha256:" + "f" * 64, address="127.0.0.1", port=8080)
PLACES = ("production", "staging")


def image(number: int) -> ImageRef:
    return ImageRef(repository="curated/hello", digest=f"sha256:{number:064x}")


@pytest.fixture
def expected(world, registry):
    return lambda: read_expected(PLACES, registry, registry, world.store(EXECUTION))


def test_record_is_attached_in_repository_of_execution(deployed, registry, world):
    """Execution cannot write to the repository of the image."""
    deployed()

    (found,) = world.store(EXECUTION).read_verified(FIRST.with_repository("evidence/execution/hello"), EXECUTION)
    assert found.predicate_type == DEPLOYMENT


def test_record_contains_deployment_and_its_time(deployed, world, make):
    """The format is stable; the proof of an unchanged deployment is not part of it."""
    deployment = deployed(SECOND, previous="staging-hello-0", ready_seconds=0.5)

    fields = deployment.model_dump(mode="json", exclude={"proven"})
    assert json.dumps(_predicate(world)) == json.dumps(
        {"deployedAt": "2026-11-24T12:00:00+00:00", "deployment": fields}
    )


@pytest.mark.parametrize(
    "change", [{"proven": None}, {"of a later version": 1}, {"reverse_proxy_replaced": ...}], ids=str
)
def test_record_of_other_version_is_readable(deployed, expected, world, make, change):
    """Another version may know more or fewer keys."""
    deployed(SECOND)
    predicate = {**_predicate(world), "more": 1}
    fields = {**predicate["deployment"], "name": "later", **change}
    predicate["deployment"] = {key: value for key, value in fields.items() if value is not ...}
    predicate["deployedAt"] = "2026-11-24T12:00:01+00:00"
    world.store(EXECUTION).attach(FIRST.with_repository("evidence/execution/hello"), DEPLOYMENT, predicate, make.noon)

    assert [each.name for each in expected()] == ["later"]


def test_record_of_earlier_version_is_of_a_container_host(deployed, expected, world, make):
    """It was written before there were clusters, with the place beside the rest."""
    deployment = deployed(SECOND)
    predicate = _predicate(world)
    place = predicate["deployment"].pop("place")
    del place["target"]
    predicate["deployment"] = {**predicate["deployment"], **place}
    predicate["deployedAt"] = "2026-11-24T12:00:01+00:00"
    world.store(EXECUTION).attach(FIRST.with_repository("evidence/execution/hello"), DEPLOYMENT, predicate, make.noon)

    assert [each.place for each in expected()] == [deployment.place]


@pytest.mark.parametrize("place", [{"target": "kubernetes", "cluster": "c"}, {"target": "elsewhere"}, None], ids=str)
def test_record_with_unreadable_place_is_refused(deployed, expected, world, make, place):
    """A deployment to a cluster is never taken for one to a container host."""
    deployed(SECOND)
    predicate = _predicate(world)
    if place is None:
        del predicate["deployment"]["place"]
    else:
        predicate["deployment"]["place"] = place
    world.store(EXECUTION).attach(FIRST.with_repository("evidence/execution/hello"), DEPLOYMENT, predicate, make.noon)

    with pytest.raises(EvidenceInvalid):
        expected()


def test_recorded_deployment_should_run(deployed, expected):
    """Every field that the monitor compares is returned."""
    deployment = deployed()

    (wanted,) = expected()

    assert wanted.model_dump() == {name: getattr(deployment, name) for name in type(wanted).model_fields} | {
        "probe": deployment.probe.model_dump(),
        "profile": deployment.profile.model_dump(),
        "place": deployment.place.model_dump(),
    }


@pytest.mark.parametrize(("first", "second"), [(0, 0.5), (0, 1), (3600, 86400)])
def test_latest_deployment_should_run(deployed, expected, first, second):
    """The order of reading does not matter, and the latest may be an older image."""
    deployed(SECOND, second)
    deployed(FIRST, first)
    assert [each.digest for each in expected()] == [SECOND.digest]

    deployed(FIRST, second + 1)
    assert [each.digest for each in expected()] == [FIRST.digest]


def test_records_are_separate_per_application_and_environment(deployed, expected):
    """A deployment does not replace another application or environment."""
    deployed()
    deployed(after=1, environment="production")
    deployed(FIRST.with_repository("curated/other"), 2, application="other")

    assert [(e.environment, e.application) for e in expected()] == [
        ("production", "hello"),
        ("staging", "hello"),
        ("staging", "other"),
    ]


def test_should_run_of_one_application_reads_only_its_records(deployed, world, registry):
    """This keeps reading fast among 10,000 applications; a longer name with the same prefix is another one."""
    deployed()
    deployed(after=1, environment="production")
    deployed(FIRST.with_repository("curated/hello/too"), 2, application="hello/too")

    found = read_expected(PLACES, registry, registry, world.store(EXECUTION), "hello")

    assert [(e.environment, e.application) for e in found] == [("production", "hello"), ("staging", "hello")]
    assert set(registry.asked) == {"evidence/execution/hello"} and registry.listed == []
    assert read_expected(PLACES, registry, registry, world.store(EXECUTION), "never/deployed") == ()


def test_should_run_omits_environment_that_was_not_requested(deployed, world, registry):
    """Another monitor observes that environment."""
    deployed()
    deployed(after=1, environment="production")

    assert [e.environment for e in read_expected(["staging"], registry, registry, world.store(EXECUTION))] == [
        "staging"
    ]


def test_should_run_reads_only_recent_records(deployed, expected, registry):
    """The last record of each environment is found among many by reading a few."""
    for hour in range(40):
        deployed(image(hour), 3600 * hour, environment="staging" if hour % 8 else "production")

    assert [(e.environment, e.digest) for e in expected()] == [
        ("production", image(32).digest),
        ("staging", image(39).digest),
    ]
    assert len(registry.asked) == 40 - 32 + 1  # plus the one after which no record can be newer


def test_should_run_finds_old_record_of_other_environment(deployed, expected):
    """Many later deployments to the other environment do not hide it."""
    deployed(image(0), 0, environment="production")
    for hour in range(1, 20):
        deployed(image(hour), 3600 * hour)

    assert [(e.environment, e.digest) for e in expected()] == [
        ("production", image(0).digest),
        ("staging", image(19).digest),
    ]


def test_record_of_signer_with_fast_clock_is_found(deployed, registry, world, make):
    """The signing time decides, even if the record was pushed earlier."""
    registry.ahead[make.noon + timedelta(minutes=4)] = timedelta(minutes=4)
    deployed(FIRST, 240)
    deployed(SECOND, 60)

    (found,) = read_expected(["staging"], registry, registry, world.store(EXECUTION))

    assert found.digest == FIRST.digest


@pytest.mark.parametrize("asked", [["staging"], PLACES, [*PLACES, "never"]], ids=len)
def test_should_run_result_is_independent_of_other_environments(deployed, registry, world, make, asked):
    """The clock of one signer was an hour ahead, so its record was pushed long before the last one."""
    registry.ahead[make.noon + timedelta(hours=1)] = timedelta(hours=1)
    deployed(SECOND, -7200, environment="production")
    deployed(FIRST, 3600)
    deployed(SECOND, 1200)

    world.now = make.noon + timedelta(hours=2)
    found = {each.environment: each for each in read_expected(asked, registry, registry, world.store(EXECUTION))}

    assert found["staging"].digest == SECOND.digest


def test_record_signed_by_other_tier_is_ignored(deployed, expected):
    """Only execution may sign deployment records."""
    deployed()
    deployed(SECOND, after=1, signer=TierName.CURATION)

    assert [each.digest for each in expected()] == [FIRST.digest]


def test_other_evidence_in_repository_is_ignored(deployed, expected, world, make):
    """Verdicts are stored in the same repository."""
    world.store(EXECUTION).attach(SECOND.with_repository("evidence/execution/hello"), SUMMARY, {}, make.noon)
    world.registry.attach(SECOND.with_repository("evidence/execution/hello"), "x", b"x", {})

    assert expected() == ()


def test_should_run_of_empty_registry_is_empty(expected):
    """An empty registry is no error."""
    assert expected() == ()


def test_record_times_are_compared_across_time_zones(deployed, expected, world, make):
    """A time in another zone is converted before the comparison."""
    deployed(SECOND, 0)
    predicate = json.loads(json.dumps(_predicate(world)))
    predicate["deployment"]["digest"] = FIRST.digest
    predicate["deployedAt"] = "2026-11-24T13:30:00+02:00"  # half an hour before noon
    world.store(EXECUTION).attach(FIRST.with_repository("evidence/execution/hello"), DEPLOYMENT, predicate, make.noon)

    assert [each.digest for each in expected()] == [SECOND.digest]


def _predicate(world):
    (found,) = world.store(EXECUTION).read_verified(SECOND.with_repository("evidence/execution/hello"), EXECUTION)
    return found.predicate


@pytest.mark.parametrize(
    "change",
    [
        {"deployedAt": None},
        {"deployedAt": "rubbish"},
        {"deployedAt": "2026-11-24T12:00:00"},
        {"deployment": None},
        {"deployment": []},
        {"deployment": {}},
        {"deployment": {"environment": "staging"}},
    ],
    ids=str,
)
def test_unreadable_signed_record_is_an_error(deployed, expected, world, make, change):
    """It may be the latest record, so the expected image is unknown."""
    deployed(SECOND)
    where = FIRST.with_repository("evidence/execution/hello")
    world.store(EXECUTION).attach(where, DEPLOYMENT, {**_predicate(world), **change}, make.noon)

    with pytest.raises(EvidenceInvalid, match="urn:cscm:deployment:v1"):
        expected()


def records(world):
    found = world.store(TierName.CURATION).read_verified(FIRST.with_repository("evidence/execution/hello"), EXECUTION)
    return [e.digest for e in found if e.predicate_type == DEPLOYMENT]


def test_unchanged_deployment_is_not_recorded_again(deployed, world):
    """The deployment refers to the record that proves it."""
    first = deployed(name="staging-hello")
    again = deployed(name="staging-hello", after=60, changed=False)

    assert first.proven is None
    assert [*again.proven.evidence] == records(world)


@pytest.mark.parametrize(
    "change",
    [{"container": "3" * 64}, {"environment": "production"}, {"place": PLACE}, {"changed": True}],
    ids=str,
)
def test_deployment_that_differs_from_its_record_is_recorded(deployed, world, change):
    """A run may have ended between the deployment and its record."""
    deployed(name="staging-hello")
    again = deployed(**{"name": "staging-hello", "after": 60, "changed": False, **change})

    assert again.proven is None and len(records(world)) == 2


def test_older_record_of_same_container_is_no_proof(deployed, world):
    """Another container ran since, and only the latest record counts."""
    deployed(name="staging-hello")
    deployed(name="staging-hello", container="4" * 64, after=1)
    again = deployed(name="staging-hello", after=60, changed=False)

    assert again.proven is None and len(records(world)) == 3
