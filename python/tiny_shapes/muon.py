"""Muon for every weight that is a matrix (convolutions flattened), AdamW for the rest."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def _orthogonalise(gradient: torch.Tensor, steps: int = 5) -> torch.Tensor:
    """Newton-Schulz iteration: the nearest (roughly) orthogonal matrices to [N, rows, columns].

    It runs in bfloat16, which is enough for a direction and halves its cost.
    """
    a, b, c = _COEFFICIENTS
    x = gradient.bfloat16()
    transposed = x.size(-2) > x.size(-1)
    if transposed:
        x = x.mT
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if transposed else x).float()


class Muon(torch.optim.Optimizer):
    """Momentum, orthogonalised. Weights of one size are stacked and treated together.

    torch's own `Muon` takes two-dimensional weights one at a time, which on a CPU costs more
    than the small steps of this model save.
    """

    def __init__(
        self, weights: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, decay: float = 0.0
    ) -> None:
        super().__init__(list(weights), {"lr": lr, "momentum": momentum, "decay": decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """One update; the learning rate is per unit of root-mean-square change, as in AdamW."""
        for group in self.param_groups:
            by_size: dict[tuple[int, int], list[nn.Parameter]] = {}
            for weight in group["params"]:
                if weight.grad is not None:
                    size = (weight.shape[0], weight[0].numel())
                    by_size.setdefault(size, []).append(weight)
            for size, weights in by_size.items():
                self._update(weights, size, group)

    def _update(self, weights: list[nn.Parameter], size: tuple[int, int], group: dict) -> None:
        directions = []
        for weight in weights:
            state = self.state[weight]
            if "momentum" not in state:
                state["momentum"] = torch.zeros(size)
            gradient = weight.grad.reshape(size)
            buffer = state["momentum"].lerp_(gradient, 1 - group["momentum"])
            directions.append(gradient.lerp(buffer, group["momentum"]))
        # An orthogonal matrix has entries of about 1/sqrt(longer side): scale to 0.2 as AdamW has.
        scale = 0.2 * max(size) ** 0.5
        for weight, direction in zip(weights, _orthogonalise(torch.stack(directions)), strict=True):
            weight.mul_(1 - group["lr"] * group["decay"])
            weight.add_(direction.reshape(weight.shape), alpha=-group["lr"] * scale)


def split_weights(
    model: nn.Module, excluded: tuple[str, ...] = ()
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """Weights for Muon (matrices inside the network) and for AdamW (the rest).

    Embeddings, first and last layers are better served by AdamW: name them in `excluded`.
    """
    inner, rest = [], []
    for name, weight in model.named_parameters():
        plain = weight.ndim < 2 or "table" in name or any(word in name for word in excluded)
        (rest if plain else inner).append(weight)
    return inner, rest
