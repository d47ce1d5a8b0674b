"""LoRA training: ours, against TRL's SFTTrainer (its defaults; packed) and a plain PEFT loop, on the same rows.

    python -m dataenv.benchmarks.speed.training [--rows 560] [--repeats 5] [--out FILE]

SmolLM2-135M, rank 16 on all linear layers, one epoch, batch 8, learning rate 1e-3 with warm-up and cosine. Tokens are
those of prompt and completion, without padding; `outcome` is the loss per completion token on 70 unseen rows after
training. Needs trl and peft. Target: at least 8 times TRL's defaults, at equal loss.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch.nn.functional import cross_entropy

from dataenv.benchmarks.speed.side_by_side import Case, compare, options, publish
from dataenv.protocols import ProceduralTask
from dataenv.records import Example
from dataenv.students import make_student
from dataenv.students.causal_lm import CausalLM
from dataenv.tasks import tasks

RATE, BATCH, RANK = 1e-3, 8, 16
Row = tuple[list[int], list[int]]
Loss = Callable[[Any], Any]
"""Model -> what is to be known of it after training."""


def arithmetic_rows(n: int, seed: int) -> list[Example]:
    """`n` rows, evenly over the skills."""
    task: ProceduralTask = tasks.make("arithmetic")
    rng = np.random.default_rng(seed)
    each = -(-n // len(task.skills))
    rows = [Example.from_problem(p) for skill in task.skills for p in task.write(skill, each, None, rng)]
    return [rows[i] for i in rng.permutation(len(rows))[:n]]


def loss_on(rows: Sequence[Row]) -> Loss:
    """What says a model's mean loss per completion token on `rows`."""

    def loss(model: Any) -> float:
        total, tokens = 0.0, 0
        with torch.inference_mode():
            for prompt, completion in rows:
                logits = model.eval()(input_ids=torch.tensor([prompt + completion])).logits[0, len(prompt) - 1 : -1]
                total += cross_entropy(logits.float(), torch.tensor(completion), reduction="sum").item()
                tokens += len(completion)
        return round(total / tokens, 4)

    return loss


def lora() -> Any:
    from peft import LoraConfig

    return LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules="all-linear", task_type="CAUSAL_LM")


def ours(student: CausalLM, examples: list[Example], tokens: int, loss: Loss) -> Case:
    def case() -> Any:
        student.reset()
        return lambda: student.teach(examples, seed=0), tokens, lambda: loss(student.model)

    return case


def trl(folder: str, rows: Sequence[Row], tokens: int, loss: Loss, **settings: Any) -> Case:
    """`SFTTrainer` as it comes, given the same tokens and the same mask."""

    def case() -> Any:
        from datasets import Dataset
        from trl import SFTConfig, SFTTrainer

        data = [{"input_ids": p + c, "completion_mask": [0] * len(p) + [1] * len(c)} for p, c in rows]
        config = SFTConfig(
            output_dir=tempfile.mkdtemp(),
            num_train_epochs=1,
            per_device_train_batch_size=BATCH,
            learning_rate=RATE,
            lr_scheduler_type="cosine",
            warmup_steps=max(1, round(0.1 * len(rows) / BATCH)),
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
            use_cpu=not torch.cuda.is_available(),
            seed=0,
            **settings,
        )
        trainer = SFTTrainer(model=folder, args=config, train_dataset=Dataset.from_list(data), peft_config=lora())
        return trainer.train, tokens, lambda: loss(trainer.model)

    return case


def plain(folder: str, rows: Sequence[Row], tokens: int, loss: Loss) -> Case:
    """What one writes in an afternoon: PEFT, bf16, padded batches in the given order, all logits."""

    def case() -> Any:
        from peft import get_peft_model
        from transformers import AutoModelForCausalLM, get_cosine_schedule_with_warmup

        torch.manual_seed(0)
        model = get_peft_model(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16), lora())
        parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
        updates = -(-len(rows) // BATCH)
        schedule = get_cosine_schedule_with_warmup(optimizer, max(1, updates // 10), updates)

        def work() -> None:
            model.train()
            for start in range(0, len(rows), BATCH):
                part = rows[start : start + BATCH]
                longest = max(len(p) + len(c) for p, c in part)
                ids = torch.zeros(len(part), longest, dtype=torch.long)
                labels = torch.full_like(ids, -100)
                for i, (p, c) in enumerate(part):
                    ids[i, : len(p) + len(c)] = torch.tensor(p + c)
                    labels[i, len(p) : len(p) + len(c)] = torch.tensor(c)
                model(input_ids=ids, labels=labels).loss.backward()
                torch.nn.utils.clip_grad_norm_(parameters, 1.0)
                optimizer.step()
                schedule.step()
                optimizer.zero_grad()

        return work, tokens, lambda: loss(model)

    return case


def main() -> None:
    """Print the figures as JSON."""
    given = options(__doc__, rows=560, repeats=5)
    student = make_student("smollm2-135m", learning_rate=RATE, batch=BATCH, rank=RANK)
    assert isinstance(student, CausalLM)
    examples, unseen = arithmetic_rows(given.rows, 0), arithmetic_rows(70, 1)
    rows = [student.encoder.row(example) for example in examples]
    tokens = sum(len(p) + len(c) for p, c in rows)
    loss, folder = loss_on([student.encoder.row(example) for example in unseen]), student.base.place()
    cases = {
        "dataenv": ours(student, examples, tokens, loss),
        "trl": trl(folder, rows, tokens, loss),
        "trl_packed": trl(folder, rows, tokens, loss, packing=True, max_length=1024),
        "peft_loop": plain(folder, rows, tokens, loss),
    }
    about = {"rows": len(rows), "tokens": tokens, "model": "smollm2-135m"}
    publish(compare("training", "tokens", cases, given.repeats, **about), given.out)


if __name__ == "__main__":
    main()
