"""build: every input is known before, and recorded after."""

import contextlib
import dataclasses
import itertools
from pathlib import Path
from typing import ClassVar

import pytest

from supply_chain.app import FILE, MANIFEST
from supply_chain.development.build import (
    LIMIT,
    Workshop,
    base_names,
    build,
    final_base,
    refuse_detours,
)
from supply_chain.development.build import test_name as stage_name
from supply_chain.development.separation import run_key
from supply_chain.errors import BaseMissing, BuildFailed, DeclarationInvalid
from supply_chain.evidence.checks import Check, required_in_engine
from supply_chain.evidence.provenance import provenance
from supply_chain.evidence.statement import PROVENANCE, TEST_RESULT
from supply_chain.image import ImageRef, Material
from supply_chain.tier import TierName

DIGEST = "sha256:" + "a" * 64
BASE = "sha256:" + "b" * 64
TOOLS = {"engine": "26.1", "containerd": "1.6"}
OFFERED, OTHER = "sha256:" + "5" * 64, "sha256:" + "6" * 64
DOCKERFILE = "FROM curated/base/python AS test\nFROM curated/base/python\nCOPY --from=test /a /a\n"


BASIC = {"kind": "base", "name": "hello", "owner": "us", "check": ["true"]}


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("FROM python", ["python"]),
        ("from python as x\nfrom X", ["python"]),
        ("FROM --platform=linux/amd64 python:3.11 AS build", ["python:3.11"]),
        ("FROM scratch", []),
        ("FROM SCRATCH", []),
        ("FROM a AS one\nFROM b AS two\nCOPY --from=one x y\nCOPY --from=0 x y", ["a", "b"]),
        ("FROM a\nFROM a", ["a"]),
        ("FROM a\nCOPY --from=other/image:1 x y", ["a", "other/image:1"]),
        ("FROM a\nCOPY --chown=1:1 --from=b --link x y", ["a", "b"]),
        ("# FROM commented\nFROM a\nRUN echo FROM b", ["a"]),
        ("FROM a AS b\nFROM b", ["a"]),
        ("FROM b\nFROM a AS b", ["b", "a"]),
        ("FROM $BASE", ["$BASE"]),
        ("ARG BASE=x\nFROM ${BASE}", ["${BASE}"]),
        ("  FROM\ta", ["a"]),
        ("FROM \\\n  a \\\n  AS b\nFROM b", ["a"]),
        ("FROM a\nCOPY \\\n  --from=b \\\n  x y", ["a", "b"]),
        ("FROM a\nRUN --mount=type=bind,from=b,target=/x cat /x", ["a", "b"]),
        ("FROM a AS s\nFROM c\nRUN --mount=from=s,target=/x --mount=target=/y,from=b:1 true", ["a", "c", "b:1"]),
        ("FROM a\nRUN --network=none \\\n  --mount=type=cache,target=/c,from=b \\\n  true", ["a", "b"]),
        ("FROM a\nRUN --mount=type=cache,target=/x echo --mount=from=b", ["a"]),
        ("FROM a\nRUN --mount=from=b,target=/x,from=c true", ["a", "b", "c"]),
        ('FROM a\nRUN --mount="type=bind,from=b" true', ["a", "b"]),
        ("\n\n \n\t\r\nFROM a\n\n\n COPY --from=b x y", ["a", "b"]),
        ("", []),
    ],
)  # fmt: skip
def test_finds_every_image_that_a_dockerfile_names(text, names):
    """What it starts from, copies from or mounts; its own stages are none."""
    assert sorted(base_names(text)) == sorted(names)


@pytest.mark.parametrize(
    ("text", "base"),
    [
        ("FROM a AS build\nFROM b\nCOPY --from=build /x /x\nCOPY --from=c /y /y", "b"),
        ("FROM a AS one\nFROM one AS two\nFROM two", "a"),
        ("FROM go AS build\nFROM scratch\nCOPY --from=build /x /x", None),
        ("FROM a AS Build\nFROM build", "a"),
    ],
)
def test_an_image_names_the_base_of_its_last_stage(text, base):
    """Not the stage that only built something."""
    assert final_base(text) == base


class World:
    """A builder and bases that write down what they are asked for."""

    known: ClassVar = {"buildx": "0.30"}
    images = (ImageRef(repository="dev/hello", digest=OFFERED), ImageRef(repository="dev/hello", digest=OTHER))

    def __init__(self):
        self.orders, self.asked, self.looked = [], [], []

    def newest_first(self, repository, tag_prefix=""):
        self.looked.append((repository, tag_prefix))
        return self.images

    def build(self, order):
        self.orders = sorted([*self.orders, order], key=lambda each: each.target is not None)
        return DIGEST if order.target is None else "sha256:" + "9" * 64

    def versions(self):
        return self.known

    def resolve(self, name):
        self.asked.append(name)
        if name == "nothing":
            raise BaseMissing("no\nno")
        return f"host/{name}@{BASE}", Material(name=name, digest=BASE, curated=name.startswith("curated/"))


