"""Real particles of one known class among simulated ones of every other.

The encoder was trained on simulated particles alone, and no correction uses a label of the real ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch.nn import functional as F

from cryo_fewshot.averaging.alignment import Poses, Search
from cryo_fewshot.averaging.averages import average, laid_onto
from cryo_fewshot.averaging.fsc import resolution, shell_correlation
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
from cryo_fewshot.recognition.classify import recogniser_of
from cryo_fewshot.recognition.descriptors import descriptors
from cryo_fewshot.recognition.pretraining import spec_of
from cryo_fewshot.recognition.settings import Settings
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.simulation.datasets import EMPTY, SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import homologous_family, simulate_on_the_fly
from cryo_fewshot.simulation.structures import class_keys, registry
from cryo_fewshot.weights import AnyEncoder

from . import spectra
from .averages import packed
from .spectra import middles, shell_power

ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
FILED, READ = "real, CTF left in", "real, CTF undone"


@dataclass(frozen=True, kw_only=True)
class RealParticles:
    """Real particles of one family, recognised by an encoder that was trained on simulated particles.

    encoder, particles : digests of the weights and of the volumes, which name the result
    family : of the registry, that the particles belong to; classes : simulated; microscope : of the simulated particles
    measured : the same with the tilt series and the defocus that the particles' files name
    snr : of the simulated particles; snrs : of the controls; noise_snrs : of simulated support in the real noise
    n_shot : labelled particles per class; n_draws : random choices of these
    n_training : simulated particles that give the mean spectrum of the encoder's training
    n_per_class, n_episodes : simulated particles and episodes of the control
    """

    version = 3  # answered as the command answers

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

    @property
    def is_family(self) -> np.ndarray:
        """Which of the classes are of the particles' family, `(n_classes,)` bool."""
        return np.array([homologous_family(name) == self.family for name in self.classes])

    @property
    def largest(self) -> str:
        """The heaviest simulated complex of the family."""
        return max(np.array(self.classes)[self.is_family].tolist(), key=lambda name: registry()["mass_kda"][name])

    def run(self, runner: Runner, encoder: AnyEncoder, card: dict, particles: Particles, volumes: torch.Tensor) -> dict:
        """All measurements, under the keys by which they are stored.

        Result: `classes`, `family`, `n_particles`, `width_nm`; `tried`, by correction what `_ranked` gives;
        `unharmed`, by correction and SNR the accuracy on simulated classes that the encoder was not trained on, the
        control; `support`, real particles as support; `twins`, real and simulated particles told from phase-randomised
        decoys; `power`, by kind per Fourier shell; `pictures`, middle slices; `average`, where the file has angles.
        """
        net = Net(encoder.to(default_device()), Calibration.from_json(card["calibration"]))
        per_class = 4 * self.n_shot
        recipe = SimulatedData(n_per_class=per_class, microscope=self.microscope, seed=31)
        simulated = simulate_set(recipe, {self.snr: per_class}, self.classes).volumes
        names = [card["training_classes"][i % len(card["training_classes"])] for i in range(self.n_training)]
        training = simulate_on_the_fly(names, spec_of(card).acquisitions, np.random.default_rng(5))
        filed = volumes
        if isinstance(particles.source, TiltStacks):
            filed = volumes_of(replace(particles, source=replace(particles.source, ctfs=None)), card)
        corrections, support = _corrections(self, net, filed, volumes, simulated, training)
        shells, first = spectra.radii(card["box"]), per_class * self.classes.index(self.largest)
        kinds = {FILED: filed, READ: volumes, "simulated": simulated}
        shown = {**kinds, "simulated": simulated[first:]}
        return {
            "classes": list(self.classes),
            "family": np.array(self.classes)[self.is_family].tolist(),
            "n_particles": len(volumes),
            "width_nm": card["box"] * card["voxel_size_nm"],
            "tried": corrections,
            "unharmed": _control(self, net, card["held_out_classes"]["test"], training),
            "support": support,
            "twins": _decoys(self, net, filed, volumes),
            "power": {kind: shell_power(group, shells) for kind, group in {**kinds, "training": training}.items()},
            "pictures": {kind: middles(group) for kind, group in shown.items()},
            "average": _average_at_angles(self, particles, volumes, corrections["CTF undone"]["chosen"]),
        }


