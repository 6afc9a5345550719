"""What the file of an aligner of kind `one-shot` holds: two networks, under the names and in the sizes that stand here.

`detect.oneshot` says what the numbers mean.
"""

STRIDES = (8, 16, 32)
CHANNELS = 15
OUTPUTS = tuple(f"level_{stride}" for stride in STRIDES)
"""The first network's: (N, `CHANNELS`, H/stride, W/stride) for pixels (N, H, W, 3)."""
REFINED = "refined"
"""The second network's output: (N, `REFINED_CHANNELS`) for crops (N, `REFINED_SIDE`, `REFINED_SIDE`, 3)."""
REFINED_CHANNELS = 11
REFINED_SIDE = 56
