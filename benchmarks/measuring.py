"""What measurements share: the clock, the device's clock, an encoder to measure, and its plain copy."""

import time
from collections.abc import Callable

import reference
import torch
from torch import nn

from cryo_fewshot.encoder import Encoder3D

BOX, N_VOLUMES, DIM = 40, 100, 512
HALF_BOX = 20  # of the reduced profiles


def repeated(function: Callable, repeats: int, per: float = 1.0) -> dict:
    """Seconds per unit, on the clock and of the processor, of the fastest repeat.

    One before them is not counted, unless repeats is 0. Other work on the machine lengthens only the clock's.
    """
    found = []
    for _ in range(repeats + 1):
        started = time.perf_counter(), time.process_time()
        function()
        found.append(((time.perf_counter() - started[0]) / per, (time.process_time() - started[1]) / per))
    seconds, of_processor = zip(*(found[1:] or found), strict=True)
    return {"seconds": min(seconds), "cpu_seconds": min(of_processor), "all": list(seconds)}


def repeated_on_gpu(prepare: Callable[[], Callable], repeats: int = 10, per: float = 1.0) -> dict:
    """Seconds per unit of the fastest repeat between two events of the device; `prepare` returns what is timed."""
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


def trained_like_encoder(box: int = BOX) -> tuple[Encoder3D, torch.Tensor]:
    """An encoder whose batch statistics fit the data, with the weights of its start; and 100 simulated volumes."""
    # Imported here: the simulator takes 0.1 GB, which would count as memory of measurements without it.
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


def plain_copy(encoder: Encoder3D) -> nn.Sequential:
    """The reference's network with the encoder's weights."""
    network = reference.encoder(encoder.n_blocks)
    network.load_state_dict(dict(zip(network.state_dict(), encoder.state_dict().values(), strict=True)))
    return network
