#!/usr/bin/env bash
# OpenCV decodes a TIFF page whose compression its libtiff lacks (JPEG 2000, JPEG XL, PNG) as black, without an error; for others it fails.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 opencv-python-headless==5.0.0.93 tifffile==2026.3.3 imagecodecs==2026.3.6
cat > "$folder/run.py" <<'PY'
import io, cv2, numpy as np, tifffile
print("opencv-python-headless", cv2.__version__, "tifffile", tifffile.__version__)
ramp = np.stack(np.indices((64, 96)), 2).sum(2).astype(np.uint8) + 60
picture = np.dstack([ramp, ramp // 2, 255 - ramp])
seen = {}
for name in ("deflate", "jpeg2000", "jpegxl", "png", "zstd"):
    file = io.BytesIO()
    tifffile.imwrite(file, picture, photometric="rgb", compression=name)
    assert (tifffile.imread(io.BytesIO(file.getvalue())) == picture).all()  # a sound file
    pixels = cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR)
    seen[name] = "None" if pixels is None else "right" if (pixels[:, :, ::-1] == picture).all() else "black" if not pixels.any() else "other"
    print(f"{name:9s} {seen[name]}")
assert seen == {"deflate": "right", "jpeg2000": "black", "jpegxl": "black", "png": "black", "zstd": "None"}, seen
PY
"$folder/venv/bin/python" "$folder/run.py"
