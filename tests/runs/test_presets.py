import json
import sys

import pytest

from dataenv import cli
from dataenv.runs.config import RunConfig
from dataenv.runs.presets import PRESETS, merged, preset

SETTINGS = [(name, env) for name, of in PRESETS.items() for env in of]


@pytest.fixture
def call(monkeypatch, capsys, tmp_path):
    """The configuration that `dataenv run` with these arguments carries out, and the words on stderr."""

    def call(*arguments):
        carried_out = []
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "argv", ["dataenv", "run", *arguments])
        monkeypatch.setattr("dataenv.runs.episode.start", lambda config, *_: carried_out.append(config) or {})
        with pytest.raises(SystemExit):
            cli.main()
        return (carried_out or [None])[0], capsys.readouterr().err

    return call


@pytest.mark.parametrize(("name", "env"), SETTINGS)
def test_its_parts_are_there_and_take_its_options(name, env):
    pytest.importorskip("torch")
    pytest.importorskip("openai")
    task = "scenes" if name == "paper:vqa" else "drills"
    settings = merged(preset(name, env), {"env": env, "task": task, "exam": 2, "feedback": 2, "skills": "gold"})
    config = RunConfig(**settings)
    assert RunConfig.model_validate_json(config.model_dump_json()) == config
    teacher = config.build_teacher()
    with config.build_client() as client:
        made = config.build_env(client=client)
    engine = "text-to-image" if name == "paper:vqa" else "llm"
    assert (teacher.name, made.engine.name, made.regime, made.rows) == (f"{env}-llm", engine, "retrain", config.rows)
    recipe = made.student.recipe
    expected = (16, 2e-5, 10, 16) if name == "paper:vqa" else (8, 1e-4, 3, 16)
    assert (made.student.rank, recipe.learning_rate, recipe.epochs, recipe.batch) == expected
    assert (client.tries, client.model.name) == (3, "gpt-4o")


@pytest.mark.parametrize(
    ("env", "steps", "rows", "most"),
    [("open-ended", 10, 120, 0), ("skill-list", 3, 70, 0), ("skill-tree", 20, 420, 200)],
)
def test_budgets_of_the_papers_math_examples(env, steps, rows, most, call):
    config, _ = call("--preset", "paper:math", "--env", env)
    assert (config.env, config.steps, config.rows, config.regime) == (env, steps, rows, "retrain")
    assert config.options.get("env", {}).get("max_rows_per_skill", 0) == most
    assert (config.feedback, config.exam, config.select, config.model) == (250, None, "best", "openai:gpt-4o")


@pytest.mark.parametrize(
    ("name", "env", "task", "steps", "rows"),
    [
        ("paper:code", "open-ended", "livecodebench", 5, 555),
        ("paper:code", "skill-list", "livecodebench", 20, 120),
        ("paper:code", "skill-tree", "livecodebench", 10, 1440),
        ("paper:tools", "open-ended", "mnms", 10, 60),
        ("paper:tools", "skill-list", "mnms", 10, 60),
        ("paper:vqa", "open-ended", "gqa", 5, 1004),
    ],
)
def test_budgets_of_the_papers_other_examples(name, env, task, steps, rows, call):
    config, _ = call("--preset", name, "--env", env)
    assert (config.task, config.steps, config.rows, config.regime) == (task, steps, rows, "retrain")
    assert (config.feedback, config.exam, config.select) == (None, None, "best")


def test_what_is_given_overrides_it_also_where_it_is_the_usual_value(call):
    usual = RunConfig()
    config, _ = call(
        *("--preset", "paper:math", "--env", "open-ended", "--steps", str(usual.steps), "--regime", "continue"),
        *("--exam", "20", "--set", "student.epochs=1", "--set", "env.text_bytes=999", "--filter", "known"),
    )
    assert (config.steps, config.regime, config.exam, config.rows) == (usual.steps, "continue", 20, 120)
    assert config.options["student"]["epochs"] == 1 and config.options["student"]["rank"] == 8
    assert config.options["env"] == {"shown": 36, "text_bytes": 999} and config.filters == ("known",)


def test_another_teacher_or_engine_has_not_the_options_of_the_presets(call):
    config, _ = call(
        *("--preset", "paper:math", "--env", "open-ended", "--teacher", "rows-like-failures", "--engine", "pool"),
        *("--set", "engine.seed=3", "--student", "micro"),
    )
    assert "teacher" not in config.options and config.options["engine"] == {"seed": 3}
    assert config.options["student"]["rank"] == 8 and config.teacher == "rows-like-failures"


def test_without_a_preset_the_defaults_are_as_ever(call):
    config, _ = call()
    assert config == RunConfig()


def test_equal_words_give_equal_settings_and_the_data_stay_as_they_are(call):
    before = json.dumps(PRESETS, default=dict)
    first, _ = call("--preset", "paper:math", "--set", "student.epochs=1")
    again, _ = call("--preset", "paper:math", "--set", "student.epochs=1")
    assert first == again and json.dumps(PRESETS, default=dict) == before


def test_an_unknown_one_is_refused_in_a_sentence(call):
    config, err = call("--preset", "paper:maths")
    assert config is None and "No preset is called 'paper:maths'; did you mean 'paper:math'" in err
    assert f"? There are: {', '.join(PRESETS)}." in err
    config, err = call("--preset", "paper:math", "--env", "skill")
    assert config is None and "no settings for --env skill; it has open-ended, skill-list, skill-tree" in err
