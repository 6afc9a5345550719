"""What a model's spec keeps of strangers, measured anew: the precision gate's unit and its template vectors.

    python benchmarks/strangers.py faceembed-r29 people_wild --train 180 --validate 20 --test 40 --seed 7 -o faceembed-r29.json

The people are the training part of `faceembed data split` with the same numbers. The spec is written to a file, or its new fields are
compared with those that the model has.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from common import say

from faceembed.engine.models.registry import resolve
from faceembed.engine.models.strangers import read_templates
from faceembed.engine.pipeline.settings import EmbedSettings
from faceembed.engine.pipeline.strangers import described_on
from faceembed.engine.runtimes.choose import RuntimeSettings
from faceembed.trainer.data.split import split_people


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("encoder", help="a name, or an ONNX file")
    parser.add_argument("folder", type=Path, help="photos, a folder for each person")
    for part, people in (("train", 180), ("validate", 20), ("test", 40), ("seed", 7)):
        parser.add_argument(f"--{part}", type=int, default=people)
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("-o", "--output", type=Path, help="where to write the spec with what was measured")
    args = parser.parse_args()
    model = resolve(args.encoder, task="encoder")
    everybody = [path.name for path in args.folder.iterdir() if path.is_dir()]
    split = split_people(everybody, train=args.train, validate=args.validate, test=args.test, seed=args.seed)
    settings = EmbedSettings(runtime=RuntimeSettings(threads=args.threads))
    spec = described_on(
        model, args.folder, split["train"], source=f"training people of {args.folder.name}", settings=settings
    )
    say(f"{spec.name}: strangers' spread {spec.spread} ({spec.spread_source}), {len(read_templates(spec))} templates")
    if args.output:
        args.output.write_text(spec.to_json())
    elif model.spec.templates:
        cosines = (read_templates(spec) * read_templates(model.spec)).sum(axis=1)
        same = np.abs(cosines).min()
        say(f"the model's own: {model.spec.spread}, templates that agree to a cosine of {same:.4f}")


if __name__ == "__main__":
    main()
