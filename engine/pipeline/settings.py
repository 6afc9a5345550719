"""What a run looks for and how: the settings that the verbs share."""

from __future__ import annotations

import dataclasses

from faceembed.engine.photos.decode import MAX_PIXELS
from faceembed.engine.photos.reading import MAX_BYTES
from faceembed.engine.pipeline.sparing import Spending, spending
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.errors import UsageError

DECODERS = ("nvimagecodec", "dali")
"""What decodes on a card; ``auto`` is the first."""
HOST_BATCH = 32
CARD_BATCH = 128
"""Photos: a card's first look is made for so many (`networks.LOOKS`), and Python spends half as much on a photo as with 32."""
PREPROCESSING = 3  # raised whenever the same photo would give another chip


@dataclasses.dataclass(frozen=True)
class EmbedSettings:
    """How photos become embeddings."""

    encoder: str = "faceembed-r29"
    """A model's name, or the path of an ONNX file."""
    aligner: str = "faceembed-align"
    """A model's name, or ``none`` where photos are aligned crops already (ArcFace's template, square)."""
    faces: str = "largest"
    """``largest``: one face a photo; ``all``: every face."""
    min_face: int = 0
    """Smallest face looked for, as a side in pixels of the photo; 0: 20 px in photos of up to 800 px, and 1/40 of the
    longer side above, 40 px at most where all faces are wanted."""
    min_score: float | None = None
    """Least score of a face, 0 to 1; None: the aligner's own. What scores less is no face: a photo with nothing better is a
    failure that says so. Aligners report nothing below a floor of their own (0.2 for kind `one-shot`, 0.8 for `mtcnn`)."""
    detect_size: int = 0
    """Longer side, in pixels, in which an aligner of kind `one-shot` looks at photos, at most; 0: what `min_face` needs."""
    batch_size: int = 0
    """Photos in a batch, at most; 0: `HOST_BATCH` on processors and `CARD_BATCH` on a card."""
    max_pixels: int = MAX_PIXELS
    """Photos with more pixels are refused."""
    max_bytes: int = MAX_BYTES
    """Files with more bytes are refused before they are read."""
    memory: int = 0
    """Bytes that a run on processors may take, about: batches are smaller and fewer at a time for it (`sparing`); 0: as is fastest."""
    gpu_memory: int = 0
    """Bytes of a card's memory that batches in flight may take; 0: 60 % of what is free once the models are loaded."""
    decoder: str = "auto"
    """What decodes on a card, one of `DECODERS`, or ``auto``."""
    processes: int = 0
    """Processes of each card; 0: one, and up to 4 where it is measured that one cannot feed it."""
    runtime: RuntimeSettings = dataclasses.field(default_factory=RuntimeSettings)
    """What computes; ``runtime.threads`` batches are computed side by side."""

    def __post_init__(self) -> None:
        if self.faces not in ("largest", "all"):
            raise UsageError(f"--faces '{self.faces}' is neither 'largest' nor 'all'")
        if self.min_face and self.min_face < 8:
            raise UsageError(f"--min-face {self.min_face} is too small; a face needs at least 8 pixels, better 20")
        if self.min_score is not None and not 0 <= self.min_score <= 1:  # also what is no number
            raise UsageError(f"--min-score {self.min_score} is not between 0 and 1")
        if self.detect_size and self.detect_size < 64:
            raise UsageError(f"--detect-size {self.detect_size} is too small; give 64 pixels or more, or 0")
        if self.batch_size < 0:
            raise UsageError(f"--batch-size {self.batch_size} must be at least 1")
        if self.memory < 0:
            raise UsageError(f"--memory {self.memory} must be 0 (as is fastest) or more")
        if self.memory and self.runtime.device.startswith("cuda"):
            raise UsageError("--memory is for processors; on a card use --gpu-memory")
        _ = self.spending
        if self.gpu_memory < 0:
            raise UsageError(f"--gpu-memory {self.gpu_memory} must be 0 (most of what is free) or more")
        if self.processes < 0:
            raise UsageError(f"--processes {self.processes} must be 1 or more, or 0 for what is measured")
        if self.decoder not in ("auto", *DECODERS):
            raise UsageError(f"--decoder '{self.decoder}' is not one of {', '.join(DECODERS)}")
        if self.of_cards and self.runtime.device == "cpu":
            raise UsageError(f"{self.of_cards} is for an NVIDIA card; leave it out with --device cpu")
        if self.max_pixels < 1:
            raise UsageError(f"--max-pixels {self.max_pixels} must be at least 1")
        if self.max_bytes < 1:
            raise UsageError(f"--max-bytes {self.max_bytes} must be at least 1")

    def photos_a_batch(self, *, on_card: bool = False) -> int:
        """How many photos make a batch, at most."""
        if on_card:
            return self.batch_size or CARD_BATCH
        return (
            min(self.batch_size or HOST_BATCH, self.spending.photos) if self.memory else self.batch_size or HOST_BATCH
        )

    @property
    def spending(self) -> Spending:
        """What a run on processors holds at a time."""
        return spending(self.memory, self.runtime.thread_count)

    @property
    def of_cards(self) -> str:
        """The first option given that only a card has; empty where none is."""
        given = {
            "--gpu-memory": self.gpu_memory,
            "--decoder": self.decoder != "auto",
            "--processes": self.processes,
        }
        return next((option for option, value in given.items() if value), "")
