#!/usr/bin/env bash
# Two processes that compute with one OpenVINO thread each run on the same core, while others idle: a thread is bound to a core while it infers, and each
# process begins with the first. ENABLE_CPU_PINNING = False lets both run. Wants two cores or more.
set -euo pipefail
folder=$(mktemp -d); trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q numpy==2.4.6 openvino==2026.4.1
cat > "$folder/run.py" <<'PY'
import contextlib, os, pathlib, subprocess, sys, threading
if len(sys.argv) > 1:  # one process: the sets of cores that its threads were allowed while it inferred
    sys.modules["openvino_telemetry"] = None
    import numpy as np
    import openvino as ov
    from openvino import opset13 as op
    x = op.parameter([256, 256], np.float32)
    y = x
    for seed in range(8):
        y = op.relu(op.matmul(y, op.constant(np.random.default_rng(seed).normal(size=(256, 256)).astype(np.float32) / 16), False, False))
    config = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "ENABLE_CPU_PINNING": sys.argv[1] == "pinned"}
    request = ov.Core().compile_model(ov.Model([y], [x]), "CPU", config if sys.argv[1] != "default" else dict(list(config.items())[:2])).create_infer_request()
    seen, busy = set(), True
    def look():
        while busy:
            for task in pathlib.Path("/proc/self/task").iterdir():
                with contextlib.suppress(ProcessLookupError):
                    seen.add(tuple(sorted(os.sched_getaffinity(int(task.name)))))
    watch = threading.Thread(target=look)
    watch.start()
    for _ in range(300):
        request.infer({0: np.zeros((256, 256), np.float32)})
    busy = False
    watch.join()
    print(sorted(s for s in seen if len(s) == 1))
    raise SystemExit
import importlib.metadata
assert len(os.sched_getaffinity(0)) > 1, "wants two cores or more"
print("openvino", importlib.metadata.version("openvino"))
found = {}
for setting in ("default", "free"):
    both = [subprocess.Popen([sys.executable, __file__, setting], stdout=subprocess.PIPE, text=True) for _ in range(2)]
    found[setting] = [process.communicate()[0].strip() for process in both]
    print(f"{setting}: bound to the cores {found[setting][0]} and {found[setting][1]}")
assert found["default"][0] == found["default"][1] != "[]"
assert found["free"] == ["[]", "[]"]
PY
"$folder/venv/bin/python" "$folder/run.py"
