"""What a check says: one `Feedback` a mistake, one `Result` a question."""

from contextlib import contextmanager
from dataclasses import dataclass
from html import escape


class GradingError(Exception):
    """Something the person at the keyboard can put right; the message says what and how."""


class Feedback(Exception):
    """A wrong answer. `code` names the misconception (`"unbiased"`); the message says what to look at next."""

    def __init__(self, code: str, message: str):
        super().__init__(message)
        self.code, self.message = code, message


class Marks:
    """The points of one question, collected part by part, and the feedback of the parts that failed."""

    def __init__(self):
        self.points, self.feedback = 0.0, []

    @contextmanager
    def part(self, points: float):
        """Gives `points` unless the block raises `Feedback`."""
        try:
            yield
            self.points += points
        except Feedback as feedback:
            self.feedback.append(feedback)


@dataclass(frozen=True)
class Result:
    """One question, judged. `status` is ok, wrong, crashed, timeout, or pending (a text that a person has to read);
    `code` names the misconception and is "" when the answer is right. `text`: what a person has to read."""

    question: str
    points: float
    max: float
    status: str
    code: str = ""
    message: str = "Right."
    text: str = ""
    open: bool = False

    @property
    def score(self) -> str:
        if self.open:
            return f"not all right yet, {self.max:g} points in all"
        return f"up to {self.max:g} points" if self.status == "pending" else f"{self.points:g} of {self.max:g} points"

    def __str__(self):
        return f"{self.question}: {self.score}. {self.message}"

    __repr__ = __str__

    def _repr_html_(self):
        # No colours of its own, so that it is legible on a light and on a dark page; the sign carries the meaning.
        sign = {"ok": "✓", "pending": "✎"}.get(self.status, "✗")
        paragraphs = "".join(f"<p>{escape(line)}</p>" for line in self.message.splitlines())
        return (
            f'<div class="check check-{self.status}" role="status" style="border-left:4px solid;padding:0 1em">'
            f"<p><strong>{sign} {self.question}: {self.score}</strong></p>{paragraphs}</div>"
        )


class Results(list):
    """Results of several questions, with their sum. What a person has yet to read counts neither for nor against."""

    @property
    def total(self) -> str:
        decided = [r for r in self if r.status != "pending"]
        open_points = sum(r.max for r in self if r.status == "pending")
        rest = f", and up to {open_points:g} for what a person reads" if open_points else ""
        least = "at least " if any(r.open for r in self) else ""
        return f"{least}{sum(r.points for r in decided):g} of {sum(r.max for r in decided):g} points{rest}"

    def __str__(self):
        return "\n".join([*map(str, self), f"All in all: {self.total}."])

    __repr__ = __str__

    def _repr_html_(self):
        rows = "".join(f"<tr><td>{r.question}</td><td>{r.score}</td><td>{escape(r.message)}</td></tr>" for r in self)
        return (
            f"<table><thead><tr><th>Question</th><th>Points</th><th>Feedback</th></tr></thead><tbody>{rows}</tbody>"
            f"<tfoot><tr><th>Sum</th><th>{self.total}</th><td></td></tr></tfoot></table>"
        )
