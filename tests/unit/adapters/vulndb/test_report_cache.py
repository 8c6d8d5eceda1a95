"""Kept reports: whole, this user's own, and of the very key that is asked for."""

import pytest

from supply_chain.adapters.vulndb.report_cache import KeptResults
from supply_chain.errors import SettingInvalid
from supply_chain.vulnerability.matching import Key


@pytest.fixture
def report(make):
    return make.report(make.finding(), sbom=make.other, configuration="plain")


@pytest.fixture
def kept(tmp_path, report):
    results = KeptResults(tmp_path / "results")
    results.put(Key.made(report), report)
    return results


def file_in(kept):
    (file,) = kept.directory.glob("*/*.json")
    return file


def test_gives_back_what_was_kept(kept, report):
    """And nothing for another key."""
    key = Key.made(report)

    assert kept.get(key) == report
    assert kept.get(key.model_copy(update={"version": "2"})) is None
    assert kept.directory.stat().st_mode & 0o777 == 0o700


def test_a_file_under_another_name_is_none(kept, report, make):
    """Whoever copies a clean report over another's gains nothing."""
    other = report.model_copy(update={"sbom": "sha256:" + "c" * 64})
    kept.put(Key.made(other), other)
    first, second = (next(kept.directory.glob(f"*/{Key.made(each).name}.json")) for each in (report, other))
    first.write_bytes(second.read_bytes())

    assert kept.get(Key.made(report)) is None and kept.get(Key.made(other)) == other


@pytest.mark.parametrize("change", ["cut", "empty", "link", "open to others"])
def test_what_is_not_whole_or_not_ours_is_none(kept, report, tmp_path, change):
    """It is scanned again, as if nothing were there."""
    file = file_in(kept)
    if change == "cut":
        file.write_bytes(file.read_bytes()[:-5])
    if change == "empty":
        file.write_bytes(b"")
    if change == "link":
        file.rename(tmp_path / "elsewhere")
        file.symlink_to(tmp_path / "elsewhere")
    if change == "open to others":
        file.chmod(0o666)

    assert kept.get(Key.made(report)) is None


def test_a_directory_that_others_can_write_to_is_not_used(kept, report):
    """What is found there may be signed."""
    kept.directory.chmod(0o777)

    with pytest.raises(SettingInvalid, match="Others can write"):
        kept.put(Key.made(report), report)


def test_reports_of_databases_that_are_gone_are_removed(kept, report):
    """Nobody asks for them any more."""
    newer = report.model_copy(update={"database": report.database.model_copy(update={"digest": "xxh64:9"})})
    kept.put(Key.made(newer), newer)
    kept.forget_others("xxh64:9")

    assert kept.get(Key.made(report)) is None and kept.get(Key.made(newer)) == newer
