"""The tasks and flows of the inventory: what they read again, which hosts they query, and their final states."""

from types import SimpleNamespace

import pytest
from prefect.artifacts import Artifact

from blocks import ContainerHost, Inventory, KubernetesCluster
from blocks.lifecycle_ports import LifecyclePorts
from flows import inventory as flows
from supply_chain.errors import DeclarationInvalid, ImageNotFound, SettingInvalid
from supply_chain.execution.environment import DockerEnvironment, KubernetesEnvironment
from supply_chain.execution.environment_documents import EnvironmentDocuments
from supply_chain.fleet.image import HostContainer
from supply_chain.model.container import ContainerSpec, make_profile
from supply_chain.model.image import shorten_digest
from tasks import inventory as tasks
from tests.support import fleet as fleets
from tests.support.memory_cluster import MemoryCluster
from tests.support.memory_engine import MemoryEngine
from tests.support.present import present

OTHER = "sha256:" + "b" * 64
fleet = fleets.fleet


@pytest.fixture
def shop(fleet, monkeypatch):
    """Set up the blocks over a registry and an inventory of the test's own, and record the queried hosts."""
    engine = MemoryEngine()
    places = [DockerEnvironment(name=name, host="laptop") for name in ("staging", "production")]
    unreadable: dict[str, DeclarationInvalid | SettingInvalid] = {}
    blocks = {
        "ports": SimpleNamespace(
            repositories=fleet.registry,
            evidence=fleet.store,
            workbench=SimpleNamespace(
                environment_documents=lambda: EnvironmentDocuments(tuple(places), unreadable),
                registered=lambda _: None,
            ),
            facts_reader=lambda: fleet.reader,
            tier=SimpleNamespace(session=None),
        ),
        "inventory": SimpleNamespace(open=lambda: fleet.inventory),
    }
    shop = SimpleNamespace(fleet=fleet, engine=engine, asked=[], blocks=blocks, places=places, unreadable=unreadable)

    async def load(name="ports"):
        return blocks[name]

    async def host(name):
        shop.asked.append(name)
        return SimpleNamespace(engine=lambda: engine)

    for block in (LifecyclePorts, Inventory):
        monkeypatch.setattr(block, "aload", load)
    monkeypatch.setattr(ContainerHost, "aload", host)
    return shop


async def read_artifact(key):
    """Return the newest artifact of a key."""
    return present(await Artifact.aget(key))


async def read(shop, application=None, *, rebuild=False):
    """Refresh and return the number of images that were read, by application."""
    done = await tasks.refresh_step.fn(application, shop.blocks["ports"], shop.blocks["inventory"], rebuild)
    return {each.application: each.read for each in done}


async def test_refresh_reads_all_or_named_application(shop):
    """With `rebuild`, unchanged images of the selected applications are read again."""
    shop.fleet.curated()
    shop.fleet.curated(OTHER, "shop")

    assert await read(shop, "hello") == {"hello": 1}
    assert await read(shop) == {"hello": 0, "shop": 1}
    assert await read(shop, "shop", rebuild=True) == {"shop": 1}
    assert await read(shop) == {"hello": 0, "shop": 0}
    assert await read(shop, rebuild=True) == {"hello": 1, "shop": 1}


async def test_refresh_finds_host_of_environment(shop):
    """The documents of the environments name the host; without a document it is unknown."""
    ref = shop.fleet.curated()
    for environment in ("staging", "gone"):
        shop.fleet.deploy(ref, environment)
    await read(shop)

    (image,) = shop.fleet.images
    assert {each.environment: each.host for each in image.running} == {"staging": "laptop", "gone": ""}


async def test_refresh_queries_host_of_several_environments_once(shop):
    """The containers that it shows are stored."""
    image = shop.engine.add("curated/hello:v1")
    shop.fleet.curated(image)
    await read(shop)
    container = shop.engine.create(
        ContainerSpec(
            name="stranger", image=image, labels={}, environment={},
            profile=make_profile(shop.fleet.make.declaration().runtime),
        )
    )  # fmt: skip
    shop.engine.start(container)

    number = await tasks.observe_hosts_step.fn(*shop.blocks.values())

    assert (number, shop.asked) == (1, ["laptop"])
    assert [each.name for each in shop.fleet.images[0].running] == ["stranger"]


