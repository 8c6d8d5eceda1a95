"""check_record: any difference between the BuildKit record and the reading fails the build."""

import pytest

from supply_chain.development.dockerfile import Operations, Target
from supply_chain.development.record import BuildRecord, Expected, check_record
from supply_chain.errors import BuildMaterialsDiffer

SUM, OTHER = "sha256:" + "a" * 64, "sha256:" + "b" * 64
NAME, ADDRESS = "docker.io/curated/base/python:latest", f"registry.test/curated/base/python@{SUM}"
URL = "https://files.test/a"
SPACE = "cscm.local/hello"
CACHE = f"{SPACE}//c"


def execs(**change):
    mounts = ({"type": "cache", "target": "/c", "id": CACHE},)
    return [{"command": "x", "network": "unset", "security": "sandbox", "mounts": mounts, **change}]


def sources(image, *more):
    return [{"identifier": f"docker-image://{image}"}, {"identifier": "local://context"}, *more]


def added(checksum=SUM, url=URL):
    return {"identifier": url, "attributes": {"http.checksum": checksum}}


TARGET = Target.model_validate(
    {"base": NAME, "images": [NAME], "sources": sources(NAME, added()), "execs": execs(), "others": {"file": 2}}
)
EXPECTED = Expected(TARGET, {NAME: ADDRESS}, {URL: SUM}, SPACE)


def record(frontend="dockerfile.v0", arguments=(), materials=None, **operations):
    found = [{"uri": f"pkg:docker/x@{SUM}", "digest": SUM}] if materials is None else materials
    operations = {"sources": sources(ADDRESS, added()), "execs": execs(), "others": {"file": 2}, **operations}
    return BuildRecord(
        frontend=frontend,
        arguments=dict(arguments),
        materials=found,
        operations=Operations.model_validate(operations),
    )


def test_check_record_accepts_record_that_matches_reading():
    """Images are compared by their resolved addresses."""
    check_record("", record(), EXPECTED)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (record(frontend="gateway.v0", arguments={"source": "evil"}), "the frontend was 'evil'"),
        (record(frontend="other"), "the frontend was 'other'"),
        (record(arguments={"cmdline": "evil"}), "the frontend was"),
        (record(sources=sources(ADDRESS, added(), {"identifier": "git://evil/a"})), "git://evil/a was taken in"),
        (record(sources=sources(f"evil/a@{SUM}", added())), f"docker-image://evil/a@{SUM} was taken in"),
        (record(sources=sources(ADDRESS)), f"{URL} is in the reading, and was not taken in"),
        (record(sources=[]), "local://context is in the reading"),
        (record(sources=sources(ADDRESS, added(OTHER))), f"{URL} was taken in with the checksum {OTHER}"),
        (record(execs=execs(network="host")), "--network=host"),
        (record(execs=execs(security="insecure")), "--security=insecure"),
        (record(execs=execs(mounts=({"type": "cache", "target": "/c", "id": "other//c"},))), "cache mount other//c"),
        (record(execs=execs(mounts=())), f"cache mount {CACHE} is in the reading"),
        (record(execs=execs(mounts=({"type": "ssh", "target": "/", "id": ""}, *execs()[0]["mounts"]))), "SSH agent"),
        (record(execs=execs(secrets=("aws",))), "the secret 'aws'"),
        (record(others={"file": 2, "build": 1}), "does not know: build"),
        (record(materials=[]), f"image {SUM} is in the reading"),
        (record(materials=[{"uri": "pkg:docker/x", "digest": OTHER}]), f"image {OTHER} was taken in"),
        (record(materials=[{"uri": "pkg:docker/x", "digest": None}]), "image None was taken in"),
        (
            record(materials=[{"uri": f"pkg:docker/x@{SUM}", "digest": SUM}, {"uri": "https://evil", "digest": SUM}]),
            "material https://evil was taken in",
        ),
    ],
)
def test_check_record_fails_on_each_difference(found, why):
    """The error names the difference."""
    with pytest.raises(BuildMaterialsDiffer, match=why) as caught:
        check_record("test", found, EXPECTED)
    assert "BuildKit's record of test differs" in str(caught.value)


def test_check_record_names_some_differences_and_counts_rest():
    """The error message stays short."""
    more = [{"identifier": f"git://evil/{n}"} for n in range(20)]

    with pytest.raises(BuildMaterialsDiffer, match=r"\n- and 16 more"):
        check_record("", record(sources=sources(ADDRESS, added(), *more)), EXPECTED)
