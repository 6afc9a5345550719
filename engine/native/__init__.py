"""C++ and CUDA, and their Python face `_native`: warp and resize, decoding of outputs, NMS, similarity fit."""
