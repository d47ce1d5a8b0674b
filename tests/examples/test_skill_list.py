import runpy
from pathlib import Path


def test_it_prints_a_table_and_what_each_step_gained(capsys):
    main = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "skill_list.py"))["main"]
    main(steps=2, rows=28)
    printed = capsys.readouterr().out
    assert printed.count("gain ") == 2
    assert printed.count("addition ") == 2
    assert "left: 56 rows, 2 steps" in printed
    assert "accuracy at the end: " in printed
