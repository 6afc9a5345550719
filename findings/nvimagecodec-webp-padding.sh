#!/usr/bin/env bash
# nvImageCodec refuses a WebP with EXIF data wherever the picture's chunk has an odd length: it does not step over RIFF's padding byte.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 pillow==13.0.0 nvidia-nvimgcodec-cu13==0.9.0.20
cat > "$folder/run.py" <<'PY'
import collections, io, struct
import numpy as np, PIL
from nvidia import nvimgcodec
from PIL import Image
print("nvImageCodec", nvimgcodec.__version__, "pillow", PIL.__version__)
decoder = nvimgcodec.Decoder(
    device_id=nvimgcodec.NVIMGCODEC_DEVICE_CPU_ONLY, backends=[nvimgcodec.Backend(nvimgcodec.BackendKind.CPU_ONLY)]
)
def picture_bytes(data):
    at = 12
    while data[at : at + 4] not in (b"VP8 ", b"VP8L"):
        length = struct.unpack_from("<I", data, at + 4)[0]
        at += 8 + length + length % 2
    return struct.unpack_from("<I", data, at + 4)[0]
random, seen = np.random.default_rng(1), collections.Counter()
for number in range(60):
    file, exif = io.BytesIO(), Image.Exif()
    exif[274] = 1
    pixels = random.integers(0, 256, (20 + number, 30, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(file, "WEBP", lossless=bool(number % 2), exif=exif)
    Image.open(io.BytesIO(file.getvalue())).load()  # Pillow reads every one
    refused = decoder.decode(nvimgcodec.CodeStream(file.getvalue())) is None
    seen["odd" if picture_bytes(file.getvalue()) % 2 else "even", "refused" if refused else "decoded"] += 1
print("length of the picture's chunk, and what became of the file:", dict(seen))
assert set(seen) == {("odd", "refused"), ("even", "decoded")}
PY
PYNVIMGCODEC_VERBOSITY=0 "$folder/venv/bin/python" "$folder/run.py"
