"""Real particles of one known class: among simulated ones of every other, and told from decoys that have no shape.

The encoder was trained on simulated particles alone, and no correction uses a label of the real ones.
"""

from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import pandas as pd
import torch

from cryo_fewshot.hashing import digest_of
from cryo_fewshot.particles.base import Particles
from cryo_fewshot.particles.resampling import band_limited
from cryo_fewshot.particles.tilt_stacks import TiltStacks
from cryo_fewshot.recognition.classify import recogniser_of
from cryo_fewshot.recognition.embedding_cache import features_of
from cryo_fewshot.recognition.settings import Settings
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.simulation.datasets import SimulatedData, simulate_set
from cryo_fewshot.simulation.microscope import Microscope
from cryo_fewshot.simulation.on_the_fly import homologous_family
from cryo_fewshot.simulation.structures import class_keys, registry

from . import spectra
from .pretrained import Pretrained


def log_likelihoods(pretrained: Pretrained, support: torch.Tensor, queries: torch.Tensor) -> torch.Tensor:
    """What `classify` makes of particles without grey values that can be compared, `(n, n_way)`.

    support : `(n_way, n_shot, dim)`, queries : `(n, dim)`, both of `features_of`
    """
    n_way, n_shot, dim = support.shape
    calibration = pretrained.calibration
    labels = np.repeat([f"{way:03d}" for way in range(n_way)], n_shot)
    widths = (dim - len(calibration.space.mean),)
    known = recogniser_of(support.flatten(0, 1), labels, calibration, queries, Settings(), widths)
    return known.model.log_likelihoods(known.space.project(queries))


def volumes_of(particles: Particles, card: dict) -> torch.Tensor:
    """Every particle that can be read, as the encoder takes it: `(n, b, b, b)`."""
    volumes, rejected = particles.read(range(len(particles)), card["box"], card["voxel_size_nm"])
    return band_limited(volumes[[i not in rejected for i in range(len(particles))]])


# ---------------------------------------------------------------- among simulated classes


