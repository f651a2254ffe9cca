"""How fast: this package, a plain reference and the machine's own limit, measured side by side in one run.

Each measurement runs in a process of its own (the allocator's settings are those of a process) and is repeated; the
fastest repeat counts, and all are kept. `python benchmarks/bench.py` writes results/bench/<machine>.json.
"""

import argparse
import functools
import json
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

BOX, N_VOLUMES, DIM = 40, 100, 512
HALF_BOX = 20  # of the reduced profiles
STREAMS = (1_000, 10_000)
LONG_STREAMS = (100_000,)  # minutes; asked for by --only
STUB_STREAMS = (1_000, 1_000_000)  # an encoder that costs next to nothing: time and memory of all the rest
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


def trained_like_encoder(box: int = BOX):
    """An encoder whose batch statistics fit the data, with the weights of its start; and 100 simulated volumes."""
    import torch

    from cryo_fewshot.encoder import Encoder3D
    from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
    from cryo_fewshot.simulation.microscope import Microscope

    torch.manual_seed(0)
    data = SimulatedData(microscope=Microscope(binning=BOX // box))
    volumes = simulate_set(data, {0.1: N_VOLUMES // 10}, data.class_names[:10]).volumes
    encoder = Encoder3D(box, n_blocks=4 if box == BOX else 3).train()
    with torch.no_grad():
        for _ in range(2):
            encoder(volumes[::5])
    return encoder.eval(), volumes


def plain_copy(encoder):
    import reference

    network = reference.encoder(encoder.n_blocks)
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
    """As a convolution of 1x1x1, which another library computes: here its product is the faster one."""
    import torch

    layer = torch.nn.Conv3d(2048, 2048, 1, bias=False).requires_grad_(False)
    layer.to(memory_format=torch.channels_last_3d)
    a = torch.randn(1, 2048, 1, 32, 64).to(memory_format=torch.channels_last_3d)
    product, convolution = _matrix_product(torch.float32), repeated(lambda: layer(a), 5)
    convolution["tflops"] = 2 * 2048**3 / convolution["seconds"] / 1e12
    return max(product, convolution, key=lambda result: result["tflops"])


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


def _embed_reference(box: int) -> dict:
    import reference

    encoder, volumes = trained_like_encoder(box)
    network = plain_copy(encoder)
    return repeated(lambda: reference.embed(network, volumes), 8, per=N_VOLUMES)


@measurement
def embed_reference() -> dict:
    return _embed_reference(BOX)


@measurement
def embed_reference_20() -> dict:
    return _embed_reference(HALF_BOX)


def _embed(precision: str, n: int, box: int = BOX, engine: str = "torch", eight_bit: bool = False) -> dict:
    import reference
    import torch
    from engines import EMBED, EightBitEncoder, openvino_installed

    from cryo_fewshot.device import keep_freed_memory

    if engine == "openvino" and not openvino_installed():
        return {"not_run": "OpenVINO is not installed"}
    keep_freed_memory()
    encoder, volumes = trained_like_encoder(box)
    fast = EightBitEncoder(encoder, volumes[:20]) if eight_bit else encoder
    volumes = volumes[:n]
    embedded = functools.partial(EMBED[engine], fast, volumes, precision)
    result = repeated(embedded, 5, per=n)
    expected, found = reference.embed(plain_copy(encoder), volumes), embedded()
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


@measurement
def embed_bf16_20() -> dict:
    return _embed("bf16", N_VOLUMES, HALF_BOX)


@measurement
def embed_openvino_fp32() -> dict:
    return _embed("fp32", N_VOLUMES, engine="openvino")


@measurement
def embed_openvino_bf16() -> dict:
    return _embed("bf16", N_VOLUMES, engine="openvino")


@measurement
def embed_openvino_bf16_one_by_one() -> dict:
    return _embed("bf16", 1, engine="openvino")


@measurement
def embed_openvino_bf16_20() -> dict:
    return _embed("bf16", N_VOLUMES, HALF_BOX, "openvino")


@measurement
def embed_openvino_eight_bit() -> dict:
    return _embed("bf16", N_VOLUMES, engine="openvino", eight_bit=True)


@measurement
def embed_openvino_eight_bit_20() -> dict:
    return _embed("bf16", N_VOLUMES, HALF_BOX, "openvino", eight_bit=True)


# ------------------------------------------------------------------ training


@measurement
def train_reference() -> dict:
    import reference
    import torch

    torch.manual_seed(0)
    network, volumes = reference.encoder(), torch.randn(5, 20, BOX, BOX, BOX)
    optimizer = torch.optim.Adam(network.parameters(), 1e-4)
    return repeated(lambda: reference.training_step(network, optimizer, volumes[:, :5], volumes[:, 5:]), 4, per=100)


def package_step(precision: str, device: str = "cpu"):
    """The package's training step on one episode of 100 volumes, as the laboratory does it."""
    import torch
    from torch.nn import functional as F

    from cryo_fewshot.device import autocast
    from cryo_fewshot.encoder import Encoder3D
    from cryo_fewshot.protonet import prototype_logits

    torch.manual_seed(0)
    encoder, volumes = Encoder3D(BOX).train().to(device), torch.randn(100, BOX, BOX, BOX, device=device)
    optimizer = torch.optim.Adam(encoder.parameters(), 1e-4)
    target = torch.arange(5, device=device).repeat_interleave(15)

    def step():
        with autocast(volumes.device, precision):
            embeddings = encoder(volumes).unflatten(0, (5, 20))
        loss = F.cross_entropy(prototype_logits(embeddings[:, :5], embeddings[:, 5:].flatten(0, 1)), target)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step


def _train(precision: str) -> dict:
    from cryo_fewshot.device import keep_freed_memory

    keep_freed_memory()
    return repeated(package_step(precision), 4, per=100)


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
    from cryo_fewshot.device import keep_freed_memory
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
    from cryo_fewshot.device import keep_freed_memory
    from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set

    keep_freed_memory()
    data = SimulatedData()
    names = data.class_names
    return repeated(lambda: simulate_set(data, {0.1: 20}, names), 3, per=20 * len(names))


def _stream(n: int, stub: bool = False) -> dict:
    """Volumes of 20^3, made batch by batch and forgotten after embedding.

    The stub is an encoder of one block and one channel on 8^3, which leaves the cost of everything else.
    The peak memory at a hundredth of the way and at the end: equal where the stream runs in constant memory.
    """
    import torch

    from cryo_fewshot.device import fast_precision, keep_freed_memory
    from cryo_fewshot.encoder import Encoder3D, embed_stream

    keep_freed_memory()
    torch.manual_seed(0)
    encoder = Encoder3D(8, 1, 1).eval() if stub else Encoder3D(HALF_BOX, 3).eval()
    size = 50
    batch = torch.randn(size, *(encoder.box,) * 3)
    precision = "fp32" if stub else fast_precision()
    next(iter(embed_stream(encoder, [batch], precision)))  # the start is not counted
    started, peaks = time.perf_counter(), []
    for number, _ in enumerate(embed_stream(encoder, (batch.clone() for _ in range(n // size)), precision)):
        if number in (n // size // 100, n // size - 1):
            peaks.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6)
    return {"seconds": (time.perf_counter() - started) / n, "early_peak_gb": peaks[0], "late_peak_gb": peaks[-1]}


for n_streamed in (*STREAMS, *LONG_STREAMS):
    MEASUREMENTS[f"stream_{n_streamed}"] = functools.partial(_stream, n_streamed)
for n_streamed in STUB_STREAMS:
    MEASUREMENTS[f"stream_stub_{n_streamed}"] = functools.partial(_stream, n_streamed, stub=True)


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


# ------------------------------------------------------------------ a GPU, where there is one


def _on_gpu(prepare, repeats: int = 10, per: float = 1.0) -> dict:
    """Seconds per unit of the fastest repeat between two events of the device; `prepare` returns what is timed."""
    import torch

    if not torch.cuda.is_available():
        return {"not_run": "no CUDA device"}
    function, seconds = prepare(), []
    for _ in range(3):
        function()
    for _ in range(repeats):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        function()
        end.record()
        torch.cuda.synchronize()
        seconds.append(start.elapsed_time(end) / 1e3 / per)
    peak = torch.cuda.max_memory_allocated() / 1e9
    return {"seconds": min(seconds), "all": seconds, "gpu_peak_gb": round(peak, 2)}


@measurement
def gpu_limit_arithmetic_bf16() -> dict:
    def prepare():
        import torch

        a = torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16)
        return lambda: a @ a

    result = _on_gpu(prepare)
    return result | ({"tflops": 2 * 8192**3 / result["seconds"] / 1e12} if "seconds" in result else {})


@measurement
def gpu_train_reference() -> dict:
    def prepare():
        import reference
        import torch

        torch.set_default_device("cuda")
        network, volumes = reference.encoder(), torch.randn(5, 20, BOX, BOX, BOX)
        optimizer = torch.optim.Adam(network.parameters(), 1e-4)
        return lambda: reference.training_step(network, optimizer, volumes[:, :5], volumes[:, 5:])

    return _on_gpu(prepare)


@measurement
def gpu_train_fp32() -> dict:
    return _on_gpu(lambda: package_step("fp32", "cuda"))


@measurement
def gpu_train_bf16() -> dict:
    return _on_gpu(lambda: package_step("bf16", "cuda"))


@measurement
def gpu_embed_bf16() -> dict:
    def prepare():
        from cryo_fewshot.encoder import embed

        encoder, volumes = trained_like_encoder()
        encoder, volumes = encoder.to("cuda"), volumes.to("cuda").repeat(10, 1, 1, 1)
        return lambda: embed(encoder, volumes, "bf16")

    return _on_gpu(prepare, per=10 * N_VOLUMES)


@measurement
def gpu_simulate_package() -> dict:
    from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set

    data = SimulatedData()
    names = data.class_names
    return _on_gpu(lambda: lambda: simulate_set(data, {0.1: 100}, names, "cuda"), 3, per=100 * len(names))


# ------------------------------------------------------------------ agreement


def _settled_encoder():
    """A trained encoder of the published results where they are at hand, and test volumes for it."""
    from cryo_fewshot.reproduction.cells import encoder_run
    from cryo_fewshot.reproduction.profiles import profile_named, single
    from cryo_fewshot.reproduction.runner import open_runner
    from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set

    profile = profile_named("cpu")
    runner, run = open_runner("cpu"), encoder_run(profile, single(0.1, profile), 5)
    if runner.store.get(run, with_tensors=True) is not None:
        return "trained", runner.encoder(run), runner.volumes(run, "novel")
    data = SimulatedData()
    return "initial", trained_like_encoder()[0], simulate_set(data, {0.1: 40}, data.class_names[10:18])


def _shipped_encoder():
    """The encoder that ships, and volumes of classes that it never met."""
    from cryo_fewshot.recognition.pretraining import TEST_CLASSES
    from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
    from cryo_fewshot.simulation.microscope import Microscope
    from cryo_fewshot.weights import load_encoder

    data = SimulatedData(microscope=Microscope(binning=2))
    return "shipped", load_encoder()[0], simulate_set(data, {0.1: 100}, TEST_CLASSES)


def _agreement(settled, precision: str, engine: str = "torch", eight_bit: bool = False) -> dict:
    """Share of 10,000 queries that are predicted as from plain embeddings, accuracy of either, error of embeddings.

    Eight bits are adjusted on simulated volumes of other classes.
    """
    import numpy as np
    import torch
    from engines import EMBED, EightBitEncoder, openvino_installed
    from torch.nn.functional import normalize

    from cryo_fewshot.episodes import sample_episodes
    from cryo_fewshot.evaluation import predict
    from cryo_fewshot.protonet import prototype_logits
    from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
    from cryo_fewshot.simulation.microscope import Microscope

    if engine == "openvino" and not openvino_installed():
        return {"not_run": "OpenVINO is not installed"}
    weights, encoder, particles = settled()
    episodes = sample_episodes(particles.labels, range(8), n_way=5, n_shot=5, n_query=20, n_episodes=100, seed=0)
    with torch.no_grad():
        plain = torch.cat([encoder.eval()(part) for part in particles.volumes.split(100)])  # nothing folded
    if eight_bit:
        data = SimulatedData(microscope=Microscope(binning=BOX // particles.volumes.shape[1]))
        encoder = EightBitEncoder(encoder, simulate_set(data, {0.1: 10}, data.class_names[:10]).volumes)
    fast = EMBED[engine](encoder, particles.volumes, precision)
    error = float(torch.linalg.norm(fast - plain) / torch.linalg.norm(plain))
    if weights == "shipped":  # as its users have them
        plain, fast = normalize(plain, dim=-1), normalize(fast, dim=-1)
    expected, found = (predict(embeddings, episodes, prototype_logits) for embeddings in (plain, fast))
    truth = np.arange(5)[None, :, None]
    return {
        "weights": weights,
        "queries": int(found.size),
        "equal": float(np.mean(found == expected)),
        "accuracy_reference": float(np.mean(expected == truth)),
        "accuracy": float(np.mean(found == truth)),
        "relative_error": error,
    }


@measurement
def agreement_fp32() -> dict:
    return _agreement(_settled_encoder, "fp32")


@measurement
def agreement_bf16() -> dict:
    return _agreement(_settled_encoder, "bf16")


@measurement
def agreement_openvino_bf16() -> dict:
    return _agreement(_settled_encoder, "bf16", "openvino")


@measurement
def agreement_openvino_eight_bit() -> dict:
    return _agreement(_settled_encoder, "bf16", "openvino", eight_bit=True)


@measurement
def agreement_shipped_bf16() -> dict:
    return _agreement(_shipped_encoder, "bf16")


@measurement
def agreement_shipped_openvino_bf16() -> dict:
    return _agreement(_shipped_encoder, "bf16", "openvino")


@measurement
def agreement_shipped_openvino_eight_bit() -> dict:
    return _agreement(_shipped_encoder, "bf16", "openvino", eight_bit=True)


# ------------------------------------------------------------------ command line


def run_one(name: str) -> dict:
    """Measure in a fresh process; its peak memory comes along."""
    done = subprocess.run([sys.executable, __file__, "--one", name], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{name} failed: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])


def main() -> None:
    usual = [name for name in MEASUREMENTS if name not in {f"stream_{n}" for n in LONG_STREAMS}]
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--one", choices=list(MEASUREMENTS), help="measure one thing and print it as JSON")
    about_only = "what to measure; everything but the longest stream if not given"
    parser.add_argument("--only", nargs="*", choices=list(MEASUREMENTS), default=usual, help=about_only)
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    if arguments.one:
        result = MEASUREMENTS[arguments.one]()
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
        print(json.dumps(result | {"peak_gb": round(peak, 2)}))
        return
    from cryo_fewshot.device import machine
    from cryo_fewshot.files import write_atomically

    about = machine()
    name = re.sub(r"\W+", "-", f"{about['processor']} {about['cores']} cores".lower()).strip("-")
    path = arguments.output or Path(__file__).resolve().parents[1] / "results" / "bench" / f"{name}.json"
    results = {}
    for number, measured in enumerate(arguments.only, 1):
        result = results[measured] = run_one(measured)
        words = f"not run: {result['not_run']}" if "not_run" in result else str(result)
        if "seconds" in result:
            words = f"{result['seconds'] * 1e3:.3g} ms"
        print(f"{number}/{len(arguments.only)} {measured:<30} {words}", flush=True)
        write_atomically(path, json.dumps({"machine": about, "results": results}, indent=1).encode())
    print(f"Done: {path}")


if __name__ == "__main__":
    main()
