"""build: every input is known before, and recorded after."""

import contextlib
import dataclasses
import itertools
from typing import ClassVar

import pytest

from supply_chain.development.build import FETCHED, BuildPorts, BuildResult, build
from supply_chain.development.build import test_name as stage_name
from supply_chain.development.dockerfile import IMAGE, Operations, Reading, SourceOperation, normalize_reference
from supply_chain.development.record import BuildRecord, RecordedMaterial
from supply_chain.development.separation import run_key
from supply_chain.errors import BaseMissing, BuildFailed, BuildMaterialsDiffer, DeclarationInvalid, DockerfileRefused
from supply_chain.evidence.checks import Check, required_in_engine
from supply_chain.evidence.provenance import provenance
from supply_chain.evidence.statement import PROVENANCE, TEST_RESULT
from supply_chain.model.image import ImageRef, Material
from supply_chain.model.manifest import FILE as DECLARATION
from supply_chain.model.manifest import MANIFEST
from supply_chain.model.tier import TierName

DIGEST = "sha256:" + "a" * 64
BASE = "sha256:" + "b" * 64
FILE = "sha256:" + "f" * 64
TOOLS = {"engine": "26.1", "containerd": "1.6"}
OFFERED, OTHER = "sha256:" + "5" * 64, "sha256:" + "6" * 64
DOCKERFILE = "FROM curated/base/python AS test\nFROM curated/base/python\nCOPY --from=test /a /a\n"


BASIC = {"kind": "base", "name": "hello", "owner": "us", "check": ["true"]}


URL = "https://files.test/a.tgz"


class Reader:
    """Reads lines that begin with FROM or ADD, and no others; a reading is what the real one gives of such a text."""

    version = "1.0.0"

    def read(self, content, targets, platform, arguments, namespace, configs):
        words = [line.split() for line in content.decode().splitlines()]
        images = [normalize_reference(each[1]) for each in words if each[:1] == ["FROM"] and each[1] != "scratch"]
        urls = [(each[2], each[1].partition("=")[2]) for each in words if each[:1] == ["ADD"]]
        sources = [
            *({"identifier": f"{IMAGE}{name}"} for name in images),
            *({"identifier": url, "attributes": {"http.checksum": sum, "http.filename": "a"}} for url, sum in urls),
        ]
        target = {"sources": sources, "images": images, "base": images[-1] if images else ""}
        syntax = [{"name": "syntax", "value": "evil", "line": 1}] if content.startswith(b"# syntax=") else []
        return Reading.model_validate({"directives": syntax, "targets": dict.fromkeys(targets, target)})


