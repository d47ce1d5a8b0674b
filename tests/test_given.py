import copy

import pytest

from dataenv.errors import InvalidData
from dataenv.given import Given


class Part:
    name = "part"
    tool: Given[list] = Given("needs a tool: call take(tool) first.")


def test_it_says_what_to_do_until_it_is_given():
    part = Part()
    with pytest.raises(InvalidData, match=r"^'part' needs a tool: call take\(tool\) first\.$"):
        _ = part.tool
    part.tool = []
    assert part.tool == []


def test_each_part_has_its_own_and_a_copy_keeps_it():
    one, other = Part(), Part()
    one.tool, other.tool = [1], [2]
    assert (one.tool, other.tool, copy.copy(one).tool) == ([1], [2], [1])


def test_it_is_none_of_the_public_attributes_that_a_teacher_keeps_in_its_state():
    part = Part()
    part.tool = [1]
    assert [name for name in vars(part) if not name.startswith("_")] == []
