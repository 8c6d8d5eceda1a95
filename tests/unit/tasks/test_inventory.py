"""The inventory's tasks and flows: what they read anew, which hosts they ask, and how they end."""

from types import SimpleNamespace

import pytest
from prefect.artifacts import Artifact

from flows import inventory as flows
from supply_chain.errors import ImageNotFound
from supply_chain.model.container import ContainerSpec, profile
from supply_chain.model.image import short
from tasks import inventory as tasks
from tests.support.memory_engine import MemoryEngine
from tests.unit.fleet import conftest

OTHER = "sha256:" + "b" * 64
fleet = conftest.fleet


@pytest.fixture
def shop(fleet, monkeypatch):
    """The blocks, over a registry and an inventory of the test's own; and which hosts were asked."""
    engine = MemoryEngine()
    places = [SimpleNamespace(name=name, host="laptop") for name in ("staging", "production")]
    blocks = {
        "lifecycle": SimpleNamespace(ecr=fleet.registry, evidence=lambda workbench: fleet.store),
        "workbench": SimpleNamespace(environments=lambda: places),
        "inventory": SimpleNamespace(open=lambda: fleet.inventory),
    }
    shop = SimpleNamespace(fleet=fleet, engine=engine, asked=[], blocks=blocks)

    async def load(name):
        return blocks[name]

    async def host(name):
        shop.asked.append(name)
        return SimpleNamespace(engine=lambda: engine)

    for block in (flows.Tier, flows.Workbench, flows.Inventory):
        monkeypatch.setattr(block, "aload", load)
    monkeypatch.setattr(tasks.ContainerHost, "aload", host)
    return shop


async def read(shop, application=None, *, rebuild=False):
    """What is read anew, by application."""
    tier, workbench, inventory = shop.blocks.values()
    done = await tasks.refresh.fn(application, tier, workbench, inventory, rebuild)
    return {each.application: each.read for each in done}


async def test_all_applications_are_read_or_the_one_that_is_named(shop):
    """What did not change is read again where somebody wants all of it anew, and of that one alone."""
    shop.fleet.curated()
    shop.fleet.curated(OTHER, "shop")

    assert await read(shop, "hello") == {"hello": 1}
    assert await read(shop) == {"hello": 0, "shop": 1}
    assert await read(shop, "shop", rebuild=True) == {"shop": 1}
    assert await read(shop) == {"hello": 0, "shop": 0}
    assert await read(shop, rebuild=True) == {"hello": 1, "shop": 1}


async def test_what_runs_is_on_the_host_of_its_environment(shop):
    """The environments' documents say which; where there is none any more, nobody can say."""
    ref = shop.fleet.curated()
    for environment in ("staging", "gone"):
        shop.fleet.deploy(ref, environment)
    await read(shop)

    (image,) = shop.fleet.images
    assert {each.environment: each.host for each in image.running} == {"staging": "laptop", "gone": ""}


async def test_a_host_of_several_environments_is_asked_once(shop):
    """And what it shows is kept."""
    image = shop.engine.add("curated/hello:v1")
    shop.fleet.curated(image)
    await read(shop)
    container = shop.engine.create(
        ContainerSpec(
            name="stranger", image=image, labels={}, environment={},
            profile=profile(shop.fleet.make.manifest().runtime),
        )
    )  # fmt: skip
    shop.engine.start(container)

    number = await tasks.look.fn(shop.blocks["workbench"], shop.blocks["inventory"])

    assert (number, shop.asked) == (1, ["laptop"])
    assert [each.name for each in shop.fleet.images[0].running] == ["stranger"]


async def test_everything_was_looked_at_only_where_everything_was(machine, shop):
    """How old an answer is counts from the last look at all of it, which makes the table of images too."""
    ref = shop.fleet.curated()

    assert [each.application for each in await flows.inventory(image=str(ref))] == ["hello"]
    assert shop.fleet.inventory.reconciled() is None
    await flows.inventory()

    assert shop.fleet.inventory.reconciled() is not None
    assert "1 curated image, as of the last" in (await Artifact.aget("images")).description


async def test_what_cannot_be_read_names_the_end_of_the_run(machine, shop):
    """The rest was done, and who called it has all of it."""
    spoilt = shop.fleet.curated()
    shop.fleet.spoil(spoilt)
    shop.fleet.curated(OTHER, "shop")

    state = await flows.inventory(return_state=True)

    assert (state.type, state.name, state.message) == ("COMPLETED", "Unreadable", str(spoilt))
    assert [(each.application, each.read) for each in await state.aresult()] == [("hello", 1), ("shop", 1)]


async def test_where_something_is_comes_with_how_much_is_known(machine, shop):
    """Nothing found is no good news where nobody looked."""
    shop.fleet.curated()
    shop.fleet.curated(OTHER, without=("inventory",))
    await read(shop)

    (found,) = await flows.where("openssl")

    assert found.why.startswith("lists openssl")
    told = await Artifact.aget("where")
    assert told.description.startswith("openssl: 1 curated image, ")
    assert "never reconciled" in told.description and "1 image without an SBOM" in told.description


async def test_an_image_is_explained_on_a_page_of_its_own(machine, shop):
    """By the beginning of its digest; of one that is not there no page is made."""
    ref = shop.fleet.curated()
    await read(shop)

    (told,) = await flows.explain(short(ref.digest))

    assert told.image.ref == ref
    assert ref.digest in (await Artifact.aget(f"explain-{short(ref.digest)}")).data
    with pytest.raises(ImageNotFound):
        await flows.explain("9" * 12)
