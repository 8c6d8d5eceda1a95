"""Uploads of blobs."""

from cscm_laptop.emulator.blobs import IDLE, Blobs, give_up


def test_idle_upload_is_discarded(tmp_path):
    """Its client was killed, so its file would stay forever; active uploads continue."""
    blobs = Blobs(tmp_path)
    uploads = {"left": blobs.begin(), "slow": blobs.begin()}
    for upload in uploads.values():
        upload.at -= IDLE + 1
        upload.append(b"half") if upload is uploads["slow"] else None

    give_up(uploads)

    assert list(uploads) == ["slow"]
    assert [path.name for path in (tmp_path / "uploads").iterdir()] == [uploads["slow"].identity]
    uploads["slow"].discard()
