"""Several students at once: what they are taught and asked at the same time is computed in one go.

`stack(students)` makes them join (`dataenv.meeting`): inside `together`, their `teach` calls meet and are trained as
stacks of models (`llama.Llamas`), one on each core; their `answer` calls are decoded side by side, a student on each.
A student that is not a small Llama trained in full, in float32 on the CPU, is taught when its turn comes, as it would
be alone: LoRA students share their base model's weights, and nothing else.

A stacked student's weights depend on its own rows and seed, not on its company: alone, in a stack of two or of eight
they are the same bit for bit (where layers are a multiple of 16 wide: matrix products round by where a slice begins).
Against the ordinary training they differ by rounding: 1e-7 in the loss and about 1e-5 in a weight after one `teach`,
which AdamW may stretch in the next ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import numpy as np

from dataenv.errors import TrainingFailed
from dataenv.meeting import join
from dataenv.protocols import Student
from dataenv.students.causal_lm import CausalLM, train_alone
from dataenv.students.generators import Batched, Sampling
from dataenv.students.recipe import Recipe
from dataenv.students.weights import threads

if TYPE_CHECKING:
    from dataenv.students.llama import Llamas
    from dataenv.students.packing import Row

T = TypeVar("T")
LARGEST = 10_000_000
"""Weights of the largest model worth stacking: beyond, matrix products are most of the work, and they gain nothing."""
LONGEST = 1024
"""Most tokens of an update, padding included, where the recipe sets no `micro_batch`; as in the ordinary training."""


def stack(students: Sequence[Student]) -> None:
    """From now on the students learn and answer at once where they are called together; others stay as they are."""
    for student in students:
        if isinstance(student, CausalLM) and student.trainer is train_alone:
            student.trainer = train
            if type(student.generator) is Batched:
                student.generator = SideBySide()


class Lesson(NamedTuple):
    """What one student is to learn."""

    student: CausalLM
    rows: Sequence[Row]
    seed: int


def train(student: CausalLM, rows: Sequence[Row], *, seed: int) -> float:
    """As `train_alone`, together with the other students' calls."""
    if not _stackable(student, rows):
        return train_alone(student, rows, seed=seed)
    loss: float = join(_train_all, Lesson(student, rows, seed))
    return loss


class SideBySide(Batched):
    """The batched generator, decoding for several students at once."""

    def generate(self, student: CausalLM, prompts: Sequence[list[int]], sampling: Sampling) -> list[list[int]]:
        """See `generators.Generator`. A student that computes with several threads has all cores to itself."""
        work = partial(super().generate, student, prompts, sampling)
        if student.threads != 1:
            return work()
        made: list[list[int]] = join(_on_all_cores, work)
        return made


def _on_all_cores(works: Sequence[Callable[[], T]]) -> list[T | Exception]:
    """Each work's result or error, in order; each computes with one thread, as many at a time as torch may use."""
    import torch

    def outcome(work: Callable[[], T]) -> T | Exception:
        try:
            return work()
        except Exception as error:
            return error

    cores = min(torch.get_num_threads(), len(works))
    with threads(1):
        if cores == 1:
            return [outcome(work) for work in works]
        with ThreadPoolExecutor(cores) as pool:
            return list(pool.map(outcome, works))


def _stackable(student: CausalLM, rows: Sequence[Row]) -> bool:
    from dataenv.students.llama import written_out

    model, recipe = student.model, student.recipe
    return (
        all(len(row) == 2 for row in rows)
        and not (recipe.compile or recipe.packing or recipe.checkpointing)
        and recipe.batch * max(len(prompt) + len(answer) for prompt, answer in rows) <= (recipe.micro_batch or LONGEST)
        and sum(p.numel() for p in model.parameters()) <= LARGEST
        and written_out(model)
    )


def _train_all(lessons: Sequence[Lesson]) -> list[float | Exception]:
    """Train each lesson's student; the mean loss of each, or why it failed. None changes before all are done."""
    import torch

    from dataenv.students.memory import available

    piles = _piles(lessons, torch.get_num_threads())
    free = available(torch.device("cpu"))
    if free is not None and sum(_bytes([lessons[i] for i in pile]) for pile in piles) > free:
        return [_alone(lesson) for lesson in lessons]
    results = _on_all_cores([partial(_train_pile, [lessons[i] for i in pile]) for pile in piles])
    outcomes: dict[int, float | Exception] = {}
    for pile, result in zip(piles, results, strict=True):
        if isinstance(result, Exception):
            outcomes |= dict.fromkeys(pile, result)
            continue
        stacked, losses = result
        for k, i in enumerate(pile):
            outcomes[i] = loss = losses[k]
            if not isinstance(loss, Exception):
                stacked.write_back(k)
    return [outcomes[i] for i in range(len(lessons))]


