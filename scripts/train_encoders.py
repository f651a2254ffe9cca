"""Train encoders by a list of specs: each ends as a file of weights with its card, ready for `classify --encoder`.

    python scripts/train_encoders.py --list
    python scripts/train_encoders.py --only neighbours-0 --start results/encoders/first.safetensors --seconds 120

Needs torch, numpy, scipy, pandas, safetensors, tqdm and torch-ctf alone. The same command goes on where it was stopped.
Several processes can share a GPU and a folder, each with specs of its own. The card holds spec, history and machine;
what to expect and the calibration are measured afterwards, see `recognition.model_card.measured`.
"""

import argparse
import importlib
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "notebooks")]

from cryo_fewshot.device import default_device  # noqa: E402
from cryo_fewshot.hashing import spec_digest  # noqa: E402
from cryo_fewshot.recognition.model_card import training_card  # noqa: E402
from cryo_fewshot.recognition.pretraining import Pretraining, train  # noqa: E402
from cryo_fewshot.training import DeadlineReached  # noqa: E402
from cryo_fewshot.weights import load_encoder, save_encoder  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--specs", default="studies.factors:trainings", help="module:function of a dict of Pretraining by name"
    )
    parser.add_argument("--list", action="store_true", help="names, volumes and classes of the specs; trains nothing")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="specs to train, default all")
    parser.add_argument("--epochs", type=int, help="epochs instead of the spec's, its rate halved as often")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="for each spec, until its last epoch ends")
    parser.add_argument(
        "--start", help="file of the encoder that specs with a `start` go on from, default the package's"
    )
    parser.add_argument("--device", type=torch.device, default=default_device())
    parser.add_argument("--out", type=Path, default=Path("encoders"), help="folder of NAME.safetensors")
    options = parser.parse_args()
    module, function = options.specs.split(":")
    specs = getattr(importlib.import_module(module), function)()
    if unknown := set(options.only or ()) - set(specs):
        parser.error(f"no spec {sorted(unknown)}; there are {', '.join(specs)}")
    if options.list:
        for name, spec in specs.items():
            print(f"{name}: {spec.cost:,} volumes, {len(spec.classes)} classes, {spec_digest(spec)}")
        return
    options.out.mkdir(parents=True, exist_ok=True)
    torch.backends.cudnn.benchmark = True
    for name in options.only or specs:
        train_one(name, specs[name], options)


def train_one(name: str, spec: Pretraining, options: argparse.Namespace) -> None:
    """Train a spec, or go on with it, and write `NAME.safetensors`; a file that is there already stays."""
    path = options.out / f"{name}.safetensors"
    if path.exists():
        print(f"{name}: {path} is there", flush=True)
        return
    started = time.monotonic()
    if options.epochs:
        schedule = replace(spec.schedule, n_epochs=options.epochs, halve_every=max(1, options.epochs // 5))
        spec = replace(spec, schedule=schedule)
    checkpoint = options.out / f".{name}.{spec_digest(spec)}.checkpoint"
    done, start = 0, load_encoder(options.start)[0] if spec.start else None

    def count(n_steps: int) -> None:
        nonlocal done
        done += n_steps

    def after_epoch() -> None:
        passed = time.monotonic() - started
        volumes = done * spec.volumes_per_step
        print(f"{name}: {volumes:,} of {spec.cost:,} volumes, {volumes / passed:,.0f} per second", flush=True)
        if passed > options.seconds:
            raise DeadlineReached

    try:
        encoder, history = train(spec, checkpoint, count, after_epoch, options.device, start)
    except DeadlineReached:
        # The checkpoint holds the best state so far: a training that has no epoch left returns it.
        n_done = done // spec.schedule.steps_per_epoch
        stopped = replace(spec, schedule=replace(spec.schedule, n_epochs=n_done))
        encoder, history = train(stopped, checkpoint, device=options.device, start=start)
    save_encoder(path, encoder, training_card(spec, history))
    best = max(history.accuracies)
    print(f"Done: {path}, {len(history.losses)} epochs, selection accuracy {best:.3f}", flush=True)


if __name__ == "__main__":
    main()
