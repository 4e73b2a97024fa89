"""What a person has answered, what is asked next, and what the lens has learned from it."""

from __future__ import annotations

import hashlib
import json
import secrets
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from xlens.contracts.explainer import Explainer
from xlens.contracts.numbers import is_count
from xlens.errors import DataError, OptionError, StorageError, UnsupportedError, XlensError, warn
from xlens.files.writing import UnflushedError, write_whole
from xlens.fitted import Fitted, as_fitted
from xlens.metrics import interpretability
from xlens.teaching.page.given import LARGEST, counts, in_a_line, is_answer
from xlens.teaching.page.lock import FolderLock
from xlens.teaching.page.saved import SavedLens
from xlens.teaching.teaching import Strategy, Teaching

__all__ = ["Session"]

_FILE = "answers.json"
_FORMAT = "xlens answers"
_BATCH = 64
#: Among the facts that are saved with a lens: which session taught it last, and up to which round.
_TAUGHT = "label"


class Session:
    """Rounds of questions about a pool of inputs.

    The first inputs, drawn at random, are for checking alone: what is answered about them is never learned from.
    Then rounds follow: the lens chooses, a person answers, it learns, and is saved. Every answer is on disk before
    the next question is asked, so that stopping at any moment loses nothing; a session on the same lens and pool
    goes on. The lens carries the round that it has learned, so that none is learned twice. One process at a time
    keeps answers in a folder.

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
        StorageError: the folder holds answers about another pool, or another process keeps answers there.

    Warns:
        XlensWarning: the lens has not learned from earlier rounds, as one that was fitted anew; it does so now.
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
        self.fitted = as_fitted(explainer, "label", "explainer", pool)
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
        self.learning, self.fault, self._unsaved = False, "", False
        folder_lock = FolderLock(self.folder)
        self._released = weakref.finalize(self, folder_lock.release)
        self._lock = folder_lock.turn
        try:
            with self._lock:
                self._saved = SavedLens(self.folder)
                self._facts = self._restored(check)
                if "before_marks" in self._facts:
                    self._keep()  # its name, before a lens is saved with it
                if self._finished():
                    # It was stopped after the last answer of a round, and before that was learned.
                    self._learn()
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Let go of the folder, for another process; a session that is no longer used does so by itself."""
        self._released()

    def state(self) -> dict[str, Any]:
        """Return everything that the page shows, as plain JSON; `turn` goes back with the answer."""
        with self._lock:
            facts = self._facts
            waiting = [position for position in facts["asked"] if str(position) not in facts["answers"]]
            return {
                "questions": [{"name": q.name, "choices": list(q.choices)} for q in self.questions],
                "next": waiting[0] if waiting and not self.learning else None,
                "turn": facts["turn"],
                "left": len(waiting),
                "of": len(facts["asked"]),
                "given": counts(self.questions, facts["answers"], facts["check"]),
                "checking": facts["round"] == 0,
                "round": facts["round"],
                "answered": len(facts["answers"]),
                "learning": self.learning,
                "fault": self.fault,
                "history": facts["history"],
                "done": not waiting and not self.learning and not self.fault,
            }

    def answer(self, position: int, values: Mapping[str, float | None], *, turn: str | None = None) -> bool:
        """Keep what a person says of an input, and return whether the round is complete.

        Args:
            position: of the input in the pool; it has to be among those that are asked about, and not answered.
            values: name of a question -> answer; None, or no entry, where it cannot be told.
            turn: what :meth:`state` gave with the question; an answer of another turn is refused. None takes any.

        Raises:
            DataError: another input, question or turn, or an answer that is not among the choices.
            StorageError: the answer cannot be written; it is as if it had not been given.
        """
        row = [self._value(question, values) for question in self.questions]
        known = {question.name for question in self.questions}
        if strange := [name for name in values if name not in known]:
            raise DataError(
                f"label: there is no question {in_a_line(strange[0])}", allowed=", ".join(sorted(known))
            )
        with self._lock:
            self._refuse_stale(turn)
            if position not in self._facts["asked"] or self.learning:
                raise DataError("label: this input is not asked about now", given=in_a_line(position))
            if str(position) in self._facts["answers"]:
                do = "take the last answer back to change it"
                raise DataError("label: this input is answered already", given=in_a_line(position), do=do)
            self._keep(answers={**self._facts["answers"], str(position): row})
            if self._finished():
                # From now on, and not from when the learning begins: the page would take the gap for the end.
                self.learning, self.fault = True, ""
            return self.learning

    def take_back(self, *, turn: str | None = None) -> None:
        """Forget the last answer of this round, if there is one and the round is not being learned.

        Args:
            turn: as for :meth:`answer`.

        Raises:
            DataError: another turn, or the lens has learned from the answer.
            StorageError: that cannot be written; the answer stays.
        """
        with self._lock:
            self._refuse_stale(turn)
            given = [p for p in self._facts["asked"] if str(p) in self._facts["answers"]]
            if not given or self.learning:
                return
            if self._learned() == self._facts["round"] > 0:
                raise DataError("label: the lens has learned from this answer", do="start xlens label again")
            answers = dict(self._facts["answers"])
            del answers[str(given[-1])]
            self._keep(answers=answers)

    def finish_round(self) -> None:
        """Learn from a complete round, save the lens, and choose what to ask next; may take seconds."""
        if not self.learning:
            return
        try:
            self._learn()
        except Exception as fault:  # noqa: BLE001 - it is in a thread of its own, where nobody else would tell
            self.give_up(fault)
        finally:
            self.learning = False

    def give_up(self, fault: Exception) -> None:
        """Say why a complete round is not learned."""
        said = str(fault) if isinstance(fault, XlensError) else f"{type(fault).__name__}: {fault}"
        self.fault = f"{said} Every answer is kept: stop, and start xlens label again to learn from them."
        self.learning = False

    def _learn(self) -> None:
        facts = self._facts
        with self._lock:
            self._refuse_changed()
            self._saved.refuse_replaced()
        if facts["round"] and self._learned() != facts["round"]:
            rows = torch.tensor(self._to_learn())
            # Without the mask of the edits, which may take longer to fit than a person waits between two questions.
            self.teaching.teach(
                self.pool[rows], self._table(rows), refit_mask=False, seed=self._seed, progress=False
            )
            self.fitted.provenance[_TAUGHT] = {"session": facts["session"], "round": facts["round"]}
            self._unsaved = True
        if self._unsaved:
            # With the round in it, and before the answers say that it is over: stopped in between, it is known.
            self._saved.save(self.fitted)
            self._unsaved = False
        free = torch.tensor([p for p in range(len(self.pool)) if str(p) not in facts["answers"]], dtype=torch.long)
        chosen = torch.zeros(0, dtype=torch.long)
        if len(free):
            strategy = self._strategy if facts["round"] else "random"
            seed = (self._seed + facts["round"]) % 2**63
            chosen = self.teaching.query(self.pool[free], self._per_round, strategy, seed=seed)
        history = [*facts["history"], {"taught": self._taught(), **self._figure()}]
        with self._lock:
            self._keep(history=history, round=facts["round"] + 1, asked=free[chosen].tolist())

    def _learned(self) -> int:
        """Return the round of this session that the lens has learned last, or 0."""
        said = self.fitted.provenance.get(_TAUGHT)
        if isinstance(said, Mapping) and said.get("session") == self._facts["session"]:
            return said["round"] if is_count(said.get("round")) else 0
        return 0

    def _to_learn(self) -> list[int]:
        """Return what the lens has to learn now: this round; of a lens that knows none of them, every one."""
        facts, learned = self._facts, self._learned()
        if learned == facts["round"] - 1 or facts.get("before_marks", 0) >= facts["round"] - 1:
            return facts["asked"]
        if learned:
            raise StorageError(
                "label: lens and answers do not belong together",
                given=f"a lens that has learned round {learned}, and answers of round {facts['round']}",
                do=f"put the lens back that was saved with {_FILE}, or fit it anew: it then learns every answer",
            )
        warn(
            f"label: this lens has not learned from the first {facts['round'] - 1} rounds of answers; it does now."
        )
        return [int(key) for key in facts["answers"] if int(key) not in set(facts["check"])]

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
        right = isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST
        if not right or (question.choices and value not in question.choices):
            allowed = ", ".join(f"{choice:g}" for choice in question.choices) or "a finite number"
            problem = f"label: no answer to {question.name!r}"
            raise DataError(problem, given=in_a_line(value), allowed=f"{allowed}, or None")
        return float(value)

    def _refuse_stale(self, turn: str | None) -> None:
        if turn is not None and turn != self._facts["turn"]:
            raise DataError("label: this is not what is asked any more", do="look at what is shown now")

    def _restored(self, check: int) -> dict[str, Any]:
        path = self.folder / _FILE
        digest = hashlib.sha256(self.pool.contiguous().numpy().tobytes()).hexdigest()
        names = [question.name for question in self.questions]
        self._on_disk = self._read()
        if self._on_disk is None:
            order = torch.randperm(len(self.pool), generator=torch.Generator().manual_seed(self._seed))
            first = order[:check].tolist()
            facts: dict[str, Any] = {"check": first, "asked": list(first), "answers": {}, "history": [], "round": 0}
            ids = {name: secrets.token_hex(8) for name in ("session", "turn")}
            return {"format": _FORMAT, "pool": digest, "questions": names, **ids, **facts}
        try:
            facts = json.loads(self._on_disk)
            same = facts["format"] == _FORMAT and facts["pool"] == digest and facts["questions"] == names
            whole = not same or self._is_whole(facts)
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            same, whole = True, False
        if not whole:
            raise StorageError(f"label: {str(path)!r} is damaged", do="move it away to begin anew")
        if not same:
            raise StorageError(
                f"label: {str(path)!r} holds answers about other inputs or questions",
                do="pass the pool that it was begun with, or move the file away to begin anew",
            )
        if "session" not in facts:
            # Of a version that did not note in the lens what it has learned: taken at the word of the answers.
            ids = {name: secrets.token_hex(8) for name in ("session", "turn")}
            facts |= {**ids, "before_marks": max(0, facts["round"] - 1)}
        return facts

    def _is_whole(self, facts: Any) -> bool:
        """Whether every fact is of the kind that was written."""
        n, wide, answers = len(self.pool), len(self.questions), facts["answers"]
        counts = facts["round"], facts.get("before_marks", 0)
        drawn = facts["check"], facts["asked"], [int(key) for key in answers]
        return (
            all(type(count) is int and count >= 0 for count in counts)
            and isinstance(facts.get("session", ""), str)
            and ("session" not in facts or isinstance(facts["turn"], str))
            and all(type(p) is int and 0 <= p < n for part in drawn for p in part)
            and all(len(set(part)) == len(part) for part in drawn)
            and all(str(int(key)) == key and len(row) == wide for key, row in answers.items())
            and all(is_answer(value) for row in answers.values() for value in row)
            and (not facts["round"] or set(facts["check"]) <= set(drawn[2]))
            and all(self._is_figure(one) for one in facts["history"])
        )

    def _is_figure(self, one: Any) -> bool:
        return type(one["taught"]) is int and all(is_answer(one[question.name]) for question in self.questions)

    def _keep(self, **changed: Any) -> None:
        """Write changed facts; only what is on disk is known here, too."""
        facts = {**self._facts, **changed, "turn": secrets.token_hex(8)}
        self._refuse_changed()
        self._write(json.dumps(facts).encode())
        self._facts = facts

    def _refuse_changed(self) -> None:
        """Refuse to go on over answers that somebody else has written meanwhile."""
        if self._read() != self._on_disk:
            raise StorageError(
                f"label: {str(self.folder / _FILE)!r} was changed by somebody else", do="start xlens label again"
            )

    def _read(self) -> bytes | None:
        path = self.folder / _FILE
        try:
            return path.read_bytes() if path.exists() else None
        except OSError as fault:
            raise StorageError("label: cannot read the answers", given=fault, do="free the folder") from None

    def _write(self, content: bytes) -> None:
        path = self.folder / _FILE
        try:
            write_whole(path, content)
        except UnflushedError as fault:
            warn(f"label: the answers are kept, but {fault.strerror}")
        except OSError as fault:
            raise StorageError("label: cannot write the answers", given=fault, do="free the folder") from None
        self._on_disk = content
