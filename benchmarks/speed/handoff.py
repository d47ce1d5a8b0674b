"""From taught weights to the first answer that can use them: ours, against PEFT writing and loading an adapter.

    python -m dataenv.benchmarks.speed.handoff [--repeats 20] [--out FILE]

SmolLM2-135M, rank 16. Ours keeps the adapter where it was trained and merges it for decoding; what is timed is that
merge and its undoing. The peers save the adapter and load it into a serving model (`load_adapter`), or swap it in
(`hotswap_adapter`). Also `reset`, `clone_state` and `restore_state`. Needs peft. Target: hand-off at most 5 ms, reset
20 ms, clone 50 ms. The figures are per second: 1,000 divided by them is milliseconds.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from dataenv.benchmarks.speed.side_by_side import Case, compare, options, publish
from dataenv.benchmarks.speed.training import arithmetic_rows
from dataenv.students import make_student
from dataenv.students.causal_lm import CausalLM
from dataenv.students.lora import merged


def timed(call: Any) -> Case:
    return lambda: (call, 1, lambda: None)


def main() -> None:
    """Print the figures as JSON."""
    given = options(__doc__, repeats=20)
    student = make_student("smollm2-135m")
    assert isinstance(student, CausalLM)
    student.teach(arithmetic_rows(16, 0), seed=0)
    state = student.clone_state()

    from peft import PeftModel
    from peft.utils.hotswap import hotswap_adapter
    from transformers import AutoModelForCausalLM

    with tempfile.TemporaryDirectory() as folder:
        student.save(Path(folder))
        server = AutoModelForCausalLM.from_pretrained(student.base.place())
        served = PeftModel.from_pretrained(server, folder, adapter_name="a")

        def hand_over() -> None:
            with merged(student.model):
                pass

        def load() -> None:
            student.save(Path(folder))
            served.load_adapter(folder, adapter_name="b")
            served.set_adapter("b")
            served.delete_adapter("b")
            served.set_adapter("a")

        def swap() -> None:
            student.save(Path(folder))
            hotswap_adapter(served, folder, adapter_name="a")

        cases = {
            "dataenv": timed(hand_over),
            "peft_load": timed(load),
            "peft_hotswap": timed(swap),
            "reset": timed(student.reset),
            "clone_state": timed(student.clone_state),
            "restore_state": timed(lambda: student.restore_state(state)),
        }
        publish(compare("handoff", "times", cases, given.repeats, model="smollm2-135m"), given.out)


if __name__ == "__main__":
    main()
