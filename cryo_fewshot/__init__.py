"""Few-shot recognition of macromolecules in cryo-electron tomograms (Li et al., PLOS Comput Biol 2020, reproduced).

How data walks, each step a few of the names below (`import cryo_fewshot as cf`):

1. Subtomograms with labels: `simulate_set` images complexes with a `Microscope`, `open_particles` reads files. Either
   way volumes are `(n, d, h, w)`, each with mean 0 and variance 1, protein dark. `split_classes` holds classes out.
2. `sample_episodes` draws small tasks from the labels, as indices that every method shares.
3. An encoder turns volumes into embeddings `(n, dim)`: `Encoder3D` is the paper's, `load_encoder` gives a pretrained
   one. `fit` trains it on `episode_loss` of `prototype_logits`: ProtoNet3D.
4. `Adaptation`, trained in the same way on `adapted_logits`, adapts embeddings to a task; `combined_logits` is
   ProtoNet-CE.
5. `predict` applies any of these heads to episodes; `correct_counts` and `mean_and_interval` give its accuracy.

For particles of unknown classes, `build_recogniser` adds probabilities and abstention to the embeddings of an encoder
that has a calibration. A name is loaded when it is first used, so that importing the package takes no time.
"""

from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("cryo-fewshot")
except PackageNotFoundError:  # run from its source tree
    __version__ = "0+source"

_MODULES = {
    "adaptation": ("Adaptation", "adapted_logits", "combined_logits"),
    "baseline": ("baseline_logits",),
    "encoder": ("Encoder3D", "PooledEncoder3D", "embed"),
    "episodes": ("Episodes", "sample_episodes"),
    "errors": ("UserError",),
    "evaluation": ("confusion", "correct_counts", "mean_and_interval", "predict"),
    "particles.opening": ("open_particles",),
    "protonet": ("prototype_logits", "prototypes", "squared_distances"),
    "recognition.recogniser": ("build_recogniser",),
    "simulation.datasets": ("SimulatedData", "simulate_set"),
    "simulation.microscope": ("Microscope",),
    "subtomograms": ("SubtomogramSet", "split_classes"),
    "training": ("Schedule", "episode_loss", "fit"),
    "weights": ("load_encoder", "save_encoder"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(import_module(f".{_MODULE_OF[name]}", __name__), name)
    globals()[name] = value  # the next use finds it at once
    return value


def __dir__() -> list[str]:
    return __all__
