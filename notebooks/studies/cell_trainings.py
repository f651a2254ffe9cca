"""Trainings behind the pretrained encoder: the one that it started from, and those that its promises rest on."""

from cryo_fewshot.files import REPOSITORY
from cryo_fewshot.recognition.pretraining import Pretraining, pretrained_spec, trained_on

from .cross_fitting import cross_fit_specs

FIRST = REPOSITORY / "results" / "encoders" / "first.safetensors"
"""The encoder that the pretrained one started from."""
START = "0148163f2e1e0b21"
"""Digest of its weights; trained on 400,000 volumes without surroundings."""
FOLD_STARTS = ("f6c03f7f8717c14f", "71672da883988323", "1ec16972823cdd8e", "ea5e5da5770ded02")
"""Digests of the weights of `fold-I-first`."""


def cross_fitted() -> dict[str, Pretraining]:
    """The two trainings of the pretrained encoder, four times without another part of the families, by name.

    The first of the two takes 40,000 volumes, a tenth of the pretrained encoder's. Promises are measured with the
    second's encoders, see `cryo-fewshot calibrate`.
    """
    found = {}
    for i, (alone, start) in enumerate(zip(cross_fit_specs(pretrained_spec(4)), FOLD_STARTS, strict=True)):
        found |= {f"fold-{i}-first": alone, f"fold-{i}": trained_on(alone, start)}
    return found
