"""The report: what the service answered otherwise than the emulator, question by question, sealed.

The seal is over the document without it. With AUDIT_KEY it is the seal of the audit trail: nobody else can make it.
"""

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import orjson

from migrations.certifying.asking import Answered
from migrations.certifying.metering import Meter
from migrations.certifying.question import Question
from migrations.certifying.runs import Run
from vecfleet import __version__
from vecfleet.errors import BadInput
from vecfleet.private import write_private

_SEAL = "seal"
_FORM = 1


def document(run: Run, answers: Sequence[Answered], meter: Meter, unasked: Sequence[Answered] = ()) -> dict[str, Any]:
    """Return the report as a document, without its seal. `unasked`: what nobody wanted to be asked, and why not."""
    return {
        "report": _FORM,
        "vecfleet": __version__,
        "service": run.address,
        "account": run.account,
        "run": run.number,
        "begun": run.begun.isoformat(timespec="seconds"),
        "ended": datetime.now(UTC).isoformat(timespec="seconds"),
        "questions": len(answers),
        "differences": [
            {**_asked(answered.question), "emulator": answered.question.belief, "service": answered.answer}
            for answered in answers
            if answered.differs
        ],
        "unanswered": [
            {**_asked(answered.question), "why": answered.why} for answered in answers if answered.answer is None
        ],
        "unasked": [{**_asked(question.question), "why": question.why} for question in unasked],
        "agreements": [
            {**_asked(answered.question), "both": answered.answer}
            for answered in answers
            if answered.answer == answered.question.belief
        ],
        "unpriced": meter.unpriced,
        "budget_dollars": meter.budget,
        "spent_dollars": round(meter.dollars, 6),
        "read_units": round(meter.spent.read_units, 1),
        "write_units": round(meter.spent.write_units, 1),
        "requests": meter.spent.requests,
    }


def _asked(question: Question) -> dict[str, str]:
    asked = {"id": question.id, "question": question.asks, "matters": question.because}
    return {**asked, "switch": question.switch} if question.switch is not None else asked


def text_of(report: dict[str, Any]) -> str:
    """Return the text over which the seal is made."""
    unsealed = {key: value for key, value in report.items() if key != _SEAL}
    return orjson.dumps(unsealed, option=orjson.OPT_SORT_KEYS).decode()


def write(folder: Path, report: dict[str, Any], seal: Callable[[str], str]) -> Path:
    """Write the report with its seal, and a page of it beside. Return the path of the report."""
    sealed = {**report, _SEAL: seal(text_of(report))}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"certify-{report['run']}.json"
    write_private(path, orjson.dumps(sealed, option=orjson.OPT_INDENT_2))
    write_private(path.with_suffix(".md"), page(sealed))
    return path


def read(path: Path) -> tuple[dict[str, Any], str]:
    """Return a report and its seal. Raises BadInput for any other file."""
    try:
        report = orjson.loads(path.read_bytes())
        return report, str(report[_SEAL])
    except (OSError, orjson.JSONDecodeError, LookupError, TypeError) as error:
        raise BadInput(f"{path} is no report of `vecfleet certify`", next_step="name the .json file of one") from error


def page(report: dict[str, Any]) -> str:
    """Return the report as a page of Markdown."""
    parts = ("differences", "unanswered", "unasked", "agreements")
    differences, unanswered, unasked, agreements = (report[name] for name in parts)
    unpriced = "".join(f" Not counted: {what}, whose price is in no price table." for what in report["unpriced"])
    lines = [
        f"# The emulator against {report['service']}",
        "",
        f"{report['questions']} questions, asked by vecfleet {report['vecfleet']} from {report['begun']} to "
        f"{report['ended']}: {len(agreements)} answered as the emulator answers, {len(differences)} otherwise, "
        f"{len(unanswered)} not. Cost: ${report['spent_dollars']:.4f} of ${report['budget_dollars']:.2f}.{unpriced}",
        "",
        "## Differences",
        "",
        *_rows(differences, ("emulator", "service")),
        "## Not answered",
        "",
        *_rows(unanswered, ("why",)),
        "## Not asked",
        "",
        *_rows(unasked, ("why",)),
        "## Agreements",
        "",
        *_rows(agreements, ("both",)),
        f"Seal of the report: `{report[_SEAL]}`",
        "",
    ]
    return "\n".join(lines)


def _rows(entries: Sequence[dict[str, str]], columns: Sequence[str]) -> list[str]:
    if not entries:
        return ["None.", ""]
    names = ("id", "question", *columns, "matters")
    rows = [[_cell(entry[name]) for name in names] for entry in entries]
    table = [list(names), ["---"] * len(names), *rows]
    return [*(f"| {' | '.join(row)} |" for row in table), ""]


def _cell(text: str) -> str:
    return text.replace("\\", "\\\\").replace("|", "\\|").replace("\n", " ")