def _bytes(pile: Sequence[Lesson]) -> float:
    """What the largest updates of a pile's lessons need, as `memory.plan` counts it."""
    from dataenv.students.memory import footprint

    student = pile[0].student
    batch, need = student.recipe.batch, 0.0
    with threads(1):
        cost = footprint(student.model)
    for _, rows, _ in pile:
        longest = max(len(prompt) + len(answer) for prompt, answer in rows)
        answers = sum(sorted(len(answer) for _, answer in rows)[-batch:])
        need += cost.bytes(batch, longest, answers, checkpointing=False)
    return need


def _alone(lesson: Lesson) -> float | Exception:
    try:
        return train_alone(lesson.student, lesson.rows, seed=lesson.seed)
    except Exception as error:
        return error


def _piles(lessons: Sequence[Lesson], cores: int) -> list[list[int]]:
    """Lessons that can be one stack, in piles of about equal work: at least one for each core."""
    alike: dict[str, list[int]] = {}
    for i, (student, _, _) in enumerate(lessons):
        shape = {key: value for key, value in student.model.config.to_dict().items() if key != "_name_or_path"}
        alike.setdefault(repr((shape, student.recipe)), []).append(i)
    piles: list[list[int]] = []
    for group in alike.values():
        group.sort(key=lambda i: -len(lessons[i].rows))
        piles += [pile for start in range(cores) if (pile := group[start::cores])]
    return piles


def _train_pile(lessons: Sequence[Lesson]) -> tuple[Llamas, list[float | Exception]]:
    """The taught stack, and each student's mean loss, or why it failed.

    The order of rows, the schedule and the clipping of each student are those of `training.train`.
    """
    from dataenv.students.memory import out_of_memory

    try:
        return _updates(lessons)
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise TrainingFailed(
            f"Memory ran out while teaching {len(lessons)} students at once; teach fewer at a time, or lower batch (it "
            f"is {lessons[0].student.recipe.batch}). The students are as they were before this step."
        ) from error.with_traceback(None)  # its frames would hold on to what filled the memory


def _updates(lessons: Sequence[Lesson]) -> tuple[Llamas, list[float | Exception]]:
    import torch
    from torch import nn

    from dataenv.students.llama import NO_BATCH, Llamas, Rows
    from dataenv.students.training import _schedule, grouped_batches

    recipe = lessons[0].student.recipe
    stacked = Llamas([lesson.student.model for lesson in lessons])
    rows = [Rows(lesson.rows) for lesson in lessons]
    plans = []
    for own, lesson in zip(rows, lessons, strict=True):
        rng = np.random.Generator(np.random.PCG64(lesson.seed))
        lengths = own.lengths.tolist()
        plans.append(
            [b for _ in range(recipe.epochs) for b in grouped_batches(lengths, recipe.batch, recipe.window, rng)]
        )
    weights = [nn.Parameter(row) for row in stacked.weights]
    groups = [{"params": [row]} for row in weights]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    summed, counted = [0.0] * len(lessons), [0] * len(lessons)
    failed: dict[int, Exception] = {}
    for update in range(max(map(len, plans))):
        learning = [k for k, plan in enumerate(plans) if update < len(plan) and k not in failed]
        batches = [own.batch(plans[k][update]) if k in learning else NO_BATCH for k, own in enumerate(rows)]
        if not learning:
            break
        losses = stacked.loss_and_grads(batches)
        for weight in weights:
            weight.grad = None  # without a gradient the optimizer leaves weights and averages alone
        for k in learning:
            if not math.isfinite(losses[k]):
                failed[k] = _blown_up(f"The loss became {losses[k]} at update {update + 1} of {len(plans[k])}", recipe)
                continue
            summed[k] += losses[k]
            counted[k] += len(batches[k].targets)
            weights[k].grad = stacked.grads[k]
            nn.utils.clip_grad_norm_(weights[k], recipe.clip)
            optimizer.param_groups[k]["lr"] = recipe.learning_rate * _schedule(update, len(plans[k]), recipe)
        optimizer.step()
    for k, weight in enumerate(weights):
        if k not in failed and not bool(weight.isfinite().all()):
            failed[k] = _blown_up("The weights overflowed at the last update", recipe)
    return stacked, [failed[k] if k in failed else summed[k] / counted[k] for k in range(len(lessons))]


def _blown_up(what: str, recipe: Recipe) -> TrainingFailed:
    return TrainingFailed(
        f"{what}; lower the learning rate (it is {recipe.learning_rate:g}). The student is as it was before this step."
    )
