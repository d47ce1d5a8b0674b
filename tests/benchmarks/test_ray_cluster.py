"""Runs on a Ray cluster: whole folders come back, and the loss of a node costs nothing."""

import os
import threading
import time
from pathlib import Path

import pytest

from dataenv.benchmarks.bench import bench, finished
from dataenv.benchmarks.local import carry_out
from dataenv.benchmarks.ray_cluster import RayCluster, archived, unpack
from dataenv.benchmarks.scores import read
from dataenv.benchmarks.suite import load
from dataenv.errors import RunError
from dataenv.runs.config import RunConfig

SMALL = {"task": "drills:addition,copying", "steps": 1, "rows": 4, "feedback": 1, "exam": 2}
CONFIG = RunConfig(env="skill-list", student="micro", teacher="uniform", **SMALL)


def test_an_archived_run_is_the_run(tmp_path):
    fault, archive = archived(CONFIG.model_dump_json())
    assert fault is None
    unpack(archive, tmp_path / "cell" / "run")
    assert finished(tmp_path / "cell" / "run")
    assert carry_out(CONFIG, tmp_path / "cell" / "run") is None
    assert [path.name for path in (tmp_path / "cell").iterdir()] == ["run"]


def test_a_failed_run_brings_its_reason_and_no_archive():
    fault, archive = archived(CONFIG.model_copy(update={"task": "drills:addition,copyin"}).model_dump_json())
    assert "copyin" in fault and archive == b""


def test_a_run_takes_the_place_of_what_was_left_of_it(tmp_path):
    _, archive = archived(CONFIG.model_dump_json())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "half").write_text("written")
    unpack(archive, tmp_path / "run")
    assert finished(tmp_path / "run") and not (tmp_path / "run" / "half").exists()
    with pytest.raises(RunError, match="cannot be written"):
        unpack(archive, Path("/proc/nowhere/run"))


def test_a_cluster_that_is_not_there_is_one_sentence():
    pytest.importorskip("ray")
    with pytest.raises(RunError, match=r"No Ray cluster answers at '127.0.0.1:1'"):
        list(RayCluster("127.0.0.1:1").run([None]))


@pytest.mark.slow
def test_fifty_runs_survive_the_killing_of_one_of_two_nodes(suite_file, tmp_path, monkeypatch):
    ray = pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_DISABLE_IMPORT_WARNING", "1")
    path = tmp_path / "fifty.toml"
    path.write_text(suite_file.read_text().replace("seeds = 2", "seeds = 13"))
    suite = load(str(path))
    assert len(suite.jobs()) == 52
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    try:
        second = cluster.add_node(num_cpus=1)
        ray.init(address=cluster.address, log_to_driver=False, logging_level="error")

        def kill():
            while sum(1 for _ in tmp_path.glob("b/runs/*/*/*/report.html")) < 10:
                time.sleep(0.1)
            cluster.remove_node(second, allow_graceful=False)

        killer = threading.Thread(target=kill)
        killer.start()
        over = bench(suite, tmp_path / "b", RayCluster(cluster.address))
        killer.join()
        assert len([node for node in ray.nodes() if node["Alive"]]) == 1
    finally:
        ray.shutdown()
        cluster.shutdown()
    assert len(over) == 52 and set(over.values()) == {None}
    found = read(tmp_path / "b")
    assert len(found.scores) == 52 and all(score.n for score in found.scores.values())
    places = [os.fspath(path.parent) for path in tmp_path.glob("b/runs/*/*/*/config.json")]
    assert len(places) == len(set(places)) == 52
