"""Label five, and watch: what the page needs to classify in the browser, computed beforehand."""

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from PIL import Image

from cryo_fewshot.encoder import embed
from cryo_fewshot.protonet import prototype_logits
from cryo_fewshot.randomness import seed_from
from cryo_fewshot.recognition.calibration import RATES, Calibration
from cryo_fewshot.recognition.plda import PLDA
from cryo_fewshot.recognition.recogniser import build_recogniser
from cryo_fewshot.reproduction.training_specs import EncoderRun
from cryo_fewshot.simulation.imaging import simulate
from cryo_fewshot.weights import AnyEncoder

FALSE_ACCEPT_RATE = 0.05
_GREYS = 16


@dataclass(frozen=True, kw_only=True)
class LabelFive:
    """Simulated particles of classes that neither network was trained on, as pictures and embeddings.

    encoder : digest of the pretrained weights; protonet : the training that stands beside it, on all SNRs
    known : classes that may be labelled; unknown : classes among the particles that nobody labels
    n_axes : principal axes of ProtoNet3D's embeddings that are kept
    """

    encoder: str
    protonet: EncoderRun
    known: tuple[str, ...] = ("1OEL", "3KUY", "4NMN", "1E0T", "3M6A")
    unknown: tuple[str, ...] = ("1QVR", "1HTQ", "3UWX")
    snrs: tuple[float, ...] = (0.1, 0.05, 0.03)
    n_per_class: int = 50
    n_axes: int = 32
    n_slices: int = 5

    def run(self, runner, pretrained: AnyEncoder, calibration: Calibration) -> dict:
        """Result: `classes`; `truth`, class of each particle in a shuffled order; per SNR `pictures`, a PNG of all
        particles in 20 columns (mean of the middle slices), `pretrained` and `protonet`, embeddings as float32;
        `references`, a PNG of each class without noise; what the recogniser's calibration says.

        Bytes are base64. `protonet_variance` is the least share, over the SNRs, that the kept axes hold.
        """
        classes, data = [*self.known, *self.unknown], self.protonet.data
        order = np.random.default_rng(seed_from("label five")).permutation(len(classes) * self.n_per_class)
        truth = np.repeat(np.arange(len(classes)), self.n_per_class)[order]
        by_snr, shares = {}, []
        for snr in self.snrs:
            counts = ((snr, self.n_per_class),)
            volumes = data.subtomograms(dict(counts), tuple(classes), runner.device).volumes[torch.from_numpy(order)]
            of_protonet, share = _principal(embed(runner.encoder(self.protonet), volumes).cpu(), self.n_axes)
            of_pretrained = calibration.space.project(embed(pretrained, volumes.cpu()))
            shares.append(share)
            by_snr[f"{snr:g}"] = {
                "pictures": _sheet(volumes.cpu().numpy(), self.n_slices),
                "pretrained": _packed(of_pretrained),
                "protonet": _packed(of_protonet),
            }
        clean = [
            simulate(data.beads_of(name, seeds), seeds, None, data.microscope)[0].numpy()
            for name in classes
            for seeds in [data.sample_seeds(name, self.snrs[0], count=1)]
        ]
        return {
            "classes": classes,
            "n_known": len(self.known),
            "truth": truth.tolist(),
            "snrs": by_snr,
            "references": _sheet(np.stack(clean), self.n_slices),
            "protonet_variance": min(shares),
            "between": calibration.space.between.tolist(),
            "temperature_terms": list(calibration.temperature_terms),
            "shots": list(calibration.shots),
            "thresholds": [row[RATES.index(FALSE_ACCEPT_RATE)] for row in calibration.thresholds],
        }


def _principal(embeddings: torch.Tensor, n_axes: int) -> tuple[torch.Tensor, float]:
    """Embeddings along their first principal axes, and the share of the variance that these hold."""
    centred = embeddings.double() - embeddings.double().mean(0)
    _, scales, axes = torch.linalg.svd(centred, full_matrices=False)
    share = float(scales[:n_axes].square().sum() / scales.square().sum())
    return (centred @ axes[:n_axes].T).float(), share


def _packed(values: torch.Tensor) -> str:
    return base64.b64encode(values.numpy().astype("<f4").tobytes()).decode()


