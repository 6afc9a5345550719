"""nvImageCodec, as far as we use it: a list of files to a list of pictures, on a card and on the CPU.

One call a batch, which orders its own streams after and before ours; a file that it does not decode is None in the list and costs no
other. That is so, too, where the card has no memory for a picture: then OpenCV decodes it, and the upload says what is wrong.

It is told to say nothing: it prints about every damaged file by itself.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np

from faceembed.engine.pipeline.gpu.decoder import Decoder
from faceembed.engine.runtimes.arrays import DeviceArray
from faceembed.errors import DeviceError
from faceembed.install import pip_install

# Fancy upsampling is what libjpeg-turbo, and so OpenCV, does: on the CPU the two agree bit for bit.
OPTIONS = ":fancy_upsampling=1"
_VERBOSITY = "PYNVIMGCODEC_VERBOSITY"


def load() -> Any:
    """The module, imported at first use.

    Raises:
        DeviceError: it is not installed, or does not load.
    """
    name = "nvidia.nvimgcodec"
    if name in sys.modules:
        return sys.modules[name]
    before = os.environ.get(_VERBOSITY)
    os.environ.setdefault(_VERBOSITY, "0")  # read once, while it is imported
    try:
        from nvidia import nvimgcodec
    except (ImportError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise DeviceError(f"nvImageCodec cannot be loaded ({reason}); run: {pip_install('gpu')}") from error
    finally:
        if before is None:
            del os.environ[_VERBOSITY]
    return nvimgcodec


class NvImageCodec(Decoder):
    """The decoder of one device.

    Args:
        device_id: the card's number; None for the CPU.
        threads: for what the processor does: Huffman codes where the card has no JPEG decoder, and formats that no card decodes.
        options: the decoder's, as nvImageCodec writes them.
        backends: names of ``BackendKind`` that may decode; none: all on a card, the processor's without one.

    Raises:
        DeviceError: it is not installed, or does not start.
    """

    title = "nvImageCodec"

    def __init__(
        self,
        *,
        device_id: int | None = None,
        threads: int = 1,
        options: str = OPTIONS,
        backends: Sequence[str] = (),
    ) -> None:
        self._module = module = load()
        self._on_card = device_id is not None
        kinds = backends or (("CPU_ONLY",) if device_id is None else ())
        allowed = [module.Backend(getattr(module.BackendKind, kind)) for kind in kinds]
        try:
            self._decoder = module.Decoder(
                device_id=module.NVIMGCODEC_DEVICE_CPU_ONLY if device_id is None else device_id,
                max_num_cpu_threads=threads,
                backends=allowed or None,
                options=options,
            )
        except RuntimeError as error:
            raise DeviceError(f"nvImageCodec does not start ({error}); --decoder dali may") from error
        self._params = module.DecodeParams(
            apply_exif_orientation=True, color_spec=module.ColorSpec.SRGB, allow_any_depth=False
        )

    def decode(self, files: Sequence[bytes], stream: Any = None) -> list[Any]:
        """As `Decoder.decode`: `DeviceArray`s, or NumPy arrays."""
        sources = [self._module.CodeStream(data) for data in files]
        handle = 0 if stream is None else int(stream.handle)
        images = self._decoder.decode(sources, params=self._params, cuda_stream=handle)
        return [None if image is None else self._array(image) for image in images]

    def _array(self, image: Any) -> Any:
        return DeviceArray.of(image) if self._on_card else np.asarray(image)
