"""The path that keeps pixels on an NVIDIA card: decode, detect, align and encode without a copy to the host."""
