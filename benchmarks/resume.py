"""kill -9 in the middle of `faceembed embed`, run it again, and compare with a run that nobody disturbed.

    python benchmarks/resume.py                                    # all of LFW, killed at a half
    python benchmarks/resume.py --photos 2000 --kills 0.25,0.5,0.75 --json resume.json

What bounds it. Work that is not yet on the disk is lost with the process: at most the shard being filled, and what the
pipeline holds in flight. A second run over an unchanged folder cannot be faster than starting Python, reading the index's
table, and asking the file system for size and time of every file (some 2 microseconds each when they are cached): no photo
is opened and no model loaded.

How. One undisturbed run gives the reference and the pace. For each point of `--kills`, a run into a new index gets SIGKILL
when it has used that share of the undisturbed run's processor time, start-up aside (wall time would be at the mercy of
whoever else is on the machine); the same command then runs to its end. Compared with the reference: the table row by row,
the ids, and the vectors bit for bit. Photos redone are what the pace says was finished at the kill, less what the second
run says it `skipped`: exact in the second number, an estimate (some per cent of the work) in the first, since a killed
program reports nothing. Last, the reference's own command runs again with nothing changed.

Not measured: loss of power (the page cache survives kill -9), a full disk, two runs into one index at the same time.
"""

from __future__ import annotations

import argparse
import hashlib
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import common
import numpy as np
import processes
from common import BenchmarkError, say
from processes import Measured

UNCHANGED_LIMIT_SECONDS = 2.0


def compare_indexes(reference: Path, other: Path) -> dict[str, Any]:
    """How far two indexes of the same photos differ: files, rows, ids, vectors."""
    rows_a, vectors_a = _load(reference)
    rows_b, vectors_b = _load(other)
    keys_a, keys_b = ([(row["path"], row["face"]) for row in rows] for rows in (rows_a, rows_b))
    result: dict[str, Any] = {
        "faces": [len(rows_a), len(rows_b)],
        "same_file": _digest(reference) == _digest(other),
        "same_rows": rows_a == rows_b,
        "same_faces": sorted(keys_a) == sorted(keys_b),
        "same_ids": [row["face_id"] for row in rows_a] == [row["face_id"] for row in rows_b],
        "vectors_bit_for_bit": False,
    }
    if result["same_faces"]:
        a, b = (v[sorted(range(len(k)), key=k.__getitem__)] for v, k in ((vectors_a, keys_a), (vectors_b, keys_b)))
        result["vectors_bit_for_bit"] = a.tobytes() == b.tobytes()
        result["min_cosine"] = float(np.min(np.sum(a.astype(np.float64) * b, axis=1), initial=1.0))
        result["max_row_difference"] = _row_difference(rows_a, rows_b)
    return result


def _row_difference(rows_a: list[dict[str, Any]], rows_b: list[dict[str, Any]]) -> float:
    """The largest difference of any float (pixels, score, norm) between the rows of one face."""
    by_key = {(row["path"], row["face"]): row for row in rows_b}
    couples = ((row, by_key[row["path"], row["face"]]) for row in rows_a)
    differences = (abs(a[key] - b[key]) for a, b in couples for key in a if isinstance(a[key], float))
    return max(differences, default=0.0)


def _load(index: Path) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The table's rows, and their vectors (n, d) in the same order."""
    import faiss
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(index.with_suffix(".faiss.parquet")).to_pylist()
    store = faiss.read_index(str(index))
    if store.ntotal != len(rows):
        raise BenchmarkError(f"{index} holds {store.ntotal} vectors and its table {len(rows)} rows")
    vectors = [store.reconstruct(int(row["face_id"])) for row in rows]
    return rows, np.stack(vectors) if vectors else np.empty((0, store.d), np.float32)


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def kill_and_resume(
    folder: Path, index: Path, share: float, *, start: Measured, whole: Measured, photos: int, embed: str
) -> dict[str, Any]:
    """Kill a run when `share` of the work should be done, and finish it with the same command.

    Args:
        start: a run over next to nothing: the start-up.
        whole: the undisturbed run over all photos.
    """
    work = max(whole.cpu_seconds - start.cpu_seconds, 1e-3)
    moment = start.cpu_seconds + share * work
    command = processes.embed_command(embed, folder, index)
    killed = processes.measure(command, kill_when=lambda cpu_seconds: cpu_seconds >= moment)
    if killed.returncode == 0:
        raise BenchmarkError(
            f"the run ended before it could be killed at {moment:.1f} processor seconds; use more photos"
        )
    visible = index.exists()
    second = processes.measure(command)
    skipped = int(second.json()["skipped"])
    done = min(photos, round(photos * max(0.0, killed.cpu_seconds - start.cpu_seconds) / work))
    return {
        "killed_at": share,
        "index_seen_after_kill": visible,
        "finished_at_kill_estimate": done,
        "skipped_by_second_run": skipped,
        "redone_estimate": done - skipped,
        "second_run_seconds": round(second.seconds, 3),
        "one_run_seconds": round(whole.seconds, 3),
    }