def real_particles(
    runner: Runner,
    encoder: AnyEncoder,
    card: dict,
    particles: Particles,
    microscope: Microscope,
    classes: Sequence[str] = (),
    **settings,
) -> dict:
    """The stored entry about the particles of an input that holds one family.

    classes : simulated, of the library; default all that fit the box; settings : of `RealParticles`
    """
    volumes, diameters = volumes_of(particles, card), registry()["max_diameter_nm"]
    fitting = tuple(name for name in class_keys("library") if diameters[name] <= microscope.width_nm)
    spec = RealParticles(
        encoder=digest_of(*encoder.state_dict().values()),
        particles=digest_of(volumes),
        classes=tuple(classes) or fitting,
        microscope=microscope,
        measured=spectra.microscope_of(particles, microscope),
        **settings,
    )
    return runner(spec, encoder, card, particles, volumes)


def volumes_of(particles: Particles, card: dict) -> torch.Tensor:
    """Every particle that can be read, as the encoder takes it: `(n, b, b, b)`."""
    volumes, rejected = particles.read(range(len(particles)), card["box"], card["voxel_size_nm"])
    return band_limited(volumes[[i not in rejected for i in range(len(particles))]])


@dataclass(frozen=True)
class Net:
    """What `classify` makes of particles without grey values that can be compared."""

    encoder: AnyEncoder
    calibration: Calibration

    def __call__(self, volumes: torch.Tensor) -> torch.Tensor:
        """Embeddings with the descriptors behind them."""
        device = next(self.encoder.parameters()).device
        embeddings = F.normalize(embed(self.encoder, volumes.to(device)), dim=-1).cpu()
        return torch.cat([embeddings, descriptors(volumes)], dim=1)

    def logits(self, support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
        """Log-likelihoods `(n, n_way)` of queries `(n, dim)`, support `(n_way, n_shot, dim)`."""
        n_way, n_shot, dim = support.shape
        labels = np.repeat([f"{way:03d}" for way in range(n_way)], n_shot)
        widths = (dim - len(self.calibration.space.mean),)
        known = recogniser_of(support.flatten(0, 1), labels, self.calibration, queries, Settings(), widths)
        return known.model.log_likelihoods(known.space.project(queries))


# ---------------------------------------------------------------- recognition


def _corrections(spec: RealParticles, net: Net, filed, volumes, simulated, training) -> tuple[dict, dict]:
    """Where the family ranks with simulated support, by correction; and how real support does."""
    shells, ranked = spectra.radii(volumes.shape[-1]), partial(_ranked, spec, net)
    signals = spectra.noise_free(spec.classes, 4 * spec.n_shot, spec.measured, seed=32)

    def support(group: torch.Tensor) -> torch.Tensor:
        return net(group).view(len(spec.classes), spec.n_shot * 4, -1)

    def in_noise_of(group: torch.Tensor, clean: torch.Tensor, snr: float) -> torch.Tensor:
        return support(spectra.with_noise_of(clean, group, spectra.binned_snr(snr, spec.measured)))

    plain, queries = support(simulated), net(volumes)
    found = {
        "CTF left in": ranked(plain, net(filed)),
        "CTF undone": ranked(plain, queries),
        "CTF undone; mirrored": ranked(plain, net(spectra.mirrored(volumes))),
        "CTF undone; shells matched": ranked(plain, net(spectra.matched(volumes, training, shells))),
        "CTF undone; masked": ranked(support(spectra.masked(simulated)), net(spectra.masked(volumes))),
    }
    last = spec.snrs[-1]
    twice = spectra.multiplied_by_ctf(signals, spec.measured)
    found[f"CTF left in; support likewise, in the real noise, SNR {last:g}"] = ranked(
        in_noise_of(filed, twice, last), net(filed)
    )
    noisy = {snr: in_noise_of(volumes, signals, snr) for snr in spec.noise_snrs}
    for snr, known in noisy.items():
        found[f"CTF undone; support in the real noise, SNR {snr:g}"] = ranked(known, queries)
    real_support = {
        "in their own noise": _real_support(spec, net, plain, queries),
        "in the real noise": _real_support(spec, net, noisy[last], queries),
    }
    return found, real_support


def _ranked(spec: RealParticles, net: Net, known: torch.Tensor, queries: torch.Tensor) -> dict:
    """Rank of the family's best class among all others, over draws of the labelled particles.

    Result: `median_rank`; `first`, share of particles and draws where a class of the family is the likeliest;
    `rank_together`, median over draws where the particles' log-likelihoods are added up; `chosen`, share of each class
    that ever was likeliest.
    """
    rng, family = np.random.default_rng(spec.seed), spec.is_family
    ranks, together, chosen = [], [], np.zeros(len(spec.classes))
    for _ in range(spec.n_draws):
        order = torch.from_numpy(rng.permutation(known.shape[1]))[: spec.n_shot]
        logits = net.logits(known[:, order], queries)
        best, rest = logits[:, family].max(1).values, logits[:, ~family]
        ranks.append(1 + (rest > best[:, None]).sum(1).numpy())
        chosen += np.bincount(logits.argmax(1).numpy(), minlength=len(spec.classes))
        total = logits.sum(0)
        together.append(1 + int((total[~family] > total[family].max()).sum()))
    shares = dict(zip(spec.classes, (chosen / chosen.sum()).round(4).tolist(), strict=True))
    return {
        "median_rank": float(np.median(ranks)),
        "first": round(float((np.array(ranks) == 1).mean()), 4),
        "rank_together": float(np.median(together)),
        "chosen": {name: share for name, share in shares.items() if share},
    }


def _real_support(spec: RealParticles, net: Net, known: torch.Tensor, real: torch.Tensor) -> dict:
    """Shares of real and of simulated particles that get their class, mean over draws."""
    rng = np.random.default_rng(spec.seed)
    others = known[torch.from_numpy(~spec.is_family)]
    n_real, right = len(real) - spec.n_shot, []
    truth = torch.cat([torch.zeros(n_real), torch.arange(1, len(others) + 1).repeat_interleave(spec.n_shot)])
    for _ in range(spec.n_draws):
        order, drawn = (torch.from_numpy(rng.permutation(len(part))) for part in (others[0], real))
        support = torch.cat([real[drawn[: spec.n_shot]][None], others[:, order[: spec.n_shot]]])
        queries = others[:, order[spec.n_shot : 2 * spec.n_shot]].flatten(0, 1)
        found = net.logits(support, torch.cat([real[drawn[spec.n_shot :]], queries])).argmax(1)
        right.append([float((found == truth)[part].float().mean()) for part in (slice(n_real), slice(n_real, None))])
    real_right, simulated_right = np.mean(right, axis=0).round(4).tolist()
    return {"real_right": real_right, "simulated_right": simulated_right, "n_classes": len(others) + 1}


def _decoys(spec: RealParticles, net: Net, filed: torch.Tensor, volumes: torch.Tensor) -> dict:
    """Shares of particles and phase-randomised decoys told apart: mean, and 5 to 95 % of the draws."""
    groups = {READ: volumes, FILED: filed}
    for snr in spec.snrs:
        recipe = SimulatedData(n_per_class=len(volumes), microscope=spec.microscope, seed=77)
        for name in (spec.largest, EMPTY):
            groups[f"{name}, SNR {snr:g}"] = simulate_set(recipe, {snr: len(volumes)}, [name]).volumes
    found = {}
    for name, group in groups.items():
        pair = torch.stack([net(group), net(spectra.phase_randomised(group))])
        rng, right = np.random.default_rng(spec.seed), []
        for _ in range(spec.n_draws):
            order = torch.from_numpy(rng.permutation(len(group)))
            support, queries = pair[:, order[: spec.n_shot]], pair[:, order[spec.n_shot :]]
            predicted = net.logits(support, queries.flatten(0, 1)).argmax(1).view(2, -1)
            right.append(float((predicted == torch.tensor([[0], [1]])).float().mean()))
        low, high = np.percentile(right, [5, 95]).round(3).tolist()
        found[name] = {"right": round(float(np.mean(right)), 4), "low": low, "high": high}
    return found


def _control(spec: RealParticles, net: Net, classes: Sequence[str], training: torch.Tensor) -> dict:
    """Accuracy on simulated classes that the encoder was not trained on, by correction and SNR, with its interval."""
    n, n_way, n_query, found = spec.n_per_class, min(5, len(classes)), 15, {}
    clean = spectra.noise_free(classes, n, spec.microscope, seed=33)
    episodes = sample_episodes(
        np.repeat(np.arange(len(classes)), n),
        range(len(classes)),
        n_way=n_way,
        n_shot=spec.n_shot,
        n_query=n_query,
        n_episodes=spec.n_episodes,
        seed=seed_from("novel", spec.seed),
        class_names=classes,
    )
    for snr in spec.snrs:
        recipe = SimulatedData(n_per_class=n, microscope=spec.microscope)
        volumes = simulate_set(recipe, {snr: n}, classes).volumes
        noisy = spectra.with_noise_of(clean, volumes, spectra.binned_snr(snr, spec.microscope))
        corrected = {
            "CTF undone": volumes,
            "CTF undone; shells matched": spectra.matched(volumes, training, spectra.radii(clean.shape[-1])),
            "CTF undone; masked": spectra.masked(volumes),
            f"CTF undone; support in the real noise, SNR {snr:g}": torch.cat([volumes, noisy]),
        }
        for name, group in corrected.items():
            # Support in the real noise lies behind the volumes that queries are drawn from.
            support = episodes.support + len(volumes) * (len(group) > len(volumes))
            embeddings, tasks = net(group)[:, : len(net.calibration.space.mean)], replace(episodes, support=support)
            correct = correct_counts(predict(embeddings, tasks, prototype_logits))
            accuracy, interval = mean_and_interval(correct / (n_way * n_query))
            found.setdefault(name, {})[f"{snr:g}"] = [round(accuracy, 4), round(interval, 4)]
    return found


# ---------------------------------------------------------------- average


def _average_at_angles(spec: RealParticles, particles: Particles, volumes: torch.Tensor, chosen: dict) -> dict | None:
    """Average of the particles at the angles of their own file, and which complex it looks like.

    Result: `density` packed, protein bright; `resolution_nm` of its halves; `likeness`, the score of the best pose of
    some complexes, as they are and mirrored: the family, and the classes most often chosen for single particles.
    """
    table = particles.table
    if table is None or not set(ANGLES) <= set(table) or len(volumes) != len(table) or len(volumes) < 8:
        return None
    # RELION's angles turn the particle into the reference's frame; a pose is the way from the reference.
    quaternions = Rotation.from_euler("ZYZ", table[list(ANGLES)].astype(float).to_numpy(), degrees=True).inv().as_quat()

    def mean(part: slice) -> torch.Tensor:
        group = volumes[part]
        return average(group, Poses(quaternions[part], np.zeros((len(group), 3))), spec.measured).density

    density, halves = -mean(slice(None)), [mean(slice(side, None, 2)) for side in (0, 1)]
    frequencies, fsc = shell_correlation(*halves, spec.measured.final_voxel_size_nm)
    finest = resolution(fsc, frequencies)
    compared = np.array(spec.classes)[spec.is_family].tolist()
    compared += [name for name in sorted(chosen, key=chosen.get, reverse=True) if name not in compared][:3]
    bright = replace(spec.measured, dark_protein=False)
    complete = replace(bright, tilt_min=-90.0, tilt_max=90.0, tilt_increment=1.0, max_shift_nm=0.0)
    likeness = {}
    for name in compared:
        reference = spectra.noise_free([name], 1, complete, seed=34)
        hands = [reference[0], spectra.mirrored(reference)[0]]
        scores = [laid_onto(density, form, bright, Search())[1].scores[0] for form in hands]
        likeness[name] = [round(float(score), 3) for score in scores]
    return {
        "density": packed(density),
        "resolution_nm": round(finest, 2) if np.isfinite(finest) else None,
        "likeness": likeness,
    }
