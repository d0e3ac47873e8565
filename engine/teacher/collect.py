"""Request the answers that the journal lacks, and convert them to traces.

Many requests are in flight at a time. One loop owns all state: which questions wait and until when, which are
in flight, and the money spent. It can be killed at any moment. Received answers are in the journal, and the
next attempt requests the others.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from engine.context import Context, StageFailed, StopRequested
from engine.data import locations
from engine.data.progress import Progress
from engine.data.rows import DataRow
from engine.data.trace import Trace
from engine.server_client.connection import AsyncServerConnection
from engine.server_client.errors import NoAnswer
from engine.teacher.budget import Budget
from engine.teacher.chosen import chosen
from engine.teacher.cleaning import clean_answers
from engine.teacher.given_up import GivenUp, report_given_up
from engine.teacher.journal import AnswerJournal, JournalTaken, TeacherAnswer
from engine.teacher.key import KeyMissing, find_key
from engine.teacher.pace import Pace
from engine.teacher.request import EmptyAnswer, QuestionRefused, TeacherReply, TryAgain, ask
from profiles.schema import Traces
from store.events import LogLine

STAGE = "traces"
# Seconds between checks for commands, and between syncs of the journal.
TICK = 0.2
# After this many consecutive questions without an answer, the teacher counts as absent. If it has answered
# others, more questions may fail, because refusals can collect at the end.
STALL_QUESTIONS = 5
STALL_QUESTIONS_AFTER_ANSWERS = 20
# Each empty answer is paid for, so a question with this many is not sent again.
_EMPTY = 3


@dataclass(order=True, slots=True)
class Question:
    """One wanted sample, ordered by the time at which it may be sent.

    `not_before` is that time (`time.monotonic`, seconds), `place` the index in the list of all questions.
    `empty` counts the attempts that got an empty answer.
    """

    not_before: float
    place: int
    row: DataRow = field(compare=False)
    sample: int = field(compare=False)
    messages: list[dict[str, str]] = field(compare=False)
    attempts: int = field(default=0, compare=False)
    empty: int = field(default=0, compare=False)

    @property
    def characters(self) -> int:
        """Length of its prompt in characters."""
        return sum(len(message["content"]) for message in self.messages)


def collect(context: Context, rows: Sequence[DataRow]) -> tuple[list[Trace], dict[str, Any]]:
    """Return traces for `rows` and a report.

    Every question must be answered or given up first.
    Received answers survive every failure.
    Raises: StageFailed if more questions than `traces.max_failed` allows have no answer.
    """
    settings = context.profile.traces
    wanted = chosen(rows, settings.limit, context.profile.data.seed)
    with _journal(context) as journal:
        missing = questions(wanted, context.profile.preprocess.system_prompt, settings.samples, journal)
        budget = Budget(settings, *journal.tokens(), len(journal.answers))
        began = time.monotonic()
        faults: dict[tuple[str, int], str] = {}
        if missing:
            _announce(context, budget, missing, len(journal.answers))
            faults = _ask_all(context, missing, journal, budget)
        places = [(row.ex_id, sample) for row in wanted for sample in range(settings.samples)]
        answers = [journal.answers.get(place) for place in places]
        given_up = {
            place: GivenUp(place[0], place[1], refused.text, refused=True)
            if (refused := journal.refused.get(place))
            else GivenUp(*place, faults[place], refused=False)
            for place in places
            if place not in journal.answers
        }
        report_given_up(context, list(given_up.values()), len(places), journal.path)
    facts = {
        "source": "api",
        "model": settings.model,
        "asked_now": len(missing),
        "seconds": round(time.monotonic() - began, 1),
        "prompt_tokens": budget.prompt_tokens,
        "completion_tokens": budget.completion_tokens,
        "dollars": round(budget.spent, 4),
        "given_up": [asdict(question) for question in given_up.values()],
    }
    return clean_answers(wanted, answers, context.profile, facts)


def _journal(context: Context) -> AnswerJournal:
    """Open the journal once no other run sends the same questions.

    Runs of several seeds share the answers.
    """
    folder = locations.answers_folder(
        context.folder.home, context.profile, locations.stored_keys(context.folder)
    )
    waits = False
    while True:
        try:
            journal = AnswerJournal(folder)
            _report_damage(context, journal)
            return journal
        except JournalTaken:
            if not waits:
                message = "waiting for another run that asks the same questions"
                context.emit(LogLine("info").event(message, STAGE))
            waits = True
            context.control.boundary()
            time.sleep(TICK)


def _report_damage(context: Context, journal: AnswerJournal) -> None:
    """Log the unusable lines; their questions are sent, and paid for, again."""
    if journal.damaged:
        lines = ", ".join(map(str, journal.damaged[:20])) + ", …" * (len(journal.damaged) > 20)
        message = (
            f"{journal.path}: {len(journal.damaged):,} damaged lines ({lines}) are left out and stay in the file; "
            "questions that have no other line are asked again"
        )
        context.emit(LogLine("warning").event(message, STAGE))


def questions(
    rows: Sequence[DataRow], instruction: str, samples: int, journal: AnswerJournal
) -> list[Question]:
    """Return the samples that the journal does not list.

    It lists those that are answered or refused.
    The instruction is part of the question, because R1 must not have a system prompt.
    """
    found: list[Question] = []
    settled = journal.answers.keys() | journal.refused.keys()
    for row, sample in itertools.product(rows, range(samples)):
        if (row.ex_id, sample) not in settled:
            content = f"{row.question}\n\n{instruction}" if instruction else row.question
            found.append(Question(0.0, len(found), row, sample, [{"role": "user", "content": content}]))
    return found


def _announce(context: Context, budget: Budget, missing: list[Question], had: int) -> None:
    settings = context.profile.traces
    dollars = budget.estimate(sum(question.characters for question in missing), len(missing))
    message = (
        f"{len(missing):,} questions to {settings.model} (answered before: {had:,}), about ${dollars:,.2f}; "
        f"spent so far ${budget.spent:,.2f}, cap ${settings.spending_cap:,.2f}"
    )
    level = "warning" if budget.spent + dollars > settings.spending_cap else "info"
    context.emit(LogLine(level, estimate_dollars=round(dollars, 4)).event(message, STAGE))


def _ask_all(
    context: Context, missing: list[Question], journal: AnswerJournal, budget: Budget
) -> dict[tuple[str, int], str]:
    """Send all of `missing`; return why some remain unanswered."""
    settings = context.profile.traces
    try:
        key = find_key(settings)
    except KeyMissing as error:
        raise StageFailed(str(error)) from None
    collection = _Collection(context, settings, key, missing, journal, budget)
    asyncio.run(collection.run())
    return collection.faults


class _Collection:
    """The state of one attempt to collect answers."""

    def __init__(
        self,
        context: Context,
        settings: Traces,
        key: str,
        missing: list[Question],
        journal: AnswerJournal,
        budget: Budget,
    ) -> None:
        self._context, self._settings, self._key = context, settings, key
        self._journal, self._budget = journal, budget
        # A heap.
        self._waiting = list(missing)
        self._running: dict[asyncio.Task[TeacherReply], tuple[Question, float]] = {}
        self._pace = Pace(settings.concurrency, context.seed)
        before = len(journal.answers)
        self._progress = Progress(context.emit, STAGE, before + len(missing), "answers", before)
        # False while the run is paused.
        self._open = True
        self._stopping = False
        self._failure: StageFailed | None = None
        self.faults: dict[tuple[str, int], str] = {}
        # Not yet in the journal.
        self._refusals: list[TeacherAnswer] = []
        # Questions given up since the last answer.
        self._in_a_row = 0

    async def run(self) -> None:
        """Return when every question has an answer or was given up."""
        async with self._connection() as server:
            watch = asyncio.create_task(self._watch())
            try:
                # Requests in flight have been paid for, so they are awaited whatever ends the stage.
                while self._running or (self._waiting and self._may_continue()):
                    self._start(server)
                    await self._wait()
                    if watch.done():
                        watch.result()
                if self._is_stalled() and not self._journal.answers:
                    self._failure = self._failure or self._no_answer_failure()
                elif not self._is_stalled():
                    self._record_refusals()
            finally:
                await _cancelled(watch, *self._running)
        if self._stopping:
            raise StopRequested
        if self._failure is not None:
            raise self._failure

    def _may_continue(self) -> bool:
        """Return True if more questions may be sent.

        Set the failure if the teacher seems absent and nothing is in flight.
        """
        if self._is_stalled() and not self._running:
            self._failure = self._failure or self._no_answer_failure()
        return self._failure is None and not self._stopping

    def _no_answer_failure(self) -> StageFailed:
        last = next(reversed(self.faults.values()))
        return StageFailed(
            f"traces: {self._settings.base_url} answered none of {self._in_a_row} questions in a row (last: {last}); "
            "check it and run again, answers are kept"
        )

    def _is_stalled(self) -> bool:
        return self._in_a_row >= (STALL_QUESTIONS_AFTER_ANSWERS if self._journal.answers else STALL_QUESTIONS)

    def _connection(self) -> AsyncServerConnection:
        url, settings = self._settings.base_url, self._settings
        try:
            return AsyncServerConnection(url, self._key, settings.timeout_seconds, settings.concurrency)
        except NoAnswer as error:
            raise StageFailed(f"traces.base_url {url}: {error}; correct it") from None

    def _start(self, server: AsyncServerConnection) -> None:
        now = time.monotonic()
        while self._may_start(now):
            reserved = self._budget.reserve(self._waiting[0].characters)
            if reserved is None:
                if self._running:
                    # Requests in flight may turn out cheaper than reserved.
                    return
                self._failure = StageFailed(
                    f"traces: the spending cap of ${self._settings.spending_cap:,.2f} does not allow another question "
                    f"(${self._budget.spent:,.2f} spent, {len(self._waiting):,} left); raise traces.spending_cap "
                    "or set traces.limit, answers are kept"
                )
                return
            question = heapq.heappop(self._waiting)
            question.attempts += 1
            task = asyncio.create_task(ask(server, self._settings, question.messages, self._key))
            self._running[task] = question, reserved

    def _may_start(self, now: float) -> bool:
        return self._has_room() and bool(self._waiting) and self._waiting[0].not_before <= now

    def _has_room(self) -> bool:
        is_held = self._failure is not None or self._stopping or self._is_stalled()
        return self._open and not is_held and len(self._running) < int(self._pace.limit)

    async def _wait(self) -> None:
        """Wait until a request has ended, or another may start."""
        timeout = TICK
        if self._waiting and self._has_room():
            timeout = min(max(self._waiting[0].not_before - time.monotonic(), 0.001), TICK)
        if not self._running:
            await asyncio.sleep(timeout)
            return
        done, _ = await asyncio.wait(self._running, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            try:
                self._settle(task, *self._running.pop(task))
            except StageFailed as error:
                self._failure = self._failure or error

    def _settle(self, task: asyncio.Task[TeacherReply], question: Question, reserved: float) -> None:
        """Keep the answer, retry later, or give the question up.

        Raises: StageFailed if further questions cannot be sent.
        """
        try:
            reply = task.result()
        except TryAgain as error:
            self._retry(question, reserved, error)
        except QuestionRefused as error:
            self._budget.settle(reserved, error.prompt_tokens, error.completion_tokens)
            self._refuse(question, str(error), error.prompt_tokens, error.completion_tokens)
        else:
            self._budget.settle(reserved, reply.prompt_tokens, reply.completion_tokens)
            self._pace.succeeded()
            self._in_a_row = 0
            self._journal.append(TeacherAnswer(question.row.ex_id, question.sample, **asdict(reply)))
            self._record_refusals()
            self._progress.advance(
                tokens=self._budget.prompt_tokens + self._budget.completion_tokens,
                dollars=round(self._budget.spent, 4),
                in_flight=len(self._running),
            )

    def _retry(self, question: Question, reserved: float, error: TryAgain) -> None:
        self._pace.failed()
        lost = (question.characters // 4, self._budget.typical_completion) if error.billed else (0, 0)
        self._budget.settle(reserved, *lost)
        if error.billed:
            self._journal.append(
                TeacherAnswer(question.row.ex_id, question.sample, str(error), "", "lost", *lost)
            )
        question.empty += isinstance(error, EmptyAnswer)
        if question.empty == min(_EMPTY, self._settings.attempts):
            self._refuse(question, f"{question.empty} empty answers")
        elif question.attempts < self._settings.attempts:
            question.not_before = time.monotonic() + self._pace.wait(question.attempts - 1, error.wait)
            heapq.heappush(self._waiting, question)
        else:
            self._give_up(question, f"{error}, {question.attempts} tries")

    def _refuse(
        self, question: Question, reason: str, prompt_tokens: int = 0, completion_tokens: int = 0
    ) -> None:
        """Give the question up permanently.

        The teacher must be known not to refuse everything.
        """
        refusal = TeacherAnswer(
            question.row.ex_id, question.sample, reason, "", "refused", prompt_tokens, completion_tokens
        )
        self._refusals.append(refusal)
        self._give_up(question, reason)

    def _record_refusals(self) -> None:
        """Write refusals to the journal.

        A teacher without any answer may refuse everything for another reason, so nothing is written then.
        """
        if self._journal.answers:
            for refusal in self._refusals:
                self._journal.append(refusal)
            self._refusals.clear()

    def _give_up(self, question: Question, reason: str) -> None:
        """Count a question that has no answer."""
        self.faults[question.row.ex_id, question.sample] = reason
        self._in_a_row += 1

    async def _watch(self) -> None:
        """Check for commands and sync the journal, off the loop's thread."""
        while True:
            seen = asyncio.create_task(asyncio.to_thread(self._context.control.boundary))
            done, _ = await asyncio.wait([seen], timeout=TICK)
            self._open = bool(done)
            try:
                await seen
            except StopRequested:
                self._stopping = True
                return
            self._open = True
            await asyncio.to_thread(self._journal.sync)
            await asyncio.sleep(TICK)


async def _cancelled(*tasks: asyncio.Task[Any]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
