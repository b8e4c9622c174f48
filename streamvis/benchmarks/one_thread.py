"""Linear algebra in one thread; imports nothing that would have started its threads already."""

import os
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def one_thread() -> Iterator[None]:
    """Limit linear algebra to one thread; in effect only before NumPy is imported."""
    from streamvis.runtime.processes import THREADS

    before = {name: os.environ.get(name) for name in THREADS}
    os.environ.update(dict.fromkeys(THREADS, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
