"""How fast: this package, a plain reference and the machine's own limit, measured side by side in one run.

Each measurement runs in a process of its own (the allocator's settings are those of a process) and is repeated; the
fastest repeat counts, and all are kept. `python benchmarks/bench.py` writes results/bench/<machine>.json.
"""

import argparse
import json
import re
import resource
import subprocess
import sys
from importlib import import_module
from pathlib import Path

CPU, START, GPU, AGREEMENT, PEERS = (f"measurements_{kind}" for kind in ("cpu", "start", "gpu", "agreement", "peers"))
OTHERS = {"start": START, "gpu": GPU, "agreement": AGREEMENT, "peer": PEERS}
"""The module of a measurement, by the first word of its name; all others are in `measurements_cpu`."""
LONG = ("stream_100000",)
"""They take minutes and are measured when --only asks for them."""


def all_names() -> list[str]:
    """Names of all measurements, in their order."""
    return [name for module in (CPU, START, GPU, AGREEMENT, PEERS) for name in import_module(module).MEASUREMENTS]


def measure(name: str) -> dict:
    """Measure one thing in this process, which imports no more than it needs; with the process's peak memory."""
    measurements = import_module(OTHERS.get(name.split("_")[0], CPU)).MEASUREMENTS
    if name not in measurements:
        sys.exit(f"'{name}' is no measurement: use one of {', '.join(all_names())}")
    result = measurements[name]()
    return result | {"peak_gb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6, 2)}


def measure_apart(name: str) -> dict:
    """Measure one thing in a process of its own."""
    done = subprocess.run([sys.executable, __file__, "--one", name], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def outcome(result: dict) -> str:
    """A result in one line."""
    if "seconds" in result:
        return f"{result['seconds'] * 1e3:.3g} ms"
    return f"not run: {result['not_run']}" if "not_run" in result else str(result)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", metavar="NAME", help="measure one thing in this process and print it as JSON")
    parser.add_argument(
        "--only", metavar="NAME", nargs="*", help=f"what to measure; default: all but {', '.join(LONG)}"
    )
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(measure(arguments.one)))
        return
    names = all_names()
    if unknown := set(arguments.only or ()).difference(names):
        parser.error(f"no measurement: {', '.join(sorted(unknown))}; use some of {', '.join(names)}")

    from cryo_fewshot.device import machine
    from cryo_fewshot.files import write_atomically

    about, results = machine(), {}
    file_name = re.sub(r"\W+", "-", f"{about['processor']} {about['cores']} cores".lower()).strip("-")
    path = arguments.output or Path(__file__).resolve().parents[1] / "results" / "bench" / f"{file_name}.json"
    chosen = [name for name in names if name not in LONG] if arguments.only is None else arguments.only
    for number, name in enumerate(chosen, 1):
        results[name] = measure_apart(name)
        print(f"{number}/{len(chosen)} {name:<30} {outcome(results[name])}", flush=True)
        write_atomically(path, json.dumps({"machine": about, "results": results}, indent=1).encode())
    print(f"Done: {path}")


if __name__ == "__main__":
    main()
