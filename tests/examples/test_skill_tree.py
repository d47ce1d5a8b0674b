import runpy
from pathlib import Path


def test_it_grows_a_tree_for_each_skill_and_moves_rows(capsys):
    main = runpy.run_path(str(Path(__file__).parents[2] / "examples" / "skill_tree.py"))["main"]
    main(steps=2, rows=24)
    printed = capsys.readouterr().out
    assert printed.count("gain ") == 2
    assert [line for line in printed.splitlines() if line in ("addition", "sorting", "comparison")] == [
        "addition",
        "sorting",
        "comparison",
    ]
    assert printed.count(" rows taught, ") == 12
