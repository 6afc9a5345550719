#!/usr/bin/env bash
# ONNX Runtime on Linux: `disable_telemetry_events()`, called first thing after the import, is too late. The import alone has made a device id and
# a queue of events below ~/.cache/Microsoft, with the event about the process in it. Only ORT_DISABLE_TELEMETRY=1, set before the import,
# makes none of them. (CI variables do it too, so they are taken away here.)
set -euo pipefail
work=$(mktemp -d); trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install -q "onnxruntime==1.32.0"
cat > "$work/try.py" <<'PY'
import os
import sqlite3
import subprocess
import sys
import tempfile

CI = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "TRAVIS", "JENKINS_URL", "CODEBUILD_BUILD_ID", "ORT_DISABLE_TELEMETRY")


def left(code, **more):
    """Names of the files in a fresh home, and of the events in its queue, after a program has run."""
    with tempfile.TemporaryDirectory() as home:
        kept = {name: value for name, value in os.environ.items() if name not in CI and not name.startswith("XDG_")}
        subprocess.run([sys.executable, "-c", code], check=True, env={**kept, "HOME": home, **more})
        files = [os.path.join(folder, name) for folder, _, names in os.walk(home) for name in names]
        events = 0
        for path in files:
            if path.endswith("onnxruntime.db"):
                with sqlite3.connect(path) as queue:
                    (events,) = queue.execute("select count(*) from events").fetchone()
        return sorted(os.path.basename(path) for path in files), events


call = "import onnxruntime; onnxruntime.disable_telemetry_events()"
by_call, by_variable = left(call), left("import onnxruntime", ORT_DISABLE_TELEMETRY="1")
print("disable_telemetry_events():", *by_call, "events")
print("ORT_DISABLE_TELEMETRY=1:", *by_variable, "events")
assert by_call == (["deviceid", "onnxruntime.db"], 1) and by_variable == ([], 0), "the behaviour has changed"
PY
"$work/venv/bin/python" "$work/try.py"
