"""The ports of a tier: each tool gets the tier's own registry, credentials and key."""

import json
import shutil
from contextlib import nullcontext
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
from prefect_aws import AwsCredentials

from blocks import Tier, Workbench, tier_ports
from blocks.curation_ports import CurationPorts
from blocks.lifecycle_ports import LifecyclePorts
from blocks.tier_ports import TierPorts
from supply_chain.adapters.process.command import Tool
from supply_chain.adapters.registry.client import Registry
from supply_chain.adapters.registry.http import RegistryHttp
from supply_chain.development.content import DEBIAN_ARCHIVES
from supply_chain.errors import DockerfileRefused, SettingInvalid
from supply_chain.evidence.statement import LIFECYCLE, VerifiedStatement
from supply_chain.evidence.statement import make_image_statement as statement_about
from supply_chain.model.declaration import Classification
from supply_chain.model.image import ImageRef
from supply_chain.model.tier import TierName
from supply_chain.policy.people import People
from tests.support.builders import DIGEST, NOON
from tests.support.command import ROOT
from tests.support.people import raise_version

REGISTRY = "localhost:4566"


@pytest.fixture
def ports(monkeypatch):
    """Return the ports of a tier whose registry uses plain HTTP."""
    tier = Tier.model_construct(
        tier="curation", registry=REGISTRY, insecure_registry=True, signing_key="alias/curation",
        trusted_keys={"development": "PEM"}, aws=AwsCredentials(), role_arn="arn:aws:iam::1:role/cscm-curation",
    )  # fmt: skip
    for name in ("session", "ecr"):
        monkeypatch.setattr(Tier, name, type("Access", (), {"docker_config": None, "environment": dict})())
    monkeypatch.setattr(Tier, "http", None)
    monkeypatch.setattr(Workbench, "tool", lambda _, name: Tool(name, Path("/bin") / name, "1"))
    return CurationPorts(tier, Workbench.model_construct(project="/p", tools="/t", database="/d"))


def test_tools_use_registry_of_tier(ports):
    """Another registry would have other images under the same names."""
    tools = {"cosign": ports.cosign, "crane": ports.crane, "syft": ports.sbom_generator, "skopeo": ports.skopeo}

    assert {name: each.tool.name for name, each in tools.items()} == {name: name for name in tools}
    assert {(each.host, each.insecure) for each in tools.values()} == {(REGISTRY, True)}


def test_package_sources_are_those_of_workbench_and_bases(ports, monkeypatch):
    """The bases are read when an archive lacks a package, and not before."""
    sources = ports.package_sources
    workbench = ports.workbench
    assert (sources.python, sources.debian) == (workbench.python_index, workbench.debian_archive)
    assert sources.npm is not None and sources.npm == workbench.npm_registry
    assert sources.debian.lines == DEBIAN_ARCHIVES
    monkeypatch.setattr(TierPorts, "bases", Mock(count_layers=len))

    assert sources.count_base_layers(("1", "2")) == 2


def test_evidence_is_signed_with_key_of_tier(ports):
    """Others trust each tier's key for what is that tier's own."""
    assert (ports.evidence.tier, ports.evidence.trusted) == (TierName.CURATION, {TierName.DEVELOPMENT: "PEM"})
    assert ports.evidence.signer.key == "awskms:///alias/curation"
    assert ports.evidence is ports.evidence


def test_unblock_needs_signature_if_workbench_requires_it(ports, monkeypatch):
    """The people are read once, and only then."""
    read: list[int] = []
    image = ImageRef(repository="curated/hello", digest=DIGEST)
    lift = {"act": "unblock", "by": "ann", "reason": "so", "at": NOON.isoformat()}
    about = VerifiedStatement(
        digest=DIGEST, repository="evidence/lifecycle/hello", statement=statement_about(image, LIFECYCLE, lift),
        signer=TierName.LIFECYCLE,
    )  # fmt: skip

    def people(_):
        read.append(1)
        return People()

    monkeypatch.setattr(Workbench, "people", people)

    assert ports.evidence.explain_uncounted(image, about) == "" and not read
    ports = CurationPorts(ports.tier, ports.workbench.model_copy(update={"lifting_decisions": "signed"}))
    assert [ports.evidence.explain_uncounted(image, about)[:23] for _ in range(2)] == ["unblock without effect:"] * 2
    assert read == [1]


