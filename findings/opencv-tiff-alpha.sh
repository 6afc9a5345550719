#!/usr/bin/env bash
# OpenCV multiplies a TIFF's unassociated alpha into its 8-bit colours, even under IMREAD_UNCHANGED; a PNG's, and a 16-bit TIFF's, it does not.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 opencv-python-headless==5.0.0.93 tifffile==2026.3.3
cat > "$folder/run.py" <<'PY'
import io, cv2, numpy as np, tifffile
print("opencv-python-headless", cv2.__version__, "tifffile", tifffile.__version__)
rgba = np.full((8, 8, 4), (200, 100, 50, 128), np.uint8)


def first(data, flags):
    return cv2.imdecode(np.frombuffer(data, np.uint8), flags)[0, 0].tolist()


def tiff(pixels):
    file = io.BytesIO()
    tifffile.imwrite(file, pixels, photometric="rgb", extrasamples=["unassalpha"])
    return file.getvalue()


png = cv2.imencode(".png", rgba[:, :, [2, 1, 0, 3]])[1].tobytes()
found = [
    first(png, cv2.IMREAD_COLOR_RGB),
    first(tiff(rgba), cv2.IMREAD_COLOR_RGB),
    first(tiff(rgba), cv2.IMREAD_UNCHANGED),
    first(tiff(rgba.astype(np.uint16) * 257), cv2.IMREAD_UNCHANGED),
]
for name, value in zip(("PNG, colour", "TIFF, colour", "TIFF, unchanged (BGRA)", "TIFF of 16 bits, unchanged (BGRA)"), found):
    print(f"{name:34s} {value}")
assert found[0] == [200, 100, 50]
assert found[1] == [100, 50, 25]
assert found[2] == [25, 50, 100, 128]
assert found[3] == [50 * 257, 100 * 257, 200 * 257, 128 * 257]
PY
"$folder/venv/bin/python" "$folder/run.py"
