import pytest
from pydantic import ValidationError

from dataenv.records import Problem
from dataenv.skills.tree import Forest, Subskill, Tree

PROBLEM = Problem(prompt="1+1=", answer="2", skill="a", subskill="x")
FOREST = Forest(
    trees=(
        Tree(skill="a", subskills=(Subskill(name="x", quota=3, taught=2, probes=(PROBLEM,), n=1, correct=1),)),
        Tree(skill="b", complete=True),
    )
)


def test_a_forest_survives_json_and_is_frozen():
    again = Forest.model_validate_json(FOREST.model_dump_json())
    assert again == FOREST
    assert hash(again) == hash(FOREST)
    assert again.held_out == FOREST.held_out == {PROBLEM.prompt.key}
    with pytest.raises(ValidationError):
        FOREST.trees[0].complete = True


@pytest.mark.parametrize("wrong", [{"quota": -1}, {"quota": 1, "taught": -1}, {"quota": 1, "n": -1}, {"qouta": 1}])
def test_a_subskill_has_no_negative_numbers_and_no_unknown_fields(wrong):
    with pytest.raises(ValidationError):
        Subskill(name="x", **wrong)


def test_accuracy_is_none_where_nothing_was_asked():
    assert Subskill(name="x", quota=0).accuracy is None
    assert Subskill(name="x", quota=0).error == 0.5
    asked = Subskill(name="x", quota=0, n=4, correct=1)
    assert asked.accuracy == 0.25
    assert 0 < asked.error < 0.5


def test_growing_adds_new_names_and_leaves_the_others_alone():
    tree = FOREST.trees[0]
    grown = tree.grown(["y", "z", "w"], 2, 7)
    assert grown.names == ("x", "y", "z")
    assert grown.subskills[0] == tree.subskills[0]
    assert [s.quota for s in grown.subskills] == [3, 7, 7]
    assert not grown.complete  # "w" is still to come


@pytest.mark.parametrize(
    ("proposed", "names", "complete"),
    [
        ([], ("x",), True),
        (["y"], ("x", "y"), True),
        (["y", "z"], ("x", "y", "z"), True),
        (["x", " X ", "", "  "], ("x",), True),
        (["New  One", "new one", "y"], ("x", "New  One", "y"), True),
        (["X", "a", "b", "c"], ("x", "a", "b"), False),
    ],
)
def test_names_that_are_known_empty_or_repeated_are_not_new(proposed, names, complete):
    grown = FOREST.trees[0].grown(proposed, 2, 1)
    assert grown.names == names
    assert grown.complete is complete


def test_quotas_change_and_nothing_else_does():
    tree = FOREST.trees[0]
    assert tree.with_quotas([3]) == tree
    pruned = tree.with_quotas([0])
    assert pruned.names == tree.names
    assert pruned.subskills[0] == tree.subskills[0].model_copy(update={"quota": 0})
    with pytest.raises(ValueError, match="argument"):
        tree.with_quotas([1, 2])


def test_each_subskill_can_be_changed_and_held_out_follows():
    bare = FOREST.each(lambda skill, s: s.model_copy(update={"probes": (), "name": f"{skill}{s.name}"}))
    assert bare.trees[0].names == ("ax",)
    assert bare.held_out == frozenset()
    assert FOREST.held_out
