"""Greedy answers: ours, against `transformers.generate` at several batch sizes, on the same prompts and model.

    python -m dataenv.benchmarks.speed.generation [--problems 210] [--batch 0] [--repeats 5] [--threads N] [--out FILE]

SmolLM2-135M, `arithmetic` problems of mixed length behind a preamble of four solved ones. `outcome` counts replies
whose text equals ours. With `--batch` above 0, that batch size alone. Where vLLM is installed, it answers, too, through
the generator "vllm". Target: at least twice the best static batch, the same text.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from typing import Any

import torch

from dataenv.benchmarks.speed.side_by_side import Case, compare, options, publish
from dataenv.protocols import Student
from dataenv.records import Example
from dataenv.students import make_student
from dataenv.students.causal_lm import CausalLM
from dataenv.students.encoding import Encoder
from dataenv.tasks import tasks

BATCHES = (16, 64, 210)
LIMIT = 32


def ours(student: Student, problems: Sequence[Any], shots: Sequence[Example], texts: list[str]) -> Case:
    def case() -> Any:
        def work() -> None:
            prompts = [problem.prompt for problem in problems]
            texts[:] = [r[0].text for r in student.answer(prompts, max_new_tokens=LIMIT, shots=shots)]

        return work, len(problems), lambda: list(texts)

    return case


def static(model: Any, encoder: Encoder, prompts: Sequence[list[int]], batch: int, made: list[str]) -> Case:
    """`generate` on batches padded on the left, sorted by length, as its users do; `made` gets the replies."""

    def case() -> Any:
        made[:] = [""] * len(prompts)

        def work() -> None:
            order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
            for start in range(0, len(order), batch):
                part = order[start : start + batch]
                longest = max(len(prompts[i]) for i in part)
                ids = torch.full((len(part), longest), encoder.end)
                mask = torch.zeros_like(ids)
                for row, i in enumerate(part):
                    ids[row, longest - len(prompts[i]) :] = torch.tensor(prompts[i])
                    mask[row, longest - len(prompts[i]) :] = 1
                with torch.inference_mode():
                    out = model.generate(
                        ids,
                        attention_mask=mask,
                        max_new_tokens=LIMIT,
                        do_sample=False,
                        eos_token_id=encoder.end,
                        pad_token_id=encoder.end,
                    )
                for row, i in enumerate(part):
                    made[i] = encoder.decode(out[row, longest:].tolist())

        return work, len(prompts), lambda: list(made)

    return case


def main() -> None:
    """Print the figures as JSON."""
    given = options(__doc__, problems=210, batch=0, repeats=5, threads=torch.get_num_threads())
    torch.set_num_threads(given.threads)
    task, student = tasks.make("arithmetic"), make_student("smollm2-135m")
    batches = (given.batch,) if given.batch else BATCHES
    assert isinstance(student, CausalLM)
    problems = task.problems("feedback", -(-given.problems // len(task.skills)), 0)[: given.problems]
    shots = [Example.from_problem(p) for p in task.problems("exemplar", 1, 0)[:4]]
    prompts = [student.encoder.prompt(problem.prompt, shots) for problem in problems]
    texts: list[str] = []
    cases = {"dataenv": ours(student, problems, shots, texts)}
    cases |= {f"generate_{b}": static(student.model, student.encoder, prompts, b, []) for b in batches}
    if find_spec("vllm"):
        engine = make_student("smollm2-135m", generator="vllm")
        cases["vllm"] = ours(engine, problems, shots, [])
    figures = compare("generation", "answers", cases, given.repeats, problems=len(problems), model="smollm2-135m")
    for case in figures["cases"].values():
        case["outcome"] = sum(a == b for a, b in zip(case["outcome"], texts, strict=True))
    publish(figures, given.out)


if __name__ == "__main__":
    main()