class World:
    """A builder and bases that write down what they are asked for."""

    known: ClassVar = {"buildx": "0.30"}
    size = FETCHED // 2 + 1
    images = (ImageRef(repository="dev/hello", digest=OFFERED), ImageRef(repository="dev/hello", digest=OTHER))

    def __init__(self):
        self.orders, self.asked, self.looked, self.fetched = [], [], [], []
        self.granted = []
        self.more = ()

    def newest_first(self, repository, tag_prefix=""):
        self.looked.append((repository, tag_prefix))
        return self.images

    def build(self, *orders):
        return tuple(self._built(order) for order in orders)

    def _built(self, order):
        self.orders = sorted([*self.orders, order], key=lambda each: each.target is not None)
        sources = [*(f"{IMAGE}{address}" for address in order.images.values()), *self.more]
        urls = [SourceOperation(identifier=url, attributes={"http.checksum": FILE}) for url in order.fetched]
        record = BuildRecord(
            frontend="dockerfile.v0",
            arguments={},
            materials=tuple(
                RecordedMaterial(uri=f"pkg:docker/{address}", digest=address.partition("@")[2])
                for address in order.images.values()
            ),
            operations=Operations(sources=(*(SourceOperation(identifier=each) for each in sources), *urls)),
        )
        self.contents = {url: [p.name for p in place.iterdir()] for url, place in order.fetched.items()}
        return BuildResult(DIGEST if order.target is None else "sha256:" + "9" * 64, record)

    def fetch(self, url, checksum, target, timeout, allowance):
        self.fetched.append((url, checksum))
        self.granted.append((timeout, allowance.take(self.size)))
        target.write_text("fetched")

    def config(self, address, platform):
        return b"{}"

    def versions(self):
        return self.known

    def resolve(self, reference, declared):
        name = reference.removeprefix("docker.io/").removesuffix(":latest")
        self.asked.append(name)
        if name == "library/nothing":
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
        more=(),
        **source,
    ):
        world = World()
        world.more = more
        world.known = versions or world.known
        if fail:
            world.build = fail
        place = tmp_path / str(next(numbers))
        declared = manifest or make.manifest()
        snapshot = make.snapshot(
            place,
            manifest=declared,
            source=make.source(**source),
            files={
                declared.build.dockerfile: dockerfile,
                **({} if declaration is None else {DECLARATION: declaration}),
            },
        )
        workshop = BuildPorts(
            builder=world,
            reader=Reader(),
            bases=world,
            fetch=world.fetch,
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
    """Each once, and BuildKit gets them under the names that it reads in the Dockerfile."""
    built, world = project()

    assert world.asked == ["curated/base/python"]
    assert all(
        order.images == {"docker.io/curated/base/python:latest": f"host/curated/base/python@{BASE}"}
        for order in world.orders
    )
    assert built.materials == (Material(name="curated/base/python", digest=BASE, curated=True),)
    assert built.uncurated == ()


def test_a_base_that_is_not_curated_is_reported(project):
    """It is built all the same; the gate and the operator learn of it."""
    assert project("FROM docker.io/python:3\n")[0].uncurated == ("library/python:3",)


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
    assert built.versions == {"buildx": "0.30", "reader": "1.0.0", "cscm": "0.1.0"}
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
    assert order.dockerfile == DOCKERFILE.encode()
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

    def fail(*orders):
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
    assert definition["internalParameters"]["uncurated"] == ["library/python:3"]
    inputs = {each["name"]: each for each in definition["resolvedDependencies"]}
    assert inputs["source"]["digest"] == {"gitCommit": built.source.revision}
    assert inputs["source"]["annotations"] == {"dirty": True}
    assert inputs["Dockerfile"]["digest"] == {"sha256": built.dockerfile.removeprefix("sha256:")}
    assert inputs["library/python:3"] == {
        "name": "library/python:3",
        "digest": {"sha256": "b" * 64},
        "annotations": {"curated": False},
    }
    assert details["metadata"] == {
        "invocationId": "run1",
        "startedOn": "2026-11-24T12:00:00Z",
        "finishedOn": "2026-11-24T12:00:00Z",
    }
    assert details["builder"]["version"] == built.versions


def test_build_refuses_another_frontend_before_anything_runs(project):
    """Nothing is resolved or built."""
    with pytest.raises(DockerfileRefused, match="another frontend"):
        project("# syntax=evil\nFROM nothing\n")


def test_build_fails_if_buildkit_took_in_something_else(project):
    """Whatever the reading said; the test stage's build is compared as well."""
    with pytest.raises(BuildMaterialsDiffer, match="git://evil"):
        project(more=("git://evil/x.git",))


def test_build_fetches_declared_urls_and_records_them(project, make):
    """Once for both builds, with the checksum; the file lies where BuildKit copies it from."""
    text = f"{DOCKERFILE}ADD --checksum={FILE} {URL} /a\n"
    manifest = make.manifest(build={"fetch": {"urls": {URL: FILE}}})

    built, world = project(text, manifest=manifest)

    assert world.fetched == [(URL, FILE)] and world.contents == {URL: ["a"]}
    assert built.materials[-1] == Material(name=URL, digest=FILE, curated=False)
    assert built.uncurated == ()
    said = provenance(built, manifest)
    assert (FILE, URL) not in said.materials and (BASE, "curated/base/python") in said.materials
    assert said.build_definition.resolved_dependencies[-1].uri == URL


def test_the_files_of_a_build_share_its_time_and_one_allowance(project, make):
    """Two that have more than half of it each are too much, wherever they come from."""
    urls = {URL: FILE, f"{URL}.2": FILE}
    text = DOCKERFILE + "".join(f"ADD --checksum={FILE} {url} /a\n" for url in urls)
    manifest = make.manifest(build={"fetch": {"urls": urls}})

    _, world = project(text, manifest=manifest)

    assert sorted(within for _, within in world.granted) == [False, True]
    assert all(seconds < manifest.build.timeout for seconds, _ in world.granted)


def test_build_refuses_an_undeclared_url_before_fetching_it(project):
    """The error says what to declare."""
    with pytest.raises(DockerfileRefused, match=r"(?s)not declared.*build\.fetch\.urls"):
        project(f"{DOCKERFILE}ADD --checksum={FILE} {URL} /a\n")


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
        World,
        "resolve",
        lambda self, name, declared: (f"host/x@{OTHER}", Material(name=name, digest=OTHER, curated=True)),
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
