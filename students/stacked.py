"""Several students at once: what they are taught and asked at the same time is computed in one go.

`stack(students)` makes them join (`dataenv.meeting`): inside `together`, their `teach` calls meet. Small Llamas trained
in full, in float32 on the CPU, are stacks of models (`llama.Llamas`); students trained by LoRA over one base are stacks
of adapters (`adapters.Adapters`). Those that compute with one thread make a stack on each core. Students that cannot be
stacked, or over a base so large that a CPU gains nothing by it, are taught when their turn comes, as they would be
alone. The `answer` calls of students that compute with one thread are decoded side by side, one on each core.

Against the ordinary training a stacked student's weights differ by rounding: 1e-7 in the loss and about 1e-5 in a
weight after one `teach`, which AdamW may stretch in the next ones. In a stack of models they depend on its own rows and
seed, not on its company: alone, in a stack of two or of eight they are the same bit for bit (where layers are a
multiple of 16 wide: matrix products round by where a slice begins). In a stack of adapters company rounds, too.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from dataenv.errors import TrainingFailed
from dataenv.meeting import join
from dataenv.progress import report
from dataenv.protocols import Student
from dataenv.students.causal_lm import CausalLM, train_alone
from dataenv.students.generators import Batched, Sampling
from dataenv.students.recipe import Recipe
from dataenv.students.weights import threads

if TYPE_CHECKING:
    from dataenv.students.adapters import Adapters
    from dataenv.students.llama import Llamas
    from dataenv.students.packing import Row

T = TypeVar("T")
LARGEST = 10_000_000
"""Weights of the largest model worth stacking on a CPU: beyond, matrix products are most of the work, and they gain
nothing. Four LoRA students over SmolLM2-135M took 0.97 to 1.09 times as long in turn as in a stack."""
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

    cores = min(torch.get_num_threads(), len(works))
    with threads(1):
        if cores <= 1:
            return [_outcome(work) for work in works]
        with ThreadPoolExecutor(cores) as pool:
            return list(pool.map(_outcome, works))


def _outcome(work: Callable[[], T]) -> T | Exception:
    try:
        return work()
    except Exception as error:
        return error


def _stackable(student: CausalLM, rows: Sequence[Row]) -> bool:
    from dataenv.students.llama import written_out

    model, recipe = student.model, student.recipe
    if any(len(row) != 2 or type(row[0]) is not list for row in rows) or recipe.compile or recipe.checkpointing:
        return False
    if model.device.type == "cpu" and sum(p.numel() for p in model.parameters()) > LARGEST:
        return False
    if student.method == "lora":
        return not _drops(model)
    longest = max(len(prompt) + len(answer) for prompt, answer in rows)
    fits = recipe.batch * longest <= (recipe.micro_batch or LONGEST)
    return fits and not recipe.packing and written_out(model)


def _drops(model: Any) -> bool:
    """Whether the model has dropout, whose draws would depend on the company."""
    from torch.nn import Dropout

    modules = list(model.modules())
    return any(getattr(m, "attention_dropout", 0) or (isinstance(m, Dropout) and m.p) for m in modules)


def _train_all(lessons: Sequence[Lesson]) -> list[float | Exception]:
    """Train each lesson's student; the mean loss of each, or why it failed. None changes before all are done."""
    import torch

    piles = _piles(lessons, torch.get_num_threads())
    if not _fits([[lessons[i] for i in pile] for pile in piles]):
        return [_outcome(partial(train_alone, student, rows, seed=seed)) for student, rows, seed in lessons]
    narrow = [pile for pile in piles if _narrow(lessons[pile[0]].student)]
    results = _on_all_cores([partial(_train_pile, [lessons[i] for i in pile]) for pile in narrow])
    wide = [pile for pile in piles if pile not in narrow]
    for pile in wide:
        with threads(lessons[pile[0]].student.threads):
            results.append(_outcome(partial(_train_pile, [lessons[i] for i in pile])))
    outcomes: dict[int, float | Exception] = {}
    for pile, result in zip(narrow + wide, results, strict=True):
        if isinstance(result, Exception):
            outcomes |= dict.fromkeys(pile, result)
            continue
        stacked, losses = result
        for k, i in enumerate(pile):
            outcomes[i] = loss = losses[k]
            if not isinstance(loss, Exception):
                stacked.write_back(k)
    return [outcomes[i] for i in range(len(lessons))]


def _base(model: Any) -> list[tuple[Any, ...]]:
    """What the adapters of students must have in common to be one stack; nothing for those trained in full."""
    from dataenv.students.lora import LoraLinear

    layers = [layer for layer in model.modules() if isinstance(layer, LoraLinear)]
    return [(layer.base.weight.data_ptr(), layer.lora_A.shape, layer.scale) for layer in layers]


def _narrow(student: CausalLM) -> bool:
    """Whether its stack computes with one thread."""
    return student.method == "full" or student.threads == 1


def _fits(piles: Sequence[Sequence[Lesson]]) -> bool:
    """Whether memory suffices for all piles at once."""
    from dataenv.students.memory import available

    need: Counter[Any] = Counter()
    for pile in piles:
        need[pile[0].student.model.device] += _bytes(pile)  # type: ignore[assignment]
    return all((free := available(device)) is None or bytes <= free for device, bytes in need.items())