def run(args: argparse.Namespace) -> dict[str, Any]:
    """Measure everything that was asked for."""
    root = common.data_root() / args.set
    names = common.sample(common.list_photos(root), args.photos, seed=args.seed)
    processes.pin_to_cores(args.cores)
    document: dict[str, Any] = {"benchmark": "resume", "machine": common.machine(), "photos": len(names), "kills": []}
    with tempfile.TemporaryDirectory(prefix="faceembed-resume-") as temporary:
        folder = common.link_photos(root, names, Path(temporary) / "photos")
        common.warm_page_cache(folder, names)
        reference = _index(temporary, "reference")
        command = processes.embed_command(args.embed_command, folder, reference)
        processes.warm_up(args.embed_command, root, names)
        start = processes.warm_up(args.embed_command, root, names)
        say(f"{len(names)} photos, undisturbed")
        whole = processes.measure(command)
        for share in args.kills:
            say(f"killed at {share:.0%}, and again")
            index = _index(temporary, f"killed-{share}")
            runs = {"start": start, "whole": whole}
            entry = kill_and_resume(folder, index, share, **runs, photos=len(names), embed=args.embed_command)
            document["kills"].append(entry | compare_indexes(reference, index))
        before = _digest(reference)
        say("nothing changed, and again")
        again = [processes.measure(command) for _ in range(args.rounds)]
        document["unchanged"] = {
            "seconds": [round(run.seconds, 3) for run in again],
            "skipped": int(again[-1].json()["skipped"]),
            "same_file": before == _digest(reference),
            "limit_seconds": UNCHANGED_LIMIT_SECONDS,
        }
    return document


def _index(folder: str, name: str) -> Path:
    path = Path(folder) / name / "index.faiss"
    path.parent.mkdir()
    return path


def report(document: dict[str, Any]) -> str:
    """The tables, for people."""
    rows = []
    for entry in document["kills"]:
        equal = (
            "bit for bit" if entry["vectors_bit_for_bit"] else f"cosine >= {entry.get('min_cosine', float('nan')):.7f}"
        )
        finished, skipped = entry["finished_at_kill_estimate"], entry["skipped_by_second_run"]
        yes_no = ["yes" if entry[key] else "NO" for key in ("same_rows", "same_ids")]
        times = f"{entry['second_run_seconds']:.1f}/{entry['one_run_seconds']:.1f}"
        redone = f"~{entry['redone_estimate']}"
        rows.append((f"{entry['killed_at']:.0%}", f"~{finished}", skipped, redone, *yes_no, equal, times))
    header = ("killed at", "finished", "skipped", "redone", "rows equal", "ids equal", "vectors", "s, 2nd/whole run")
    unchanged = document["unchanged"]
    times = ", ".join(f"{seconds:.2f}" for seconds in unchanged["seconds"])
    foot = f"unchanged folder: {times} s (wanted < {unchanged['limit_seconds']:.0f}), {unchanged['skipped']} skipped"
    return f"{document['photos']} photos\n{common.table(header, rows)}\n\n{foot}"


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Kill faceembed embed, resume it, compare with an undisturbed run.")
    parser.add_argument("--photos", type=int, default=0, help="how many, 0 for all (default)")
    parser.add_argument("--set", default="lfw", help="folder of the data (default lfw)")
    parser.add_argument("--kills", default="0.5", help="shares of the work to kill at (default 0.5)")
    parser.add_argument("--rounds", type=int, default=3, help="runs over the unchanged folder (default 3)")
    parser.add_argument("--cores", type=int, default=2, help="cores to stay on (default 2)")
    parser.add_argument("--seed", type=int, default=0, help="of the sample of photos")
    parser.add_argument(
        "--embed-command", default=processes.EMBED, help="what to run (default: python -m faceembed embed)"
    )
    parser.add_argument("--json", type=Path, help="also write the result here")
    args = parser.parse_args(arguments)
    args.kills = [float(share) for share in args.kills.split(",") if share]
    if not all(0 < share < 1 for share in args.kills) or args.rounds < 1:
        parser.error("--kills must lie between 0 and 1, --rounds must be 1 or more")
    return args


def main(arguments: Sequence[str] | None = None) -> None:
    common.run_and_report(parse(arguments), run, report)


if __name__ == "__main__":
    main()
