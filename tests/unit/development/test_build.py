"""build: resolves every input before the build and records it afterwards."""

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
from supply_chain.evidence.checks import Check, list_required_engine_checks
from supply_chain.evidence.provenance import make_provenance
from supply_chain.evidence.statement import PROVENANCE, TEST_RESULT
from supply_chain.model.declaration import DECLARATION
from supply_chain.model.declaration import FILE as DECLARATION_FILE
from supply_chain.model.image import ImageRef, Material
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
    """Reads only lines that begin with FROM or ADD, and returns readings like those of the real reader."""

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
    """A builder and base resolver that record their calls."""

    tool_versions: ClassVar = {"buildx": "0.30"}
    size = FETCHED // 2 + 1
    images = (ImageRef(repository="dev/hello", digest=OFFERED), ImageRef(repository="dev/hello", digest=OTHER))

    def __init__(self):
        self.orders, self.asked, self.looked, self.fetched = [], [], [], []
        self.granted, self.loaded = [], []
        self.more = ()

    def list_newest_first(self, repository, tag_prefix="", *, archived=False):
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

    def check(self, addresses, platform):
        pass

    def versions(self):
        return self.tool_versions

    def resolve(self, reference, declared):
        name = reference.removeprefix("docker.io/").removesuffix(":latest")
        self.asked.append(name)
        if name == "library/nothing":
            raise BaseMissing("no\nno")
        return f"host/{name}@{BASE}", Material(name=name, digest=BASE, curated=name.startswith("curated/"))


@pytest.fixture
def project(tmp_path, make, world, monkeypatch):
    """Return a function that builds an application from a Dockerfile and returns the image and the recorded calls."""
    numbers = itertools.count(1)
    store = world.store(TierName.DEVELOPMENT)

    def run(
        dockerfile=DOCKERFILE,
        declaration=None,
        fail=None,
        force=False,
        declaration_text=None,
        versions=None,
        tools=TOOLS,
        more=(),
        **source,
    ):
        world = World()
        world.more = more
        if versions:
            monkeypatch.setattr(World, "tool_versions", versions)
        if fail:
            monkeypatch.setattr(world, "build", fail)
        place = tmp_path / str(next(numbers))
        declared = declaration or make.declaration()
        snapshot = make.snapshot(
            place,
            declaration=declared,
            source=make.source(**source),
            files={
                declared.build.dockerfile: dockerfile,
                **({} if declaration_text is None else {DECLARATION_FILE: declaration_text}),
            },
        )
        ports = BuildPorts(
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
            when_loaded=world.loaded.append,
        )
        return build(snapshot, ports, "run1", force=force), world

    return run


def test_build_resolves_bases_to_digests_before_building(project):
    """Each base is resolved once, and BuildKit gets it under the name that it reads in the Dockerfile."""
    built, world = project()

    assert world.asked == ["curated/base/python"]
    assert all(
        order.images == {"docker.io/curated/base/python:latest": f"host/curated/base/python@{BASE}"}
        for order in world.orders
    )
    assert built.materials == (Material(name="curated/base/python", digest=BASE, curated=True),)
    assert built.uncurated == ()


def test_build_reports_uncurated_base(project):
    """The build goes on; the gate and the operator see the report."""
    assert project("FROM docker.io/python:3\n")[0].uncurated == ("library/python:3",)


def test_build_stops_if_base_is_missing(project):
    """Nothing is built from a base that cannot be resolved."""
    with pytest.raises(BaseMissing):
        project("FROM nothing\n")


def test_build_records_inputs_versions_and_invocation(project, make):
    """The record has the revision, the digests of the deciding files, tool versions and the run."""
    built, _ = project(dirty=True)

    assert (built.digest, built.application, built.source) == (DIGEST, "hello", make.source(dirty=True))
    assert built.dockerfile == make.digest_of(DOCKERFILE.encode())
    assert built.declaration == make.digest_of(b"the declaration")
    assert built.versions == {"buildx": "0.30", "reader": "1.0.0", "cscm": "0.1.0"}
    assert built.invocation == "run1"


def test_only_image_that_is_offered_is_checked_during_build(project):
    """The stage of the tests has other content."""
    _, world = project()
    for order in world.orders:
        order.when_loaded(f"of {order.target}")
    assert world.loaded == ["of None"]


