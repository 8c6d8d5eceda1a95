"""The adversary: it owns the account at the registry and can push anything; a test may give it more rights."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from cscm_laptop.laptop import LaptopState
from supply_chain.adapters.aws.ecr import Ecr
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.adapters.tools import Toolbox
from supply_chain.concurrency import map_concurrently
from supply_chain.evidence.statement import make_image_statement
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.integration.adversary.attacked import BAIT, PLACE, Adversary, Make, statement
from tests.support.application import Application, git
from tests.support.command import cscm
from tests.support.place import placed

NAMES = (
    "prey",
    "quarry",
    "foreign",
    "copied",
    "hostile",
    "caught",
    "leaky",
    "liar",
    "twofold",
    "printer",
    "judged",
)


@pytest.fixture(scope="session")
def adversary(laptop: LaptopState, ecr: Any, toolbox: Toolbox) -> Iterator[Adversary]:
    registry = Registry(RegistryHttp(laptop.registry, Ecr(ecr, laptop.registry).credentials, insecure=True))
    _forget(ecr)
    yield Adversary(laptop, ecr, registry, toolbox)
    _forget(ecr)


def _forget(ecr: Any) -> None:
    """Remove the repositories of the tests' applications."""
    for name in (*NAMES, BAIT):
        for prefix in (
            "dev", "curated", "evidence/curation", "evidence/execution", "evidence/lifecycle", "verdicts/intake",
            "verdicts/release", f"verdicts/deploy/{PLACE}",
        ):  # fmt: skip
            with contextlib.suppress(ecr.exceptions.RepositoryNotFoundException):
                ecr.delete_repository(repositoryName=f"{prefix}/{name}", force=True)


@pytest.fixture(scope="session")
def place() -> Iterator[dict[str, int]]:
    """The environment that the adversary's images are deployed to: a map from application to port."""
    with placed(PLACE, NAMES) as ports:
        yield ports


@pytest.fixture(scope="session")
def application(program: Path, place: dict[str, int], tmp_path_factory: pytest.TempPathFactory) -> Make:
    """A function that creates a git repository with a small application of this name; `files` replaces its files."""

    def make(name: str, files: Mapping[str, str] | None = None, remote: str = "") -> Path:
        made = Application(name, tmp_path_factory.mktemp("source") / name)
        made.write(program, PLACE)
        for file, content in {"revision": "1\n", **(files or {})}.items():
            (made.path / file).write_text(content)
        git(made.path, "remote", "add", "origin", remote or f"git@example.com:{name}.git")
        made.commit()
        return made.path

    return make


@pytest.fixture(scope="session")
def offered(bases: None, adversary: Adversary, application: Make, place: dict[str, int]) -> ImageRef:
    """The image of an honest application, offered to the intake gate."""
    ran = cscm("build", str(application("prey")), "--json")
    assert ran.status == 0, ran.stderr
    return ImageRef.model_validate(ran.result["ref"])


@pytest.fixture(scope="session")
def curated(offered: ImageRef) -> ImageRef:
    """The same image, curated and signed."""
    ran = cscm("curate", str(offered), "--json")
    assert ran.status == 0, ran.stderr
    return ImageRef.model_validate(ran.result["ref"])


@pytest.fixture(scope="session")
def vouched(offered: ImageRef, adversary: Adversary) -> Callable[[str], ImageRef]:
    """A function that pushes another image with the same statements, signed with development's own key."""
    signer = adversary.cosign(TierName.DEVELOPMENT)

    def make(tag: str) -> ImageRef:
        ref = adversary.alter(offered, tag, comment="x" * 100)
        predicates = [(kind, statement(kind, bundle)) for kind, bundle in adversary.bundles(offered)]
        bundles = map_concurrently(lambda each: signer.sign(make_image_statement(ref, *each)), predicates)
        for (kind, _), bundle in zip(predicates, bundles, strict=True):
            adversary.attach(ref, kind, bundle)
        return ref

    return make
