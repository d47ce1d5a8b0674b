import gc

import pytest

from dataenv.envs import lease


def test_the_last_to_take_it_holds_it(fakes):
    student, other = fakes.Scripted(), fakes.Scripted()
    first = lease.take(student)
    assert lease.holds(student, first)
    second = lease.take(student)
    assert lease.holds(student, second)
    assert not lease.holds(student, first)
    lease.take(other)
    assert lease.holds(student, second)


def test_students_are_told_apart_by_what_they_are_and_not_kept_alive(fakes):
    before = len(lease._LAST)
    students = [fakes.Scripted() for _ in range(5)]
    leases = [lease.take(student) for student in students]
    assert all(map(lease.holds, students, leases))
    assert len(lease._LAST) == before + 5
    del students
    gc.collect()
    assert len(lease._LAST) == before


@pytest.mark.parametrize("body", [{"__slots__": ()}, {"__eq__": lambda self, other: True, "__hash__": None}])
def test_what_cannot_be_referred_to_weakly_is_not_watched(body):
    student = type("Odd", (), body)()
    first = lease.take(student)
    lease.take(student)
    assert lease.holds(student, first)