@dataclass(frozen=True, kw_only=True)
class RealParticles:
    """Real particles of one family, recognised by an encoder that was trained on simulated particles.

    encoder, particles : digests of the weights and of the volumes, which name the result
    family : of the registry, that the particles belong to; classes : simulated; microscope : of the simulated particles
    measured : the same with the tilt series and the defocus that the particles' files name
    snr : of the simulated particles; noise_snr : of simulated support in the real noise
    n_shot : labelled particles per class; n_draws : random choices of these
    n_training : simulated particles that give the mean spectrum of the encoder's training
    """

    version = 4  # fewer corrections

    encoder: str
    particles: str
    family: str = "ribosome"
    classes: tuple[str, ...]
    microscope: Microscope
    measured: Microscope
    snr: float = 0.1
    noise_snr: float = 0.03
    n_shot: int = 5
    n_draws: int = 100
    n_training: int = 2000
    seed: int = 0

    @property
    def is_family(self) -> np.ndarray:
        """Which of the classes are of the particles' family, `(n_classes,)` bool."""
        return np.array([homologous_family(name) == self.family for name in self.classes])

    def run(self, runner: Runner, pretrained: Pretrained, particles: Particles, volumes: torch.Tensor) -> dict:
        """Result: `n_particles`; `tried`, by correction what `_ranked` gives; `support`, what `_real_support` gives."""
        features, filed = partial(features_of, pretrained.encoder), volumes
        if isinstance(particles.source, TiltStacks):
            filed = volumes_of(replace(particles, source=replace(particles.source, ctfs=None)), pretrained.card)
        per_class = 4 * self.n_shot
        recipe = SimulatedData(n_per_class=per_class, microscope=self.microscope, seed=31)
        clean = spectra.noise_free(self.classes, per_class, self.measured, seed=32)
        noisy = spectra.with_noise_of(clean, volumes, spectra.binned_snr(self.noise_snr, self.measured))
        plain, in_noise = (
            features(group).view(len(self.classes), per_class, -1)
            for group in (simulate_set(recipe, {self.snr: per_class}, self.classes).volumes, noisy)
        )
        matched = spectra.matched(
            volumes, spectra.training_like(pretrained.card, self.n_training), spectra.radii(volumes.shape[-1])
        )
        queries = features(volumes)
        return {
            "n_particles": len(volumes),
            "tried": {
                "CTF left in": self._ranked(pretrained, plain, features(filed)),
                "CTF undone": self._ranked(pretrained, plain, queries),
                "CTF undone; shells matched": self._ranked(pretrained, plain, features(matched)),
                "CTF undone; support in the real noise": self._ranked(pretrained, in_noise, queries),
            },
            "support": {
                "in their own noise": self._real_support(pretrained, plain, queries),
                "in the real noise": self._real_support(pretrained, in_noise, queries),
            },
        }

    def _ranked(self, pretrained: Pretrained, known: torch.Tensor, queries: torch.Tensor) -> dict:
        """Rank of the family's best class among all others, over draws of the labelled particles.

        Result: `median_rank`; `first`, share of particles and draws where a class of the family is the likeliest;
        `rank_together`, median over draws where the particles' log-likelihoods are added up.
        """
        rng, family = np.random.default_rng(self.seed), self.is_family
        ranks, together = [], []
        for _ in range(self.n_draws):
            order = torch.from_numpy(rng.permutation(known.shape[1]))[: self.n_shot]
            logits = log_likelihoods(pretrained, known[:, order], queries)
            best, rest = logits[:, family].max(1).values, logits[:, ~family]
            ranks.append(1 + (rest > best[:, None]).sum(1).numpy())
            total = logits.sum(0)
            together.append(1 + int((total[~family] > total[family].max()).sum()))
        return {
            "median_rank": float(np.median(ranks)),
            "first": round(float((np.array(ranks) == 1).mean()), 4),
            "rank_together": float(np.median(together)),
        }

    def _real_support(self, pretrained: Pretrained, known: torch.Tensor, real: torch.Tensor) -> dict:
        """Shares of real and of simulated particles that get their class, mean over draws."""
        rng = np.random.default_rng(self.seed)
        others = known[torch.from_numpy(~self.is_family)]
        n_real, right = len(real) - self.n_shot, []
        truth = torch.cat([torch.zeros(n_real), torch.arange(1, len(others) + 1).repeat_interleave(self.n_shot)])
        for _ in range(self.n_draws):
            order, drawn = (torch.from_numpy(rng.permutation(len(part))) for part in (others[0], real))
            support = torch.cat([real[drawn[: self.n_shot]][None], others[:, order[: self.n_shot]]])
            queries = others[:, order[self.n_shot : 2 * self.n_shot]].flatten(0, 1)
            asked = torch.cat([real[drawn[self.n_shot :]], queries])
            found = log_likelihoods(pretrained, support, asked).argmax(1)
            right.append(
                [float((found == truth)[part].float().mean()) for part in (slice(n_real), slice(n_real, None))]
            )
        real_right, simulated_right = np.mean(right, axis=0).round(4).tolist()
        return {"real_right": real_right, "simulated_right": simulated_right}


def real_particles(
    runner: Runner, pretrained: Pretrained, particles: Particles, microscope: Microscope, **settings
) -> dict:
    """The stored entry about the particles of an input that holds one family; settings : of `RealParticles`.

    The simulated classes are all of the library that fit the box, unless settings name others.
    """
    volumes, diameters = volumes_of(particles, pretrained.card), registry()["max_diameter_nm"]
    fitting = tuple(name for name in class_keys("library") if diameters[name] <= microscope.width_nm)
    spec = RealParticles(
        encoder=pretrained.digest,
        particles=digest_of(volumes),
        microscope=microscope,
        measured=spectra.microscope_of(particles, microscope),
        **{"classes": fitting, **settings},
    )
    return runner(spec, pretrained, particles, volumes)


