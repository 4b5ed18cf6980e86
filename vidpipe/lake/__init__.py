"""Where everything is kept: objects (`store`), tables (`tables`), what readers see (`query`)."""

from __future__ import annotations

__all__ = ["open_table"]


def __getattr__(name: str):
    # pyiceberg takes a second to import; whoever only wants the object store is spared it.
    if name == "open_table":
        from vidpipe.lake.opening import open_table

        return open_table
    raise AttributeError(name)
