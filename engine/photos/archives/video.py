"""The frames of a video: ``party.mp4::00:01:05.000`` is the one shown then, in hours, minutes and seconds from the beginning.

So many a second are taken as are asked for: of each part of a second a key frame where there is one, which is whole by itself and quick to
reach, else the first. They are read through PyAV, which brings FFmpeg, upright, as uncompressed pictures.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from typing import Any

from faceembed.engine.photos.archives.archive import Archive, Member
from faceembed.errors import PhotoError
from faceembed.install import pip_install

_NEAR = 0.0006  # seconds: names are whole milliseconds
_ON = 2.0  # seconds that are decoded through where the next frame wanted is as near as that


class Video(Archive):
    """A video that is kept open.

    Args:
        path: of the file.

    Raises:
        PhotoError: no video, or a damaged one; or PyAV is not installed.
        OSError: it cannot be read.
    """

    only_photos = True

    def __init__(self, path: str) -> None:
        # Not at the top: optional, and for videos alone.
        try:
            import av
        except ImportError as error:
            raise PhotoError("list", f"a video, which needs one more package; run: {pip_install('video')}") from error
        self._av = av
        self.problems = []
        self._lock = threading.Lock()
        self._at = math.inf
        """Seconds of the frame that was decoded last."""
        self._frames: Iterator[Any] = iter(())
        try:
            self._container: Any = av.open(path)
            self._stream: Any = next(iter(self._container.streams.video), None)
            if self._stream is None:
                raise PhotoError("list", "a video file without pictures")
            self._times = self._shown()
            self._size = self._bytes_of_a_frame()
        except (av.FFmpegError, ValueError) as error:
            raise PhotoError("list", f"no video, or a damaged one ({_line(error)})") from error

    def members(self) -> Iterator[Member]:
        return self.frames(1.0)

    def frames(self, fps: float) -> Iterator[Member]:
        """So many frames a second."""
        chosen: dict[int, tuple[bool, float]] = {}
        for time, key in self._times:
            part = math.floor(time * fps + 1e-6)
            if part not in chosen or (key and not chosen[part][0]):
                chosen[part] = (key, time)
        for _, time in chosen.values():
            yield Member(name_of(time), self._size)

    def has(self, name: str) -> bool:
        wanted = seconds_of(name)
        return wanted is not None and any(abs(time - wanted) <= _NEAR for time, _ in self._times)

    def size(self, name: str) -> int:
        if not self.has(name):
            raise PhotoError("read", "no frame of the video is shown then")
        return self._size

    def read(self, name: str, most: int = -1) -> bytes:
        wanted = seconds_of(name)
        if wanted is None or not self.has(name):
            raise PhotoError("read", "no frame of the video is shown then")
        with self._lock:
            try:
                data = self._read(wanted)
            except (self._av.FFmpegError, ValueError) as error:
                self._at = math.inf
                raise PhotoError("read", f"damaged video ({_line(error)})") from error
        return data if most < 0 else data[:most]

    def _shown(self) -> list[tuple[float, bool]]:
        """When each frame is shown, in seconds from the first, and whether it is whole by itself. Nothing is decoded for that."""
        found: list[tuple[float, bool]] = []
        base = float(self._stream.time_base)
        try:
            for packet in self._container.demux(self._stream):
                if packet.pts is not None:
                    found.append((packet.pts * base, bool(packet.is_keyframe)))
        except self._av.FFmpegError as error:
            if not found:
                raise
            self.problems.append(f"damaged after {len(found):,} frames ({_line(error)}); what comes then is not read")
        found.sort()
        self._start = found[0][0] if found else 0.0
        return [(time - self._start, key) for time, key in found]

    def _bytes_of_a_frame(self) -> int:
        if not self._times:
            raise PhotoError("list", "a video without a frame")
        return len(self._read(self._times[0][0]))

    def _read(self, wanted: float) -> bytes:
        if not 0 <= wanted - self._at <= _ON:
            place = int((wanted + self._start) / float(self._stream.time_base))
            self._container.seek(place, stream=self._stream, backward=True)
            self._frames = self._container.decode(self._stream)
        for frame in self._frames:
            self._at = float(frame.time or 0.0) - self._start
            if self._at >= wanted - _NEAR:
                self._at += _NEAR  # it is behind us
                return _bmp(frame)
        self._at = math.inf
        raise ValueError("a frame that it should have is missing")


def _bmp(frame: Any) -> bytes:
    """A frame as the camera was held, as a picture without loss."""
    import cv2  # not at the top, as above
    import numpy as np

    pixels = np.rot90(frame.to_ndarray(format="bgr24"), round(getattr(frame, "rotation", 0) / 90) % 4)
    return cv2.imencode(".bmp", np.ascontiguousarray(pixels))[1].tobytes()


def name_of(seconds: float) -> str:
    """What the frame is called that is shown then."""
    thousandths = round(seconds * 1000)
    minutes, rest = divmod(thousandths, 60_000)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest // 1000:02d}.{rest % 1000:03d}"


def seconds_of(name: str) -> float | None:
    """The time that a frame's name says; None where it says none."""
    parts = name.split(":")
    if len(parts) != 3 or not all(part.replace(".", "", 1).isdecimal() for part in parts):
        return None
    return 3600 * float(parts[0]) + 60 * float(parts[1]) + float(parts[2])


def _line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0][:120]
