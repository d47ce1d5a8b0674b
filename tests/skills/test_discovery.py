"""Discovery: what is found, that it is a fixed function of the prompt, and what is refused."""

import json
import os
import subprocess
import sys
import warnings

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from dataenv.errors import InvalidData, MissingDependency, UnknownId
from dataenv.protocols import Discovery
from dataenv.records import Problem, Prompt
from dataenv.registry import Entry
from dataenv.skills import discoveries
from dataenv.skills.clustering import cluster, partition, telling_names
from dataenv.skills.discovery import OTHER, Gold, freeze, thaw
from dataenv.tasks import tasks

TEMPLATES = ("add {} and {}", "spell the number {} backward, not {}", "is {} a prime? or {}?")


def problems(n=10, start=0):
    """`n` problems of each of three templates, by gold skill "0", "1", "2"."""
    return [
        Problem(prompt=template.format(start + i, i * i), answer=str(i), skill=str(gold))
        for gold, template in enumerate(TEMPLATES)
        for i in range(n)
    ]


def fitted(spec="cluster", rows=None, **options):
    discovery = discoveries.make(spec, **options)
    discovery.fit(problems() if rows is None else rows)
    return discovery


def groups(discovery, rows):
    """The partition of `rows` by skill, without names."""
    found = {}
    for row, skill in zip(rows, discovery.skills_of(rows), strict=True):
        found.setdefault(skill, set()).add(row.prompt.key)
    return {frozenset(group) for group in found.values()}


@pytest.mark.parametrize("spec", ["gold", "cluster", "cluster:5"])
def test_every_built_in_one_follows_the_protocol(spec):
    discovery = discoveries.make(spec)
    assert isinstance(discovery, Discovery) and discovery.name == spec and discovery.skills == ()
    discovery.fit(problems())
    assert discovery.skills and len(set(discovery.skills)) == len(discovery.skills)
    assert set(discovery.skills_of(problems())) <= set(discovery.skills)


def test_clusters_are_the_templates_on_fitted_and_fresh_problems():
    discovery = fitted()
    for rows in (problems(), problems(25, start=1000)):
        assert groups(discovery, rows) == groups(Gold(), rows)
    assert any("prime" in skill for skill in discovery.skills) and any("add" in skill for skill in discovery.skills)


@given(st.permutations(problems(6)), st.integers(0, 10))
@settings(max_examples=15, deadline=None)
def test_order_and_repetition_do_not_matter(rows, repeated):
    assert freeze(fitted(rows=[*rows, *rows[:repeated]])) == freeze(fitted(rows=problems(6)))


def test_prompts_that_differ_in_case_and_space_only_are_one():
    shouted = [p.model_copy(update={"prompt": Prompt(text=f"  {p.prompt.text.upper()} ")}) for p in problems()]
    once, twice = fitted(), fitted(rows=[*shouted, *problems()])
    assert groups(twice, problems()) == groups(once, problems())
    assert once.skills_of(shouted) == once.skills_of(problems())


