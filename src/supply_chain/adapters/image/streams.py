"""Streams of a layer that read within limits."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from typing import IO, Any

from supply_chain.adapters.image.budget import Budget

DOCUMENT = 4 * 1024 * 1024
"""Maximum bytes of a manifest, a configuration, or a header of a file in a layer."""


class BudgetedStream:
    """Stream that checks the budget before every read."""

    def __init__(self, stream: IO[bytes], budget: Budget) -> None:
        self._stream, self._budget = stream, budget
        self.seek: Callable[[int], int] = stream.seek
        self.tell: Callable[[], int] = stream.tell

    def read(self, size: int = -1) -> bytes:
        """Read after a check of the budget."""
        self._budget.checkpoint()
        return self._stream.read(size)


class BoundedStream:
    """Unpacked layer that refuses to read a header that would fill the memory."""

    def __init__(self, stream: BudgetedStream) -> None:
        self._stream = stream
        self._again = b""
        self.seek: Callable[[int], int] = stream.seek
        self.tell: Callable[[], int] = stream.tell

    def read(self, size: int = -1) -> bytes:
        """Read at most `DOCUMENT` bytes; raise `ValueError` if more are requested."""
        if not 0 <= size <= DOCUMENT:
            raise ValueError(f"a header of {size} bytes")
        if self._again:
            content, self._again = self._again, b""
            return content
        return self._stream.read(size)

    def unread(self, content: bytes) -> None:
        """Return `content` again at the next read, which has to request as many bytes."""
        self._again = content


class ForwardStream:
    """Stream that seeks forward by reading, and backward by at most two tar blocks."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self._at = self._end = 0
        self._last = b""

    def tell(self) -> int:
        """Return the position."""
        return self._at

    def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, the remembered ones first."""
        back = self._end - self._at
        content = self._last[len(self._last) - back :][:size] if back else b""
        parts, size = [content], size - len(content)
        while size > 0 and (part := self._stream.read(size)):
            parts.append(part)
            size -= len(part)
            self._end += len(part)
            self._last = (self._last + part)[-2 * tarfile.BLOCKSIZE :]
        content = b"".join(parts)
        self._at += len(content)
        return content

    def seek(self, to: int) -> int:
        """Move to a position and return it; raise `ValueError` if it is too far back."""
        if to < self._end - len(self._last):
            raise ValueError("a layer is read once")
        self._at = min(to, self._end)
        while self._at < to and self.read(min(to - self._at, 1024 * 1024)):
            pass
        return self._at
