"""What libraries print while they decode, which is to be a photo's reason, not a line on the terminal without its name.

    hearing = Hearing()
    with hearing:
        pixels = cv2.imdecode(...)
    hearing.said        # "Corrupt JPEG data: bad Huffman code"

What other threads print meanwhile is printed.
"""

from __future__ import annotations

from types import TracebackType

from faceembed.engine.native import _native

_MOST = 120  # characters of a line


class Hearing:
    """Keeps what this thread's C libraries print on stderr while the block runs. Not on Windows, where it is printed."""

    said: str = ""
    """The first line, once the block has ended; empty where nothing was printed."""

    def __enter__(self) -> None:
        _native.listen()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        lines = _native.heard().decode("utf-8", "replace").splitlines()
        self.said = next((" ".join(line.split())[:_MOST] for line in lines if line.strip()), "")
