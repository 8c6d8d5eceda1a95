"""Blobs on their way in."""

from cscm_laptop.emulator.blobs import IDLE, Blobs, give_up


def test_an_upload_that_nobody_goes_on_with_is_given_up(tmp_path):
    """Its client was killed, and its file would lie there for ever; the others go on."""
    blobs = Blobs(tmp_path)
    uploads = {"left": blobs.begin(), "slow": blobs.begin()}
    for upload in uploads.values():
        upload.at -= IDLE + 1
        upload.append(b"half") if upload is uploads["slow"] else None

    give_up(uploads)

    assert list(uploads) == ["slow"]
    assert [path.name for path in (tmp_path / "uploads").iterdir()] == [uploads["slow"].identity]
    uploads["slow"].discard()
