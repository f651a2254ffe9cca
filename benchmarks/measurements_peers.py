"""What a particle costs by each method of the page on peers, at 20^3 and 40^3, five classes with five labels each."""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
from measuring import BOX, HALF_BOX, repeated

from cryo_fewshot.device import keep_freed_memory

N_SHOT, N_ASKED = 5, 100


def boxes(box: int):
    """Particles of five classes, class by class."""
    from studies.peers import DATA, PLAIN, VALIDATION, boxes_of

    data = replace(DATA, n_per_class=N_SHOT + N_ASKED // 5, microscope=replace(DATA.microscope, binning=BOX // box))
    return boxes_of(data, VALIDATION[:5], 0.1, PLAIN)


def answered(name: str, box: int, n: int = N_ASKED, repeats: int = 3, **setting) -> dict:
    """Seconds a particle from volumes to classes; what is made once, of labelled particles or templates, counted."""
    from studies.open_world import Pretrained
    from studies.peers import METHODS

    from cryo_fewshot.weights import load_encoder

    keep_freed_memory()
    particles = boxes(box)
    per_class = len(particles.labels) // 5
    numbers = np.arange(len(particles.labels)).reshape(5, per_class)
    support, queries = numbers[:, :N_SHOT], numbers[:, N_SHOT:].T.ravel()[:n]
    if METHODS[name].needs_encoder:
        setting["pretrained"] = Pretrained(*load_encoder())
    answer = partial(_answer, METHODS[name].make, particles, support, queries, numbers.ravel(), setting)
    return repeated(answer, repeats, per=n)


def _answer(make: Callable, particles, support, queries, of_task, setting: dict) -> None:
    make(replace(particles), **setting)(support, queries, of_task)


def acryo(box: int) -> dict:
    """One particle by acryo's ZNCC against five templates; counted for 233 rotations, measured with fewer."""
    try:
        from acryo.alignment import ZNCCAlignment
    except ImportError:
        return {"not_run": "acryo is not installed"}
    from scipy.spatial.transform import Rotation
    from studies.peers_template import structure

    from cryo_fewshot.averaging.alignment import rotation_grid

    particles, n_rotations = boxes(box), 60 if box == HALF_BOX else 12
    templates = [structure(name, particles.microscope).numpy() for name in dict.fromkeys(particles.labels)]
    rotations = Rotation.from_quat(rotation_grid(40.0)[:n_rotations])
    model = ZNCCAlignment(templates, rotations=rotations, tilt=(-60, 60))
    one = particles.asked[0].numpy()
    return repeated(lambda: model.align(one, max_shifts=(4 * box / BOX,) * 3), 0, per=n_rotations / 233)


def reading(box: int) -> dict:
    """A particle from an MRC file of its own."""
    import tempfile
    from pathlib import Path

    from cryo_fewshot.particles.mrc import write_mrc
    from cryo_fewshot.particles.opening import open_particles

    with tempfile.TemporaryDirectory() as folder:
        for i, volume in enumerate(boxes(box).asked.numpy()):
            write_mrc(Path(folder) / f"{i:04d}.mrc", volume, 40.0 / box)
        particles = open_particles(folder)
        return repeated(lambda: particles.read(range(N_ASKED), box, 40.0 / box), 3, per=N_ASKED)


_SEARCH = {"grid_degrees": 30.0, "mask_nm": 10.0, "low_pass_nm": 4.4}
_PCA = {"n_components": 10, "grid": 10}
PEERS = {
    "reading": reading,
    "template_structure": partial(answered, "template: true structure", n=20, repeats=1, **_SEARCH),
    "template_labelled": partial(answered, "template: labelled, aligned", n=20, repeats=1, **_SEARCH),
    "acryo": acryo,
    "svm": partial(answered, "PCA, RBF SVM", c=1.0, **_PCA),
    "shells": partial(answered, "shell powers"),
    "harmonics": partial(answered, "harmonic powers", degree=8, space="real"),
    "network": partial(answered, "residual network on the labels", repeats=0, n_steps=80, shift=2),
    "prototype": partial(answered, "pretrained encoder, nearest prototype"),
    "classify": partial(answered, "pretrained encoder, classify"),
}
_ONLY_SMALL = ("prototype", "classify")
"""The pretrained encoder takes boxes of 20^3; the tool brings others there."""
MEASUREMENTS = {
    f"peer_{name}_{box}": partial(measure, box=box)
    for box in (HALF_BOX, BOX)
    for name, measure in PEERS.items()
    if box == HALF_BOX or name not in _ONLY_SMALL
}
