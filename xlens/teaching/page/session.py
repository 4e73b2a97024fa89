"""What a person has answered, what is asked next, and what the lens has learned from it."""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlens.contracts.explainer import Explainer
from xlens.contracts.numbers import is_count
from xlens.errors import DataError, OptionError, StorageError, UnsupportedError, XlensError
from xlens.files.writing import write_whole
from xlens.fitted import Fitted, as_fitted
from xlens.metrics import interpretability
from xlens.storage import save_lens
from xlens.teaching.teaching import Strategy, Teaching

__all__ = ["Session"]

_FILE = "answers.json"
_FORMAT = "xlens answers"
_BATCH = 64


class Session:
    """Rounds of questions about a pool of inputs.

    The first inputs, drawn at random, are for checking alone: what is answered about them is never learned from.
    Then rounds follow: the lens chooses, a person answers, it learns, and is saved. Every answer is on disk before
    the next question is asked, so that stopping at any moment loses nothing; a session on the same lens and pool
    goes on.

    Args:
        explainer: its lens can be taught.
        pool: ``(M, *S)`` inputs to ask about.
        folder: the lens's folder; it is saved there after each round, with the answers beside it.
        check: how many inputs are for checking.
        per_round: questions in a round.
        strategy: how the lens chooses; see :meth:`xlens.teaching.Teaching.query`.
        seed: seeds every choice.

    Raises:
        UnsupportedError: the lens cannot be taught, or has nothing to ask.
        OptionError: an unknown strategy, or a number out of range.
        DataError: the pool is too small.
        StorageError: the folder holds answers about another pool.
    """

    def __init__(
        self,
        explainer: Explainer | Fitted,
        pool: Tensor,
        folder: str | Path,
        *,
        check: int = 20,
        per_round: int = 10,
        strategy: Strategy = "power_mutual_information",
        seed: int = 0,
    ) -> None:
        faults = [
            f"{name} must be an int >= 1, got {value!r}"
            for name, value in (("check", check), ("per_round", per_round))
            if not is_count(value)
        ]
        if faults:
            raise OptionError("label: " + "; ".join(faults))
        self.fitted = as_fitted(explainer, "label", "explainer")
        self.teaching = Teaching(self.fitted)
        self.teaching.query(pool[:1], 1, "random", seed=seed)  # refuses what cannot be taught
        self.questions = tuple(self.fitted.require("teach").questions)
        if not self.questions:
            raise UnsupportedError("label: this lens has nothing to ask", do="fit it with side_info or kinds")
        self.teaching.query(pool[:1], 1, strategy, seed=seed)  # refuses what cannot be asked like this
        if len(pool) < check + per_round:
            least = check + per_round
            raise DataError("label: the pool is too small", given=len(pool), allowed=f"at least {least}")
        self.pool, self.folder = pool, Path(folder)
        self._per_round, self._strategy, self._seed = per_round, strategy, seed
        self._lock = threading.RLock()
        self.learning, self.fault = False, ""
        self._facts = self._restored(check)
        if self._finished():
            # It was stopped after the last answer of a round, and before that was learned.
            self._learn()

    def state(self) -> dict[str, Any]:
        """Return everything that the page shows, as plain JSON."""
        with self._lock:
            facts = self._facts
            waiting = [position for position in facts["asked"] if str(position) not in facts["answers"]]
            return {
                "questions": [{"name": q.name, "choices": list(q.choices)} for q in self.questions],
                "next": waiting[0] if waiting and not self.learning else None,
                "left": len(waiting),
                "checking": facts["round"] == 0,
                "round": facts["round"],
                "answered": len(facts["answers"]),
                "learning": self.learning,
                "fault": self.fault,
                "history": facts["history"],
                "done": not waiting and not self.learning and not self.fault,
            }

    def answer(self, position: int, values: Mapping[str, float | None]) -> bool:
        """Keep what a person says of an input, and return whether the round is complete.

        Args:
            position: of the input in the pool; it has to be among those that are asked about.
            values: name of a question -> answer; None, or no entry, where it cannot be told.

        Raises:
            DataError: another input or question, or an answer that is not among the choices.
        """
        row = [self._value(question, values) for question in self.questions]
        known = {question.name for question in self.questions}
        if strange := set(values) - known:
            raise DataError(f"label: there is no question {sorted(strange)[0]!r}", allowed=", ".join(sorted(known)))
        with self._lock:
            if position not in self._facts["asked"] or self.learning:
                raise DataError("label: this input is not asked about now", given=position)
            self._facts["answers"][str(position)] = row
            self._write()
            if self._finished():
                # From now on, and not from when the learning begins: the page would take the gap for the end.
                self.learning, self.fault = True, ""
            return self.learning

    def take_back(self) -> None:
        """Forget the last answer of this round."""
        with self._lock:
            given = [p for p in self._facts["asked"] if str(p) in self._facts["answers"]]
            if given and not self.learning:
                del self._facts["answers"][str(given[-1])]
                self._write()

    def finish_round(self) -> None:
        """Learn from a complete round, save the lens, and choose what to ask next; may take seconds."""
        if not self.learning:
            return
        try:
            self._learn()
        except Exception as fault:  # noqa: BLE001 - it is in a thread of its own, where nobody else would tell
            said = str(fault) if isinstance(fault, XlensError) else f"{type(fault).__name__}: {fault}"
            self.fault = f"{said} Every answer is kept: stop, and start xlens label again to learn from them."
        finally:
            self.learning = False

    def _learn(self) -> None:
        facts = self._facts
        if facts["round"]:
            rows = torch.tensor(facts["asked"])
            # Without the mask of the edits, which may take longer to fit than a person waits between two questions.
            self.teaching.teach(
                self.pool[rows], self._table(rows), refit_mask=False, seed=self._seed, progress=False
            )
            save_lens(self.fitted, self.folder)
        free = torch.tensor([p for p in range(len(self.pool)) if str(p) not in facts["answers"]], dtype=torch.long)
        chosen = torch.zeros(0, dtype=torch.long)
        if len(free):
            strategy = self._strategy if facts["round"] else "random"
            seed = (self._seed + facts["round"]) % 2**63
            chosen = self.teaching.query(self.pool[free], self._per_round, strategy, seed=seed)
        figure = self._figure()
        with self._lock:
            facts["history"].append({"taught": self._taught(), **figure})
            facts["round"] += 1
            facts["asked"] = free[chosen].tolist()
            self._write()

    def _figure(self) -> dict[str, float | None]:
        """Return exp(mean log p) on the inputs for checking, per question; None where too little is known yet."""
        positions = torch.tensor([int(key) for key in self._facts["answers"]])
        held = torch.isin(positions, torch.tensor(self._facts["check"]))
        taught, check = positions[~held], positions[held]
        found: dict[str, float | None] = {}
        codes = {name: self._codes(rows) for name, rows in (("taught", taught), ("check", check))}
        for a, question in enumerate(self.questions):
            try:
                one = interpretability(
                    codes["taught"],
                    self._table(taught)[:, a],
                    test_codes=codes["check"],
                    test_side_info=self._table(check)[:, a],
                )
                found[question.name] = round(float(one.likelihood), 4)
            except DataError:
                found[question.name] = None
        return found

    def _codes(self, rows: Tensor) -> Tensor:
        if not len(rows):
            return torch.zeros(0, 1)
        with torch.no_grad(), self.fitted.classifier.frozen(seed=0):
            return self.fitted.encode(self.pool[rows], _BATCH).cpu()

    def _table(self, rows: Tensor) -> Tensor:
        answers = [self._facts["answers"][str(int(row))] for row in rows]
        values = [[torch.nan if value is None else value for value in row] for row in answers]
        return torch.tensor(values, dtype=torch.float64).view(-1, len(self.questions))

    def _taught(self) -> int:
        return len(self._facts["answers"]) - len(self._facts["check"])

    def _finished(self) -> bool:
        facts = self._facts
        return bool(facts["asked"]) and all(str(position) in facts["answers"] for position in facts["asked"])

    @staticmethod
    def _value(question: Any, values: Mapping[str, float | None]) -> float | None:
        value = values.get(question.name)
        if value is None:
            return None
        right = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")
        if not right or (question.choices and value not in question.choices):
            allowed = ", ".join(f"{choice:g}" for choice in question.choices) or "a finite number"
            problem = f"label: no answer to {question.name!r}"
            raise DataError(problem, given=repr(value), allowed=f"{allowed}, or None")
        return float(value)

    def _restored(self, check: int) -> dict[str, Any]:
        path = self.folder / _FILE
        digest = hashlib.sha256(self.pool.contiguous().numpy().tobytes()).hexdigest()
        names = [question.name for question in self.questions]
        if not path.exists():
            order = torch.randperm(len(self.pool), generator=torch.Generator().manual_seed(self._seed))
            first = order[:check].tolist()
            facts = {"check": first, "asked": list(first), "answers": {}, "history": [], "round": 0}
            return {"format": _FORMAT, "pool": digest, "questions": names, **facts}
        try:
            facts = json.loads(path.read_text(encoding="utf-8"))
            same = facts["format"] == _FORMAT and facts["pool"] == digest and facts["questions"] == names
        except (ValueError, KeyError, TypeError):
            raise StorageError(f"label: {str(path)!r} is damaged", do="move it away to begin anew") from None
        if not same:
            raise StorageError(
                f"label: {str(path)!r} holds answers about other inputs or questions",
                do="pass the pool that it was begun with, or move the file away to begin anew",
            )
        return facts

    def _write(self) -> None:
        path = self.folder / _FILE
        try:
            write_whole(path, json.dumps(self._facts).encode())
        except OSError as fault:
            raise StorageError("label: cannot write the answers", given=fault, do="free the folder") from None