def ranks_frame(entry: dict) -> pd.DataFrame:
    """How the family fared with simulated support, a row per correction, for reading."""
    frame = pd.DataFrame(entry["result"]["tried"]).T.rename_axis("Real particles").reset_index()
    frame["first"] = frame["first"].map("{:.0%}".format)
    frame[["median_rank", "rank_together"]] = frame[["median_rank", "rank_together"]].map("{:g}".format)
    names = {"median_rank": "Median rank", "first": "Likeliest", "rank_together": "Rank of all together"}
    return frame[["Real particles", *names]].rename(columns=names)


# ---------------------------------------------------------------- beside decoys


@dataclass(frozen=True, kw_only=True)
class DecoyDraws:
    """Real particles told from their decoys with `n_shot` labelled ones of each.

    encoder, particles : digests of the weights and of the volumes
    n_phases : sets of decoys, with other random phases; n_draws : of the labelled particles, for each set
    """

    encoder: str
    particles: str
    n_shot: int = 5
    n_phases: int = 20
    n_draws: int = 50
    n_resamples: int = 2000
    seed: int = 0

    def run(self, runner: Runner, pretrained: Pretrained, volumes: torch.Tensor) -> dict:
        """Result: `right`, the mean; 2.5, 50 and 97.5 % of the single draws, of the means over draws for one set of
        decoys, and of the means where the particles are drawn with replacement; `at_target`, share of these last that
        reach .95; `by_particle`, the share of answers that are right about each and its decoys.
        """
        rng, n = np.random.default_rng(self.seed), len(volumes)
        hits, asked = np.zeros((self.n_phases, self.n_draws, n)), np.zeros(n)
        real = features_of(pretrained.encoder, volumes)
        for phases in range(self.n_phases):
            decoys = features_of(pretrained.encoder, spectra.phase_randomised(volumes, seed=phases))
            pair = torch.stack([real, decoys])
            for draw in range(self.n_draws):
                order = rng.permutation(n)
                support, queries = (pair[:, order[part]] for part in (slice(self.n_shot), slice(self.n_shot, None)))
                answer = log_likelihoods(pretrained, support, queries.flatten(0, 1)).argmax(1).view(2, -1)
                right = (answer == torch.tensor([[0], [1]])).float().mean(0).numpy()
                hits[phases, draw, order[self.n_shot :]] = right
                asked[order[self.n_shot :]] += 1
        by_draw, by_particle = hits.sum(2) / (n - self.n_shot), hits.sum((0, 1)) / asked
        resampled = by_particle[rng.integers(n, size=(self.n_resamples, n))].mean(1)
        spread = {"draws": by_draw.ravel(), "decoys": by_draw.mean(1), "particles": resampled}
        return {
            "right": round(float(by_draw.mean()), 4),
            **{name: np.percentile(part, [2.5, 50, 97.5]).round(4).tolist() for name, part in spread.items()},
            "at_target": round(float((resampled >= 0.95).mean()), 4),
            "by_particle": by_particle.round(3).tolist(),
        }


def decoy_draws(runner: Runner, pretrained: Pretrained, particles: Particles, n_shot: int) -> dict:
    """The stored entry about the particles of an input."""
    volumes = volumes_of(particles, pretrained.card)
    spec = DecoyDraws(encoder=pretrained.digest, particles=digest_of(volumes), n_shot=n_shot)
    return runner(spec, pretrained, volumes)


def draws_text(entries: list[dict], target: float = 0.95) -> str:
    """The mean for each number of labels with its interval over particles, and whether that holds the target."""
    said = []
    for entry in entries:
        spec, result = entry["spec"], entry["result"]
        low, _, high = result["particles"]
        holds = "holds" if low <= target <= high else "does not hold"
        said.append(
            f"With {spec['n_shot']} labelled ones of each, {result['right']:.1%} are told from their decoys (95 % "
            f"interval over particles {low:.1%} to {high:.1%}, which {holds} the {target:.0%} aimed at; one choice of "
            f"labels and decoys alone gives {result['draws'][0]:.1%} to {result['draws'][2]:.1%})."
        )
    return " ".join(said)