def test_published_verdicts_have_keys_of_their_own(ports):
    """The key for evidence counts nothing there, and the other way round."""
    assert ports.evidence.publisher is None, "the block names no verdict key"
    keys = {"verdict_key": "alias/verdicts", "verdict_keys": {"execution": "OTHER"}}
    judging = CurationPorts(ports.tier.model_copy(update=keys), ports.workbench)

    publisher: Any = judging.evidence.publisher
    verdicts = publisher.store

    assert (verdicts.signer.key, verdicts.trusted) == ("awskms:///alias/verdicts", {TierName.EXECUTION: "OTHER"})
    signer: Any = judging.evidence.signer
    assert signer.key == "awskms:///alias/curation"
    assert verdicts is judging.verdicts and verdicts.publisher is None


def test_facts_of_gates_are_read_with_evidence_of_the_lifecycle(ports, monkeypatch, tmp_path):
    """The bases are listed once, and what environments require comes from the project's documents."""
    lifecycle = LifecyclePorts(ports.tier.model_copy(update={"tier": "lifecycle"}), ports.workbench)
    monkeypatch.setattr(Tier, "http", Registry(RegistryHttp("registry.test", lambda: ("", ""))))
    listed = []

    def list_bases(ports):
        listed.append(ports.name)
        return []

    monkeypatch.setattr(LifecyclePorts, "list_base_images", list_bases)
    policies = Path(shutil.copytree(ROOT / "deployments/policies", tmp_path / "deployments/policies"))
    unsigned = policies / "release.yaml"
    raise_version(unsigned)
    document = tmp_path / "deployments/environments/staging.yaml"
    document.parent.mkdir(parents=True)
    document.write_text("name: staging\napproval: required\n")
    names = "names: {shop: {classification: confidential}}\n"
    (tmp_path / "deployments/names.yaml").write_text(names)
    lifecycle.workbench.project = str(tmp_path)

    reader = lifecycle.facts_reader()

    assert (reader.bases(), reader.bases(), listed) == ([], [], ["lifecycle"])
    assert reader.store.tier is TierName.LIFECYCLE and reader.requirements("staging").approval is True
    assert reader.minimum_classification("shop") is Classification.CONFIDENTIAL
    with pytest.raises(SettingInvalid):
        reader.requirements("nowhere")


async def test_ports_load_only_the_block_of_their_tier(monkeypatch):
    """A worker of one tier needs no credentials of the others."""
    loaded = []

    async def load(name):
        loaded.append(name)

    for block in (Tier, Workbench):
        monkeypatch.setattr(block, "aload", load)

    await CurationPorts.aload()

    assert loaded == ["curation", "workbench"]


@pytest.mark.parametrize("urls", [[], ["http://127.0.0.1/admin"]], ids=["registry", "elsewhere"])
def test_bases_check_manifests_of_every_registry(ports, monkeypatch, urls):
    """Whoever can push to this chain's registry must not send the engine to other addresses either."""
    checked, manifest = [], json.dumps({"config": {}, "layers": [{"digest": DIGEST, "urls": urls}]})

    def read(tool, *about):
        checked.append((tool.name, *about))
        return {}

    monkeypatch.setattr(Tier, "verdict_key", None, raising=False)
    monkeypatch.setattr(tier_ports, "read_upstream_manifests", read)
    monkeypatch.setattr(CurationPorts, "list_decided_bases", lambda _: [])
    monkeypatch.setattr(Tier, "http", type("Own", (), {"read_manifest_text": lambda _, ref: manifest})())

    ports.bases.check([f"docker.io/library/python@{DIGEST}"], "linux/amd64")
    with pytest.raises(DockerfileRefused, match="from another address") if urls else nullcontext():
        ports.bases.check([f"{REGISTRY}/curated/base/python@{DIGEST}"], "linux/amd64")

    assert checked == [("crane", f"docker.io/library/python@{DIGEST}", "linux/amd64")]
