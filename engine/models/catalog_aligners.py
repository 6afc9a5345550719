"""The aligners of the catalog that a hub has; the rules of `catalog` hold here too."""

from __future__ import annotations

import dataclasses

from faceembed.engine.models.entry import Entry

INSIGHTFACE = "non-commercial research only (InsightFace model zoo)"
YUNET = Entry(
    name="yunet-2026may",
    task="aligner",
    licence="MIT",
    source="https://github.com/opencv/opencv_zoo/tree/main/models/face_detection_yunet",
    architecture="YuNet 2026may: the weights of 2023mar",
    input_size=(0, 0),
    colour="bgr",
    mean=(0.0, 0.0, 0.0),
    scale=1.0,
    decoder="yunet",
    # By benchmarks/min_score.py: 9 of 1,806 and 0 of 1,549 photos lost, a face in 3 of 191 pictures; measured: 0 of 391 photos of
    # people_wild's test people and 0 of 2,000 of LFW's View 2 lost, a face in 3 of 202 pictures.
    min_score=0.78,
    min_score_source="205 training pictures of no_faces, 180 people of people_wild, LFW outside View 2",
    # Digest: stated with this commit in the notices of a project that carries the file; its SHA-1 is the one in
    # testdata/dnn/download_models.py of github.com/opencv/opencv_extra. Pixels: see `yunet`.
    url="https://github.com/opencv/opencv_zoo/raw/47534e27c9851bb1128ccc0102f1145e27f23f98/models/face_detection_yunet/"
    + "face_detection_yunet_2026may.onnx",
    sha256="ebafce4e3c118d6554634be5c27ab333b4c047a9a8c3faf1d7cf93101c22f0f0",
    size_bytes=229_738,
)

ALIGNERS = (
    YUNET,
    # Digest: Git LFS pointer models/face_detection_yunet/face_detection_yunet_2023mar.onnx in github.com/opencv/opencv_zoo.
    dataclasses.replace(
        YUNET,
        name="yunet-2023mar",
        source="https://huggingface.co/opencv/face_detection_yunet",
        architecture="YuNet 2023mar",
        url="https://huggingface.co/opencv/face_detection_yunet/resolve/main/face_detection_yunet_2023mar.onnx",
        sha256="8f2383e4dd3cfbb4553ea8718107fc0423210dc964f9f4280604804ed2552fa4",
        size_bytes=232_589,
    ),
    # `det_10g.onnx` of buffalo_l; digest as for arcface-r50. Pixels: insightface model_zoo/scrfd.py, mean 127.5, std 128, RGB.
    Entry(
        name="scrfd-10g",
        task="aligner",
        licence=INSIGHTFACE,
        source="https://github.com/deepinsight/insightface/releases/tag/v0.7",
        architecture="SCRFD-10GF with five points (buffalo_l)",
        input_size=(0, 0),
        scale=1 / 128,
        decoder="scrfd",
        min_score=0.5,
        min_score_source="insightface's own det_thresh; not measured here",
        url="https://huggingface.co/public-data/insightface/resolve/33c1063c49c785b7652d3fd529f86fa4f149392b/models/buffalo_l/det_10g.onnx",
        sha256="5838f7fe053675b1c7a08b633df49e7af5495cee0493c7dcf6697200b85b5b91",
    ),
)
