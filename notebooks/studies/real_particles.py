"""From simulation to reality: real particles of one known class among simulated ones of every other.

Nothing is tuned on the real particles: they meet an encoder that was trained on simulated ones alone, and whatever is
tried to bring the two nearer uses no label.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch.nn import functional as F

from cryo_fewshot.averaging.alignment import Poses, Search
from cryo_fewshot.averaging.averages import Average, average, laid_onto, resolution, shell_correlation
from cryo_fewshot.device import default_device
from cryo_fewshot.encoder import embed
from cryo_fewshot.episodes import sample_episodes
from cryo_fewshot.evaluation import correct_counts, mean_and_interval, predict
from cryo_fewshot.hashing import digest_of
from cryo_fewshot.particles.base import Particles
from cryo_fewshot.particles.resampling import band_limited
from cryo_fewshot.particles.tilt_stacks import TiltStacks
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.calibration import Calibration
from cryo_fewshot.recognition.plda import PLDA, plda_logits
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.simulation.datasets import EMPTY, SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import WIDE, homologous_family, simulate_on_the_fly
from cryo_fewshot.simulation.structures import class_keys, registry
from cryo_fewshot.weights import AnyEncoder

from .averages import packed
from .spectra import (
    binned_snr,
    bins_by_tilt,
    masked,
    matched,
    mean_power,
    microscope_of,
    mirrored,
    multiplied_by_ctf,
    noise_free,
    phase_randomised,
    radii,
    with_noise_of,
)

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")


@dataclass(frozen=True, kw_only=True)
class RealParticles:
    """How real particles of one family are tested.

    encoder, particles : digests of the weights and of the volumes, so that a result is found for these alone
    family : of the registry, that the particles belong to; classes : that are simulated; microscope : of the simulated
    measured : the same with the tilt series and the defocus that the particles' files name
    snr : of the simulated ones; snrs : for what each step does to simulated ones; noise_snrs : tried where simulated
    ones are given the noise of the real ones, the last of `snrs` among them for what is asked once
    n_shot : labelled particles per class; n_draws : random choices of these
    n_training : simulated particles whose mean spectrum is the training's
    n_per_class, n_episodes : simulated particles and tasks of the accuracy on simulated classes
    """

    encoder: str
    particles: str
    family: str = "ribosome"
    classes: tuple[str, ...]
    microscope: Microscope
    measured: Microscope
    snr: float = 0.1
    snrs: tuple[float, ...] = (0.1, 0.05, 0.03)
    noise_snrs: tuple[float, ...] = (0.1, 0.05, 0.03, 0.01)
    n_shot: int = 5
    n_draws: int = 100
    n_training: int = 2000
    n_per_class: int = 100
    n_episodes: int = 1000
    seed: int = 0

    def run(self, runner: Runner, encoder: AnyEncoder, card: dict, particles: Particles, volumes: torch.Tensor) -> dict:
        """See `real_particles`."""
        return _asked(self, encoder, card, particles, volumes)


@dataclass(frozen=True)
class _Net:
    """An encoder with the model that its embeddings are compared by."""

    encoder: AnyEncoder
    space: PLDA

    def __call__(self, volumes: torch.Tensor) -> torch.Tensor:
        device = next(self.encoder.parameters()).device
        return F.normalize(embed(self.encoder, volumes.to(device)), dim=-1).cpu()

    def logits(self, support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        return plda_logits(support[None], queries[None], model=self.space)[0]


def fitting_classes(width_nm: float) -> tuple[str, ...]:
    """Complexes of the library that fit a box of this width."""
    diameters = registry()["max_diameter_nm"]
    return tuple(name for name in class_keys("library") if diameters[name] <= width_nm)


def volumes_of(particles: Particles, card: dict) -> torch.Tensor:
    """Every particle that can be read, as the encoder takes it: `(n, b, b, b)`."""
    volumes, rejected = particles.read(range(len(particles)), card["box"], card["voxel_size_nm"])
    return band_limited(volumes[[i not in rejected for i in range(len(particles))]])


def as_filed(particles: Particles) -> Particles:
    """The same particles, tilt images not divided by the CTF that they were multiplied by."""
    if not isinstance(particles.source, TiltStacks):
        return particles
    return replace(particles, source=replace(particles.source, ctfs=None))


def real_particles(
    runner: Runner,
    encoder: AnyEncoder,
    card: dict,
    particles: Particles,
    microscope: Microscope,
    classes: Sequence[str] = (),
    **settings,
) -> dict:
    """All questions about the particles of an input that holds one family; the stored entry.

    classes : simulated, of the library; default all that fit the box; settings : of `RealParticles`

    Result: `classes`, `family`; `tried`, by step what `_ranked` gives; `support`, the real particles as support against
    simulated ones of all that is no kin, in their own noise and in the real one; `unharmed`, by step and SNR accuracy
    on simulated classes never trained on; `twins`, shares right when particles are told from twins of the same spectrum
    without shape; `power`, by kind per Fourier shell; `pictures`, middle slices; `average`, where the file has angles.
    """
    volumes = volumes_of(particles, card)
    spec = RealParticles(
        encoder=digest_of(*encoder.state_dict().values()),
        particles=digest_of(volumes),
        classes=tuple(classes) or fitting_classes(microscope.width_nm),
        microscope=microscope,
        measured=microscope_of(particles, microscope),
        **settings,
    )
    return runner(spec, encoder, card, particles, volumes)


def _asked(spec: RealParticles, encoder: AnyEncoder, card: dict, particles: Particles, volumes: torch.Tensor) -> dict:
    net = _Net(encoder.to(default_device()), Calibration.from_json(card["calibration"]).space)
    per_class = 4 * spec.n_shot
    recipe = SimulatedData(n_per_class=per_class, microscope=spec.microscope, seed=31)
    simulated = simulate_set(recipe, {spec.snr: per_class}, spec.classes).volumes
    rng = np.random.default_rng(5)
    names = [card["training_classes"][i % len(card["training_classes"])] for i in range(spec.n_training)]
    training = simulate_on_the_fly(names, WIDE, rng)
    filed = volumes_of(as_filed(particles), card)
    signals = noise_free(spec.classes, per_class, spec.measured, seed=32)
    tried, support = _tried(spec, net, filed, volumes, simulated, training, signals)
    shells, first = radii(card["box"]), per_class * spec.classes.index(_largest(spec))
    kinds = {"real, CTF left in": filed, "real, CTF undone": volumes, "simulated": simulated, "training": training}
    result = {
        "classes": list(spec.classes),
        "family": [name for name in spec.classes if homologous_family(name) == spec.family],
        "n_particles": len(volumes),
        "tried": tried,
        "support": support,
        "unharmed": _unharmed(spec, net, card["held_out_classes"]["test"], training),
        "twins": _twins(spec, net, filed, volumes),
        "power": {kind: _shells(group, shells) for kind, group in kinds.items()},
        "width_nm": card["box"] * card["voxel_size_nm"],
        "pictures": {
            "real, CTF left in": _middles(filed),
            "real, CTF undone": _middles(volumes),
            "simulated": _middles(simulated[first:]),
        },
        "average": _average_at_angles(particles, volumes, spec, tried),
    }
    return result


# ---------------------------------------------------------------- the two questions


def _tried(spec, net, filed, volumes, simulated, training, signals) -> tuple[dict, dict]:
    """Simulated support of every class: by step, where the family ranks. And real support among simulated others."""
    by_shell, by_tilt = radii(volumes.shape[-1]), bins_by_tilt(volumes.shape[-1])
    plain = _by_class(net(simulated), spec)
    own = net(volumes)
    ranked = partial(_ranked, spec, net)
    tried = {
        "CTF left in": ranked(plain, net(filed)),
        "CTF left in; shells matched": ranked(plain, net(matched(filed, training, by_shell))),
        "CTF undone": ranked(plain, own),
        "CTF undone; mirrored": ranked(plain, net(mirrored(volumes))),
        "CTF undone; shells matched": ranked(plain, net(matched(volumes, training, by_shell))),
        "CTF undone; shells by tilt matched": ranked(plain, net(matched(volumes, training, by_tilt))),
        "CTF undone; masked": ranked(_by_class(net(masked(simulated)), spec), net(masked(volumes))),
        "CTF undone; embeddings centred": ranked(
            plain, F.normalize(own - own.mean(0) + plain.flatten(0, 1).mean(0), dim=-1)
        ),
    }
    noisy, in_noise = {}, "in the real noise, SNR {:g}".format
    for snr in spec.noise_snrs:
        noisy[snr] = _by_class(net(with_noise_of(signals, volumes, binned_snr(snr, spec.measured))), spec)
        tried[f"CTF undone; support {in_noise(snr)}"] = ranked(noisy[snr], own)
    many, last = 3 * spec.n_shot, spec.snrs[-1]
    tried[f"CTF undone; support {in_noise(last)}, {many} per class"] = ranked(noisy[last], own, n_shot=many)
    twice = with_noise_of(multiplied_by_ctf(signals, spec.measured), filed, binned_snr(last, spec.measured))
    tried[f"CTF left in; support likewise, {in_noise(last)}"] = ranked(_by_class(net(twice), spec), net(filed))
    support = {
        "in their own noise": _real_support(spec, net, plain, own),
        "in the real noise": _real_support(spec, net, noisy[last], own),
    }
    return tried, support


def _by_class(embeddings: torch.Tensor, spec: RealParticles) -> torch.Tensor:
    return embeddings.view(len(spec.classes), -1, embeddings.shape[-1])


def _largest(spec: RealParticles) -> str:
    """The heaviest simulated complex of the family."""
    mass = registry()["mass_kda"]
    return max((name for name in spec.classes if homologous_family(name) == spec.family), key=lambda name: mass[name])


def _ranked(
    spec: RealParticles, net: _Net, known: torch.Tensor, asked: torch.Tensor, n_shot: int | None = None
) -> dict:
    """Rank of the family's best class among all that are no kin, over draws of the labelled particles.

    Result: `median_rank`; `first`, share of particles and draws where it is the likeliest of all; `first_of_each`,
    that share for each particle; `margin`, median of its log-likelihood above the best other's, nats;
    `rank_together`, median over draws where the particles' log-likelihoods are added up; `chosen`, share of each class
    that ever was likeliest.
    """
    rng = np.random.default_rng(spec.seed)
    relatives = _relatives(spec)
    ranks, margins, together, chosen = [], [], [], np.zeros(len(spec.classes))
    for _ in range(spec.n_draws):
        order = torch.from_numpy(rng.permutation(known.shape[1]))[: n_shot or spec.n_shot]
        logits = net.logits(known[:, order], asked)
        best, rest = logits[:, relatives].max(1).values, logits[:, ~relatives]
        ranks.append(1 + (rest > best[:, None]).sum(1).numpy())
        margins.append((best - rest.max(1).values).numpy())
        chosen += np.bincount(logits.argmax(1).numpy(), minlength=len(spec.classes))
        total = logits.sum(0)
        together.append(1 + int((total[~relatives] > total[relatives].max()).sum()))
    first = np.array(ranks) == 1
    shares = dict(zip(spec.classes, (chosen / chosen.sum()).round(4).tolist(), strict=True))
    return {
        "median_rank": float(np.median(ranks)),
        "first": round(float(first.mean()), 4),
        "first_of_each": first.mean(0).round(3).tolist(),
        "margin": round(float(np.median(margins)), 2),
        "rank_together": float(np.median(together)),
        "chosen": {name: share for name, share in shares.items() if share},
    }


def _relatives(spec: RealParticles) -> np.ndarray:
    return np.array([homologous_family(name) == spec.family for name in spec.classes])


def _real_support(spec: RealParticles, net: _Net, known: torch.Tensor, real: torch.Tensor) -> dict:
    """Shares of real and of simulated particles that go where they belong, mean over draws."""
    rng = np.random.default_rng(spec.seed)
    others = known[torch.from_numpy(~_relatives(spec))]
    n_real, right = len(real) - spec.n_shot, []
    truth = torch.cat([torch.zeros(n_real), torch.arange(1, len(others) + 1).repeat_interleave(spec.n_shot)])
    for _ in range(spec.n_draws):
        order, drawn = (torch.from_numpy(rng.permutation(len(part))) for part in (others[0], real))
        support = torch.cat([real[drawn[: spec.n_shot]][None], others[:, order[: spec.n_shot]]])
        asked = others[:, order[spec.n_shot : 2 * spec.n_shot]].flatten(0, 1)
        found = net.logits(support, torch.cat([real[drawn[spec.n_shot :]], asked])).argmax(1)
        right.append([float((found == truth)[part].float().mean()) for part in (slice(n_real), slice(n_real, None))])
    real_right, simulated_right = np.mean(right, axis=0).round(4).tolist()
    return {"real_right": real_right, "simulated_right": simulated_right, "n_classes": len(others) + 1}


# ---------------------------------------------------------------- controls


def _twins(spec: RealParticles, net: _Net, filed: torch.Tensor, volumes: torch.Tensor) -> dict:
    groups = {"real, CTF undone": volumes, "real, CTF left in": filed}
    for snr in spec.snrs:
        recipe = SimulatedData(n_per_class=len(volumes), microscope=spec.microscope, seed=77)
        for name in (_largest(spec), EMPTY):
            groups[f"{name}, SNR {snr:g}"] = simulate_set(recipe, {snr: len(volumes)}, [name]).volumes
    return {group: _told_from_twins(spec, net, particles) for group, particles in groups.items()}


def _told_from_twins(spec: RealParticles, net: _Net, volumes: torch.Tensor) -> dict:
    """Share of particles and twins told apart with `n_shot` labelled ones of each: mean and 5 to 95 % of the draws."""
    pair = torch.stack([net(volumes), net(phase_randomised(volumes))])
    rng = np.random.default_rng(spec.seed)
    right = []
    for _ in range(spec.n_draws):
        order = torch.from_numpy(rng.permutation(len(volumes)))
        support, asked = pair[:, order[: spec.n_shot]], pair[:, order[spec.n_shot :]]
        found = net.logits(support, asked.flatten(0, 1)).argmax(1).view(2, -1)
        right.append(float((found == torch.tensor([[0], [1]])).float().mean()))
    low, high = np.percentile(right, [5, 95]).round(3).tolist()
    return {"right": round(float(np.mean(right)), 4), "low": low, "high": high}


def _unharmed(spec: RealParticles, net: _Net, classes: Sequence[str], training: torch.Tensor) -> dict:
    """Accuracy on simulated classes that no training met, 5-way, before and after each step; by SNR, with intervals.

    Steps that work on a user's particles take all of them; where the support is given the noise of the particles asked
    about, that noise is their own mean spectrum and nothing else of them.
    """
    n, found = spec.n_per_class, {}
    clean = noise_free(classes, n, spec.microscope, seed=33)
    by_shell, by_tilt = radii(clean.shape[-1]), bins_by_tilt(clean.shape[-1])
    for snr in spec.snrs:
        recipe = SimulatedData(n_per_class=n, microscope=spec.microscope)
        volumes = simulate_set(recipe, {snr: n}, classes).volumes
        steps = {
            "CTF undone": volumes,
            "CTF undone; shells matched": matched(volumes, training, by_shell),
            "CTF undone; shells by tilt matched": matched(volumes, training, by_tilt),
            "CTF undone; masked": masked(volumes),
            f"CTF undone; support in the real noise, SNR {snr:g}": torch.cat(
                [volumes, with_noise_of(clean, volumes, binned_snr(snr, spec.microscope))]
            ),
        }
        labels = np.repeat(np.arange(len(classes)), n)
        sizes = {"n_way": min(5, len(classes)), "n_shot": spec.n_shot, "n_query": 15}
        episodes = sample_episodes(
            labels,
            range(len(classes)),
            **sizes,
            n_episodes=spec.n_episodes,
            seed=seed_from("novel", spec.seed),
            class_names=classes,
        )
        for step, changed in steps.items():
            support = episodes.support + len(volumes) * (len(changed) > len(volumes))
            correct = correct_counts(predict(net(changed), replace(episodes, support=support), prototype_logits))
            accuracy, interval = mean_and_interval(correct / (sizes["n_way"] * sizes["n_query"]))
            found.setdefault(step, {})[f"{snr:g}"] = [round(accuracy, 4), round(interval, 4)]
    return found


def _shells(volumes: torch.Tensor, shells: torch.Tensor) -> list[float]:
    """Mean power per frequency of each shell inside Nyquist's sphere, of the mean over them."""
    power = mean_power(volumes, shells)[1 : volumes.shape[-1] // 2]
    return (power / power.mean()).double().numpy().round(4).tolist()


def _middles(volumes: torch.Tensor, n: int = 5) -> list:
    """Mean of the three middle slices of the first n volumes, as lists."""
    middle = volumes.shape[1] // 2
    return volumes[:n, middle - 1 : middle + 2].mean(1).double().numpy().round(2).tolist()


def _average_at_angles(particles: Particles, volumes: torch.Tensor, spec: RealParticles, tried: dict) -> dict | None:
    """Average of the particles at the angles of their own file, and which complex it looks like.

    Result: `density` packed, protein bright; `resolution_nm` of its halves; `likeness`, the score of the best pose of
    some complexes, as they are and mirrored: the family and what the particles were most often taken for.
    """
    table = particles.table
    if table is None or not set(ANGLES) <= set(table) or len(volumes) != len(table) or len(volumes) < 8:
        return None
    # RELION's angles turn the particle into the reference's frame; a pose is the way from the reference.
    turns = Rotation.from_euler("ZYZ", table[list(ANGLES)].astype(float).to_numpy(), degrees=True).inv().as_quat()

    def mean(chosen: slice) -> Average:
        part = volumes[chosen]
        return average(part, Poses(turns[chosen], np.zeros((len(part), 3))), spec.measured)

    density = -mean(slice(None)).density
    halves = [mean(slice(side, None, 2)).density for side in (0, 1)]
    frequencies, fsc = shell_correlation(*halves, spec.measured.final_voxel_size_nm)
    finest = resolution(fsc, frequencies)
    mistaken = tried["CTF undone"]["chosen"]
    compared = [name for name in spec.classes if homologous_family(name) == spec.family]
    compared += [name for name in sorted(mistaken, key=mistaken.get, reverse=True) if name not in compared][:3]
    bright = replace(spec.measured, dark_protein=False)
    complete = replace(bright, tilt_min=-90.0, tilt_max=90.0, tilt_increment=1.0, max_shift_nm=0.0)
    likeness = {}
    for name in compared:
        (reference,) = noise_free([name], 1, complete, seed=34)
        scores = [
            laid_onto(density, form, bright, Search())[1].scores[0]
            for form in (reference, mirrored(reference[None])[0])
        ]
        likeness[name] = [round(float(score), 3) for score in scores]
    return {
        "density": packed(density),
        "resolution_nm": round(finest, 2) if np.isfinite(finest) else None,
        "likeness": likeness,
    }
