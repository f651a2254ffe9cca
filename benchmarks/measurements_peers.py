"""What a particle costs by each method of the page on peers, at 20^3 and 40^3, five classes with five labels each.

On two threads. The page shows seconds of the processor, of the fastest repeat: other work on the machine lengthens
those on the clock. OMP_WAIT_POLICY=passive keeps threads that wait for one another from being counted.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np
import torch
from measuring import BOX, HALF_BOX, repeated

from cryo_fewshot.device import keep_freed_memory

N_SHOT, N_ASKED = 5, 100
N_ROTATIONS = 233
ALL, LAST = slice(None), slice(-1, None)


def boxes(box: int):
    """Particles of five classes, class by class; with the allocator's settings and the threads of the measurements."""
    from studies.peers import DATA, PLAIN, VALIDATION, boxes_of

    keep_freed_memory()
    torch.set_num_threads(2)
    data = replace(DATA, n_per_class=N_SHOT + N_ASKED // 5, microscope=replace(DATA.microscope, binning=BOX // box))
    return boxes_of(data, VALIDATION[:5], 0.1, PLAIN)


def answered(
    make: Callable, box: int, n: int = N_ASKED, repeats: int = 5, n_shot: int = N_SHOT, new: slice = ALL, **setting
) -> dict:
    """Seconds a particle from volumes to classes; what is made once, of labelled particles or templates, counted.

    new : the classes that are answered again where one is added, `added_seconds` a particle, of the processor;
        features are there by then
    """
    particles = boxes(box)
    numbers = np.arange(len(particles.labels)).reshape(5, -1)
    support, queries = numbers[:, :n_shot], numbers[:, N_SHOT:].T.ravel()[:n]

    def made() -> Callable:
        return make(replace(particles), **setting)

    result = repeated(lambda: made()(support, queries, numbers.ravel()), repeats, per=n)
    known = made()
    known(support[:-1], queries, numbers[:-1].ravel())
    added = repeated(lambda: known(support[new], queries, numbers.ravel()), 0, per=n)
    return result | {"added_seconds": added["cpu_seconds"]}


def method(name: str, box: int, **how) -> dict:
    """`answered` by a method of the page."""
    from studies.peers import METHODS

    return answered(METHODS[name].make, box, **how)


def one_labelled(name: str, box: int, **how) -> dict:
    """By a labelled particle of each class as the template."""
    from studies.peers import LABELLED

    return method(LABELLED, box, n_shot=1, **how)


def package(row: str, box: int, module: str, n: int) -> dict:
    """One particle by another package against five structures; counted for all rotations, measured with n of them."""
    from importlib.util import find_spec

    if find_spec(module) is None:
        return {"not_run": f"{module} is not installed"}
    from scipy.spatial.transform import Rotation
    from studies.peers_template import PACKAGES, structure

    from cryo_fewshot.averaging.alignment import rotation_grid
    from cryo_fewshot.averaging.spectra import soft_sphere

    particles = boxes(box)
    templates = [structure(name, particles.microscope).numpy() for name in dict.fromkeys(particles.labels)]
    rotations = Rotation.from_quat(rotation_grid(40.0)[:n])
    mask, shift = soft_sphere(box, box / 4).numpy(), 4 * box / BOX

    def against(some: list) -> dict:
        best = PACKAGES[row.rsplit(" ", 1)[-1]](some, mask, rotations, (-60.0, 60.0), shift)
        return repeated(lambda: best(particles.asked[0].numpy()), 1, per=n / N_ROTATIONS)

    return against(templates) | {"added_seconds": against(templates[LAST])["cpu_seconds"]}


def encoder(kind: str, box: int, repeats: int = 5) -> dict:
    """By nearest prototypes of an encoder; the pretrained one gets larger boxes resampled, as the tool does."""
    from studies.open_world import fitted
    from studies.peers import METHODS, PROTOTYPE
    from studies.peers_trained import TomoTwin
    from studies.pretrained import Pretrained

    from cryo_fewshot.encoder import Encoder3D
    from cryo_fewshot.weights import load_encoder

    own = {
        "ProtoNet3D": lambda: Encoder3D(box, 4 if box == BOX else 3),
        "TomoTwin's network": lambda: TomoTwin(box),
    }
    pretrained = Pretrained(own[kind]().eval(), {}) if kind in own else Pretrained(*load_encoder())

    def make(particles, name: str):
        if box != HALF_BOX and kind not in own:
            volumes = fitted(particles.asked, 40.0 / box, pretrained.card)
            particles = replace(particles, labelled=volumes, asked=volumes)
        return METHODS[name].make(particles, pretrained)

    return answered(make, box, repeats=repeats, name=kind if kind in METHODS else PROTOTYPE)


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
        return repeated(lambda: particles.read(range(N_ASKED), box, 40.0 / box), 5, per=N_ASKED)


_SEARCH = {"grid_degrees": 30.0, "mask_nm": 8.0, "band_nm": 6.0, "is_refined": True, "new": LAST}
PEERS = {
    "reading": ("reading MRC files", reading),
    "template_structure": ("template: true structure", partial(method, **_SEARCH, repeats=2)),
    "template_one": ("template: one labelled particle", partial(one_labelled, **_SEARCH, repeats=2)),
    "template_labelled": ("template: labelled, aligned", partial(method, **_SEARCH, repeats=2)),
    "acryo": ("template: true structure, by acryo", partial(package, module="acryo", n=12)),
    "pytme": ("template: true structure, by pyTME", partial(package, module="tme", n=N_ROTATIONS)),
    "nearest": ("PCA, nearest neighbour", partial(method, n_components=10, grid=6)),
    "svm": ("PCA, RBF SVM", partial(method, n_components=10, grid=6, c=10.0)),
    "shells": ("shell powers", method),
    "harmonics": ("harmonic powers", partial(method, degree=8, space="real")),
    "network": ("residual network on the labels", partial(method, repeats=1, n_steps=80, shift=2)),
    "protonet": ("ProtoNet3D", encoder),
    "tomotwin": ("TomoTwin's network", partial(encoder, repeats=1)),
    "prototype": ("pretrained encoder, nearest prototype", encoder),
    "classify": ("pretrained encoder, classify", encoder),
}
"""What is measured, by the name of its row on the page."""


def _measure(row: str, measure: Callable, box: int) -> dict:
    found = measure(box) if measure is reading else measure(row, box)
    settings = {key: value for key, value in getattr(measure, "keywords", {}).items() if key != "new"}
    return {"method": row, "box": box, "threads": torch.get_num_threads(), "settings": settings} | found


MEASUREMENTS = {
    f"peer_{name}_{box}": partial(_measure, *how, box) for box in (HALF_BOX, BOX) for name, how in PEERS.items()
}
