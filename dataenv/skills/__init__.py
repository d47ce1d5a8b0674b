"""Skills: which there are (discovery), and how they are organised.

Adding a way to discover them is a file and a line here (or the entry-point group `dataenv.discoveries`).
"""

from __future__ import annotations

from dataenv.registry import Registry

discoveries = Registry(
    "discovery",
    {
        "gold": ("dataenv.skills.discovery:Gold", "the task's own labels"),
        "cluster": ("dataenv.skills.clustering:cluster", "groups of similar prompts; cluster:K for a fixed number"),
        "llm": ("dataenv.skills.llm:ByModel", "named and grouped by a language model; llm:K for a fixed number"),
        "file": ("dataenv.skills.labels:from_file", "your labels: file:PATH, JSON or JSON lines"),
    },
)

organisers = Registry(
    "organiser",
    {
        "procedural": ("dataenv.skills.organisers:Procedural", "the task's own subskills, or levels of difficulty"),
        "llm": ("dataenv.skills.proposals:Proposer", "a language model proposes them"),
        "file": ("dataenv.skills.organisers:FromFile", "your subskills: file:PATH, JSON"),
    },
)
