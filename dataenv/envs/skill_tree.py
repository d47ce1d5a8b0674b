"""`dataenv/SkillTree-v0`: each skill is a tree that the teacher grows, prunes and gives quotas of rows."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium import spaces
from numpy.typing import NDArray

from dataenv.chat.introduce import introduce
from dataenv.checks import whole
from dataenv.engines import engines
from dataenv.engines.filling import fill
from dataenv.envs.scores import score_arrays, score_spaces
from dataenv.envs.teaching import TeachingEnv
from dataenv.envs.tree_moves import Arrays, TreeMoves
from dataenv.errors import InvalidAction
from dataenv.examine import examine
from dataenv.protocols import AsksStudent, Engine, Organiser
from dataenv.records import Example, Feedback, Plan, Problem, Request
from dataenv.seeding import child_seed, stream
from dataenv.skills import organisers
from dataenv.skills.tree import Forest, Subskill, Tree
from dataenv.spaces import EXPLOIT, EXPLORE, WAIT, allocate


class SkillTreeEnv(TeachingEnv[Arrays, Arrays]):
    """Observation (K skills, in the order of `task.skills`; M = `max_subskills`, in the order they were grown):

    * `accuracy`, `error`, `examined`, `taught` (K,), `budget` (2,): as in SkillList, see `envs.scores`.
    * `exists` (K, M): 1 where there is a subskill; it masks the following. `quota` (K, M): its rows in each step.
    * `subskill_taught` (K, M): rows taught so far. `subskill_accuracy` (K, M): share of its held-out problems solved,
      0.5 where none was asked. `subskill_examined` (K, M): how many were.
    * `moves` (K, 3): 1 where the skill can wait, explore, exploit now.

    Action, per skill, see `TreeMoves`:

    * wait: no rows in this step; the quotas stay.
    * explore: the organiser names `grow` new subskills, each with a quota of `rows`; other quotas stay. Then every
      subskill of the skill gets rows up to its quota. With `rows` 0 a subskill is only examined.
    * exploit: `change` is added to the quotas; 0 prunes, raising revives. Then as above.

    The quotas of all moving skills may add up to at most `rows`. When the organiser has no more names, an explore
    grows fewer, and the skill cannot explore again.

    Args, besides those of `TeachingEnv`:
        organiser: what subskills are: an id ("procedural", "file:PATH") or a `protocols.Organiser`.
        max_subskills: most subskills of a skill. `max_new`: most that one explore grows.
        max_rows_per_subskill: highest quota; None for a step's rows.
        max_rows_per_skill: most rows of a skill in the episode (exactly: its quotas are cut in proportion to what is
            left, and a skill that has had them can only wait); None for no limit but the episode's.
        probes: problems of each subskill that are held out of teaching, for its accuracy; 0 for none. The student is
            asked them plainly, all after each training, those of new subskills always.

    `info` holds also "forest" (`skills.tree.Forest`) and "action_mask" (`TreeMoves.limits`).
    """

    def __init__(
        self,
        *args: Any,
        organiser: str | Organiser = "procedural",
        max_subskills: int = 10,
        max_new: int = 5,
        max_rows_per_subskill: int | None = None,
        max_rows_per_skill: int | None = None,
        probes: int = 4,
        **options: Any,
    ) -> None:
        super().__init__(*args, **options)
        self.max_subskills = whole("max_subskills", max_subskills)
        self.max_new = whole("max_new", max_new)
        self.max_quota, self.max_rows_per_skill = self.rows, self.max_rows
        if max_rows_per_subskill is not None:
            self.max_quota = min(whole("max_rows_per_subskill", max_rows_per_subskill), self.rows)
        if max_rows_per_skill is not None:
            self.max_rows_per_skill = min(whole("max_rows_per_skill", max_rows_per_skill), self.max_rows)
        self.probes = 0 if probes == 0 else whole("probes", probes)
        self.organiser: Organiser = (
            organisers.make(organiser, task=self.task) if isinstance(organiser, str) else organiser
        )
        introduce(self.client, self.organiser)
        # Problems chosen by what the student solves would say nothing of how many it solves.
        asks = isinstance(self.engine, AsksStudent)
        self._prober: Engine = engines.make(self.task.default_engine, task=self.task) if asks else self.engine
        k, m = shape = len(self.task.skills), self.max_subskills
        self.observation_space = spaces.Dict(  # type: ignore[assignment]
            {
                **score_spaces(self),
                "exists": spaces.Box(0, 1, shape, np.int8),
                "quota": spaces.Box(0, self.max_quota, shape, np.int64),
                "subskill_taught": spaces.Box(0, self.max_rows, shape, np.int64),
                "subskill_accuracy": spaces.Box(0.0, 1.0, shape, np.float64),
                "subskill_examined": spaces.Box(0, self.probes, shape, np.int64),
                "moves": spaces.Box(0, 1, (k, 3), np.int8),
            }
        )
        self.moves = TreeMoves(self.task.skills, m, self.max_new, self.max_quota, self.rows, self.max_rows_per_skill)
        self.action_space = self.moves
        self._next: Forest | None = None

    # -- what the teacher sees ----------------------------------------------------------------------------------------

    def observe(self, feedback: Feedback) -> Arrays:
        limits = self._limits()
        return {
            **score_arrays(feedback),
            "exists": limits["change"],
            "quota": limits["quota"],
            "subskill_taught": self._grid(np.int64, lambda s: s.taught),
            "subskill_accuracy": self._grid(np.float64, lambda s: 0.5 if s.accuracy is None else s.accuracy, 0.5),
            "subskill_examined": self._grid(np.int64, lambda s: s.n),
            "moves": limits["move"],
        }

    def _seen(self) -> tuple[Arrays, dict[str, Any]]:
        self.moves.limits = self._limits()
        observation, info = super()._seen()
        return observation, info | {"forest": self.forest, "action_mask": self._limits()}

    @property
    def forest(self) -> Forest:
        """The present trees. Raises EpisodeOver before the first reset."""
        forest: Forest = self.situation.structure
        return forest

    def _limits(self) -> Arrays:
        """What is possible now; see `TreeMoves`."""
        exists = self._grid(np.int8, lambda s: 1)
        left = np.array([self.max_rows_per_skill - self._counts[skill] for skill in self.task.skills], np.int64)
        room = np.array(
            [0 if tree.complete else self.max_subskills - len(tree.subskills) for tree in self.forest.trees]
        )
        grow = np.minimum(room, self.max_new).astype(np.int64)
        moves = np.stack([np.ones_like(left), (left > 0) & (grow > 0), (left > 0) & exists.any(axis=1)], axis=1)
        return {
            "move": moves.astype(np.int8),
            "grow": grow,
            "rows": np.full_like(grow, self.max_quota),
            "change": exists,
            "quota": self._grid(np.int64, lambda s: s.quota),
            "left": left,
        }

    def _grid(self, dtype: Any, value: Any, absent: float = 0) -> NDArray[Any]:
        """(K, M): a value of each subskill, `absent` where there is none."""
        grid: NDArray[Any] = np.full((len(self.task.skills), self.max_subskills), absent, dtype)
        for i, tree in enumerate(self.forest.trees):
            grid[i, : len(tree.subskills)] = [value(subskill) for subskill in tree.subskills]
        return grid

    # -- what an action means -----------------------------------------------------------------------------------------

    def plan(self, action: Arrays) -> Plan:
        limits = self._limits()
        fault = self.moves.fault(action, limits)
        if fault is not None:
            raise InvalidAction(f"action{fault}.")
        quotas = self.moves.quotas(action, limits)
        trees, requests = [], []
        for i, (tree, move) in enumerate(zip(self.forest.trees, np.asarray(action["move"]).tolist(), strict=True)):
            tree = tree.with_quotas(quotas[i, : len(tree.subskills)].tolist())
            if move == EXPLORE:
                tree = self._explored(tree, int(action["grow"][i]), int(action["rows"][i]))
            trees.append(tree)
            if move != WAIT:
                words = action["words"][i] if "words" in action else ""
                requests += self._requests(tree, int(limits["left"][i]), words)
        self._next = Forest(trees=tuple(trees))
        return Plan(requests=tuple(requests))

    def _explored(self, tree: Tree, n: int, quota: int) -> Tree:
        """The tree with up to `n` new subskills. One more is asked for, which shows whether there are any more."""
        rng = stream(self.situation.seed, "organiser", self.situation.step + 1, tree.skill)
        return tree.grown(self.organiser.propose(tree.skill, tree.names, n + 1, rng), n, quota)

    def _requests(self, tree: Tree, left: int, words: str) -> list[Request]:
        """What an engine is asked for: each subskill's quota, together at most `left` rows; the organiser's instruction
        comes before the teacher's words."""
        quotas = [subskill.quota for subskill in tree.subskills]
        if sum(quotas) > left:
            quotas = allocate(quotas, left).tolist()
        pairs = zip(tree.names, quotas, strict=True)
        asked = [self.organiser.request(tree.skill, name, rows) for name, rows in pairs if rows]
        if not words:
            return asked
        return [r.model_copy(update={"instruction": f"{r.instruction}\n\n{words}".strip()}) for r in asked]

    def action(self, plan: Plan) -> Arrays:
        """The action that asks for `plan`: a skill that has no subskills yet explores, as many at once as it may; any
        other exploits, and its quotas become the rows asked for, those of no subskill dealt evenly to all it has (odd
        ones to the least taught). A skill without rows, or that can get no more, waits.

        Difficulties are left out: a subskill has its own. Raises InvalidAction where an action of this environment
        cannot say it: rows written out, instructions, exemplars, and skills or subskills that do not exist.
        """
        limits, action = self._limits(), self.moves.waiting()
        for i, (tree, rows) in enumerate(zip(self.forest.trees, self._rows_by_subskill(plan), strict=True)):
            total = sum(rows.values())
            if not total or not limits["left"][i]:
                continue
            if tree.subskills:
                quotas, n = limits["quota"][i], len(tree.subskills)
                wanted = np.array([rows[name] for name in tree.names], np.int64)
                least_taught = np.argsort([s.taught for s in tree.subskills], kind="stable")
                wanted[least_taught] += allocate(np.ones(n), rows[None])
                action["move"][i] = EXPLOIT
                action["change"][i, :n] = np.minimum(wanted, self.max_quota) - quotas[:n]
            elif limits["move"][i, EXPLORE]:
                action["move"][i] = EXPLORE
                action["grow"][i] = grow = min(int(limits["grow"][i]), total)
                action["rows"][i] = min(total // grow, self.max_quota)
        return action

    def _rows_by_subskill(self, plan: Plan) -> list[Counter[str | None]]:
        """Per skill the rows that `plan` asks for, by subskill, None for those of no subskill."""
        if plan.examples:
            raise InvalidAction("plan.examples: SkillTree takes no written-out rows; ask for rows per skill.")
        rows: dict[str, Counter[str | None]] = {skill: Counter() for skill in self.task.skills}
        names = {tree.skill: tree.names for tree in self.forest.trees}
        for i, request in enumerate(plan.requests):
            self.must_have(request.skill, f"plan.requests[{i}].skill")
            if request.instruction or request.exemplar:
                raise InvalidAction(f"plan.requests[{i}]: SkillTree takes skill, subskill and rows only.")
            if request.subskill is not None and request.subskill not in names[request.skill]:
                near = difflib.get_close_matches(request.subskill, names[request.skill], n=1, cutoff=0.4)
                hint = f"did you mean '{near[0]}'?" if near else "explore first."
                raise InvalidAction(
                    f"plan.requests[{i}].subskill: '{request.skill}' has no subskill '{request.subskill}'; {hint}"
                )
            rows[request.skill][request.subskill] += request.rows
        return list(rows.values())

    # -- the forest in a step -----------------------------------------------------------------------------------------

    def first_structure(self) -> Forest:
        return Forest(trees=tuple(Tree(skill=skill) for skill in self.task.skills))

    def read_structure(self, content: bytes) -> Forest:
        return Forest.model_validate_json(content)

    def grow(self, action: Arrays) -> Forest:
        """The forest after `action`, which `plan` has just found (an organiser asked twice might answer twice), with
        probes of the new subskills."""
        forest, self._next = self._next, None
        assert forest is not None
        if not self.probes:
            return forest
        before = {tree.skill: tree.names for tree in self.forest.trees}
        new = [(t.skill, name) for t in forest.trees for name in t.names if name not in before[t.skill]]
        requests = tuple(self.organiser.request(skill, name, self.probes) for skill, name in new)
        closed = self._keys | self.forest.held_out
        seed, step = child_seed(self.situation.seed, "probes"), self.situation.step + 1
        with self.seconds("gate"):
            rows = fill(Plan(requests=requests), self._prober, self._gate, closed, self.seconds, step=step, seed=seed)
        found: dict[tuple[str, str], list[Problem]] = {leaf: [] for leaf in new}
        for example in rows.examples:
            problem = example.as_problem()
            if problem is not None:
                leaf = new[int(str(example.provenance["request"]))]
                found[leaf].append(problem.model_copy(update={"subskill": leaf[1]}))

        def probed(skill: str, s: Subskill) -> Subskill:
            probes = found.get((skill, s.name))
            return s if probes is None else s.model_copy(update={"probes": tuple(probes)})

        return forest.each(probed)

    def probe(self, structure: Forest, taught: Sequence[Example]) -> Forest:
        rows = Counter((example.skill, example.subskill) for example in taught)
        asked = [s for tree in structure.trees for s in tree.subskills if taught or not s.n]
        with self.seconds("examine"):
            found = examine(self.task, self.student, [problem for s in asked for problem in s.probes])
        attempts = iter(found.attempts)

        def seen(skill: str, s: Subskill) -> Subskill:
            update: dict[str, Any] = {"taught": s.taught + rows[skill, s.name]}
            if taught or not s.n:
                update |= {"n": len(s.probes), "correct": sum(next(attempts).correct for _ in s.probes)}
            return s.model_copy(update=update)

        return structure.each(seen)
