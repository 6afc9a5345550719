#!/usr/bin/env bash
# OpenCV shows the first frame of an animated PNG where the file has a still picture of its own for viewers that do not animate.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 opencv-python-headless==5.0.0.93 pillow==13.0.0
cat > "$folder/run.py" <<'PY'
import io, cv2, numpy as np, PIL
from PIL import Image
print("opencv-python-headless", cv2.__version__, "pillow", PIL.__version__)
still, frames = Image.new("RGB", (16, 16), "lime"), [Image.new("RGB", (16, 16), colour) for colour in ("red", "blue")]
file = io.BytesIO()
still.save(file, "PNG", save_all=True, default_image=True, append_images=frames)
pillow = Image.open(io.BytesIO(file.getvalue())).convert("RGB").getpixel((0, 0))
opencv = tuple(cv2.imdecode(np.frombuffer(file.getvalue(), np.uint8), cv2.IMREAD_COLOR_RGB)[0, 0].tolist())
print("the still picture is (0, 255, 0); Pillow", pillow, "OpenCV", opencv)
assert pillow == (0, 255, 0)
assert opencv == (255, 0, 0)
PY
"$folder/venv/bin/python" "$folder/run.py"
