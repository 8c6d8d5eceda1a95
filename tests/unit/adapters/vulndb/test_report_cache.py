"""Tests that the report cache returns only complete reports of this user for exactly the requested key."""

import pytest

from supply_chain.adapters.vulndb.report_cache import ReportCache
from supply_chain.errors import SettingInvalid
from supply_chain.vulnerability.matching import Key
from tests.support.present import present


@pytest.fixture
def report(make):
    return make.report(make.finding(), sbom=make.other, configuration="plain")


@pytest.fixture
def cache(tmp_path, report):
    results = ReportCache(tmp_path / "results")
    results.put(present(Key.of_report(report)), report)
    return results


def file_in(cache):
    (file,) = cache.directory.glob("*/*.json")
    return file


def test_cache_returns_report_only_for_its_key(cache, report):
    """The directory is accessible only for its owner."""
    key = Key.of_report(report)
    assert key is not None

    assert cache.get(key) == report
    assert cache.get(key.model_copy(update={"version": "2"})) is None
    assert cache.directory.stat().st_mode & 0o777 == 0o700


def test_cache_ignores_report_under_the_name_of_another(cache, report, make):
    """A clean report copied over another one must have no effect."""
    other = report.model_copy(update={"sbom": "sha256:" + "c" * 64})
    cache.put(Key.of_report(other), other)
    first, second = (
        next(cache.directory.glob(f"*/{present(Key.of_report(each)).name}.json")) for each in (report, other)
    )
    first.write_bytes(second.read_bytes())

    assert cache.get(Key.of_report(report)) is None and cache.get(Key.of_report(other)) == other


@pytest.mark.parametrize("change", ["cut", "empty", "link", "open to others"])
def test_cache_ignores_damaged_or_foreign_file(cache, report, tmp_path, change):
    """The image is then scanned again, as if nothing were cached."""
    file = file_in(cache)
    if change == "cut":
        file.write_bytes(file.read_bytes()[:-5])
    if change == "empty":
        file.write_bytes(b"")
    if change == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    if change == "open to others":
        file.chmod(0o666)

    assert cache.get(Key.of_report(report)) is None


def test_cache_refuses_directory_writable_for_others(cache, report):
    """A cached report may be signed."""
    cache.directory.chmod(0o777)

    with pytest.raises(SettingInvalid, match="Other users can write"):
        cache.put(Key.of_report(report), report)


def test_cache_removes_reports_of_other_databases(cache, report):
    """Reports of an old database are never requested again."""
    newer = report.model_copy(update={"database": report.database.model_copy(update={"digest": "xxh64:9"})})
    cache.put(Key.of_report(newer), newer)
    cache.forget_others("xxh64:9")

    assert cache.get(Key.of_report(report)) is None and cache.get(Key.of_report(newer)) == newer
