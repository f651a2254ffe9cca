"""How far the share of real particles told from phase-randomised decoys depends on what was drawn."""

from dataclasses import dataclass

import numpy as np
import torch

from cryo_fewshot.hashing import digest_of
from cryo_fewshot.particles.base import Particles
from cryo_fewshot.recognition.calibration import Calibration
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.weights import AnyEncoder

from . import spectra
from .real_particles import Net, volumes_of


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

    def run(self, runner: Runner, net: Net, volumes: torch.Tensor) -> dict:
        """Result: `right`, the mean; 2.5, 50 and 97.5 % of the single draws, of the means over draws for one set of
        decoys, and of the means where the particles are drawn with replacement; `at_target`, share of these last that
        reach .95; `by_particle`, the share of answers that are right about each and its decoys.
        """
        rng, n = np.random.default_rng(self.seed), len(volumes)
        real, hits, asked = net(volumes), np.zeros((self.n_phases, self.n_draws, n)), np.zeros((n,))
        for phases in range(self.n_phases):
            pair = torch.stack([real, net(spectra.phase_randomised(volumes, seed=phases))])
            for draw in range(self.n_draws):
                order = rng.permutation(n)
                support, queries = (pair[:, order[part]] for part in (slice(self.n_shot), slice(self.n_shot, None)))
                answer = net.logits(support, queries.flatten(0, 1)).argmax(1).view(2, -1)
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


def decoy_draws(runner: Runner, encoder: AnyEncoder, card: dict, particles: Particles, **settings) -> dict:
    """The stored entry about the particles of an input."""
    volumes = volumes_of(particles, card)
    digests = digest_of(*encoder.state_dict().values()), digest_of(volumes)
    net = Net(encoder, Calibration.from_json(card["calibration"]))
    return runner(DecoyDraws(encoder=digests[0], particles=digests[1], **settings), net, volumes)


def draws_text(entry: dict, *more_labels: dict, target: float = 0.95) -> str:
    """The mean with its three intervals, whether the last one holds the target, and the mean with more labels."""
    spec, found = entry["spec"], entry["result"]

    def interval(name: str, of: dict = entry) -> str:
        low, _, high = of["result"][name]
        return f"{low:.1%} to {high:.1%}"

    def verdict(of: dict) -> str:
        low, _, high = of["result"]["particles"]
        return "holds" if low <= target <= high else "does not hold"

    further = "".join(
        f" With {more['spec']['n_shot']} labelled ones it is {more['result']['right']:.1%} "
        f"({interval('particles', more)}), which {verdict(more)} it."
        for more in more_labels
    )
    return (
        f"**With {spec['n_shot']} labelled ones of each, {found['right']:.1%} are told from their decoys**, mean over "
        f"{spec['n_phases']} sets of random phases and {spec['n_draws']} choices of the labelled ones each. One choice "
        f"alone gives {interval('draws')}, one set of decoys {interval('decoys')} (95 % of them). With "
        f"{len(found['by_particle'])} other particles the mean would lie within {interval('particles')} (particles "
        f"drawn with replacement, 95 %), which {verdict(entry)} the {target:.0%} aimed at.{further} The three hardest "
        f"particles are right in {', '.join(f'{value:.0%}' for value in sorted(found['by_particle'])[:3])}."
    )
