"""A file behind HTTP that is read piece by piece: what HDF5 needs to take one event out of a file of many gigabytes.

Pieces of `BLOCK` bytes are asked for by range and kept; a request that breaks is tried again, `TRIES` times, from where
the piece starts, not from where the file does. The server must answer ranges (206), as object stores do.
"""

from __future__ import annotations

import http.client
import io
import time
import urllib.error
import urllib.request
from collections import OrderedDict
from collections.abc import Callable

from cycler_da.errors import DataError, MissingInput

BLOCK = 2**20
KEPT = 16
TRIES = 4
TIMEOUT = 60.0  # s, of one request


class RemoteFile(io.RawIOBase):
    """Reads a URL at any position; `on_bytes` is told what came over the network."""

    def __init__(self, url: str, *, on_bytes: Callable[[int], None] = lambda n: None, wait: float = 1.0) -> None:
        super().__init__()
        self.url, self.on_bytes, self.wait = url, on_bytes, wait
        self._position = 0
        self._blocks: OrderedDict[int, bytes] = OrderedDict()
        self.size = self._length()

    def readable(self) -> bool:
        """Always."""
        return True

    def seekable(self) -> bool:
        """Always."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Move; returns the new position."""
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self.size}[whence]
        self._position = start + offset
        return self._position

    def tell(self) -> int:
        """The position."""
        return self._position

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        """Fill a buffer from the position on; returns how many bytes there were."""
        wanted = min(len(buffer), max(0, self.size - self._position))
        done = 0
        while done < wanted:
            index, inside = divmod(self._position, BLOCK)
            part = self._block(index)[inside : inside + wanted - done]
            buffer[done : done + len(part)] = part
            done += len(part)
            self._position += len(part)
        return done

    def _block(self, index: int) -> bytes:
        if index not in self._blocks:
            first = index * BLOCK
            last = min(first + BLOCK, self.size) - 1
            self._blocks[index] = self._get(first, last)
            while len(self._blocks) > KEPT:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(index)
        return self._blocks[index]

    def _length(self) -> int:
        with self._tried(urllib.request.Request(self.url, method="HEAD")) as answer:
            return int(answer.headers["Content-Length"])

    def _get(self, first: int, last: int) -> bytes:
        asked = urllib.request.Request(self.url, headers={"Range": f"bytes={first}-{last}"})
        for attempt in range(TRIES):
            with self._tried(asked) as answer:
                if answer.status != 206:
                    raise DataError(
                        f"{self.url}: the server ignores ranges (status {answer.status}); download it whole"
                    )
                try:
                    got = answer.read()
                except (OSError, http.client.HTTPException):
                    got = b""
            if len(got) == last - first + 1:
                self.on_bytes(len(got))
                return bytes(got)
            time.sleep(self.wait * 2**attempt)
        raise MissingInput(
            f"{self.url}: bytes {first} to {last} did not arrive whole in {TRIES} tries; try again later"
        )

    def _tried(self, asked: urllib.request.Request):  # type: ignore[no-untyped-def]
        """Open a request; what is absent (404, 403) is not tried again."""
        for attempt in range(TRIES):
            try:
                return urllib.request.urlopen(asked, timeout=TIMEOUT)
            except urllib.error.HTTPError as error:
                if error.code in (403, 404, 416):
                    raise MissingInput(f"{self.url}: the server says {error.code} {error.reason}") from error
                failure: Exception = error
            except (OSError, http.client.HTTPException) as error:
                failure = error
            time.sleep(self.wait * 2**attempt)
        raise MissingInput(f"{self.url} cannot be reached ({failure}); check the network, then run the same again")
