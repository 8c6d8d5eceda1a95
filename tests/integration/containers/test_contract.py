"""The Docker engine keeps the contract of the port."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from docker.errors import ImageNotFound

from supply_chain.adapters.docker.engine import DockerEngine
from supply_chain.model.image import Digest
from tests.contract.engine import MARK, EngineContract, Harness
from tests.support.layered import layered

pytestmark = pytest.mark.real


class TestDockerEngine(EngineContract):
    @pytest.fixture
    def harness(self, engine: DockerEngine, rootfs: bytes, port: int, tmp_path: Path) -> Iterator[Harness]:
        made: list[Digest] = []
        mark = f"t{uuid4().hex[:8]}"
        client = engine._client

        def image(*names: str) -> Digest:
            config = {"Entrypoint": ["/subject"], "Cmd": ["hang"], "Env": ["GREETING=hello"]}
            digest = layered(tmp_path / "load.tar", [rootfs], {**config, "Labels": {MARK: uuid4().hex}})
            engine.load(tmp_path / "load.tar")
            made.append(digest)
            for name in names:
                client.images.get(digest).tag(*name.rsplit(":", 1))
            return digest

        yield Harness(engine, lambda owner: DockerEngine(client, owner), image, mark, port)
        for container in client.containers.list(all=True, filters={"label": f"{MARK}={mark}"}):
            container.remove(force=True)
        for network in engine.networks({MARK: mark}):
            engine.remove_network(network)
        for volume in engine.volumes({MARK: mark}):
            engine.remove_volume(volume)
        for digest in made:
            with contextlib.suppress(ImageNotFound):
                client.images.remove(digest, force=True)
