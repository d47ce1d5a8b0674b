"""Engines turn requests into rows.

Adding one is a file and a line here (or the entry-point group `dataenv.engines`).
"""

from __future__ import annotations

from dataenv.registry import Registry

engines = Registry(
    "engine",
    {
        "procedural": ("dataenv.engines.procedural:Procedural", "the task itself writes new solved problems"),
        "pool": ("dataenv.engines.pool:Pool", "draws rows from the task's pool split, without repeating any"),
    },
)
