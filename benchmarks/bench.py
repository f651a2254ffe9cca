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
import time
from pathlib import Path

BOX, N_VOLUMES, DIM = 40, 100, 512
MEASUREMENTS: dict = {}


def measurement(function):
    MEASUREMENTS[function.__name__] = function
    return function


def repeated(function, repeats: int, per: float = 1.0) -> dict:
    """Seconds per unit of the fastest repeat, after one that is not counted."""
    function()
    seconds = []
    for _ in range(repeats):
        started = time.perf_counter()
        function()
        seconds.append((time.perf_counter() - started) / per)
    return {"seconds": min(seconds), "all": seconds}


def trained_like_encoder():
    """An encoder whose batch statistics fit the data, with the weights of its start; and 100 simulated volumes."""
    import torch

    from cryo_fewshot.dataset import SimulatedData, simulate_set
    from cryo_fewshot.encoder import Encoder3D

    torch.manual_seed(0)
    names = SimulatedData().class_names[:10]
    volumes = simulate_set(SimulatedData(), {0.1: N_VOLUMES // 10}, names).volumes
    encoder = Encoder3D(BOX).train()
    with torch.no_grad():
        for _ in range(2):
            encoder(volumes[::5])
    return encoder.eval(), volumes


def plain_copy(encoder):
    import reference

    network = reference.encoder()
    network.load_state_dict(dict(zip(network.state_dict(), encoder.state_dict().values(), strict=True)))
    return network


# ------------------------------------------------------------------ limits


def _matrix_product(dtype) -> dict:
    import torch

    a = torch.randn(2048, 2048).to(dtype)
    result = repeated(lambda: a @ a, 5)
    return result | {"tflops": 2 * 2048**3 / result["seconds"] / 1e12}


@measurement
def limit_arithmetic_fp32() -> dict:
    import torch

    return _matrix_product(torch.float32)


@measurement
def limit_arithmetic_bf16() -> dict:
    import torch

    return _matrix_product(torch.bfloat16)


@measurement
def limit_memory_copy() -> dict:
    import torch

    a, b = torch.zeros(2, 2**27).unbind()
    result = repeated(lambda: b.copy_(a), 5)
    return result | {"gb_per_second": 2 * a.nbytes / result["seconds"] / 1e9}


# ------------------------------------------------------------------ embedding


@measurement
def embed_reference() -> dict:
    import reference

    encoder, volumes = trained_like_encoder()
    network = plain_copy(encoder)
    return repeated(lambda: reference.embed(network, volumes), 3, per=N_VOLUMES)


def _embed(precision: str, n: int) -> dict:
    import reference
    import torch

    from cryo_fewshot.compute import keep_freed_memory
    from cryo_fewshot.encoder import embed

    keep_freed_memory()
    encoder, volumes = trained_like_encoder()
    volumes = volumes[:n]
    result = repeated(lambda: embed(encoder, volumes, precision), 5, per=n)
    expected, found = reference.embed(plain_copy(encoder), volumes), embed(encoder, volumes, precision)
    return result | {"relative_error": float(torch.linalg.norm(found - expected) / torch.linalg.norm(expected))}


@measurement
def embed_fp32() -> dict:
    return _embed("fp32", N_VOLUMES)


@measurement
def embed_bf16() -> dict:
    return _embed("bf16", N_VOLUMES)


@measurement
def embed_bf16_one_by_one() -> dict:
    return _embed("bf16", 1)


# ------------------------------------------------------------------ training


@measurement
def train_reference() -> dict:
    import reference
    import torch

    torch.manual_seed(0)
    network, volumes = reference.encoder(), torch.randn(5, 20, BOX, BOX, BOX)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    return repeated(lambda: reference.training_step(network, optimizer, volumes[:, :5], volumes[:, 5:]), 2, per=100)


def _train(precision: str) -> dict:
    import torch
    from torch.nn import functional as F

    from cryo_fewshot.compute import autocast, keep_freed_memory
    from cryo_fewshot.encoder import Encoder3D
    from cryo_fewshot.protonet import prototype_logits

    keep_freed_memory()
    torch.manual_seed(0)
    encoder, volumes = Encoder3D(BOX).train(), torch.randn(100, BOX, BOX, BOX)
    optimizer = torch.optim.Adam(encoder.parameters(), 1e-4)
    target = torch.arange(5).repeat_interleave(15)

    def step():
        with autocast(volumes.device, precision):
            embeddings = encoder(volumes).unflatten(0, (5, 20))
        loss = F.cross_entropy(prototype_logits(embeddings[:, :5], embeddings[:, 5:].flatten(0, 1)), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return repeated(step, 3, per=100)


@measurement
def train_fp32() -> dict:
    return _train("fp32")


@measurement
def train_bf16() -> dict:
    return _train("bf16")


# ------------------------------------------------------------------ evaluation, simulation, streams


@measurement
def evaluate_reference() -> dict:
    import reference
    import torch

    from cryo_fewshot.adaptation import Adaptation

    encoder, volumes = trained_like_encoder()
    network, attention = plain_copy(encoder), Adaptation(DIM)
    episode = volumes.unflatten(0, (10, 10))[:5].repeat(1, 2, 1, 1, 1)
    torch.manual_seed(0)
    return repeated(lambda: reference.combined_accuracy(network, attention, episode[:, :5], episode[:, 5:]), 2)


@measurement
def evaluate_package() -> dict:
    from functools import partial

    import numpy as np
    import torch

    from cryo_fewshot.adaptation import Adaptation, combined_logits
    from cryo_fewshot.compute import keep_freed_memory
    from cryo_fewshot.episodes import sample_episodes
    from cryo_fewshot.evaluation import predict

    keep_freed_memory()
    torch.manual_seed(0)
    model, embeddings = Adaptation(DIM), torch.randn(800, DIM)
    labels = np.repeat(np.arange(8), 100)
    episodes = sample_episodes(labels, range(8), n_way=5, n_shot=5, n_query=15, n_episodes=10_000, seed=0)

    def evaluate():
        with torch.no_grad():
            predict(model.project(embeddings), episodes, partial(combined_logits, model))

    return repeated(evaluate, 2, per=len(episodes))


@measurement
def simulate_package() -> dict:
    from cryo_fewshot.compute import keep_freed_memory
    from cryo_fewshot.dataset import SimulatedData, simulate_set

    keep_freed_memory()
    data = SimulatedData()
    names = data.class_names
    return repeated(lambda: simulate_set(data, {0.1: 20}, names), 3, per=20 * len(names))


def _stream(n: int) -> dict:
    import torch

    from cryo_fewshot.compute import fast_precision, keep_freed_memory
    from cryo_fewshot.encoder import Encoder3D, embed_stream

    keep_freed_memory()
    torch.manual_seed(0)
    encoder, batch = Encoder3D(BOX).eval(), torch.randn(50, BOX, BOX, BOX)
    started = time.perf_counter()
    for _ in embed_stream(encoder, (batch for _ in range(n // 50)), fast_precision()):
        pass
    return {"seconds": (time.perf_counter() - started) / n}


@measurement
def stream_1000() -> dict:
    return _stream(1_000)


@measurement
def stream_5000() -> dict:
    return _stream(5_000)


def _start(code: str) -> dict:
    return repeated(lambda: subprocess.run([sys.executable, "-c", code], check=True, capture_output=True), 5)


@measurement
def start_torch() -> dict:
    return _start("import torch")


@measurement
def start_package() -> dict:
    return _start("import torch, cryo_fewshot")


@measurement
def start_help() -> dict:
    return _start("import sys; sys.argv = ['cryo-fewshot', '--help']; from cryo_fewshot.cli import main; main()")


# ------------------------------------------------------------------ agreement


@measurement
def agreement_bf16() -> dict:
    """Share of 10,000 queries whose prediction is the same with bf16 embeddings as with the reference's."""
    import numpy as np
    import reference

    from cryo_fewshot.dataset import SimulatedData, simulate_set
    from cryo_fewshot.encoder import embed
    from cryo_fewshot.episodes import sample_episodes
    from cryo_fewshot.evaluation import predict
    from cryo_fewshot.protonet import prototype_logits

    encoder, _ = trained_like_encoder()
    particles = simulate_set(SimulatedData(), {0.1: 40}, SimulatedData().class_names[10:18])
    episodes = sample_episodes(particles.labels, range(8), n_way=5, n_shot=5, n_query=20, n_episodes=100, seed=0)
    plain = reference.embed(plain_copy(encoder), particles.volumes)
    fast = embed(encoder, particles.volumes, "bf16")
    same = predict(plain, episodes, prototype_logits) == predict(fast, episodes, prototype_logits)
    return {"queries": int(same.size), "equal": float(np.mean(same))}


# ------------------------------------------------------------------ command line


def run_one(name: str) -> dict:
    """Measure in a fresh process; its peak memory comes along."""
    done = subprocess.run([sys.executable, __file__, "--one", name], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", choices=list(MEASUREMENTS), help="measure one thing and print it as JSON")
    parser.add_argument("--only", nargs="*", choices=list(MEASUREMENTS), default=list(MEASUREMENTS))
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    if arguments.one:
        result = MEASUREMENTS[arguments.one]()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps(result | {"peak_gb": round(peak, 2)}))
        return
    from cryo_fewshot.compute import machine
    from cryo_fewshot.files import write_atomically

    about = machine()
    name = re.sub(r"\W+", "-", f"{about['processor']} {about['cores']} cores".lower()).strip("-")
    path = arguments.output or Path(__file__).resolve().parents[1] / "results" / "bench" / f"{name}.json"
    results = {}
    for number, measured in enumerate(arguments.only, 1):
        results[measured] = run_one(measured)
        seconds = results[measured].get("seconds")
        words = f"{seconds * 1e3:.3g} ms" if seconds is not None else str(results[measured])
        print(f"{number}/{len(arguments.only)} {measured:<24} {words}", flush=True)
    write_atomically(path, json.dumps({"machine": about, "results": results}, indent=1).encode())
    print(f"Done: {path}")


if __name__ == "__main__":
    main()
