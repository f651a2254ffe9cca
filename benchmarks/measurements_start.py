"""How long Python takes to start; nothing heavy is imported here, so that the peak memory is that of a bare process."""

import subprocess
import sys
import time
from functools import partial


def start(code: str, repeats: int = 5) -> dict:
    """Seconds of a fresh process that runs the code: the fastest repeat, after one that is not counted."""
    seconds = []
    for _ in range(1 + repeats):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
        seconds.append(time.perf_counter() - started)
    return {"seconds": min(seconds[1:]), "all": seconds[1:]}


HELP = "import sys; sys.argv = ['cryo-fewshot', '--help']; from cryo_fewshot.cli import main; main()"
MEASUREMENTS = {
    "start_torch": partial(start, "import torch"),
    "start_package": partial(start, "import torch, cryo_fewshot"),
    "start_help": partial(start, HELP),
}