def test_service_build_includes_tests_stage(project, make):
    """The tests run in a stage of the same build, from the same inputs."""
    _, world = project(declaration=make.declaration(test={"command": ["x"], "stage": "checks"}))

    image, tests = world.orders
    assert (image.target, image.name) == (None, "cscm.local/hello:run1")
    assert (tests.target, tests.name) == ("checks", stage_name("cscm.local/hello:run1"))
    assert (image.reproducible, tests.reproducible) == (True, False)
    own = ("target", "name", "annotations", "reproducible", "when_loaded")
    same = {name: getattr(image, name) for name in own}
    assert dataclasses.replace(tests, **same) == image


def test_base_build_has_no_tests_stage(project, make):
    """A base is checked by a command instead."""
    _, world = project(declaration=make.base())

    assert [order.target for order in world.orders] == [None]


def test_build_order_uses_declared_context_platform_and_epoch(project, make, tmp_path):
    """The build directory is the context, and SOURCE_DATE_EPOCH is the time of the commit."""
    declaration = make.declaration(build={"timeout": 60, "platform": "linux/arm64"})
    _, world = project(declaration=declaration, committed=77)

    order = world.orders[0]
    assert order.context == tmp_path / "1" / "built"
    assert order.dockerfile == DOCKERFILE.encode()
    assert (order.epoch, order.timeout, order.platform) == (77, 60, "linux/arm64")


def test_image_annotations_name_title_revision_and_base(project):
    """The OCI annotations mark uncommitted changes in the revision."""
    annotations = project(dirty=True)[1].orders[0].annotations

    assert annotations["org.opencontainers.image.title"] == "hello"
    assert annotations["org.opencontainers.image.revision"].endswith("-dirty")
    assert annotations["org.opencontainers.image.base.name"] == "curated/base/python"
    assert annotations["org.opencontainers.image.base.digest"] == BASE
    assert "org.opencontainers.image.base.name" not in project("FROM scratch")[1].orders[0].annotations


def test_build_failure_raises_error_of_builder(project):
    """A failed build gives no image."""

    def fail(*orders):
        raise BuildFailed("it broke\nmend it")

    with pytest.raises(BuildFailed):
        project(fail=fail)


def test_dockerfile_with_invalid_encoding_is_refused_by_path(project, make):
    """The error names the declared path; the test writes invalid UTF-8 by a surrogate."""
    with pytest.raises(DeclarationInvalid, match="other"):
        project(dockerfile="FROM \udcff", declaration=make.declaration(build={"dockerfile": "other"}))


def test_provenance_follows_slsa_and_contains_declaration(project, make):
    """With SLSA v1 provenance, every tier can work from the digest alone."""
    built, _ = project("FROM docker.io/python:3\n", dirty=True)

    predicate = make_provenance(built, make.declaration()).predicate()

    definition, details = predicate["buildDefinition"], predicate["runDetails"]
    assert definition["buildType"] == "urn:cscm:build:buildkit:v1"
    assert DECLARATION.validate_python(definition["externalParameters"]["declaration"]) == make.declaration()
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


def test_build_refuses_other_frontend_before_resolving_bases(project):
    """Nothing is resolved or built."""
    with pytest.raises(DockerfileRefused, match="another frontend"):
        project("# syntax=evil\nFROM nothing\n")


def test_build_fails_if_buildkit_used_undeclared_material(project):
    """The build of the test stage is compared too."""
    with pytest.raises(BuildMaterialsDiffer, match="git://evil"):
        project(more=("git://evil/x.git",))


def test_build_fetches_declared_urls_and_records_them(project, make):
    """Each URL is fetched once for both builds and verified by its checksum."""
    text = f"{DOCKERFILE}ADD --checksum={FILE} {URL} /a\n"
    declaration = make.declaration(build={"fetch": {"urls": {URL: FILE}}})

    built, world = project(text, declaration=declaration)

    assert world.fetched == [(URL, FILE)] and world.contents == {URL: ["a"]}
    assert built.materials[-1] == Material(name=URL, digest=FILE, curated=False)
    assert built.uncurated == ()
    statement = make_provenance(built, declaration)
    assert (FILE, URL) not in statement.materials and (BASE, "curated/base/python") in statement.materials
    assert statement.build_definition.resolved_dependencies[-1].uri == URL


def test_fetched_files_share_timeout_and_size_allowance(project, make):
    """Two files that each take more than half of the allowance exceed it."""
    urls = {URL: FILE, f"{URL}.2": FILE}
    text = DOCKERFILE + "".join(f"ADD --checksum={FILE} {url} /a\n" for url in urls)
    declaration = make.declaration(build={"fetch": {"urls": urls}})

    _, world = project(text, declaration=declaration)

    assert sorted(within for _, within in world.granted) == [False, True]
    assert all(seconds < declaration.build.timeout for seconds, _ in world.granted)


