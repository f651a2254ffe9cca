"""From simulation to reality: real particles of one known class among simulated ones of every other.

Nothing is tuned on the real particles: they meet an encoder that was trained on simulated ones alone.
"""

import hashlib
import time
from dataclasses import dataclass, field, replace
from functools import partial

import numpy as np
import torch
from torch.nn import functional as F

from ..calibration import Calibration
from ..compute import default_device
from ..dataset import SimulatedData, simulate_set
from ..encoder import embed
from ..evaluation import mean_and_interval
from ..fresh import kin
from ..imaging import Microscope
from ..particles import Particles
from ..particles.resampling import band_limited
from ..results import Store
from ..shipped import AnyEncoder
from ..structures import class_keys, registry
from ..twocovariance import two_covariance_logits


@dataclass(frozen=True, kw_only=True)
class RealParticles:
    """How real particles of one family are tested.

    encoder, particles : digests of the weights and of the volumes, so that a result is found for these alone
    family : of the registry, that the particles belong to; microscope : of the simulated others
    snr : of the simulated ones; n_shot : labelled particles per class; n_draws : random choices of these
    """

    encoder: str
    particles: str
    family: str = "ribosome"
    microscope: Microscope = field(default_factory=lambda: Microscope(binning=2))
    snr: float = 0.1
    n_shot: int = 5
    n_draws: int = 100
    seed: int = 0


def digest_of(*tensors: torch.Tensor) -> str:
    """Sixteen hexadecimal digits that name some tensors."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]


def real_particles(store: Store, encoder: AnyEncoder, card: dict, particles: Particles, microscope: Microscope) -> dict:
    """Two questions, each over `n_draws` choices of the labelled particles; the stored entry.

    1. Simulated support of every complex of the library: where does the real particles' family rank, and by what
       margin (in nats per particle; negative where another class is likelier)? The family's best class counts.
    2. Real support against simulated support of every class that is no kin: how many of the other real particles, and
       of the simulated ones, go where they belong?

    Result: `classes`; `ranks` and `margins`, a row per draw with one number per real particle; `chosen`, how often each
    class was the likeliest; `real_right`, `simulated_right`, shares per draw; `n_classes_against`.
    """
    volumes, rejected = particles.read(range(len(particles)), card["box"], card["voxel_size_nm"])
    volumes = band_limited(volumes[[i not in rejected for i in range(len(particles))]])
    spec = RealParticles(
        encoder=digest_of(*encoder.state_dict().values()), particles=digest_of(volumes), microscope=microscope
    )
    return store.compute(spec, partial(_compared, spec, encoder, card, volumes))


def _compared(spec: RealParticles, encoder: AnyEncoder, card: dict, volumes: torch.Tensor) -> tuple[dict, float, None]:
    started = time.perf_counter()
    device, model = default_device(), Calibration.from_json(card["calibration"]).space
    diameters = registry()["max_diameter_nm"]
    names = [name for name in class_keys("library") if diameters[name] <= spec.microscope.width_nm]
    per_class = 4 * spec.n_shot
    recipe = SimulatedData(class_set="library", n_per_class=per_class, microscope=spec.microscope, seed=31)
    simulated = simulate_set(replace(recipe, with_empty=False), {spec.snr: per_class}, names, device)
    encoder = encoder.to(device)
    known = F.normalize(embed(encoder, simulated.volumes), dim=-1).cpu().view(len(names), per_class, -1)
    real = F.normalize(embed(encoder, volumes.to(device)), dim=-1).cpu()
    rng = np.random.default_rng(spec.seed)
    relatives = np.array([kin(name) == spec.family for name in names])
    others = torch.from_numpy(np.flatnonzero(~relatives))
    ranks, margins, chosen = [], [], np.zeros(len(names), dtype=int)
    real_right, simulated_right = [], []
    for _ in range(spec.n_draws):
        order = torch.from_numpy(rng.permutation(per_class))
        support = known[:, order[: spec.n_shot]]
        logits = two_covariance_logits(support[None], real[None], model=model)[0]
        own, rest = logits[:, relatives].max(1).values, logits[:, ~relatives]
        ranks.append((1 + (rest > own[:, None]).sum(1)).tolist())
        margins.append((own - rest.max(1).values).round(decimals=2).tolist())
        chosen += np.bincount(logits.argmax(1).numpy(), minlength=len(names))

        drawn = torch.from_numpy(rng.permutation(len(real)))
        mixed = torch.cat([real[drawn[: spec.n_shot]][None], support[others]])
        asked = known[others][:, order[spec.n_shot : 2 * spec.n_shot]].flatten(0, 1)
        queries = torch.cat([real[drawn[spec.n_shot :]], asked])
        found = two_covariance_logits(mixed[None], queries[None], model=model)[0].argmax(1)
        n_real = len(real) - spec.n_shot
        truth = torch.arange(1, len(others) + 1).repeat_interleave(spec.n_shot)
        real_right.append(round(float((found[:n_real] == 0).float().mean()), 4))
        simulated_right.append(round(float((found[n_real:] == truth).float().mean()), 4))
    result = {
        "classes": names,
        "family": [name for name, is_kin in zip(names, relatives, strict=True) if is_kin],
        "ranks": ranks,
        "margins": margins,
        "chosen": chosen.tolist(),
        "real_right": real_right,
        "simulated_right": simulated_right,
        "n_classes_against": len(others),
    }
    return result, time.perf_counter() - started, None


def reality_words(entry: dict) -> str:
    """What was found, in Markdown; every number is read off the run."""
    result = entry["result"]
    ranks, margins = np.array(result["ranks"]), np.array(result["margins"])
    n_others = result["n_classes_against"]
    order = np.argsort(result["chosen"])[::-1]
    most = ", ".join(
        f"{result['classes'][i]} ({result['chosen'][i] / ranks.size:.0%})" for i in order[:3] if result["chosen"][i]
    )
    real, simulated = (mean_and_interval(np.array(result[key])) for key in ("real_right", "simulated_right"))
    return (
        f"**Simulated support.** A class of the family ({', '.join(result['family'])}) is the likeliest of all for "
        f"{(ranks == 1).mean():.0%} of {ranks.shape[1]} real particles, against {n_others} other classes; chance would "
        f"be {len(result['family']) / len(result['classes']):.0%}. Its median rank is {np.median(ranks):.0f}, the "
        f"median margin to the best other class {np.median(margins):+.1f} nats. Most often chosen: {most}.\n\n"
        f"**Real support.** With five of the real particles as the support of their class, {real[0]:.0%} of the other "
        f"real ones are recognised among {n_others + 1} classes, and {simulated[0]:.0%} of the simulated ones. That "
        "is less than it seems: the real ones are the only ones with real noise, so the noise alone may give them away."
    )
