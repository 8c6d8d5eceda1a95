"""A blocked base: no gate admits an image that is built on it, whatever its provenance claims."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from supply_chain.evidence.provenance import TEXTS
from supply_chain.evidence.statement import PROVENANCE, about
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


@pytest.fixture
def in_project() -> Iterator[Path]:
    """A directory in the project's checkout: only this source may use names below base/."""
    made = ROOT / "tests/support/subject/bait"
    made.mkdir()
    yield made
    shutil.rmtree(made)


def reference(*command: str) -> ImageRef:
    ran = cscm(*command, "--json")
    assert ran.status == 0, (ran.stderr, ran.result)
    return ImageRef.model_validate(ran.result["ref"])


def unnamed(ref: ImageRef, adversary: Adversary) -> None:
    """Sign a new provenance for an image with development's key, which names no base."""
    (said,) = [statement(kind, bundle) for kind, bundle in adversary.bundles(ref) if kind == PROVENANCE]
    definition = said["buildDefinition"]
    kept = [each for each in definition["resolvedDependencies"] if each["name"] in ("source", *TEXTS)]
    assert len(kept) < len(definition["resolvedDependencies"])
    definition["resolvedDependencies"] = kept
    said["runDetails"]["metadata"]["finishedOn"] = datetime.now(UTC).isoformat()
    signer = adversary.cosign(TierName.DEVELOPMENT)
    adversary.attach(ref, PROVENANCE, signer.sign(about(ref, PROVENANCE, said)))


def test_image_on_blocked_base_is_refused_by_deploy_gate_and_curation(
    bases: None, application: Make, adversary: Adversary, in_project: Path, program: Path
) -> None:
    """The deploy gate needs no rescan, and curation finds the base in the layers even if the provenance omits it."""
    for file, content in BASE.items():
        (in_project / file).write_text(content)
    shutil.copy(program, in_project)
    base = reference("chain", str(in_project))
    offered = reference("build", str(application("caught", {"Dockerfile": UPON})))
    curated = reference("curate", str(offered))
    assert cscm("block", str(base), "--by", "ann", "--reason", "a key in it").status == 0

    at_2 = cscm("deploy", str(curated), "--environment", PLACE, "--json")
    unnamed(offered, adversary)
    at_curation = cscm("curate", str(offered), "--json")

    assert "base.blocked" in at_2.reasons()
    assert at_curation.reasons() == {"base.blocked"} and at_curation.result["gate"] == "release"
    assert cscm("unblock", str(base), "--by", "ann", "--reason", "it was none").status == 0
    assert cscm("curate", str(offered), "--json").status == 0


def test_blocked_base_cannot_be_pulled_or_built_on_by_any_name(
    bases: None, application: Make, adversary: Adversary, in_project: Path, program: Path
) -> None:
    """Its digest in `dev/` is blocked too; unblocking restores every name."""
    for file, content in {**BASE, "revision": "under every name\n"}.items():
        (in_project / file).write_text(content)
    shutil.copy(program, in_project)
    base = reference("chain", str(in_project))
    names = [base, base.moved_to(f"dev/{BAIT}"), adversary.copy(base, "dev/caught", "the-base")]
    assert all(map(adversary.registry.has, names))
    assert cscm("block", str(base), "--by", "ann", "--reason", "a key in it").status == 0

    assert [str(each) for each in names if adversary.registry.has(each)] == []
    for number, name in enumerate(names):
        named = UPON.replace(f"FROM curated/{BAIT}", f"FROM {adversary.registry.http.host}/{name}")
        ran = cscm("build", str(application("caught", {"Dockerfile": named, "revision": f"{number}\n"})), "--json")
        why = "blocked by ann" if name == base else "an image of this chain that is not a base"
        assert ran.status != 0 and why in ran.stderr, (name, ran.stderr)

    assert cscm("unblock", str(base), "--by", "ann", "--reason", "it was none").status == 0
    eventually(lambda: all(map(adversary.registry.has, names)), 30)