def test_build_refuses_undeclared_url_before_fetching(project):
    """The error says what to declare."""
    with pytest.raises(DockerfileRefused, match=r"(?s)not declared.*build\.fetch\.urls"):
        project(f"{DOCKERFILE}ADD --checksum={FILE} {URL} /a\n")


@pytest.fixture
def offer(world, make):
    """Return a function that attaches the evidence of a build by development: provenance and check results."""

    def attach(built, declaration=None, digest=OFFERED, signer=TierName.DEVELOPMENT, **results):
        declaration = declaration or make.declaration()
        ref, store = ImageRef(repository="dev/hello", digest=digest), world.store(signer)
        for check in list_required_engine_checks(declaration.kind):
            if results.get(check, "passed"):
                result = make.check(check, tools=TOOLS, **{results.get(check, "passed"): ("it",)})
                store.attach(ref, TEST_RESULT, result.predicate(), make.noon)
        return store.attach(ref, PROVENANCE, make_provenance(built, declaration).predicate(), make.noon)

    return attach


def test_proven_build_is_not_repeated(project, offer):
    """The image and its evidence are in the registry; only images of this revision are read."""
    digest = offer(project()[0])

    again, world = project()

    assert (world.orders, again.digest) == ([], OFFERED)
    assert again.proven.evidence == (digest,)
    assert world.looked == [("dev/hello", f"{again.source.short}-")]


def test_fresh_build_ignores_proven_build(project, offer):
    """The option repeats a build although it is proven."""
    offer(project()[0])

    again, world = project(force=True)

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
        {"declaration": {"owner": "another team"}},
        {"declaration": {"build": {"platform": "linux/arm64"}}},
    ],
    ids=str,
)
def test_build_with_changed_input_is_made(project, offer, make, change):
    """Each input alone decides."""
    offer(project()[0])
    if "declaration" in change:
        change = {"declaration": make.declaration(**change["declaration"])}

    again, world = project(**change)

    assert again.proven is None and world.orders


def test_build_with_changed_declaration_text_is_made(project, offer):
    """A change of the text alone counts as well."""
    offer(project()[0])

    assert project(declaration_text="another text")[0].proven is None


def test_build_with_changed_base_digest_is_made(project, offer, monkeypatch):
    """A rebuild exists to pick up a fixed base."""
    offer(project()[0])
    monkeypatch.setattr(
        World,
        "resolve",
        lambda self, name, declared: (f"host/x@{OTHER}", Material(name=name, digest=OTHER, curated=True)),
    )

    assert project()[0].proven is None


@pytest.mark.parametrize("results", [{Check.PROBE: "failed"}, {Check.TESTS: None}, {Check.CONTENT: None}], ids=str)
def test_build_is_made_if_engine_check_lacks_passing_result(project, offer, results):
    """These checks need the image in the engine."""
    offer(project()[0], **results)

    assert project()[0].proven is None


def test_evidence_signed_by_other_tier_does_not_prove_build(project, offer):
    """Only development may prove a build of development."""
    offer(project()[0], signer=TierName.CURATION)

    assert project()[0].proven is None


def test_build_is_made_if_tools_of_its_checks_changed(project, offer):
    """A new containerd does not change the build, but the earlier check results no longer apply."""
    offer(project()[0])

    assert project(tools={**TOOLS, "containerd": "1.7"})[0].proven is None


@pytest.mark.parametrize("rootfs", [None, {"packages": ["base-files"]}], ids=["from another base", "from packages"])
def test_base_from_distribution_packages_is_always_built(project, offer, make, rootfs):
    """The distribution may have newer packages, which the declaration does not name."""
    declaration = make.base(name="hello", rootfs=rootfs)
    offer(project(declaration=declaration)[0], declaration)

    assert (project(declaration=declaration)[0].proven is None) is (rootfs is not None)


def test_cache_key_is_per_application_and_shared_with_tests(project):
    """A stage that the image and the tests share is built once."""
    _, world = project()

    assert [(order.key, order.caches, order.force) for order in world.orders] == [
        ("key of hello", "key of hello", False)
    ] * 2


def test_fresh_build_skips_cache_and_uses_cache_mounts_of_run(project):
    """No later run reads these cache mounts, because the run names them."""
    _, world = project(force=True)

    image, tests = world.orders
    assert image.force and tests.force
    assert image.key == "key of hello"
    assert image.caches == tests.caches == run_key("key of hello", "run1") != run_key("key of hello", "run2")
