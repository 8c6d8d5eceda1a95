"""plan_build: reads a Dockerfile until every image that it needs is resolved."""

import pytest

from supply_chain.development.dockerfile import IMAGE, Reading
from supply_chain.development.plan import ROUNDS, plan_build
from supply_chain.errors import DockerfileRefused
from supply_chain.model.declaration import DECLARATION
from supply_chain.model.image import Material, Source

SUM = "sha256:" + "a" * 64
SOURCE = Source(path=".", repository="r", revision="0" * 40, dirty=False, committed=77)


class World:
    """Images whose configurations name further images, as ONBUILD does; `triggers` maps an image to these images."""

    version = "1.0.0"

    def __init__(self, triggers):
        self.triggers, self.reads, self.asked, self.checked, self.stages = triggers, [], [], [], []

    def read(self, content, targets, platform, arguments, namespace, configs):
        self.reads.append((content, tuple(targets), platform, arguments, namespace, dict(configs)))
        images = ["docker.io/a:1"]
        for name in images:
            if name in configs:
                images += self.triggers.get(name, [])
        target = {"sources": [{"identifier": f"{IMAGE}{n}"} for n in images], "images": images, "base": images[0]}
        return Reading.model_validate({"targets": dict.fromkeys(targets, target), "stages": self.stages})

    def resolve(self, reference, declared):
        self.asked.append((reference, tuple(declared)))
        return f"{reference}@{SUM}", Material(name=reference, digest=SUM, curated=reference.endswith("a:1"))

    def config(self, address, platform):
        return f"{address} {platform}".encode()

    def check(self, addresses, platform):
        self.checked += [(address, platform) for address in addresses]


class Added(World):
    """A world with one additional instruction and its own image configuration."""

    def __init__(self, name, config):
        super().__init__({})
        self.name, self.configured = name, config

    def read(self, *args):
        reading = super().read(*args)
        instruction = {"name": self.name, "line": 1, "lines": 1}
        return Reading.model_validate({**reading.model_dump(by_alias=True), "instructions": [instruction]})

    def config(self, address, platform):
        return self.configured


def plan(world, kind="base", content=b"FROM a:1\n", **build):
    own = {"check": ["x"]} if kind == "base" else {"test": {"command": ["x"]}, "probe": {"port": 8080}}
    declaration = DECLARATION.validate_python({"kind": kind, "name": "hello", "owner": "us", "build": build, **own})
    return plan_build(content, declaration, SOURCE, "ns", world, world)


def test_plan_reads_until_triggers_name_no_further_image():
    """Each image is resolved once, and its configuration is passed to the next reading."""
    world = World({"docker.io/a:1": ["docker.io/b:1"], "docker.io/b:1": ["docker.io/c:1"]})

    found = plan(world)

    assert [name for name, _ in world.asked] == ["docker.io/a:1", "docker.io/b:1", "docker.io/c:1"]
    assert world.reads[-1][-1] == {n: f"{n}@{SUM} linux/amd64".encode() for n in found.addresses}
    assert found.uncurated == ("docker.io/b:1", "docker.io/c:1")
    assert found.base == Material(name="docker.io/a:1", digest=SUM, curated=True)


@pytest.mark.parametrize(
    ("instruction", "config", "unpacks"),
    [
        ("ADD", b"{}", True),
        ("COPY", b"{}", False),
        ("ONBUILD", b"{}", True),
        ("COPY", b'{"config": {"OnBuild": ["ADD a /"]}}', True),
        ("COPY", rb'{"config": {"\u004fnB\u0075i\u006Cd": ["ADD a /"]}}', True),
    ],
)
def test_plan_detects_unpacking_of_archives(instruction, config, unpacks):
    """The Dockerfile, or a trigger of an image or of one of its own stages, can unpack archives."""
    assert plan(Added(instruction, config)).unpacks is unpacks


@pytest.mark.parametrize(("images", "unpacks"), [({}, False), ({"docker.io/a:1": ["docker.io/b:1"]}, True)])
def test_plan_expects_triggers_of_uncurated_image_for_other_platform(images, unpacks):
    """The configuration that was read is of the image for the build's platform."""
    world = World(images)
    world.stages = [{"name": "", "base": "b:1", "platform": "linux/arm64", "line": 1, "commands": {}}]

    assert plan(world).unpacks is unpacks


def test_plan_refuses_directive_that_reader_does_not_find():
    """The Dockerfile is refused before it is read."""
    world = World({})

    with pytest.raises(DockerfileRefused, match="another frontend"):
        plan(world, content="#\u00a0syntax=a:1\nFROM a:1\n".encode())

    assert not world.reads


def test_plan_refuses_endless_triggers():
    """The number of rounds is limited."""
    world = World({f"docker.io/a:{n}": [f"docker.io/a:{n + 1}"] for n in range(1, ROUNDS + 3)})

    with pytest.raises(DockerfileRefused, match="ONBUILD"):
        plan(world)


def test_plan_reads_with_inputs_of_the_build():
    """The reading uses the same content, targets, platform, arguments and namespace as the build."""
    world = World({})

    plan(world, "service", platform="linux/arm64", fetch={"images": [f"a:1@{SUM}"]})

    content, targets, platform, arguments, namespace, _ = world.reads[0]
    assert (content, targets, platform) == (b"FROM a:1\n", ("", "test"), "linux/arm64")
    assert namespace == "ns"
    assert arguments == {"SOURCE_DATE_EPOCH": "77", "BUILDKIT_CACHE_MOUNT_NS": "ns"}
    assert world.asked == [("docker.io/a:1", (f"a:1@{SUM}",))]


@pytest.mark.parametrize(("stages", "platform"), [(["", ""], "linux/arm64"), (["", "$BUILDPLATFORM"], None)])
def test_plan_checks_every_image_for_possible_platforms(stages, platform):
    """Also those that only a trigger names; a stage may choose a platform of its own."""
    world = World({"docker.io/a:1": ["docker.io/b:1"]})
    world.stages = [{"name": "", "base": "a:1", "platform": each, "line": 1, "commands": {}} for each in stages]

    plan(world, platform="linux/arm64")

    assert sorted(world.checked) == [(f"docker.io/{name}:1@{SUM}", platform) for name in "ab"]


def test_plan_raises_for_an_image_that_may_not_be_taken_in():
    """It ends before anything is built."""

    class Refusing(World):
        def check(self, addresses, platform):
            raise DockerfileRefused("no\nUse another.")

    with pytest.raises(DockerfileRefused, match="no"):
        plan(Refusing({}))
