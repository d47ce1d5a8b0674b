import gzip
import json
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import SimpleNamespace

import pytest

from dataenv.errors import InvalidData, MissingDependency
from dataenv.tasks import sources
from dataenv.tasks.sources import Folder, Hub, json_lines, json_object, parquet_rows, reachable

ROWS = [{"a": i, "b": "ä" * i} for i in range(5)]


def lines(rows):
    return "\n".join(map(json.dumps, rows)).encode()


def parquet(path, rows):
    pytest.importorskip("pyarrow")
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), path, row_group_size=2)
    return path


def test_a_folder_is_read_in_each_form(tmp_path):
    for name, content in {"a.jsonl": lines(ROWS), "b.jsonl.gz": gzip.compress(lines(ROWS))}.items():
        (tmp_path / name).write_bytes(content)
    parquet(tmp_path / "c.parquet", ROWS)
    parquet(tmp_path / "d-00000-of-00002.parquet", ROWS[:3])
    parquet(tmp_path / "d-00001-of-00002.parquet", ROWS[3:])
    for part in "abcd":
        assert [row for _, row in Folder(tmp_path).rows(part)] == ROWS, part
    assert [where for where, _ in Folder(tmp_path).rows("a")][4].endswith("a.jsonl, line 5")
    assert [where for where, _ in Folder(tmp_path).rows("d")][4].endswith("d-00001-of-00002.parquet, row 2")


def test_a_part_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidData, match=r"neither test\.jsonl nor .* give the folder"):
        list(Folder(tmp_path).rows("test"))


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b'{"a": 1}\n{', "line 2: not JSON"),
        (b'{"a": 1}\n[1]', "line 2: not a JSON object"),
        (b'{"a": 1}\n\n{"a": 1}', "line 2: the line is empty"),
        (b'{"a": 1}\n"\xff"', "line 2: not UTF-8"),
        (b"[" * 100_000, "line 1: not JSON"),
        (gzip.compress(lines(ROWS), mtime=0)[:-9], "cannot be read"),
        (gzip.compress(b'{"a": 1}\n' * 9, mtime=0)[:10] + b"\xff" * 30, "cannot be read"),
    ],
)
def test_bad_lines_are_named(tmp_path, content, what):
    (tmp_path / "x").write_bytes(content)
    with pytest.raises(InvalidData, match=what):
        list(json_lines(tmp_path / "x"))


def test_what_was_read_before_a_bad_line_was_given(tmp_path):
    (tmp_path / "x").write_bytes(b'\xef\xbb\xbf{"a": 1}\n{"a": 2}\n{')
    rows = json_lines(tmp_path / "x")
    assert [next(rows), next(rows)] == [(1, {"a": 1}), (2, {"a": 2})]


@pytest.mark.parametrize(("content", "what"), [(None, "cannot be read"), (b"{", "not JSON"), (b"3", "not a JSON obj")])
def test_a_file_of_one_object(tmp_path, content, what):
    if content is not None:
        (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(InvalidData, match=what):
        json_object(tmp_path / "x.json")
    (tmp_path / "y.json").write_text('{\n "a": 1\n}\n')
    assert json_object(tmp_path / "y.json") == {"a": 1}


def test_parquet_files_that_cannot_be_read_are_named(tmp_path):
    pytest.importorskip("pyarrow")
    with pytest.raises(InvalidData, match=r"absent\.parquet"):
        list(parquet_rows(tmp_path / "absent.parquet"))
    whole = parquet(tmp_path / "x.parquet", ROWS).read_bytes()
    (tmp_path / "x.parquet").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InvalidData, match=r"x\.parquet.*cannot be read"):
        list(parquet_rows(tmp_path / "x.parquet"))


class Loaded(list):
    features = {}  # noqa: RUF012


def test_the_hub_is_read_at_its_revision_and_its_absence_said(monkeypatch):
    def load_dataset(name, config, *, revision, split):
        if split == "test":
            raise ConnectionError("no route")
        return Loaded([{"asked": (name, config, revision, split)}])

    hub = Hub("org/set", "abc", "use set:FOLDER", config="main")
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert list(hub.rows("train")) == [("org/set train, row 1", {"asked": ("org/set", "main", "abc", "train")})]
    with pytest.raises(InvalidData, match=r"\(ConnectionError\): check the network, or use set:FOLDER\.$"):
        list(hub.rows("test"))
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(MissingDependency, match=r"pip install .*; or use set:FOLDER\.$"):
        list(hub.rows("train"))


def test_out_of_reach_the_cache_alone_is_asked(monkeypatch):
    config = SimpleNamespace(HF_HUB_OFFLINE=False)
    asked = []

    def load_dataset(*_, **__):
        asked.append(config.HF_HUB_OFFLINE)
        if len(asked) > 1:
            raise ConnectionError("not cached")
        return Loaded([{"a": 1}])

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset, config=config))
    monkeypatch.setattr(sources, "reachable", lambda: False)
    hub = Hub("org/set", "abc", "use set:FOLDER")
    assert [row for _, row in hub.rows("train")] == [{"a": 1}]
    with pytest.raises(InvalidData, match="check the network"):
        list(hub.rows("train"))
    assert asked == [True, True] and config.HF_HUB_OFFLINE is False


def test_whether_the_hub_answers(monkeypatch):
    constants = pytest.importorskip("huggingface_hub.constants")
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:  # 501 to everything
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(constants, "ENDPOINT", f"http://127.0.0.1:{server.server_port}")
        assert reachable()
        server.shutdown()
    assert not reachable()