def test_another_process_with_other_hashes_and_threads_finds_the_same():
    code = (
        "from dataenv.skills import discoveries\nfrom dataenv.skills.discovery import freeze\n"
        "from dataenv.tasks import tasks\n"
        "d = discoveries.make('cluster')\nd.fit(tasks.make('drills').problems('feedback', 8, 0))\n"
        "print(freeze(d)['hash'])"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "7", "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.strip() == freeze(fitted(rows=tasks.make("drills").problems("feedback", 8, 0)))["hash"]


def test_a_skill_does_not_depend_on_what_is_mapped_beside_it():
    discovery, rows = fitted(), problems(15, start=50)
    assert [discovery.skills_of([row])[0] for row in rows] == discovery.skills_of(rows)
    assert discovery.skills_of([]) == []
    before = freeze(discovery)
    assert discovery.skills_of(rows) == discovery.skills_of(rows) and freeze(discovery) == before


def test_k_means_own_rule_maps_new_problems():
    rows = tasks.make("drills").problems("feedback", 12, 0)
    discovery = fitted("cluster:20", rows)
    labelled = discovery.skills_of(rows)
    discovery._known = {}  # as if they were new
    assert discovery.skills_of(rows) == labelled and len(set(labelled)) == 20


@pytest.mark.parametrize("spec", ["gold", "cluster"])
def test_frozen_skills_thaw_to_the_same_map(spec):
    discovery = fitted(spec)
    frozen = json.loads(json.dumps(freeze(discovery)))
    again = thaw(frozen)
    fresh = problems(20, start=300)
    assert again.name == discovery.name and again.skills == discovery.skills and freeze(again) == frozen
    assert again.skills_of(fresh) == discovery.skills_of(fresh)


def test_frozen_skills_that_were_edited_are_refused():
    frozen = freeze(fitted())
    frozen["state"][0]["skill"] = "mine"
    with pytest.raises(InvalidData, match="changed; discover them anew"):
        thaw(frozen)


def test_the_number_of_clusters_can_be_given():
    for k in (1, 2, 3):
        assert len(fitted(f"cluster:{k}").skills) == k == len(fitted("cluster", k=k).skills)
    assert len(fitted("cluster:50").skills) == 3  # numbers aside, there are three different prompts


@pytest.mark.parametrize("spec", ["cluster:0", "cluster:-1", "cluster:two", "cluster:", "cluster:1.5"])
def test_impossible_numbers_of_clusters_are_refused(spec):
    with pytest.raises(InvalidData, match=r"whole number.*cluster:12"):
        discoveries.make(spec)


@pytest.mark.parametrize("rows", [problems(1)[:1], problems(9)[:9], problems(1)[:2]], ids=["one", "alike", "two"])
def test_too_few_different_problems_are_one_skill(rows):
    assert len(fitted(rows=rows).skills) == 1


def test_nothing_to_discover_from_is_refused():
    with pytest.raises(InvalidData, match="no feedback problems"):
        fitted(rows=[])
    with pytest.raises(InvalidData, match="no text"):
        fitted(rows=[Problem(prompt=" ", answer="1"), Problem(prompt="\n", answer="2")])


def test_what_resembles_nothing_is_other_with_one_warning():
    discovery = fitted()
    strange = [Problem(prompt="ЖЖЖ", answer="1"), Problem(prompt="", answer="2")]
    with pytest.warns(UserWarning, match="'other': nothing in 'ЖЖЖ'"):
        assert discovery.skills_of([*problems(), *strange])[-2:] == [OTHER, OTHER]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert discovery.skills_of(strange) == [OTHER, OTHER]


@given(st.lists(st.text(max_size=30), min_size=1, max_size=25))
@settings(max_examples=40, deadline=None)
@pytest.mark.filterwarnings("ignore:skill 'other'")
def test_any_texts_get_exactly_one_named_skill_each(texts):
    rows = [Problem(prompt=text, answer="1") for text in texts]
    try:
        discovery = fitted(rows=rows)
    except InvalidData:
        assume(False)
    found = discovery.skills_of(rows)
    assert set(found) == set(discovery.skills) and all(skill.strip() for skill in found)
    again = thaw(freeze(discovery))
    assert again.skills_of(rows) == found


@given(st.lists(st.sampled_from(["a b", "a c", "+ 1", "b a", "1 2", "#", "x-y"]), min_size=1, max_size=12), st.data())
@settings(max_examples=60, deadline=None)
def test_names_are_distinct(texts, data):
    drawn = [data.draw(st.integers(0, 3)) for _ in texts]
    parts = np.unique(drawn, return_inverse=True)[1]
    names = telling_names(texts, parts)
    assert len(names) == len(set(names)) == parts.max() + 1 and all(names)


def test_the_partition_with_the_best_silhouette_is_taken():
    rng = np.random.default_rng(0)
    centres = np.eye(6)
    points = np.concatenate([centre + 0.05 * rng.random((8, 6)) for centre in centres])
    found = partition(points, None, seed=0)
    assert len(set(found.tolist())) == 6
    assert all(len(set(found[i : i + 8].tolist())) == 1 for i in range(0, 48, 8))
    assert (partition(points, None, seed=0) == found).all()


def test_an_embedding_of_ones_own_is_used_for_both():
    asked = []

    def by_length(texts):
        asked.append(len(texts))
        return np.array([[1.0, 0.0] if len(text) % 2 else [0.0, 1.0] for text in texts])

    discovery = cluster(embed=by_length)
    rows = [Problem(prompt=f"{'x' * n} {n}", answer="1") for n in range(1, 9)]
    discovery.fit(rows)
    new = [Problem(prompt="y" * n, answer="1") for n in range(20, 30)]
    found = discovery.skills_of(new)
    assert len(set(found[::2])) == len(set(found[1::2])) == 1 and found[0] != found[1] and asked[-1] == 10
    again = thaw(freeze(discovery), embed=by_length)
    assert again.skills_of(new) == found


def test_gold_is_the_tasks_own():
    gold = fitted("gold")
    assert gold.skills == ("0", "1", "2")
    assert gold.skills_of(problems(3, start=9)) == [p.skill for p in problems(3)]


def test_unknown_ones_name_the_nearest_and_the_list():
    with pytest.raises(UnknownId, match=r"'cluster'\? 'dataenv list discoveries'"):
        discoveries.make("clutser")


def test_another_one_is_a_registration(monkeypatch):
    class Mine(Gold):
        name = "mine"

    monkeypatch.setitem(discoveries._entries, "mine", Entry(Mine))
    again = thaw(freeze(fitted("mine")))
    assert isinstance(again, Mine) and again.skills == ("0", "1", "2")


def test_without_scikit_learn_the_command_that_installs_it_is_named(monkeypatch):
    monkeypatch.setattr("dataenv.skills.discovery.find_spec", lambda name: None)
    with pytest.raises(MissingDependency, match=r"pip install \"dataenv\[tasks\]\""):
        discoveries.make("cluster")
    assert fitted("gold").skills == ("0", "1", "2")


def test_importing_loads_no_scikit_learn():
    code = "import sys, dataenv, dataenv.skills.scoring, dataenv.skills.clustering, dataenv.skills.labels\n"
    code += "print(*{'sklearn', 'scipy'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/")
    assert done.stdout.strip() == ""
