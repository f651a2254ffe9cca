"""What a group would train: a small 3D residual network on the labelled particles of a task alone."""

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cryo_fewshot.encoder import PooledEncoder3D
from cryo_fewshot.particles.resampling import wedge_rotations
from cryo_fewshot.recognition.benchmark import Predict

from .peers_features import Boxes

WIDTHS = (8, 16, 32)
LEARNING_RATE, WEIGHT_DECAY = 3e-3, 1e-2


def trained_on_labels(boxes: Boxes, n_steps: int, shift: int) -> Predict:
    """Softmax over a residual encoder, from random weights for every task; whole support at each step.

    shift : voxels, random shifts of the augmentation, beside the rotations that keep the missing wedge
    """

    def predict(support: np.ndarray, queries: np.ndarray, _: np.ndarray) -> np.ndarray:
        torch.manual_seed(int(support.ravel()[0]))
        encoder = PooledEncoder3D(boxes.asked.shape[-1], WIDTHS).train()
        network = nn.Sequential(encoder, nn.Linear(encoder.embedding_dim, len(support)))
        optimizer = torch.optim.AdamW(network.parameters(), LEARNING_RATE, weight_decay=WEIGHT_DECAY)
        volumes, truth = boxes.labelled[support.ravel()], torch.arange(len(support)).repeat_interleave(support.shape[1])
        for _ in range(n_steps):
            moved = wedge_rotations(volumes, torch.randint(4, (len(volumes),)))
            moved = torch.roll(moved, torch.randint(-shift, shift + 1, (3,)).tolist(), (1, 2, 3))
            optimizer.zero_grad()
            F.cross_entropy(network(moved), truth).backward()
            optimizer.step()
        with torch.no_grad():
            return network.eval()(boxes.asked[queries]).argmax(1).numpy()

    return predict
