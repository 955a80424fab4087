"""What goes past between two executions of an operation in a model, on a processor: its weights.

An operation that is repeated in a loop finds its code, its Python objects and its operands in the
caches nearest to the core. In a model all other weights of the layer are read before the same code
runs again, and those of the whole model before what runs once per step. A sweep reads that many
bytes out of memory; whoever times an operation sweeps before each launch and leaves the sweep out
of the time. On a GPU the host's caches see no weights, and nothing is swept.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_UNKNOWN_CACHE_BYTES = 32 << 20
_ITEM = 4


class Sweep:
    """Reads memory round and round; ``spent_s`` adds up how long that took."""

    def __init__(self, cache_bytes: int | None) -> None:
        """Allocate twice the last-level cache, so that what comes round is not in it."""
        import torch

        self._held = cache_bytes or _UNKNOWN_CACHE_BYTES
        self._memory: torch.Tensor = torch.ones(2 * self._held // _ITEM)
        self._next = 0
        self.spent_s = 0.0

    def __call__(self, wanted_bytes: int) -> None:
        """Read ``wanted_bytes``, at most twice the last-level cache: more changes nothing."""
        begun = time.perf_counter_ns()
        count = min(wanted_bytes // _ITEM, self._memory.numel())
        if self._next + count > self._memory.numel():
            self._next = 0
        self._memory[self._next : self._next + count].sum()
        self._next += count
        self.spent_s += (time.perf_counter_ns() - begun) * 1e-9


def after_products(model: Any, sweep: Sweep, layer_bytes: int) -> None:
    """Let each product of a model's layers sweep its share of ``layer_bytes`` when it is done.

    A subclass does it, not a hook: modules with hooks are called by a slower path.
    """
    import torch

    class Sweeping(torch.nn.Linear):
        """A product after which weights go past."""

        share = 0

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            found = torch.nn.functional.linear(x, self.weight, self.bias)
            sweep(self.share)
            return found

    for layer in model.model.layers:
        products = [each for each in layer.modules() if isinstance(each, torch.nn.Linear)]
        Sweeping.share = layer_bytes // len(products)
        for each in products:
            each.__class__ = Sweeping
