"""A strict OpenAI-compatible server that fails on purpose: the standard library alone, one process of its own.

    python fake_teacher.py FOLDER LATENCY_SECONDS FAILURE_SHARE RETRY_AFTER_SECONDS

Prints its port when it listens. Writes FOLDER/log.jsonl, a line for every request that it served or refused. A share of
the requests fail, by turns: 429 with Retry-After, 500, a connection dropped at once, malformed JSON, a cut body. It
answers 400 to whatever the protocol does not know, 401 to a wrong key, and notes a retry before its Retry-After. Words
in a question choose how it is answered: `forbidden` 400, `filtered` with finish_reason content_filter, `silent` with
nothing, `later` with 503 the first time; `boxonly`, `thinks`, `renamed` and `plainly` where the reasoning stands.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import sys
import time
from pathlib import Path
from typing import Any

KEY = "sk-teacher-0123456789abcdef"
MODEL = "deepseek-reasoner"
ALLOWED = {"model", "messages", "max_tokens", "temperature"}
REFUSED = (400, "Content Exists Risk")
FAILURES = ("429", "500", "drop", "malformed", "cut")


class Teacher:
    """The state of the server: what it has seen."""

    def __init__(self, folder: Path, latency: float, share: float, retry_after: float) -> None:
        self.latency, self.share, self.retry_after = latency, share, retry_after
        self.log = (folder / "log.jsonl").open("a", buffering=1)
        self.random = random.Random(7)
        self.requests = self.in_flight = self.most = self.failed = 0
        self.not_before: dict[str, float] = {}
        self.put_off: set[str] = set()

    async def connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self.request(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def request(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        """Answers one request; False: the connection ends."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        size = re.search(r"content-length: (\d+)", head, re.IGNORECASE)
        body = await reader.readexactly(int(size[1]) if size else 0)
        fault = self.fault(head, body)
        if fault:
            if fault == REFUSED:
                self.note(json.loads(body)["messages"][-1]["content"], "refused", early=False)
            return send(writer, fault[0], {"error": {"message": fault[1], "type": "invalid_request_error"}})
        question = json.loads(body)["messages"][-1]["content"]
        self.requests += 1
        self.in_flight += 1
        self.most = max(self.most, self.in_flight)
        try:
            return await self.serve(writer, question)
        finally:
            self.in_flight -= 1

    def fault(self, head: str, body: bytes) -> tuple[int, str] | None:
        if not head.startswith("POST /v1/chat/completions HTTP/1.1"):
            return 404, "no such address"
        if f"authorization: bearer {KEY}" not in head.lower():
            return 401, f"Incorrect API key provided: {KEY[:8]}***cdef"
        try:
            asked = json.loads(body)
        except json.JSONDecodeError:
            return 400, "not JSON"
        if set(asked) != ALLOWED or asked["model"] != MODEL or not asked["messages"]:
            return 400, f"unknown or missing fields: {sorted(asked)}"
        if any(set(message) != {"role", "content"} for message in asked["messages"]):
            return 400, "messages have role and content"
        return REFUSED if "forbidden" in asked["messages"][-1]["content"] else None

    async def serve(self, writer: asyncio.StreamWriter, question: str) -> bool:
        early = time.monotonic() < self.not_before.pop(question, 0.0)
        failure = self.choose_failure()
        if "later" in question and question not in self.put_off:
            self.put_off.add(question)
            self.note(question, "503", early)
            return send(writer, 503, {"error": {"message": "busy"}})
        self.note(question, failure or "answered", early=early)
        if failure == "429":
            self.not_before[question] = time.monotonic() + self.retry_after
            return send(
                writer, 429, {"error": {"message": "slow down"}}, f"Retry-After: {self.retry_after:g}\r\n"
            )
        if failure == "500":
            return send(writer, 500, {"error": {"message": "internal"}})
        if failure == "drop":
            return False
        await asyncio.sleep(self.latency)
        answer = json.dumps(completion(question))
        if failure == "malformed":
            return send_text(writer, 200, answer[: len(answer) // 2])
        if failure == "cut":
            writer.write(f"HTTP/1.1 200 OK\r\nContent-Length: {len(answer)}\r\n\r\n{answer[:40]}".encode())
            return False
        return send_text(writer, 200, answer)

    def choose_failure(self) -> str:
        if self.random.random() >= self.share:
            return ""
        self.failed += 1
        return FAILURES[self.failed % len(FAILURES)]

    def note(self, question: str, outcome: str, early: bool) -> None:
        row = {
            "question": question,
            "outcome": outcome,
            "early": early,
            "most": self.most,
            "time": time.time(),
        }
        self.log.write(json.dumps(row) + "\n")


def completion(question: str) -> dict[str, Any]:
    """The answer: one more than the first number in the question, with talk around it, as teachers do."""
    number = re.search(r"\d+", question)
    value = int(number[0]) + 1 if number else 0
    text = (
        "Okay, let's solve this step by step.\n\nPlease reason step by step, and put your final answer within "
        f"\\boxed{{}}.\nThere are {value - 1} and one more, so {value - 1} + 1 = {value}.\n\n"
        f"**Final Answer**\n\\[\n\\boxed{{{value}\\text{{ apples}}}}\n\\]"
    )
    message, finish = said(question, text, f"{value - 1} and one is {value}.", f"\\boxed{{{value}}}")
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": int(time.time()),
        "model": MODEL,
        "choices": [{"index": 0, "finish_reason": finish, "message": message, "logprobs": None}],
        "usage": {"prompt_tokens": 100, "completion_tokens": 200, "total_tokens": 300},
    }


def said(question: str, text: str, reasoning: str, box: str) -> tuple[dict[str, Any], str]:
    """The message and the finish reason, by the words in the question."""
    forms: dict[str, dict[str, Any]] = {
        "filtered": {"content": ""},
        "silent": {"content": None},
        "boxonly": {"content": box, "reasoning_content": reasoning},
        "thinks": {"content": f"<think>\n{reasoning}\n</think>\n\n{box}"},
        "renamed": {"content": box, "reasoning": reasoning},
        "plainly": {"content": text, "reasoning_content": None},
    }
    found = next((form for word, form in forms.items() if word in question), None)
    message = found or {"content": text, "reasoning_content": reasoning}
    return {"role": "assistant", **message}, "content_filter" if "filtered" in question else "stop"


def send(writer: asyncio.StreamWriter, status: int, body: Any, headers: str = "") -> bool:
    return send_text(writer, status, json.dumps(body), headers)


def send_text(writer: asyncio.StreamWriter, status: int, text: str, headers: str = "") -> bool:
    body = text.encode()
    head = f"HTTP/1.1 {status} Said\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n{headers}\r\n"
    writer.write(head.encode() + body)
    return True


async def main(folder: Path, latency: float, share: float, retry_after: float) -> None:
    teacher = Teacher(folder, latency, share, retry_after)
    server = await asyncio.start_server(teacher.connection, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), *map(float, sys.argv[2:5])))
