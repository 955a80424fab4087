"""Linear algebra of a few hundred rows, kept to one thread.

BLAS splits every product over all cores. At these sizes that costs more than it saves, and up to
thirty times as much where another process holds a core that a thread waits for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module


@contextmanager
def one_thread(*modules: str) -> Iterator[None]:
    """Keep BLAS to one thread inside; ``modules`` are loaded before, with the BLAS they bring."""
    from threadpoolctl import threadpool_limits

    for name in modules:
        import_module(name)
    with threadpool_limits(1, "blas"):
        yield