@pytest.fixture
def project(tmp_path, make, world):
    """Build an application with this Dockerfile; gives the image and what was asked for."""
    numbers = itertools.count(1)
    store = world.store(TierName.DEVELOPMENT)

    def run(
        dockerfile=DOCKERFILE,
        manifest=None,
        fail=None,
        fresh=False,
        declaration=None,
        versions=None,
        tools=TOOLS,
        **source,
    ):
        world = World()
        world.known = versions or world.known
        if fail:
            world.build = fail
        place = tmp_path / str(next(numbers))
        declared = manifest or make.manifest()
        snapshot = make.snapshot(
            place,
            manifest=declared,
            source=make.source(**source),
            files={declared.build.dockerfile: dockerfile, **({} if declaration is None else {FILE: declaration})},
        )
        workshop = Workshop(
            builder=world,
            bases=world,
            offered=world,
            evidence=store,
            in_engine=dict.fromkeys(Check, tools),
            context=lambda snapshot: contextlib.nullcontext(snapshot.directory / "built"),
            cache_key=lambda source, application: f"key of {application}",
            now=lambda: make.noon,
            version="0.1.0",
        )
        return build(snapshot, workshop, "run1", fresh=fresh), world

    return run


def test_bases_are_resolved_to_digests_before_the_build(project):
    """Each once, and BuildKit gets them under the names that the Dockerfile has."""
    built, world = project()

    assert world.asked == ["curated/base/python"]
    assert all(order.contexts == {"curated/base/python": f"host/curated/base/python@{BASE}"} for order in world.orders)
    assert built.materials == (Material(name="curated/base/python", digest=BASE, curated=True),)
    assert built.uncurated == ()


def test_a_base_that_is_not_curated_is_reported(project):
    """It is built all the same; the gate and the operator learn of it."""
    assert project("FROM docker.io/python:3\n")[0].uncurated == ("docker.io/python:3",)


def test_a_base_that_cannot_be_had_stops_the_build(project):
    """Nothing is built on a guess."""
    with pytest.raises(BaseMissing):
        project("FROM nothing\n")


def test_what_the_image_is_made_of_is_recorded(project, make):
    """Revision, digests of the deciding files, versions, when and by which run."""
    built, _ = project(dirty=True)

    assert (built.digest, built.application, built.source) == (DIGEST, "hello", make.source(dirty=True))
    assert built.dockerfile == make.digest_of(DOCKERFILE.encode())
    assert built.declaration == make.digest_of(b"the declaration")
    assert built.versions == {"buildx": "0.30", "cscm": "0.1.0"}
    assert built.invocation == "run1"


def test_a_service_is_built_with_its_tests_stage(project, make):
    """The tests run in a stage of the same build, from the same inputs."""
    _, world = project(manifest=make.manifest(test={"command": ["x"], "stage": "checks"}))

    image, tests = world.orders
    assert (image.target, image.name) == (None, "cscm.local/hello:run1")
    assert (tests.target, tests.name) == ("checks", stage_name("cscm.local/hello:run1"))
    assert (image.reproducible, tests.reproducible) == (True, False)
    same = {name: getattr(image, name) for name in ("target", "name", "annotations", "reproducible")}
    assert dataclasses.replace(tests, **same) == image


def test_a_base_has_no_tests_stage(project, make):
    """It is checked by a command."""
    _, world = project(manifest=make.base())

    assert [order.target for order in world.orders] == [None]


def test_the_context_is_what_the_application_declares(project, make, tmp_path):
    """In the directory that is built in, at the commit's time."""
    manifest = make.manifest(build={"timeout": 60, "platform": "linux/arm64"})
    _, world = project(manifest=manifest, committed=77)

    order = world.orders[0]
    assert order.context == tmp_path / "1" / "built"
    assert order.dockerfile == tmp_path / "1" / "dockerfile" / "Dockerfile"
    assert (order.epoch, order.timeout, order.platform) == (77, 60, "linux/arm64")


def test_the_image_says_where_it_comes_from(project):
    """OCI's own annotations; uncommitted changes are marked."""
    annotations = project(dirty=True)[1].orders[0].annotations

    assert annotations["org.opencontainers.image.title"] == "hello"
    assert annotations["org.opencontainers.image.revision"].endswith("-dirty")
    assert annotations["org.opencontainers.image.base.name"] == "curated/base/python"
    assert annotations["org.opencontainers.image.base.digest"] == BASE
    assert "org.opencontainers.image.base.name" not in project("FROM scratch")[1].orders[0].annotations


