"""A blocked base: no gate admits an image that is built on it, whatever its provenance claims."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from supply_chain.evidence.provenance import TEXTS
from supply_chain.evidence.statement import PROVENANCE, make_image_statement
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from tests.integration.adversary.attacked import BAIT, PLACE, Adversary, Make, statement
from tests.support.command import ROOT, cscm
from tests.support.waiting import eventually

pytestmark = pytest.mark.real

LIMITS = "limits:\n  critical: null\n  high: null\n  medium: null\n  unknown: null\n"
BASE = {
    "Dockerfile": "FROM scratch\nCOPY subject /\nUSER 10001:10001\n",
    "supply-chain.yaml": f"kind: base\nname: {BAIT}\nowner: platform\ncheck: [/subject, status-0]\n{LIMITS}",
}
UPON = f"""\
FROM scratch AS test
COPY subject /
USER 10001:10001

FROM curated/{BAIT}
COPY revision /
EXPOSE 8080
ENTRYPOINT ["/subject"]
"""


@pytest.fixture(scope="module")
def in_project(program: Path) -> Iterator[Path]:
    """A base in the project's checkout: only this source may use names below base/."""
    made = ROOT / "tests/support/subject/bait"
    made.mkdir()
    for file, content in BASE.items():
        (made / file).write_text(content)
    shutil.copy(program, made)
    yield made
    shutil.rmtree(made)


@dataclass(frozen=True)
class Blocked:
    """A blocked base with the names of all its copies, and an image on it that was curated before."""

    base: ImageRef
    names: list[ImageRef]
    offered: ImageRef
    curated: ImageRef


@pytest.fixture(scope="module")
def blocked(bases: None, application: Make, adversary: Adversary, in_project: Path) -> Blocked:
    base = reference("chain", str(in_project))
    offered = reference("build", str(application("caught", {"Dockerfile": UPON})))
    curated = reference("curate", str(offered))
    names = [base, base.with_repository(f"dev/{BAIT}"), adversary.copy(base, "dev/caught", "the-base")]
    assert all(is_there(each, adversary) for each in names)
    assert cscm("block", str(base), "--by", "ann", "--reason", "a key in it").status == 0
    return Blocked(base, names, offered, curated)


def is_there(ref: ImageRef, adversary: Adversary) -> bool:
    return adversary.registry.digest_of(ref.repository, ref.digest) is not None


def reference(*command: str) -> ImageRef:
    ran = cscm(*command, "--json")
    assert ran.status == 0, (ran.stderr, ran.result)
    return ImageRef.model_validate(ran.result["ref"])


def unnamed(ref: ImageRef, adversary: Adversary) -> None:
    """Sign a new provenance for an image with development's key, which names no base."""
    (provenance,) = [statement(kind, bundle) for kind, bundle in adversary.bundles(ref) if kind == PROVENANCE]
    definition = provenance["buildDefinition"]
    remaining = [each for each in definition["resolvedDependencies"] if each["name"] in ("source", *TEXTS)]
    assert len(remaining) < len(definition["resolvedDependencies"])
    definition["resolvedDependencies"] = remaining
    provenance["runDetails"]["metadata"]["finishedOn"] = datetime.now(UTC).isoformat()
    signer = adversary.cosign(TierName.DEVELOPMENT)
    adversary.attach(ref, PROVENANCE, signer.sign(make_image_statement(ref, PROVENANCE, provenance)))


def test_image_on_blocked_base_is_refused_by_deploy_gate_and_curation(blocked: Blocked, adversary: Adversary) -> None:
    """The deploy gate needs no rescan, and curation finds the base in the layers even if the provenance omits it."""
    deployed = cscm("deploy", str(blocked.curated), "--environment", PLACE, "--json")
    unnamed(blocked.offered, adversary)
    curated = cscm("curate", str(blocked.offered), "--json")
    offered_again = cscm("deploy", str(blocked.curated), "--environment", PLACE, "--json")

    assert deployed.reasons() == {"base.blocked"} and deployed.result["gate"] == "deploy"
    assert curated.reasons() == {"base.blocked"} and curated.result["gate"] == "release"
    assert "verdict.release.refused" in offered_again.reasons()


def test_blocked_base_cannot_be_pulled_or_built_on_by_any_name(
    blocked: Blocked, application: Make, adversary: Adversary
) -> None:
    """Its digest in `dev/` is blocked too."""
    assert [str(each) for each in blocked.names if is_there(each, adversary)] == []
    host = adversary.registry.http.host
    named = [UPON.replace(f"FROM curated/{BAIT}", f"FROM {host}/{name}") for name in blocked.names]
    sources = [
        application("caught", {"Dockerfile": text, "revision": f"{number}\n"}) for number, text in enumerate(named, 2)
    ]

    with ThreadPoolExecutor(3) as pool:
        ran = list(pool.map(lambda source: cscm("build", str(source), "--json"), sources))

    for name, each in zip(blocked.names, ran, strict=True):
        why = "blocked by ann" if name == blocked.base else "an image of this chain that is not below `curated/base/`"
        assert each.status != 0 and why in each.stderr, (name, each.stderr)


def test_unblocked_base_is_restored_by_every_name_and_admitted(blocked: Blocked, adversary: Adversary) -> None:
    """It comes last, because the tests above need the block."""
    assert cscm("unblock", str(blocked.base), "--by", "ann", "--reason", "it was none").status == 0

    eventually(lambda: all(is_there(each, adversary) for each in blocked.names))
    assert cscm("curate", str(blocked.offered), "--json").status == 0
