#!/usr/bin/env bash
# OpenCV takes no notice of the bit masks behind a BMP's header of 40 bytes: a file with red in the lowest byte comes out with red and blue exchanged.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 opencv-python-headless==5.0.0.93
cat > "$folder/run.py" <<'PY'
import struct, cv2, numpy as np
print("opencv-python-headless", cv2.__version__)


def bmp(header):
    """8 x 8 pixels of red 200, green 100, blue 50; masks say that red is the lowest byte."""
    body = struct.pack("<I", 200 | 100 << 8 | 50 << 16) * 64
    fields = struct.pack("<IiiHHIIiiII", header, 8, 8, 1, 32, 3, len(body), 0, 0, 0, 0)
    fields = (fields + struct.pack("<III", 0xFF, 0xFF00, 0xFF0000)).ljust(header, b"\0")
    begin = 14 + len(fields)
    return b"BM" + struct.pack("<IHHI", begin + len(body), 0, 0, begin) + fields + body


found = {header: cv2.imdecode(np.frombuffer(bmp(header), np.uint8), cv2.IMREAD_COLOR_RGB)[0, 0].tolist() for header in (40, 108)}
print("right is [200, 100, 50];", ", ".join(f"header of {header} bytes: {value}" for header, value in found.items()))
assert found == {40: [50, 100, 200], 108: [200, 100, 50]}
PY
"$folder/venv/bin/python" "$folder/run.py"
