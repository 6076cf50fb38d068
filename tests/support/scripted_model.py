"""A model that knows a few rules: it explains, simulates and judges by them, through prompts alone.

It reads the prompt as a language model would, so that a prompt that loses or mixes up its rows
shows in the scores.
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from tests.support.llm_server import chat_answer

Rule = Callable[[Sequence[str]], list[float]]

_PIECES = re.compile(r"unknown|10|[0-9]| ?[A-Za-z]+|\t|\n|.", re.DOTALL)
_SPLIT_TEN = re.compile(r"unknown|[0-9]| ?[A-Za-z]+|\t|\n|.", re.DOTALL)
_EXPLAINED = re.compile(
    r"behavior: the main thing this neuron does is find (?P<text>[^\n]*)\nActivations:\n<start>\n"
)


class ScriptedModel:
    """Rules by the explanation's text; an explanation that names no rule predicts noise."""

    def __init__(self, rules: Mapping[str, Rule], *, ten_is_two_tokens: bool = False) -> None:
        self.rules = dict(rules)
        self._pattern = _SPLIT_TEN if ten_is_two_tokens else _PIECES
        self._top = 9 if ten_is_two_tokens else 10
        self._ids: dict[str, int] = {}

    # --- endpoints

    def chat(self, body: Mapping[str, Any]) -> dict[str, Any]:
        system, last = body["messages"][0]["content"], body["messages"][-1]["content"]
        if "response_format" in body and "probe" in json.dumps(body["response_format"]):
            return chat_answer('{"word": "quorl-7"}')
        if last.startswith("Write the number ten"):
            return self._ten()
        if "predict how strongly the neuron fires on the last token" in system:
            return self._one_token(last, body)
        if "numbered tokens" in system:
            return self._schema(last)
        if "For each document decide" in system:
            return self._judge(last, system)
        return chat_answer(" " + self.explain(last) + ".")

    def complete(self, body: Mapping[str, Any]) -> dict[str, Any]:
        prompt = body["prompt"]
        if isinstance(prompt, str):
            tokens = self.pieces(prompt)
        else:
            names = {i: t for t, i in self._ids.items()}
            tokens = [names[i] for i in prompt]
        places = self._prompt_logprobs(tokens)
        by_id = [
            None if p is None else self._by_id(p, t) for p, t in zip(places, tokens, strict=True)
        ]
        return {
            "id": "cmpl-1",
            "object": "text_completion",
            "created": 0,
            "model": "scripted",
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "length",
                    "text": "".join(tokens),
                    "logprobs": {
                        "tokens": tokens,
                        "token_logprobs": [None, *([-1.0] * (len(tokens) - 1))],
                        "top_logprobs": places,
                        "text_offset": [-1] * len(tokens),
                    },
                    "prompt_logprobs": by_id,
                }
            ],
            "usage": {"prompt_tokens": len(tokens), "completion_tokens": 0, "total_tokens": 0},
        }

    def tokenise(self, body: Mapping[str, Any]) -> dict[str, Any]:
        return {"tokens": [self.token_id(piece) for piece in self.pieces(body["prompt"])]}

    # --- what it knows

    def explain(self, prompt: str) -> str:
        block = prompt.split("<start>\n", 1)[1].split("\n\n")[0]
        rows = [row.rpartition("\t") for row in block.split("\n") if "\t" in row]
        tokens, shown = [r[0] for r in rows], np.array([float(r[2]) for r in rows])
        fits = {t: np.abs(np.array(rule(tokens)) - shown).sum() for t, rule in self.rules.items()}
        return min(fits, key=lambda text: fits[text])

    def activations(self, explanation: str, tokens: Sequence[str]) -> list[float]:
        rule = self.rules.get(explanation.strip().rstrip("."))
        if rule is not None:
            return [min(self._top, a) for a in rule(tokens)]
        return [float(sum(t.encode()) * 7 % 13 == 0) * 3 for t in tokens]

    # --- how it says so

    def pieces(self, text: str) -> list[str]:
        return self._pattern.findall(text)

    def token_id(self, piece: str) -> int:
        return self._ids.setdefault(piece, len(self._ids) + 5)

    def _prompt_logprobs(self, tokens: list[str]) -> list[dict[str, float] | None]:
        text = "".join(tokens)
        matches = list(_EXPLAINED.finditer(text))
        places: list[dict[str, float] | None] = [None]
        if not matches:
            return places + [{t: -0.5, "the": -1.5} for t in tokens[1:]]
        places += [{t: -0.5} for t in tokens[1:]]
        start = matches[-1].end()
        rows = text[start:].split("\n<end>\n")[0].split("\n")
        values = self.activations(matches[-1]["text"], [row.rpartition("\t")[0] for row in rows])
        at, row = 0, 0
        for i, token in enumerate(tokens):
            if at >= start and token == "unknown" and tokens[i - 1] == "\t":
                places[i] = {**self.distribution(values[row]), "unknown": math.log(0.2)}
                row += 1
            at += len(token)
        assert row == len(rows)
        return places

    def distribution(self, value: float) -> dict[str, float]:
        number = round(value)
        beside = number - 1 if number else 1
        return {str(number): math.log(0.6), str(beside): math.log(0.1), "x": math.log(0.1)}

    def _by_id(self, logprobs: Mapping[str, float], own: str) -> dict[str, Any]:
        return {
            str(self.token_id(t)): {"logprob": lp, "rank": 1, "decoded_token": t}
            for t, lp in {own: -3.0, **logprobs}.items()
        }

    def _ten(self) -> dict[str, Any]:
        parts = self.pieces("10")
        return chat_answer(
            "10", tokens=[(p, {p: 0.9, "0": 0.05, "x": 0.01, "y": 0.01, "z": 0.01}) for p in parts]
        )

    def _one_token(self, last: str, body: Mapping[str, Any]) -> dict[str, Any]:
        explained = re.search(r"Explanation: the main thing this neuron does is find (.*)\n", last)
        text = re.search(r"\nText: (.*)\nLast token in the text: (.*)\n", last)
        assert explained is not None
        assert text is not None
        tokens = words(text[1])
        value = self.activations(explained[1], tokens)[-1]
        top = {t: math.exp(lp) for t, lp in self.distribution(value).items()}
        parts = self.pieces(str(round(value)))[: body["max_tokens"]]
        return chat_answer("".join(parts), finish="length", tokens=[(p, top) for p in parts])

    def _schema(self, last: str) -> dict[str, Any]:
        document = json.loads(last)
        tokens = [entry["token"] for entry in document["tokens"]]
        values = self.activations(document["explanation"], tokens)
        named = [{"i": i, "a": round(v)} for i, v in enumerate(values) if round(v) > 0]
        return chat_answer(json.dumps({"nonzero": named}))

    def _judge(self, last: str, system: str) -> dict[str, Any]:
        explanation = re.search(r"Explanation: (.*)\n", last)
        marks = re.search(r"put between (\S+) and (\S+)\.", system)
        assert explanation is not None
        texts = re.findall(r"^Document \d+: (.*)$", last, re.MULTILINE)
        verdicts = [self._fits(explanation[1], text, marks) for text in texts]
        tokens = [("[", {"[": 0.9})]
        for verdict in verdicts:
            tokens += [
                (str(verdict), {str(verdict): 0.8, str(1 - verdict): 0.1}),
                (", ", {", ": 0.9}),
            ]
        return chat_answer(str(verdicts), tokens=tokens)

    def _fits(self, explanation: str, text: str, marks: re.Match[str] | None) -> int:
        if marks is None:
            return int(any(a > 0 for a in self.activations(explanation, words(text))))
        tokens, marked = [], []
        for i, part in enumerate(re.split(f"{re.escape(marks[1])}|{re.escape(marks[2])}", text)):
            found = words(part)
            tokens += found
            marked += [i % 2 == 1] * len(found)
        values = self.activations(explanation, tokens)
        return int(all(v > 0 for v, m in zip(values, marked, strict=True) if m))


