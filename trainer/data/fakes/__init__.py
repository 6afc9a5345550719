"""Deepfakes for training and tests: whole photos in which a face is not what it seems, with the provenance of each.

    find faces (engine) ─► plan: which source, which target, which method ─► make, side by side ─► compress ─► fakes.parquet

`mesh` places a face model by five landmarks, `warp`, `masks`, `colour` and `blend` are what the methods are made of,
`methods` and `selfblend` hold the methods, `swappers` the networks of a user's own ONNX file.
"""
