"""The encoder that `data clean` and `data fakes` judge people by where none is named.

Both ask who a photo shows, and nothing else: a photo that a gated encoder takes for a deepfake must not count as mislabelled,
nor lose the people who look like it. What they do was chosen and measured with this encoder, and the same seed must give the
same fakes whatever the default of the other commands becomes. What is not known here: NumPy, PyTorch.
"""

from __future__ import annotations

IDENTITY_ENCODER = "dlib-resnet"