def _bytes(pile: Sequence[Lesson]) -> float:
    """What the largest updates of a pile's lessons need, as `memory.plan` counts it."""
    from dataenv.students.memory import footprint
    from dataenv.students.packing import length
    from dataenv.students.training import layout

    student = pile[0].student
    batch, need = student.recipe.batch, 0.0
    with threads(1):
        cost = footprint(student.model)
    if student.method == "lora":
        longest = max(length(row) for _, rows, _ in pile for row in rows)
        most = max(longest, layout(student.model, student.recipe)[0])
        part = cost.bytes(-(-most // longest), longest, most, checkpointing=False) - cost.fixed
        return part + len(pile) * cost.fixed * 4 / 3  # and a copy of its weights
    for _, rows, _ in pile:
        longest = max(len(prompt) + len(answer) for prompt, answer in rows)
        answers = sum(sorted(len(answer) for _, answer in rows)[-batch:])
        need += cost.bytes(batch, longest, answers, checkpointing=False)
    return need


def _piles(lessons: Sequence[Lesson], cores: int) -> list[list[int]]:
    """Lessons that can be one stack, in piles of about equal work: where a stack computes with one thread, at least
    one for each core."""
    alike: dict[str, list[int]] = {}
    for i, (student, _, _) in enumerate(lessons):
        shape = {key: value for key, value in student.model.config.to_dict().items() if key != "_name_or_path"}
        alike.setdefault(repr((shape, student.recipe, student.threads, *_base(student.model))), []).append(i)
    piles: list[list[int]] = []
    for group in alike.values():
        group.sort(key=lambda i: -len(lessons[i].rows))
        n = cores if _narrow(lessons[group[0]].student) else 1
        piles += [pile for start in range(n) if (pile := group[start::n])]
    return piles


def _train_pile(lessons: Sequence[Lesson]) -> tuple[Llamas | Adapters, list[float | Exception]]:
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


def _updates(lessons: Sequence[Lesson]) -> tuple[Llamas | Adapters, list[float | Exception]]:
    import torch
    from torch import nn

    from dataenv.students.packing import length
    from dataenv.students.training import _schedule, grouped_batches

    recipe = lessons[0].student.recipe
    stacked, cuts = _stacked(lessons)
    plans = []
    for lesson in lessons:
        rng = np.random.Generator(np.random.PCG64(lesson.seed))
        lengths = list(map(length, lesson.rows))
        plans.append(
            [b for _ in range(recipe.epochs) for b in grouped_batches(lengths, recipe.batch, recipe.window, rng)]
        )
    weights = [nn.Parameter(row) for row in stacked.weights]
    groups = [{"params": [row]} for row in weights]
    optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay, fused=True)
    summed, counted, done = [0.0] * len(lessons), [0] * len(lessons), 0
    failed: dict[int, Exception] = {}
    for update in range(max(map(len, plans))):
        learning = [k for k, plan in enumerate(plans) if update < len(plan) and k not in failed]
        if not learning:
            break
        batches = [plan[update] if k in learning else [] for k, plan in enumerate(plans)]
        losses = stacked.loss_and_grads([cut(batch) for cut, batch in zip(cuts, batches, strict=True)])
        for weight in weights:
            weight.grad = None  # without a gradient the optimizer leaves weights and averages alone
        for k in learning:
            if not math.isfinite(losses[k]):
                failed[k] = _blown_up(f"The loss became {losses[k]} at update {update + 1} of {len(plans[k])}", recipe)
                continue
            summed[k] += losses[k]
            counted[k] += sum(len(lessons[k].rows[i][1]) for i in batches[k])
            weights[k].grad = stacked.grads[k]
            nn.utils.clip_grad_norm_(weights[k], recipe.clip)
            optimizer.param_groups[k]["lr"] = recipe.learning_rate * _schedule(update, len(plans[k]), recipe)
        optimizer.step()
        done += sum(map(len, batches))
        report("teach", done, recipe.epochs * sum(len(lesson.rows) for lesson in lessons))
    for k, weight in enumerate(weights):
        if k not in failed and not bool(weight.isfinite().all()):
            failed[k] = _blown_up("The weights overflowed at the last update", recipe)
    return stacked, [failed[k] if k in failed else summed[k] / counted[k] for k in range(len(lessons))]


def _stacked(lessons: Sequence[Lesson]) -> tuple[Any, list[Callable[[Sequence[int]], Any]]]:
    """The lessons' models as one, and for each what makes a batch for it of some of the lesson's rows."""
    student, models = lessons[0].student, [lesson.student.model for lesson in lessons]
    if student.method == "lora":
        from dataenv.students.adapters import Adapters
        from dataenv.students.training import layout

        most, packed = layout(student.model, student.recipe)
        adapters = Adapters(models, most=most, packed=packed)
        return adapters, [partial(_pick, lesson.rows) for lesson in lessons]
    from dataenv.students.llama import Llamas, Rows

    return Llamas(models), [Rows(lesson.rows).batch for lesson in lessons]


def _pick(rows: Sequence[Row], batch: Sequence[int]) -> list[Row]:
    return [rows[i] for i in batch]


def _blown_up(what: str, recipe: Recipe) -> TrainingFailed:
    return TrainingFailed(
        f"{what}; lower the learning rate (it is {recipe.learning_rate:g}). The student is as it was before this step."
    )
