"""Tests of the calls of syft and of how its answers are interpreted."""

import json

import pytest

from supply_chain.adapters.image.packaged_files import PackagedFiles
from supply_chain.adapters.tools.syft import Syft
from supply_chain.errors import RegistryUnavailable, ScannerFailed, ToolTimedOut
from supply_chain.evidence.examination import Examination
from supply_chain.model.image import ImageRef
from supply_chain.vulnerability.scanner import Sbom, Sboms

REF = ImageRef(repository="curated/hello", digest="sha256:" + "a" * 64)
INVENTORY = json.dumps({"artifacts": [{"id": "1", "name": "openssl"}, {"id": "2", "name": "zlib"}]})
NOTHING, EXAMINED = PackagedFiles(), Examination(conflicts=("a place",))
WRITES = """for a in "$@"; do case "$a" in
  --output=syft-json=*) cp "$here/inventory" "${a#*=*=}";;
  --output=*) printf '%s' "${a%%=/*}" > "${a#*=*=}";;
esac; done"""


@pytest.fixture
def syft(program, docker_config):
    recorded = program("syft")

    def make(script=WRITES, inventory=INVENTORY, insecure=False, packaged=NOTHING, **kwargs):
        (recorded.directory / "inventory").write_text(inventory)
        tool = recorded.does(script, **kwargs)
        return Syft(tool, "registry.test", docker_config, insecure, examine=lambda ref: (EXAMINED, packaged)), recorded

    return make


@pytest.mark.parametrize("insecure", [False, True])
def test_of_image_reads_registry_by_digest(syft, insecure):
    """The environment has the credentials of the role, enables Go symbols and disables the update check."""
    adapter, recorded = syft(insecure=insecure)

    made = adapter.make_image_sbom(REF)

    assert made == (Sbom(INVENTORY.encode(), 2, "syft 1.2.3"), EXAMINED)
    assert recorded.calls[0][:2] == ["scan", f"registry:registry.test/{REF}"]
    environment = recorded.environments[0]
    assert environment["DOCKER_CONFIG"].endswith("docker-config")
    assert environment["SYFT_REGISTRY_INSECURE_USE_HTTP"] == str(insecure).lower()
    assert environment["SYFT_CHECK_FOR_APP_UPDATE"] == "false"
    assert environment["SYFT_GOLANG_CAPTURE_SYMBOLS"] == "all"
    assert environment["SYFT_PACKAGE_EXCLUDE_BINARY_OVERLAP_BY_OWNERSHIP"] == "false"


def test_convert_returns_all_formats(syft):
    """Other tools read the two standard ones."""
    adapter, recorded = syft()
    sbom = Sbom(INVENTORY.encode(), 2, "syft 1.2.3")

    sboms = adapter.convert(sbom)

    assert sboms == Sboms(sbom, b"--output=cyclonedx-json", b"--output=spdx-json")
    assert recorded.calls[0][0] == "convert"


def test_of_image_leaves_out_programs_of_packages(syft):
    """The package's version says more about them."""
    perl = {"id": "2", "type": "binary", "version": "5", "locations": [{"path": "/usr/bin/perl"}]}
    owned = {"type": "ownership-by-file-overlap", "parent": "1", "child": "2"}
    inventory = json.dumps(
        {
            "artifacts": [{"id": "1", "type": "deb", "name": "perl", "version": "5-1"}, perl],
            "artifactRelationships": [owned],
        }
    )

    def count(packaged):
        sbom, _ = syft(inventory=inventory, packaged=packaged)[0].make_image_sbom(REF)
        assert sbom.packages == len(json.loads(sbom.content)["artifacts"])
        return sbom.packages

    assert (count(PackagedFiles()), count(PackagedFiles({"dpkg": {"/usr/bin/perl"}}))) == (2, 1)


def test_image_is_examined_while_syft_runs(program, docker_config, tmp_path):
    """Both take seconds."""
    examining = tmp_path / "examining"
    tool = program("syft").does(f"until [ -e {examining} ]; do sleep 0.1; done; echo '{INVENTORY}' >\"${{5#*=*=}}\"")

    def examine(ref):
        examining.touch()
        return EXAMINED, PackagedFiles()

    assert Syft(tool, "registry.test", docker_config, examine=examine).make_image_sbom(REF)[0].packages == 2


