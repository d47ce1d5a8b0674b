"""Carrying out a suite: finished work stays, failures are said, more teachers and seeds may come."""

import os
import shutil
import signal
import time

import orjson
import pytest

from dataenv.benchmarks.bench import RUNS, bench, finished, stored
from dataenv.benchmarks.local import Local, Work, carry_out
from dataenv.benchmarks.suite import load
from dataenv.errors import RunError


def test_the_same_command_again_does_only_what_is_left(finished, suite_file, in_process):
    suite, executor = load(str(suite_file)), in_process()
    shutil.rmtree(finished / RUNS / "skill-list" / "uniform" / "1")
    over = bench(suite, finished, executor)
    assert [str(one.folder.relative_to(finished / RUNS)) for one in executor.given] == ["skill-list/uniform/1"]
    assert len(over) == 8 and set(over.values()) == {None}


def test_a_failed_run_is_written_down_and_tried_again(suite_file, tmp_path, in_process):
    suite = load(str(suite_file))
    over = bench(suite, tmp_path / "b", in_process(broken=range(8)))
    assert set(over.values()) == {"it broke"}
    _, failed = stored(tmp_path / "b")
    assert failed["skill-list/random/0"] == "it broke" and len(failed) == 8
    again = in_process(broken=range(1, 8))
    bench(suite, tmp_path / "b", again)
    assert len(again.given) == 8
    assert len(stored(tmp_path / "b")[1]) == 7


def test_what_a_kill_leaves_before_the_first_run_is_over_is_no_obstacle(suite_file, tmp_path, in_process):
    suite = load(str(suite_file))
    bench(suite, tmp_path / "b", in_process(broken=range(8)))
    (tmp_path / "b" / "failed.json").unlink()
    again = in_process(broken=range(8))
    bench(suite, tmp_path / "b", again)
    assert len(again.given) == 8


def test_failures_of_teachers_that_are_left_out_this_time_are_not_forgotten(suite_file, tmp_path, in_process):
    suite = load(str(suite_file), ["oracle-greedy"])
    bench(suite, tmp_path / "b", in_process(broken=range(99)))
    bench(load(str(suite_file)), tmp_path / "b", in_process())
    assert set(stored(tmp_path / "b")[1]) == {"skill-list/oracle-greedy/0", "skill-list/oracle-greedy/1"}


def test_more_teachers_and_seeds_come_to_what_is_there(finished, suite_file, in_process):
    executor = in_process(broken=range(99))
    bench(load(str(suite_file), ["oracle-greedy"], [1, 5]), finished, executor)
    assert {(one.config.teacher, one.config.seed) for one in executor.given} == {
        ("oracle-greedy", 1), ("oracle-greedy", 5), ("random", 5), ("uniform", 5), ("error-proportional", 5),
    }  # fmt: skip
    suite, _ = stored(finished)
    assert suite.seeds == (0, 1, 5) and "oracle-greedy" in suite.labels


def test_other_settings_in_the_same_folder_are_refused(finished, suite_file, tmp_path, in_process):
    changed = tmp_path / "small.toml"
    changed.write_text(suite_file.read_text().replace("rows = 6", "rows = 7"))
    with pytest.raises(RunError, match=r"skill-list.*other settings"):
        bench(load(str(changed)), finished, in_process())
    changed.rename(tmp_path / "another.toml")
    with pytest.raises(RunError, match="holds runs of the suite 'small'"):
        bench(load(str(tmp_path / "another.toml")), finished, in_process())
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "letter").write_text("dear")
    with pytest.raises(RunError, match="something else"):
        bench(load(str(suite_file)), tmp_path / "full", in_process())


def test_of_a_finished_runs_students_only_the_one_of_the_exam_stays(finished):
    folder = finished / RUNS / "skill-list" / "uniform" / "0"
    assert [path.parent.name for path in folder.glob("steps/*/student")] == ["002"]
    assert (folder / "report.html").is_file()
    assert carry_out(load_config(folder), folder) is None, "a tidied run is still a finished run"


def load_config(folder):
    from dataenv.runs.config import RunConfig

    return RunConfig.model_validate_json((folder / "config.json").read_bytes())


def test_a_folder_without_a_comparison_is_refused(tmp_path):
    with pytest.raises(RunError, match="no comparison"):
        stored(tmp_path)
    (tmp_path / "suite.json").write_text("{")
    (tmp_path / "failed.json").write_text("{}")
    with pytest.raises(RunError, match="cannot be read"):
        stored(tmp_path)


@pytest.mark.parametrize(
    ("bug", "said"),
    [("ZeroDivisionError('by nothing')", "ZeroDivisionError: by nothing"), ("SystemExit(3)", "SystemExit: 3")],
)
def test_an_exception_in_a_run_is_its_failure(finished, tmp_path, bug, said):
    config = load_config(finished / RUNS / "skill-list" / "uniform" / "0")
    (tmp_path / "bad.py").write_text(
        "from dataenv.agents.controls import Uniform\n\n\nclass Bad(Uniform):\n"
        f"    def act(self, observation, info):\n        raise {bug}\n"
    )
    broken = config.model_copy(update={"teacher": f"{tmp_path}/bad.py:Bad"})
    fault = carry_out(broken, tmp_path / "run")
    assert fault == f"{said} (bad.py, line 6)"


KILLER = """
import os, pathlib, signal
from dataenv.agents.controls import Uniform

class Once(Uniform):
    def act(self, observation, info):
        mark = pathlib.Path({mark!r})
        if not mark.exists():
            mark.write_text(str(os.getpid()))
            os.kill(os.getpid(), signal.SIGKILL)
        return super().act(observation, info)

class Always(Uniform):
    def act(self, observation, info):
        os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_killed_process_loses_nothing_and_a_killing_run_is_given_up(finished, tmp_path):
    config = load_config(finished / RUNS / "skill-list" / "uniform" / "0")
    (tmp_path / "kill.py").write_text(KILLER.format(mark=str(tmp_path / "mark")))
    work = [
        Work(i, config.model_copy(update={"teacher": teacher}), tmp_path / str(i))
        for i, teacher in enumerate([f"{tmp_path}/kill.py:Once", f"{tmp_path}/kill.py:Always", "uniform"])
    ]
    done = {one.number: one.fault for one in Local(2).run(work)}
    assert done[0] is None and done[2] is None and finished_(tmp_path, 0, 2)
    assert "was killed by signal 9" in done[1] and done[1].endswith("2 times")


def finished_(place, *numbers):
    return all(finished(place / str(number)) for number in numbers)


def test_workers_end_with_whoever_stops_listening(finished, tmp_path):
    config = load_config(finished / RUNS / "skill-list" / "uniform" / "0")
    (tmp_path / "slow.py").write_text(
        "import os, pathlib, time\nfrom dataenv.agents.controls import Uniform\n\n\nclass Slow(Uniform):\n"
        "    def act(self, observation, info):\n"
        f"        pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n        time.sleep(60)\n"
    )
    slow = config.model_copy(update={"teacher": f"{tmp_path}/slow.py:Slow"})
    listening = Local(2).run([Work(0, config, tmp_path / "0"), Work(1, slow, tmp_path / "1")])
    assert next(listening).number == 0
    for _ in range(600):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            break
        time.sleep(0.1)
    pid = int((tmp_path / "pid").read_text())
    listening.close()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, signal.SIG_DFL)


def test_suite_json_says_what_was_compared(finished):
    held = orjson.loads((finished / "suite.json").read_bytes())
    assert held["cells"][0]["run"]["rows"] == 6 and held["seeds"] == [0, 1]
