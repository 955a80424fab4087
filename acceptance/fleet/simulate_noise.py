"""How far equal, healthy devices lie apart: the noise model of the simulated fleet.

The logarithm of a figure is that of its nominal value plus four parts:

- what a board is (silicon that clocks a little higher, memory that refreshes a little less): one
  number per board for all that runs at the core's clock, one for its memory, the same in each run.
  Eight H100 of one host lay within 657 to 671 TFLOPS in FP16, 2.1 % (the sample output of
  oracle-quickstart/oci-gpu-scanner); eight normal values span 2.85 standard deviations on average,
  so that the whole spread is about 0.74 %. ``core`` and ``memory`` with the parts below come to
  0.7 %;
- what a board is in one metric (``metric``), the same in each run;
- what differs from run to run (``run``): the same machine repeats within 0.3 % (standard
  deviation; pytorch/pytorch#5799);
- what a host is: its processor's speed in launches (``launch``), its air (``heat``).

No publication tells the tails. Those of the parts per metric are Student's t with ``dof`` degrees
of freedom; those of the boards are a normal with ``tail_share`` of boards ``tail_factor`` times as
far off: boards are binned before they are sold, so that what is far off is rare.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from roofprobe.acceptance.fleet.simulate_nominal import Nominal, Spread

Array = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True, slots=True)
class Noise:
    """Standard deviations of logarithms, and the tails; see the module docstring."""

    core: float = 0.006
    memory: float = 0.005
    metric: float = 0.002
    run: float = 0.003
    launch: float = 0.02
    heat: float = 0.04
    dof: float = 5.0
    tail_share: float = 0.02
    tail_factor: float = 2.0

    def times(self, factor: float, *, dof: float | None = None) -> Noise:
        """Return the model with every spread ``factor`` times as wide."""
        return Noise(
            core=self.core * factor,
            memory=self.memory * factor,
            metric=self.metric * factor,
            run=self.run * factor,
            launch=self.launch * factor,
            heat=self.heat * factor,
            dof=dof or self.dof,
            tail_share=self.tail_share,
            tail_factor=self.tail_factor,
        )


# Per kind of spread: how much of the board's core, memory and host parts is in it, and how much
# noisier than a rate its own parts are.
_LOADING: Final[dict[Spread, tuple[float, float, float, float, float]]] = {
    #            core memory launch heat own
    "core":    (1.0, 0.0, 0.0, 0.0, 1.0),
    "clock":   (1.0, 0.0, 0.0, 0.0, 0.5),
    "energy":  (1.0, 0.0, 0.0, 0.0, 2.0),
    "memory":  (0.0, 1.0, 0.0, 0.0, 1.0),
    "latency": (0.3, 0.3, 0.0, 0.0, 1.5),
    "link":    (0.0, 0.0, 0.0, 0.0, 1.5),
    "launch":  (0.0, 0.0, 1.0, 0.0, 4.0),
    "heat":    (0.0, 0.0, 0.0, 1.0, 4.0),
}  # fmt: skip


class Boards:
    """The lasting part of every board's figures, as logarithms: better is positive."""

    def __init__(
        self, hosts: int, gpus: int, numbers: tuple[Nominal, ...], noise: Noise, seed: int
    ) -> None:
        """Draw ``hosts`` × ``gpus`` boards."""
        self._noise = noise
        self._loading = np.array([_LOADING[number.spread] for number in numbers])
        generator = np.random.default_rng([seed, 1])
        boards = hosts * gpus
        shared = np.column_stack(
            [
                _tailed(generator, boards, noise, noise.core),
                _tailed(generator, boards, noise, noise.memory),
                np.repeat(generator.normal(0, noise.launch, hosts), gpus),
                np.repeat(generator.normal(0, noise.heat, hosts), gpus),
            ]
        )
        own = _student(generator, (boards, len(numbers)), noise.dof) * noise.metric
        self.lasting: Array = shared @ self._loading[:, :4].T + own * self._loading[:, 4]

    def run(self, number: int, seed: int) -> Array:
        """Return the boards' figures in one run, (boards, metrics), as logarithms."""
        generator = np.random.default_rng([seed, 2, number])
        noise = _student(generator, self.lasting.shape, self._noise.dof) * self._noise.run
        return np.asarray(self.lasting + noise * self._loading[:, 4])


def _tailed(generator: np.random.Generator, n: int, noise: Noise, scale: float) -> Array:
    wide = np.where(generator.random(n) < noise.tail_share, noise.tail_factor, 1.0)
    return np.asarray(generator.normal(0, scale, n) * wide)


def _student(generator: np.random.Generator, shape: tuple[int, ...], dof: float) -> Array:
    """Return Student's t, scaled to a standard deviation of 1."""
    return np.asarray(generator.standard_t(dof, shape) * np.sqrt((dof - 2) / dof))