def test_a_build_that_fails_makes_no_image(project):
    """Its error is the builder's."""

    def fail(order):
        raise BuildFailed("it broke\nmend it")

    with pytest.raises(BuildFailed):
        project(fail=fail)


def test_a_dockerfile_that_is_no_text_is_named(project, make):
    """As what the application declares; the test writes text as it is."""
    with pytest.raises(DeclarationInvalid, match="other"):
        project(dockerfile="FROM \udcff", manifest=make.manifest(build={"dockerfile": "other"}))


def test_provenance_is_slsas_and_carries_the_declaration(project, make):
    """SLSA v1: any tier can start from the digest alone."""
    built, _ = project("FROM docker.io/python:3\n", dirty=True)

    said = provenance(built, make.manifest()).predicate()

    definition, details = said["buildDefinition"], said["runDetails"]
    assert definition["buildType"] == "urn:cscm:build:buildkit:v1"
    assert MANIFEST.validate_python(definition["externalParameters"]["declaration"]) == make.manifest()
    assert definition["internalParameters"]["uncurated"] == ["docker.io/python:3"]
    inputs = {each["name"]: each for each in definition["resolvedDependencies"]}
    assert inputs["source"]["digest"] == {"gitCommit": built.source.revision}
    assert inputs["source"]["annotations"] == {"dirty": True}
    assert inputs["Dockerfile"]["digest"] == {"sha256": built.dockerfile.removeprefix("sha256:")}
    assert inputs["docker.io/python:3"] == {
        "name": "docker.io/python:3",
        "digest": {"sha256": "b" * 64},
        "annotations": {"curated": False},
    }
    assert details["metadata"] == {
        "invocationId": "run1",
        "startedOn": "2026-11-24T12:00:00Z",
        "finishedOn": "2026-11-24T12:00:00Z",
    }
    assert details["builder"]["version"] == built.versions


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("# syntax=evil/frontend:1\nFROM a", "frontend"),
        ("#syntax = evil\nFROM a", "frontend"),
        ("# escape=`\nFROM a\nCOPY `\n --from=evil /x /x\n", "escape"),
        ("#Escape = `\nFROM a", "escape"),
        ("\ufeff# escape=`\nFROM a", "byte order mark"),
        ("FROM a\nRUN <<EOF\nFROM b AS c\nEOF\nFROM c", "heredoc"),
        ("FROM a\nCOPY <<-'E' /x\n\tFROM b AS c\n\tE\n", "heredoc"),
        ("FROM a\nRUN <<EOF\nFROM b AS c\n", "heredoc"),
        ("FROM a AS 127.0.0.1:1/b@sha256:c\nFROM b", "no name of one"),
        ("FROM a AS host\\\n:1/b\nFROM host\\\n:1/b", "no name of one"),
    ],
)
def test_a_dockerfile_that_hides_what_it_does_is_not_built(project, text, why):
    """Before anything of it runs."""
    with pytest.raises(DeclarationInvalid, match=why):
        project(dockerfile=text)


@pytest.mark.parametrize(
    "text",
    [
        "# escape=\\\nFROM a",
        "FROM a\nRUN echo '# escape'",
        "# a syntax of its own\nFROM a",
        "FROM a AS B_1.x-2\nRUN <<EOF\ntrue\nEOF\nFROM a",
    ],
)
def test_a_dockerfile_that_only_looks_so_is_built(project, text):
    """The backslash is what lines go on after anyway."""
    assert project(dockerfile=text)[1].orders


