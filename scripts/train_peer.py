"""Train a peer's network on the simulator and ask it for the tasks of the page on peers: one row of its table.

    python scripts/train_peer.py                      # TomoTwin's at full width, 480,000 volumes, wants a GPU
    python scripts/train_peer.py --minutes 9          # stops in time; the same command goes on
    python scripts/train_peer.py --network pooled     # the pretrained encoder's architecture, as long, for comparison

Needs torch, numpy, scipy, pandas, scikit-learn, safetensors, tqdm and torch-ctf alone. What comes out is one JSON file
of 40 kB, which the page shows once it is in `results/extended/peertraining` of a checkout, and the weights beside it,
310 MB at full width. The checkpoint takes 0.9 GB, 1.2 GB where the best state is not the last; it goes when the
training is done. A training whose loss stays at the margin stops after an epoch.
"""

import argparse
import shutil
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "notebooks")]

from studies.peers_trained import RATES, peer_training  # noqa: E402

from cryo_fewshot.errors import UserError  # noqa: E402
from cryo_fewshot.reproduction.runner import Runner  # noqa: E402
from cryo_fewshot.reproduction.store import Store  # noqa: E402
from cryo_fewshot.training import DeadlineReached  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=sorted({network for network, _ in RATES}), default="TomoTwin")
    parser.add_argument("--loss", choices=sorted({loss for _, loss in RATES}), default="triplets")
    parser.add_argument("--volumes", type=int, default=480_000, help="as many as the pretrained encoder took")
    parser.add_argument("--width", type=int, default=64, help="channels of the first block of TomoTwin's network")
    parser.add_argument("--rate", type=float, help="of learning; default: that of TomoTwin's released settings")
    parser.add_argument("--minutes", type=float, help="stop at the end of the epoch that is then running")
    parser.add_argument("--results", type=Path, default=ROOT / "results" / "extended", help="folder of results")
    parser.add_argument("--out", type=Path, help="folder that gets a copy of both files")
    options = parser.parse_args()
    if (options.network, options.loss) not in RATES:
        parser.error(f"{options.network} has no learning rate for {options.loss}: use --loss triplets")
    training = peer_training(options.network, options.loss, options.volumes, options.width, options.rate)
    deadline = None if options.minutes is None else time.monotonic() + 60 * options.minutes
    runner = Runner(Store(options.results), deadline=deadline)
    path = runner.store.path(training)
    try:
        runner(training, with_tensors=True)
    except DeadlineReached:
        if not path.exists():
            print(f"Stopped after {options.minutes:g} minutes; run the same command to resume.")
            return
    except UserError as error:
        sys.exit(f"Error: {error}")
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        shutil.copy(path.with_suffix(".safetensors"), options.out)
        path = shutil.copy(path, options.out)
    print(f"Done: {path}")


if __name__ == "__main__":
    main()
