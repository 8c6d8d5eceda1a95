"""Downloads from package indexes and archives; tests of what the indexes answer are with the indexes."""

import io

import httpx
import pytest

from supply_chain.adapters.download import Downloader
from supply_chain.errors import PackageIndexFailed


def downloader(transport):
    return Downloader("packages", "field", transport=httpx.MockTransport(transport), wait=lambda _: None)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_redirect_from_tls_to_plain_http_is_an_error(scheme):
    """Who can change plain answers would choose what counts as published."""

    def redirect(request):
        if request.url.host == "index.invalid":
            return httpx.Response(302, headers={"location": f"{scheme}://other.invalid/"})
        return httpx.Response(200, content=b"answer")

    target = io.BytesIO()
    if scheme == "http":
        with pytest.raises(PackageIndexFailed, match="it leads to http, without TLS"):
            downloader(redirect).fetch("https://index.invalid/", {}, target, 10)
        assert target.getvalue() == b""
    downloader(redirect).fetch(f"{scheme}://index.invalid/", {}, target, 10)
    assert target.getvalue() == b"answer"
