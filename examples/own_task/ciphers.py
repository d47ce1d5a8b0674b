"""A task of one's own: secret writing, of three kinds. It is a prompt, a verifier and skills."""

import numpy as np

from dataenv.errors import InvalidData
from dataenv.records import Problem, Prompt, Split, Verdict
from dataenv.seeding import stream
from dataenv.tasks.splits import draw

LETTERS = "abcdefgh"
WRITING = {
    "double": lambda word: "".join(2 * letter for letter in word),
    "next": lambda word: "".join(LETTERS[(LETTERS.index(letter) + 1) % len(LETTERS)] for letter in word),
    "swap": lambda word: "".join(word[i : i + 2][::-1] for i in range(0, len(word), 2)),
}


class Ciphers:
    """`ciphers`: write a word of 2 to 6 letters in another way. Difficulty is its length."""

    name = "ciphers"
    skills = tuple(WRITING)
    prerequisites = {"swap": ("double",)}  # noqa: RUF012
    default_engine = "procedural"
    max_new_tokens = 16

    def _one(self, skill: str, difficulty: float | None, rng: np.random.Generator) -> Problem:
        level = rng.random() if difficulty is None else difficulty
        word = "".join(rng.choice(list(LETTERS), 2 + round(4 * level)))
        rule = WRITING[skill]
        return Problem(prompt=f"{skill} {word}=", answer=rule(word), skill=skill, difficulty=level)

    def problems(self, split: Split, per_skill: int | None, seed: int) -> list[Problem]:
        if per_skill is None:
            raise InvalidData("ciphers are written without end; say how many problems per skill you want.")
        rngs = {skill: stream(seed, "ciphers", split, skill) for skill in self.skills}
        return [p for s, rng in rngs.items() for p in draw(lambda r, s=s: self._one(s, None, r), split, per_skill, rng)]

    def write(self, skill: str, n: int, difficulty: float | None, rng: np.random.Generator) -> list[Problem]:
        return draw(lambda r: self._one(skill, difficulty, r), "pool", n, rng)

    def verify(self, problem: Problem, response: str) -> Verdict:
        said = response.strip()[:100]
        right = said == problem.answer
        return Verdict(float(right), right, "" if right else f"expected {problem.answer}", said)

    def held_out(self) -> tuple[Prompt, ...]:
        return ()  # the exam is written when it is needed, and the pool can hold none of it

    def recognise(self, prompt: Prompt) -> Problem | None:
        skill, _, word = prompt.text.strip().removesuffix("=").partition(" ")
        if skill not in WRITING or not word or set(word) - set(LETTERS):
            return None
        rule = WRITING[skill]
        return Problem(prompt=prompt, answer=rule(word), skill=skill)