def test_of_directory_uses_no_credentials(syft, tmp_path):
    """The environment contains nothing about the registry."""
    adapter, recorded = syft()

    adapter.make_directory_sbom(tmp_path)

    assert recorded.calls[0][1] == f"dir:{tmp_path}"
    assert "DOCKER_CONFIG" not in recorded.environments[0]


def test_of_archive_reads_an_image_of_the_engine(syft, tmp_path):
    """It is in no registry."""
    adapter, recorded = syft()

    assert adapter.make_archive_sbom(tmp_path / "image.tar") == Sbom(INVENTORY.encode(), 2, "syft 1.2.3")
    assert recorded.calls[0][1] == f"docker-archive:{tmp_path}/image.tar"


@pytest.mark.parametrize("inventory", ["", "{", "[]", "{}", "7", '{"artifacts": 7}', '{"artifacts": null}', "\x00"])
def test_unreadable_sbom_raises_scanner_failed(syft, inventory):
    """Without an SBOM nothing can be matched, so the image is neither clean nor vulnerable."""
    adapter, _ = syft(inventory=inventory)

    with pytest.raises(ScannerFailed):
        adapter.make_image_sbom(REF)


@pytest.mark.parametrize(
    "kwargs", [{"status": 1, "stderr": "it broke"}, {"script": ""}], ids=["failed", "wrote nothing"]
)
def test_missing_output_raises_scanner_failed(syft, kwargs):
    """The exit status of syft alone proves nothing."""
    adapter, _ = syft(**kwargs)

    with pytest.raises(ScannerFailed, match=r"curated/hello|it broke"):
        adapter.make_image_sbom(REF)
    with pytest.raises(ScannerFailed, match=r"sbom.json|it broke"):
        adapter.convert(Sbom(INVENTORY.encode(), 2, "syft 1.2.3"))


def test_of_image_refuses_too_many_packages(syft, monkeypatch):
    """Package records can be forged, and every gate and every rescan would read them all."""
    adapter, _ = syft(inventory=json.dumps({"artifacts": [{"id": str(number)} for number in range(4)]}))
    monkeypatch.setattr("supply_chain.adapters.tools.syft.MAX_PACKAGES", 3)

    with pytest.raises(ScannerFailed, match="has 4 packages, and more than 3 are not judged"):
        adapter.make_image_sbom(REF)


def test_unavailable_registry_is_no_scanner_failure(syft, tmp_path):
    """The step is retryable; a scan of a directory uses no registry."""
    adapter, _ = syft(status=1, stderr="GET http://registry.test/v2/: unexpected status code 503 Service Unavailable")

    with pytest.raises(RegistryUnavailable):
        adapter.make_image_sbom(REF)
    with pytest.raises(ScannerFailed):
        adapter.make_directory_sbom(tmp_path)


@pytest.mark.parametrize(("limit", "value"), [("MAX_UNPACKED", 1024**2), ("RESERVE", 2**62)])
def test_syft_is_ended_if_it_unpacks_too_much(syft, monkeypatch, limit, value):
    """Nested archives may fill the disk that all runs share."""
    monkeypatch.setattr(f"supply_chain.adapters.tools.syft.{limit}", value)
    monkeypatch.setattr("supply_chain.adapters.process.command.WATCH", 0.1)

    with pytest.raises(ScannerFailed, match="unpacked too much"):
        syft('mkdir "$TMPDIR/deep"; head -c 3000000 /dev/urandom >"$TMPDIR/deep/a"; exec sleep 30')[0].make_image_sbom(
            REF
        )


def test_syft_is_ended_at_its_timeout(syft, monkeypatch):
    """A scan must not hang."""
    monkeypatch.setattr("supply_chain.adapters.tools.syft.TIMEOUT", 0.05)

    with pytest.raises(ToolTimedOut):
        syft("exec sleep 60")[0].make_image_sbom(REF)
