"""Training kernels of the convolution blocks: the results of the layers in a fraction of their memory."""

import torch
from torch import nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

aten = torch.ops.aten
PATCH = 27
"""Voxels that a convolution of 3x3x3 sees at once."""
HALVING = [2, 2, 2], [2, 2, 2], [0, 0, 0], [1, 1, 1], False
"""MaxPool(2): window, stride, padding, dilation, no window at the edge that is not whole."""


def block_of_volumes(convolution: nn.Conv3d, norm: nn.BatchNorm3d, volumes: torch.Tensor) -> torch.Tensor:
    """The first block in training on volumes `(n, 1, d, h, w)`, without ever holding the convolution of all of them.

    A channel of the convolution is a weighted sum over a patch, so its mean and variance over the batch follow from
    those of the patches, 27 numbers and 27 x 27. BatchNorm thus becomes part of the weights, as it does after
    training, and what is left can be done a few volumes at a time. The convolution's bias cancels.
    """
    kind = volumes.device.type
    number_format = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else volumes.dtype
    with torch.autocast(kind, enabled=False):
        patch_mean, patch_covariance = patch_moments(volumes[:, 0].to(convolution.weight.dtype))
        weight = convolution.weight.flatten(1)
        mean, variance = weight @ patch_mean, (weight @ patch_covariance * weight).sum(1)
        with torch.no_grad():
            norm.running_mean.lerp_(mean + convolution.bias, norm.momentum)
            norm.running_var.lerp_(variance * (volumes.numel() / (volumes.numel() - 1)), norm.momentum)
        scale = norm.weight * torch.rsqrt(variance + norm.eps)
        weight = convolution.weight * scale.view(-1, 1, 1, 1, 1)
        return ConvPoolReLU.apply(volumes.to(number_format), weight.to(number_format), norm.bias - scale * mean)


def patch_moments(volumes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean `(27,)` and covariance `(27, 27)` of all patches of 3^3 voxels of volumes `(n, d, h, w)`, zeros around them.

    Products are summed in the volumes' number format and these sums in fp64: made for volumes whose mean is near zero.
    """
    total = torch.zeros(PATCH + 1, PATCH + 1, dtype=torch.float64, device=volumes.device)
    rows = None
    for part in volumes.split(at_a_time(volumes, 1)):
        if rows is None or rows.shape[1] != part.numel():
            # A row of ones makes the product hold the sums as well; 32 rows take less time than 28.
            rows = part.new_zeros(32, part.numel())
            rows[PATCH] = 1
        patches = F.pad(part, (1,) * 6).unfold(1, 3, 1).unfold(2, 3, 1).unfold(3, 3, 1)
        rows[:PATCH].view(3, 3, 3, *part.shape).copy_(patches.permute(4, 5, 6, 0, 1, 2, 3))
        total += (rows @ rows.T)[: PATCH + 1, : PATCH + 1]
    total /= volumes.numel()
    mean = total[PATCH, :PATCH]
    covariance = total[:PATCH, :PATCH] - mean.outer(mean)
    return mean.to(volumes.dtype), covariance.to(volumes.dtype)


def at_a_time(volumes: torch.Tensor, few: int) -> int:
    """`few` volumes of 40^3 on a CPU, or as many smaller ones, so that features stay in cache; 1024 on a GPU."""
    return 1024 if volumes.is_cuda else few * max(1, 40**3 // volumes[0].numel())


class ConvPoolReLU(torch.autograd.Function):
    """Conv3d(3x3x3), MaxPool(2), shift of each channel and ReLU, for volumes that need no gradient.

    Only the pooled volumes and the places of the maxima are kept: the backward pass needs no more.
    """

    @staticmethod
    def forward(ctx, volumes, weight, shift):
        # Strides that torch takes for channels last, which those of a single channel may not tell.
        volumes = volumes.clone(memory_format=torch.channels_last_3d)
        ctx.places, ctx.exact, pooled = [], shift.dtype, []
        for part in volumes.split(at_a_time(volumes, 4)):
            maxima, places = aten.max_pool3d_with_indices(F.conv3d(part, weight, padding=1), *HALVING)
            pooled.append(maxima.add_(shift.view(-1, 1, 1, 1)).relu_())
            ctx.places.append(places.int())
        result = torch.cat(pooled)
        ctx.save_for_backward(volumes, weight, result)
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        volumes, weight, result = ctx.saved_tensors
        gradient = aten.threshold_backward(gradient, result, 0)
        of_weight = torch.zeros_like(weight, dtype=ctx.exact)
        of_shift = gradient.sum((0, 2, 3, 4), dtype=ctx.exact)
        for part, places in zip(volumes.split(at_a_time(volumes, 4)), ctx.places, strict=True):
            maxima, gradient = gradient[: len(part)], gradient[len(part) :]
            # Of its second argument, this reads shape and layout only.
            shape = (len(part), len(weight), *part.shape[2:])
            convolved = torch.empty(
                shape, dtype=maxima.dtype, device=maxima.device, memory_format=torch.channels_last_3d
            )
            convolved = aten.max_pool3d_with_indices_backward(maxima, convolved, *HALVING, places.long())
            of_weight += aten.convolution_backward(
                convolved, part, weight, None, [1] * 3, [1] * 3, [1] * 3, False, [0] * 3, 1, [False, True, False]
            )[1]
        return None, of_weight.to(weight.dtype), of_shift


class NormPoolReLU(torch.autograd.Function):
    """BatchNorm of a batch, MaxPool(2) and ReLU as one step of training, for a CPU: torch's own kernels, less memory.

    Forward, bit for bit what the three layers compute. Pooling keeps the number format of its input, where autocast
    would widen a bf16 volume to fp32 first, which changes no value; the gradient of BatchNorm is computed in fp32. The
    normalised volume and the places of the maxima are freed as soon as they are of no more use.
    """

    @staticmethod
    def forward(ctx, features, weight, bias, running_mean, running_var, momentum: float, eps: float):
        with torch.autocast(features.device.type, enabled=False):
            normed, mean, inverse_std = aten.native_batch_norm(
                features, weight, bias, running_mean, running_var, True, momentum, eps
            )
            pooled, places = aten.max_pool3d_with_indices(normed, *HALVING)
        del normed
        result = pooled.relu_()
        ctx.save_for_backward(features, weight, mean, inverse_std, result)
        ctx.eps, ctx.places = eps, places
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx, gradient):
        features, weight, mean, inverse_std, result = ctx.saved_tensors
        places, ctx.places = ctx.places, None
        gradient = aten.threshold_backward(gradient, result, 0)
        # Of its second argument, this reads the shape only.
        gradient = aten.max_pool3d_with_indices_backward(gradient, features, *HALVING, places)
        del places
        # In bf16 this kernel takes ten times as long.
        of_features, of_weight, of_bias = aten.native_batch_norm_backward(
            gradient.to(weight.dtype),
            features.to(weight.dtype),
            weight,
            None,
            None,
            mean,
            inverse_std,
            True,
            ctx.eps,
            [True] * 3,
        )
        return of_features.to(features.dtype), of_weight, of_bias, None, None, None, None