def unpacked(text: str, n: int) -> torch.Tensor:
    """Embeddings `(n, dim)` of a result."""
    return torch.from_numpy(np.frombuffer(base64.b64decode(text), "<f4").reshape(n, -1).copy())


def _sheet(volumes: np.ndarray, n_slices: int, n_columns: int = 20) -> str:
    """PNG of the mean of the middle slices of each volume, in rows of 20, each on its own grey scale."""
    middle, half = volumes.shape[1] // 2, n_slices // 2
    pictures = volumes[:, middle - half : middle + half + 1].mean(1)[:, ::-1]
    low, high = np.percentile(pictures, [1, 99], axis=(1, 2), keepdims=True)
    pictures = np.clip((pictures - low) / (high - low), 0, 1)
    n, height, width = pictures.shape
    n_columns = min(n, n_columns)
    pictures = np.concatenate([pictures, np.zeros((-n % n_columns, height, width))])
    rows = pictures.reshape(-1, n_columns, height, width).transpose(0, 2, 1, 3).reshape(-1, n_columns * width)
    image = Image.fromarray((rows * 255).astype(np.uint8)).quantize(_GREYS)
    file = io.BytesIO()
    image.save(file, "png", optimize=True, bits=4)
    return base64.b64encode(file.getvalue()).decode()


def calibration_of(result: dict) -> Calibration:
    """The calibration whose space is the one that the stored embeddings are in already."""
    between = np.array(result["between"])
    return Calibration(
        space=PLDA(mean=np.zeros(len(between)), axes=np.eye(len(between)), between=between),
        temperature_terms=tuple(result["temperature_terms"]),
        shots=tuple(result["shots"]),
        thresholds=tuple((threshold,) * len(RATES) for threshold in result["thresholds"]),
        measured=(),
        n_classes=0,
    )


def answers(result: dict, snr: str, labels: dict[int, int]) -> tuple[np.ndarray, pd.DataFrame]:
    """What the package says of all particles when some are labelled: ProtoNet3D's classes; the recogniser's table.

    labels : class index by particle
    """
    n, chosen = len(result["truth"]), list(labels)
    names = np.array(result["classes"])[[labels[i] for i in chosen]]
    embeddings = result["snrs"][snr]
    of_pretrained = unpacked(embeddings["pretrained"], n)
    recogniser = build_recogniser(of_pretrained[chosen], names, calibration_of(result))
    of_protonet = unpacked(embeddings["protonet"], n)
    ways = sorted(set(labels.values()))
    prototypes = torch.stack([of_protonet[[i for i in chosen if labels[i] == way]].mean(0) for way in ways])
    logits = prototype_logits(prototypes[None, :, None], of_protonet[None])[0]
    return np.array(ways)[logits.argmax(-1).numpy()], recogniser.recognise(of_pretrained).to_frame()


def drawn_labels(result: dict, n_shot: int, seed: int) -> dict[int, int]:
    """Right labels of `n_shot` particles of each known class."""
    truth, rng = np.array(result["truth"]), np.random.default_rng(seed)
    known = range(result["n_known"])
    return {int(i): way for way in known for i in rng.choice(np.flatnonzero(truth == way), n_shot, replace=False)}


def expected_frame(result: dict, shots: Sequence[int] = (1, 2, 5), n_draws: int = 40) -> pd.DataFrame:
    """What to expect of right labels drawn at random: mean over draws, a row per SNR and number of labels."""
    truth, rows = np.array(result["truth"]), []
    for snr in result["snrs"]:
        for n_shot in shots:
            found = []
            for seed in range(n_draws):
                labels = drawn_labels(result, n_shot, seed)
                others = ~np.isin(np.arange(len(truth)), list(labels))
                known = others & (truth < result["n_known"])
                protonet, table = answers(result, snr, labels)
                right = table["class"].to_numpy() == np.array(result["classes"])[truth]
                accepted = table["accepted"].to_numpy()
                found.append(
                    [(protonet == truth)[known].mean(), right[known].mean(), accepted[known].mean(),
                     accepted[others & ~known].mean()]
                )  # fmt: skip
            rows.append([f"SNR {snr}", n_shot, *np.mean(found, axis=0)])
    columns = ["", "Labels per class", "ProtoNet3D", "Pretrained", "Accepted of known", "Accepted of unknown"]
    return pd.DataFrame(rows, columns=columns)
