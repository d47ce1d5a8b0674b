"""Direct Preference Optimization (Rafailov et al. 2023, arXiv 2305.18290): learn y+ rather than y- for a prompt x.

    loss = -ln sigmoid(beta * [(ln p(y+|x) - ln r(y+|x)) - (ln p(y-|x) - ln r(y-|x))])

p is the model, r the same model as it was when the training began. Log-probabilities are sums over the tokens of the
answer, its end token included.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from dataenv.students.packing import Inputs, Row, lay_out, length, split

TokenLosses = Callable[[Inputs], Tensor]
"""-ln p of each of the m completion tokens of a forward pass, (m,) in float32."""


def log_probabilities(token_losses: Tensor, inputs: Inputs) -> Tensor:
    """(pairs, 2): ln p of the preferred and of the rejected answer of each pair that `inputs` holds."""
    pairs = int(inputs.owner[-1]) // 2 + 1
    return torch.zeros(2 * pairs, device=token_losses.device).index_add(0, inputs.owner, -token_losses).view(pairs, 2)


def dpo_loss(policy: Tensor, reference: Tensor, beta: float) -> Tensor:
    """The loss above for each pair; both arguments as `log_probabilities` gives them. ln 2 where they are equal."""
    gained = policy - reference
    return -logsigmoid(beta * (gained[:, 0] - gained[:, 1]))


@torch.no_grad()
def references(
    rows: Sequence[Row], token_losses: TokenLosses, device: torch.device, *, most: int, packed: bool
) -> dict[int, Tensor]:
    """Index of each pair among `rows` -> (2,), its log-probabilities under the model as it is now."""
    order = sorted((i for i, row in enumerate(rows) if len(row) == 3), key=lambda i: length(rows[i]))
    found: dict[int, Tensor] = {}
    for part in split(order, rows, most, packed=packed):
        inputs = lay_out([rows[i] for i in part], device, packed=packed)
        found.update(zip(part, log_probabilities(token_losses(inputs), inputs), strict=True))
    return found
