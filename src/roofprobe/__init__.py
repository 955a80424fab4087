"""roofprobe: what a GPU really reaches, beside its datasheet, and what that means.

The rooms are sub-packages: ``kernels`` (work a device does), ``peaks`` (what it should do),
``records`` (what was measured), ``probes`` (measuring), ``costmodel`` (what follows for a language
model), ``acceptance`` (is it what it claims to be), ``reporting`` (what people look at).
Importing this package loads neither torch, Triton, pandas nor NVML and touches no device.
"""

__version__ = "0.1.0"

__all__ = ["__version__"]