async def test_refresh_queries_cluster_of_several_environments_once(shop, monkeypatch):
    """Each is asked once, whatever namespaces its environments have."""
    ref, asked = shop.fleet.curated(), []
    await read(shop)
    cluster = MemoryCluster()
    cluster.add_pod("by-hand", "elsewhere", f"registry.test/curated/hello@{ref.digest}")
    shop.places += [
        KubernetesEnvironment(name=name, target="kubernetes", cluster="laptop", namespace=name) for name in ("a", "b")
    ]

    async def load(name):
        asked.append(name)
        return SimpleNamespace(client=lambda session: cluster)

    monkeypatch.setattr(KubernetesCluster, "aload", load)

    number = await tasks.observe_hosts_step.fn(*shop.blocks.values())

    assert (number, asked, shop.asked) == (1, ["laptop"], ["laptop"])
    assert [each.place for each in shop.fleet.images[0].running] == ["laptop/elsewhere"]


async def test_refresh_with_unreadable_environment_keeps_stored_hosts(machine, shop):
    """Its host is unknown: what was stored of a host that no other environment names stays."""
    image = shop.engine.add("curated/hello:v1")
    ref = shop.fleet.curated(image)
    shop.fleet.deploy(ref, "staging")
    await read(shop)
    elsewhere = HostContainer(container="9", name="far", digest=image, running=True)
    shop.fleet.inventory.record_host("elsewhere", [elsewhere], shop.fleet.make.noon)
    shop.unreadable["broken"] = DeclarationInvalid("its host is wrong\ncorrect it")

    with pytest.raises(SettingInvalid, match="broken: its host is wrong"):
        await flows.inventory()

    assert shop.asked == ["laptop"] and "far" in [each.name for each in shop.fleet.images[0].running]
    assert "laptop" in [each.host for each in shop.fleet.images[0].running]
    assert shop.fleet.inventory.find_last_reconciliation() is None
    shop.unreadable.clear()
    await flows.inventory()
    assert "far" not in [each.name for each in shop.fleet.images[0].running]


async def test_only_full_refresh_sets_reconciled_time(machine, shop):
    """The age of an answer counts from the last full refresh, which also publishes the table of images."""
    ref = shop.fleet.curated()

    assert [each.application for each in await flows.inventory(image=str(ref))] == ["hello"]
    assert shop.fleet.inventory.find_last_reconciliation() is None
    await flows.inventory()

    assert shop.fleet.inventory.find_last_reconciliation() is not None
    assert "1 curated image, as of the last" in (await read_artifact("images")).description


async def test_unreadable_image_names_final_state_of_inventory_run(machine, shop):
    """The rest is refreshed, and the caller gets all results."""
    spoilt = shop.fleet.curated()
    shop.fleet.spoil(spoilt)
    shop.fleet.curated(OTHER, "shop")

    state = await flows.inventory(return_state=True)

    assert (state.type, state.name, state.message) == ("COMPLETED", "Unreadable", str(spoilt))
    assert [(each.application, each.read) for each in await state.aresult()] == [("hello", 1), ("shop", 1)]


async def test_where_reports_unscanned_images_and_unread_hosts(machine, shop):
    """An empty result is good news only if everything was looked at."""
    shop.fleet.curated()
    shop.fleet.curated(OTHER, without=("inventory",))
    await read(shop)

    (found,) = await flows.where("openssl")

    assert found.match.startswith("lists openssl")
    artifact = await read_artifact("where")
    assert artifact.description.startswith("openssl: 1 curated image, ")
    assert "Nobody has looked" in artifact.description and "1 image without an SBOM" in artifact.description


async def test_explain_publishes_page_of_image(machine, shop):
    """A prefix of the digest selects the image; a missing image has no page."""
    ref = shop.fleet.curated()
    await read(shop)

    (explanation,) = await flows.explain(shorten_digest(ref.digest))

    assert explanation.image.ref == ref
    assert ref.digest in (await read_artifact(f"explain-{shorten_digest(ref.digest)}")).data
    with pytest.raises(ImageNotFound):
        await flows.explain("9" * 12)