FULL = LIMIT - 1000


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("\n" * FULL, ()),
        ("\n \n" * (FULL // 3), ()),
        (" " * FULL, ()),
        ("<<" + "A" * FULL, ()),
        ("<<A\n" * (FULL // 4), ()),
        ("<<A " * (FULL // 4), ()),
        ("RUN " + "--mount=," * (FULL // 9) + " x", ()),
        ("RUN " + "--mount=,from=a" * (FULL // 15) + " x", ("a--mount=", "a")),
        ("COPY " + "--x " * (FULL // 4), ()),
        ("FROM " * (FULL // 5), ("FROM",)),
        ("\\\n#\n" * (FULL // 4), ()),
        ("#\n" * (FULL // 2), ()),
    ],
    ids=lambda value: repr(value[:12]),
)
@pytest.mark.timeout(120)  # they took minutes to hours
def test_what_a_dockerfile_names_is_found_at_once_whatever_it_holds(text, names):
    """No text makes a run stand still before its build's own time begins to count."""
    refuse_detours(Path("Dockerfile"), text)
    assert base_names(text) == names
    assert final_base(text) == ("FROM" if text.startswith("FROM") else None)


def test_a_dockerfile_may_be_as_large_as_the_limit_and_no_larger(project):
    """A page, not a data set."""
    start = "FROM a\n#"
    assert project(dockerfile=start + "x" * (LIMIT - len(start)))[1].orders

    with pytest.raises(DeclarationInvalid, match="more than 256 KiB"):
        project(dockerfile=start + "x" * (LIMIT - len(start) + 1))


@pytest.fixture
def offer(world, make):
    """Leave in the registry what development would: provenance of a build, and results of its checks."""

    def attach(built, manifest=None, digest=OFFERED, signer=TierName.DEVELOPMENT, **results):
        manifest = manifest or make.manifest()
        ref, store = ImageRef(repository="dev/hello", digest=digest), world.store(signer)
        for check in required_in_engine(manifest.kind):
            if results.get(check, "passed"):
                result = make.check(check, tools=TOOLS, **{results.get(check, "passed"): ("it",)})
                store.attach(ref, TEST_RESULT, result.predicate(), make.noon)
        return store.attach(ref, PROVENANCE, provenance(built, manifest).predicate(), make.noon)

    return attach


def test_the_same_build_is_not_made_again(project, offer):
    """Its image and what proves it are in the registry; only images of this revision are looked at."""
    digest = offer(project()[0])

    again, world = project()

    assert (world.orders, again.digest) == ([], OFFERED)
    assert again.proven.evidence == (digest,)
    assert world.looked == [("dev/hello", f"{again.source.short}-")]


def test_fresh_builds_again(project, offer):
    """Whatever is proven."""
    offer(project()[0])

    again, world = project(fresh=True)

    assert len(world.orders) == 2 and again.proven is None


@pytest.mark.parametrize(
    "change",
    [
        {"revision": "4" * 40},
        {"dockerfile": DOCKERFILE + "USER 1\n"},
        {"dockerfile": "FROM docker.io/python:3\n"},
        {"versions": {"buildx": "0.31"}},
        {"repository": "another"},
        {"path": "elsewhere"},
        {"dirty": True},
        {"snapshot": "sha256:" + "7" * 64},
        {"manifest": {"owner": "another team"}},
        {"manifest": {"build": {"platform": "linux/arm64"}}},
    ],
    ids=str,
)
def test_a_build_whose_inputs_changed_is_made(project, offer, make, change):
    """Each of them by itself."""
    offer(project()[0])
    if "manifest" in change:
        change = {"manifest": make.manifest(**change["manifest"])}

    again, world = project(**change)

    assert again.proven is None and world.orders


def test_the_other_declaration_is_another_build(project, offer):
    """Also where the change is only in its text."""
    offer(project()[0])

    assert project(declaration="another text")[0].proven is None


def test_another_digest_of_the_base_is_another_build(project, offer, monkeypatch):
    """A base that was fixed is what a rebuild is for."""
    offer(project()[0])
    monkeypatch.setattr(
        World, "resolve", lambda self, name: ("host/x", Material(name=name, digest=OTHER, curated=True))
    )

    assert project()[0].proven is None


@pytest.mark.parametrize("results", [{Check.PROBE: "failed"}, {Check.TESTS: None}, {Check.CONTENT: None}], ids=str)
def test_a_build_is_made_again_where_its_checks_have_to_be(project, offer, results):
    """They need the image in the engine."""
    offer(project()[0], **results)

    assert project()[0].proven is None


def test_what_another_tier_signed_proves_no_build(project, offer):
    """Only development says what development built."""
    offer(project()[0], signer=TierName.CURATION)

    assert project()[0].proven is None


def test_a_build_is_made_again_where_other_tools_would_make_its_checks(project, offer):
    """A containerd that was raised changes no build, but what was seen with the one before is not proven."""
    offer(project()[0])

    assert project(tools={**TOOLS, "containerd": "1.7"})[0].proven is None


@pytest.mark.parametrize("rootfs", [None, {"packages": ["base-files"]}], ids=["from another base", "from packages"])
def test_a_base_of_the_distributions_packages_is_always_built(project, offer, make, rootfs):
    """The distribution may have newer ones, and the declaration does not say which."""
    manifest = make.base(name="hello", rootfs=rootfs)
    offer(project(manifest=manifest)[0], manifest)

    assert (project(manifest=manifest)[0].proven is None) is (rootfs is not None)


def test_caches_are_the_applications_by_a_key_that_it_cannot_choose(project):
    """Image and tests share it, so that a stage of both is built once."""
    _, world = project()

    assert [(order.key, order.caches, order.fresh) for order in world.orders] == [
        ("key of hello", "key of hello", False)
    ] * 2


def test_a_fresh_build_uses_no_cache_and_mounts_caches_of_its_own(project):
    """Which nobody reads again: they are named by the run."""
    _, world = project(fresh=True)

    image, tests = world.orders
    assert image.fresh and tests.fresh
    assert image.key == "key of hello"
    assert image.caches == tests.caches == run_key("key of hello", "run1") != run_key("key of hello", "run2")
