"""The pretrained encoder as the studies ask for it, and the results that the checkout holds."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.hashing import digest_of
from cryo_fewshot.recognition.calibration import Calibration
from cryo_fewshot.reproduction.runner import Runner
from cryo_fewshot.reproduction.store import Store
from cryo_fewshot.weights import AnyEncoder, load_encoder


@dataclass(frozen=True, eq=False)
class Pretrained:
    """The pretrained encoder and its card, of `weights.load_encoder`; asked for results by their digests."""

    encoder: AnyEncoder
    card: dict

    @classmethod
    def load(cls, path: str | Path | None = None) -> "Pretrained":
        """The encoder that comes with the package, or that of a file."""
        return cls(*load_encoder(path))

    @cached_property
    def calibration(self) -> Calibration:
        """The calibration of the card."""
        return Calibration.from_json(self.card["calibration"])

    @cached_property
    def digest(self) -> str:
        """What names the weights in a spec."""
        return digest_of(*self.encoder.state_dict().values())

    @cached_property
    def digests(self) -> dict[str, str]:
        """What names the weights and the calibration in a spec."""
        return {"encoder": self.digest, "calibration": _sixteen(self._calibration_text)}

    @cached_property
    def card_digest(self) -> str:
        """What names both together."""
        return _sixteen(self.digest + self._calibration_text)

    @property
    def _calibration_text(self) -> str:
        return json.dumps(self.card["calibration"], sort_keys=True)


def _sixteen(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def published_runner(folder: str) -> Runner:
    """Asks a folder of results of the checkout, wherever a run keeps its own."""
    return Runner(Store(REPOSITORY / "results" / folder))