def words(text: str) -> list[str]:
    """A text cut as the planted contexts are."""
    return re.findall(r" ?[A-Za-z]+| ?[0-9]+|[^\w\s]", text)


class Wavering(ScriptedModel):
    """Explains wrongly first, then rightly, then wrongly again."""

    def __init__(self, rules):
        super().__init__(rules)
        self.asked: Counter[str] = Counter()

    def explain(self, prompt):
        right = super().explain(prompt)
        self.asked[right] += 1
        return right if self.asked[right] == 2 else f"the smell of cheese {self.asked[right]}"


class NativeModel(ScriptedModel):
    """A server as SGLang is: no log-probabilities by OpenAI's interface, all of them by its own."""

    def complete(self, body):
        answer = super().complete({**body, "prompt": body["prompt"]})
        (choice,) = answer["choices"]
        return {**answer, "choices": [{**choice, "logprobs": None, "prompt_logprobs": None}]}

    def generate(self, body):
        names = {i: t for t, i in self._ids.items()}
        tokens = (
            self.pieces(body["text"]) if "text" in body else [names[i] for i in body["input_ids"]]
        )
        start = body["logprob_start_len"]
        own, top = [], []
        for number, (token, place) in enumerate(
            zip(tokens, self._prompt_logprobs(tokens), strict=True)
        ):
            if number < start:
                continue
            known = {} if number == start or place is None else place
            own.append([-1.0 if known else None, self.token_id(token), token])
            top.append([[lp, self.token_id(t), t] for t, lp in known.items()] or None)
        meta = {
            "id": "native-1",
            "prompt_tokens": len(tokens),
            "completion_tokens": 0,
            "cached_tokens": 0,
            "input_token_logprobs": own,
            "input_top_logprobs": top,
        }
        return {"text": "", "meta_info": meta}
