"""Budgets of tokens and dollars: stopped before they are passed, whatever is asked and however it comes back."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dataenv.chat.budget import ChatBudget, Prices
from dataenv.chat.client import Client
from dataenv.chat.question import Answer, Completion, Failure, Question, Trouble
from dataenv.errors import BudgetSpent, InvalidData


class Metered:
    """A model that counts what it would charge, whether or not the answer arrives."""

    id, where = "metered", "The metered model"

    def __init__(self, plan, excess=0):
        self.plan, self.excess = list(plan), excess
        self.charged = self.calls = 0

    async def complete(self, question):
        i, self.calls = self.calls, self.calls + 1
        share, delay, fate = self.plan[i % len(self.plan)]
        for _ in range(delay):
            await asyncio.sleep(0)
        if fate == "refused":
            raise Trouble("busy")
        prompt = round(share * question.prompt_bound)
        completion = round(share * question.max_tokens) + self.excess
        self.charged += prompt + completion
        if fate == "lost":
            raise Trouble("reset", lost=True)
        return Completion(text="x", prompt_tokens=prompt, completion_tokens=completion)


FATES = st.tuples(st.floats(0, 1), st.integers(0, 5), st.sampled_from(["fine", "fine", "lost", "refused"]))


@settings(max_examples=60, deadline=None)
@given(
    plan=st.lists(FATES, min_size=1, max_size=12),
    limit=st.integers(0, 4000),
    sizes=st.lists(st.integers(1, 300), max_size=25),
    slots=st.integers(1, 6),
)
def test_a_server_within_its_bound_never_passes_the_budget(plan, limit, sizes, slots):
    model = Metered(plan)
    budget = ChatBudget(tokens=limit)
    client = Client(model, budget=budget, concurrency=slots, wait=0.0, tries=3, patience=1e9)
    asked = [Question(messages="q" * size, max_tokens=size) for size in sizes]
    results = client.ask(asked)
    assert len(results) == len(sizes)
    assert model.charged <= budget.used_tokens <= limit
    for question, result in zip(asked, results, strict=True):
        if isinstance(result, Failure) and isinstance(result.error, BudgetSpent):
            assert budget.used_tokens + question.prompt_bound + question.max_tokens > limit


@settings(max_examples=40, deadline=None)
@given(
    plan=st.lists(FATES, min_size=1, max_size=8),
    limit=st.integers(0, 3000),
    slots=st.integers(1, 5),
    excess=st.integers(0, 500),
)
def test_one_that_takes_more_than_its_bound_passes_it_by_one_call_per_slot_at_most(plan, limit, slots, excess):
    model = Metered([(share, delay, "fine") for share, delay, _ in plan], excess)
    budget = ChatBudget(tokens=limit)
    client = Client(model, budget=budget, concurrency=slots, wait=0.0)
    client.ask([Question(messages="q" * 50, max_tokens=60)] * 40)
    assert model.charged == budget.used_tokens <= limit + slots * excess


def test_dollars_count_prompt_and_completion_at_their_prices(scripted, make):
    budget = ChatBudget(dollars=1.0)
    client = make(scripted(), budget=budget, prices=Prices(prompt=1000.0, completion=10_000.0))
    (answer,) = client.ask([Question(messages="q", max_tokens=10)])
    assert answer.dollars == budget.used_dollars == client.ledger.dollars == pytest.approx(0.043)  # 3 and 4 tokens


def test_dollars_are_not_passed(scripted, make):
    budget = ChatBudget(dollars=0.2)
    client = make(scripted(), budget=budget, prices=Prices(prompt=1000.0, completion=10_000.0), concurrency=3)
    results = client.ask([Question(messages="q", max_tokens=4)] * 20)
    kinds = [type(result) for result in results]
    assert set(kinds) == {Answer, Failure}
    assert budget.used_dollars <= 0.2
    assert "of $0.20 left" in str(next(r.error for r in results if isinstance(r, Failure)))


def test_a_call_waits_for_what_others_may_give_back(scripted, make):
    """Two calls' bounds do not fit at once, but what both take in the end does."""
    model = scripted(seconds=0.01)
    bound = Question(messages="q", max_tokens=50).prompt_bound + 50
    client = make(model, budget=ChatBudget(tokens=bound + 30), concurrency=4)
    results = client.ask([Question(messages="q", max_tokens=50)] * 4)
    assert all(isinstance(result, Answer) for result in results)
    assert model.most_under_way == 1


def test_nothing_is_asked_when_nothing_is_left(scripted, make):
    model = scripted()
    client = make(model, budget=ChatBudget(tokens=100, used_tokens=100))
    (failure,) = client.ask(["a"])
    assert isinstance(failure.error, BudgetSpent)
    assert "0 of 100 tokens left" in str(failure.error)
    assert model.asked == []
    assert client.ledger.calls == 0
    assert client.ledger.failures == {"BudgetSpent": 1}


def test_what_the_cache_knows_costs_nothing(scripted, make, tmp_path):
    make(scripted(), cache=tmp_path).ask(["a"])
    client = make(scripted(), cache=tmp_path, budget=ChatBudget(tokens=0))
    (answer,) = client.ask(["a"])
    assert answer.cached


def test_a_repair_is_paid_from_the_same_budget(scripted, make, schema):
    question = Question(messages="q", max_tokens=10, json_schema=schema)
    client = make(scripted(lambda question: "no"), budget=ChatBudget(tokens=question.prompt_bound + 12))
    (failure,) = client.ask([question])
    assert isinstance(failure.error, BudgetSpent)
    assert client.ledger.calls == 1


def test_a_server_that_does_not_say_what_it_used_is_taken_to_have_used_the_most(server, make):
    server.usage = None
    question = Question(messages="hello", max_tokens=30)
    (answer,) = make().ask([question])
    assert (answer.prompt_tokens, answer.completion_tokens) == (question.prompt_bound, 30)


def test_tokens_that_two_clients_use_are_one_budget(scripted, make):
    budget = ChatBudget(tokens=10_000)
    for _ in range(2):
        make(scripted(), budget=budget).ask(["a"])
    assert budget.used_tokens == 14


def test_dollars_without_prices_are_refused(scripted):
    with pytest.raises(InvalidData, match="prices="):
        Client(scripted(), budget=ChatBudget(dollars=1.0))


@pytest.mark.parametrize("limits", [{"tokens": -1}, {"dollars": -0.1}, {"dollars": float("nan")}], ids=str)
def test_limits_below_nought_are_refused(limits):
    with pytest.raises(InvalidData, match="must be 0 or more"):
        ChatBudget(**limits)


@given(st.text(max_size=200))
@settings(deadline=None)
def test_a_prompt_has_no_more_tokens_than_its_bound(text):
    """A byte tokenizer, the worst there is."""
    assert Question(messages=text).prompt_bound >= len(text.encode(errors="replace"))
