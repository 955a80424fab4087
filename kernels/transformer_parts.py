"""What the operations of a real model's step take, each by itself, under the inventory's names.

While a step runs, every call of torch passes through a mode that knows, from the module in which it
was made, which operation it belongs to; calls in between (views, masks, positions) belong to none
and are the host's. On a processor the mode times each call; on a GPU it marks each call for the
profiler, which adds up the kernels that were started under the mark. The step takes longer for
being watched, so its whole time is measured without.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable
from typing import Any

from torch.overrides import TorchFunctionMode

from roofprobe.kernels.work import Target

Seconds = dict[str, tuple[int, float]]  # operation → calls, seconds of all of them

# The last word of a module's name → the operation that its calls are.
_MODULES = {
    "q_proj": "q", "k_proj": "k", "v_proj": "v", "o_proj": "o", "gate_proj": "gate",
    "up_proj": "up", "down_proj": "down", "act_fn": "act", "lm_head": "lm_head",
    "input_layernorm": "norm", "post_attention_layernorm": "norm", "norm": "final_norm",
    "rotary_emb": "angles", "embed_tokens": "embed",
}  # fmt: skip
# Of modules that make several: the call's own name → the operation.
_CALLS = {
    "mlp": {"mul": "act"},
    "layer": {"add": "add"},
    "model": {"argmax": "sample"},
}
_ROTATING = frozenset({"mul", "add", "neg", "cat", "__getitem__", "unsqueeze"})
_OPERATORS = {"__add__": "add", "__mul__": "mul", "__neg__": "neg"}


class _Places:
    """Knows which module is running, from hooks on all of them."""

    def __init__(self, model: Any) -> None:
        self._running = ["model"]
        self._model = model
        self._hooks: list[Any] = []

    def __enter__(self) -> _Places:
        for name, module in self._model.named_modules():
            word = name.rpartition(".")[2]
            word = "layer" if word.isdigit() else word
            self._hooks += [
                module.register_forward_pre_hook(lambda *_, word=word: self._running.append(word)),
                module.register_forward_hook(lambda *_: self._left()),
            ]
        return self

    def _left(self) -> None:
        self._running.pop()

    def __exit__(self, *error: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def operation(self, function: Any, options: dict[str, Any]) -> str | None:
        """Return the operation that a call belongs to, None for the host's."""
        place = self._running[-1]
        if place in _MODULES:
            return _MODULES[place]
        name = getattr(function, "__name__", "")
        name = _OPERATORS.get(name, name)
        if place == "self_attn":
            if name == "scaled_dot_product_attention":
                return "attention"
            if name == "cat" and options.get("dim") == -2:
                return "kv_write"
            return "rope" if name in _ROTATING else None
        return _CALLS.get(place, {}).get(name)


class _Timing(TorchFunctionMode):
    """Adds up the host's clock around each call: on a processor a call is its work."""

    def __init__(self, places: _Places) -> None:
        super().__init__()
        self._places = places
        self.calls: dict[str, int] = defaultdict(int)
        self.seconds: dict[str, float] = defaultdict(float)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        options = kwargs or {}
        operation = self._places.operation(func, options)
        if operation is None:
            return func(*args, **options)
        begun = time.perf_counter_ns()
        found = func(*args, **options)
        self.seconds[operation] += (time.perf_counter_ns() - begun) * 1e-9
        self.calls[operation] += 1
        return found


class _Marking(TorchFunctionMode):
    """Marks each call for the profiler by its operation."""

    def __init__(self, places: _Places) -> None:
        super().__init__()
        self._places = places

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        from torch.profiler import record_function

        options = kwargs or {}
        operation = self._places.operation(func, options)
        if operation is None:
            return func(*args, **options)
        with record_function(_MARK + operation):
            return func(*args, **options)


_MARK = "roofprobe:"


def parts_of(
    model: Any, launch: Callable[[], object], target: Target, *, steps: int
) -> list[Seconds]:
    """Return for each of ``steps`` steps the calls and seconds of every operation."""
    with _Places(model) as places:
        if target.is_gpu:
            return [_profiled(places, launch) for _ in range(steps)]
        found = []
        for _ in range(steps):
            timing = _Timing(places)
            with timing:
                launch()
            found.append(
                {name: (timing.calls[name], timing.seconds[name]) for name in timing.calls}
            )
        return found


def _profiled(places: _Places, launch: Callable[[], object]) -> Seconds:
    import torch
    from torch.profiler import ProfilerActivity, profile

    torch.cuda.synchronize()
    activities = [ProfilerActivity.CPU, ProfilerActivity.CUDA]
    with profile(activities=activities) as seen, _Marking(places):
        launch()
        torch.cuda.synchronize()
    return {
        row.key.removeprefix(_MARK): (row.count, row.device_time_total * 1e-6)
        for row in seen.key_averages()
        if row.key.startswith(_MARK) and row.device_time_total
    }
