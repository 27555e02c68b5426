"""Make the small synthetic traces in ``traces/``, each in the native form of a public trace, with its
datasheet.

Every number is drawn from distributions, where datasheets do not say otherwise from such whose parameters were fitted
to published statistics of the public traces (means, quantiles, rates, shares of failures); no row of theirs is used.
Run without arguments to rewrite the files.
"""

from __future__ import annotations

import hashlib
import io
import json
import math
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from ruamel.yaml import YAML

from servesim.generators.arrivals import weibull_shape
from servesim.generators.lengths import LognormalLength, MixtureLength, MixturePart
from servesim.rng import stream
from servesim.serverless import generate_functions
from servesim.serverless.huawei import cold_start_table
from servesim.traces.finding import rubric_of
from servesim.traces.look import look
from servesim.workload.datasheet import Datasheet

SEED = 20261123
TRACES = Path(__file__).resolve().parents[1] / "traces"

# Two humps each, as in the published quantiles: short and long prompts, brief and full answers.
CONV_PROMPTS = MixtureLength(
    components=(
        MixturePart(weight=0.40, tokens=LognormalLength(mean=480, sigma=0.9)),
        MixturePart(weight=0.45, tokens=LognormalLength(mean=1150, sigma=0.12)),
        MixturePart(weight=0.15, tokens=LognormalLength(mean=2970, sigma=0.5)),
    ),
    max=14050,
)
CONV_OUTPUTS = MixtureLength(
    components=(
        MixturePart(weight=0.6, tokens=LognormalLength(mean=104, sigma=0.45)),
        MixturePart(weight=0.4, tokens=LognormalLength(mean=372, sigma=0.25)),
    ),
    min=7,
    max=1000,
)
GPT_PROMPTS = LognormalLength(mean=620, sigma=1.2, max=25000)
GPT_OUTPUTS = LognormalLength(mean=245, sigma=0.9, max=4000)


def gamma_arrivals(
    rng: np.random.Generator, rows: int, *, rate_per_s: float, cv: float
) -> NDArray[np.float64]:
    """Return arrival times from 0 with gamma-distributed gaps."""
    gaps = rng.standard_gamma(cv**-2, rows) * cv**2 / rate_per_s
    gaps[0] = 0
    return np.cumsum(gaps)


def azure_conv() -> tuple[bytes, int]:
    """Return the form of 2023: CRLF, seven decimals, no zone, no final newline."""
    rng, rows, start = stream(SEED, "azure_conv"), 2000, datetime(2023, 11, 16, 9, 0, 0)
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    times = gamma_arrivals(rng, rows, rate_per_s=5.53, cv=1.09)
    prompts, outputs = CONV_PROMPTS.sample(rng, rows), CONV_OUTPUTS.sample(rng, rows)
    for time_s, prompt, output in zip(times, prompts, outputs, strict=True):
        ticks = round(time_s * 1e7)
        stamp = start + timedelta(seconds=ticks // 10**7)
        lines.append(f"{stamp:%Y-%m-%d %H:%M:%S}.{ticks % 10**7:07d},{prompt},{output}")
    return "\r\n".join(lines).encode(), rows


def azure_2024() -> tuple[bytes, int]:
    """Return the form of 2024: six decimals and an offset."""
    rng, rows, start = stream(SEED, "azure_2024"), 1000, datetime(2024, 5, 12)
    lines = ["TIMESTAMP,ContextTokens,GeneratedTokens"]
    times = gamma_arrivals(rng, rows, rate_per_s=45.1, cv=1.2)
    prompts, outputs = CONV_PROMPTS.sample(rng, rows), CONV_OUTPUTS.sample(rng, rows)
    for time_s, prompt, output in zip(times, prompts, outputs, strict=True):
        stamp = start + timedelta(microseconds=round(time_s * 1e6))
        lines.append(f"{stamp:%Y-%m-%d %H:%M:%S.%f}+00:00,{prompt},{output}")
    return _text(lines), rows


def azure_lmm_2025() -> tuple[bytes, int]:
    """Return the multimodal form of 2025: T and Z around milliseconds, a number of images."""
    rng, rows, start = stream(SEED, "azure_lmm_2025"), 1000, datetime(2024, 10, 15, 12)
    lines = ["TIMESTAMP,NumImages,ContextTokens,GeneratedTokens"]
    times = gamma_arrivals(rng, rows, rate_per_s=1.65, cv=1.5)
    images = np.minimum(rng.geometric(0.4, rows) - 1, 49)
    prompts = LognormalLength(mean=570, sigma=1.0).sample(rng, rows) + 640 * images
    outputs = LognormalLength(mean=130, sigma=0.8, max=2000).sample(rng, rows)
    for time_s, image, prompt, output in zip(times, images, prompts, outputs, strict=True):
        stamp = start + timedelta(milliseconds=round(time_s * 1e3))
        lines.append(f"{stamp:%Y-%m-%dT%H:%M:%S}.{stamp.microsecond // 1000:03d}Z,{image},{prompt},{output}")
    return _text(lines), rows


def burstgpt_1() -> tuple[bytes, int]:
    """Return the six-column form: whole seconds from midnight, 4 % failures without any token."""
    rng, rows = stream(SEED, "burstgpt_1"), 1000
    lines = ["Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type"]
    times = gamma_arrivals(rng, rows, rate_per_s=0.27, cv=1.4) + 5
    for time_s, (model, log_type, prompt, output) in zip(
        times, _gpt_rows(rng, rows, 0.0425, 0.5), strict=True
    ):
        lines.append(f"{int(time_s)},{model},{prompt},{output},{prompt + output},{log_type}")
    return _text(lines), rows


def burstgpt_3() -> tuple[bytes, int]:
    """Return the eight-column form: times from day 225 as floats, sessions in conversations only."""
    rng, rows = stream(SEED, "burstgpt_3"), 1000
    lines = ["Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type"]
    times = gamma_arrivals(rng, rows, rate_per_s=0.56, cv=2.0) + 19_440_110
    sessions = [str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(rows // 3)]
    for time_s, (model, log_type, prompt, output) in zip(
        times, _gpt_rows(rng, rows, 0.0726, 0.4), strict=True
    ):
        session = "" if log_type == "API log" else sessions[int(rng.integers(len(sessions)))]
        elapsed_s = int(output * (0.019 if model == "ChatGPT" else 0.11))
        tokens = f"{prompt},{output},{prompt + output}"
        lines.append(f"{float(int(time_s))},{session},{elapsed_s},{model},{tokens},{log_type}")
    return _text(lines), rows


def mooncake() -> tuple[bytes, int]:
    """Return JSON lines on a 3 s grid; a third of the prompts continue an earlier one, all share block 0."""
    rng, rows = stream(SEED, "mooncake"), 300
    prompts = LognormalLength(mean=12000, sigma=1.05, min=891, max=126195).sample(rng, rows)
    outputs = LognormalLength(mean=343, sigma=0.8, max=2000).sample(rng, rows)
    grid_ms = np.sort(rng.integers(0, 30, rows)) * 3000
    grid_ms -= grid_ms[0]
    earlier: list[list[int]] = [[0]]
    unused, lines = 1, []
    for time_ms, prompt, output in zip(grid_ms.tolist(), prompts.tolist(), outputs.tolist(), strict=True):
        count = -(-prompt // 512)
        known = earlier[int(rng.integers(len(earlier)))] if rng.random() < 1 / 3 else [0]
        blocks = known[:count]
        fresh = count - len(blocks)
        blocks = [*blocks, *range(unused, unused + fresh)]
        unused += fresh
        earlier.append(blocks)
        row = {"timestamp": time_ms, "input_length": prompt, "output_length": output, "hash_ids": blocks}
        lines.append(json.dumps(row))
    return _text(lines), rows


def claude_code() -> tuple[bytes, int]:
    """Return a session of a coding agent and of one that it starts: prompts that grow, blocks of 64 tokens."""
    rng = stream(SEED, "claude_code")

    def agent(first: int, turns: int, prompt: int) -> list[dict[str, Any]]:
        requests, time_s = [], 0.0
        for turn in range(turns):
            api_s, think_s = round(rng.gamma(4.0, 1.5), 2), round(rng.exponential(20.0), 1) if turn else 0.0
            time_s += think_s
            blocks = list(range(first, first + prompt // 64))
            output = int(rng.lognormal(5.4, 0.9)) + 1
            requests.append(
                {"t": round(time_s, 1), "type": "n", "model": "agent-large", "in": prompt, "out": output}
                | {"hash_ids": blocks, "api_time": api_s, "think_time": think_s, "stop": "tool_use"}
            )
            time_s += api_s
            prompt += output + int(rng.lognormal(6.0, 1.0))
        return requests

    own, other = agent(1, 24, 3200), agent(100_000, 6, 1400)
    entries = [*own[:4], {"type": "subagent", "requests": other}, *own[4:]]
    session = {"id": "sample-1", "models": ["agent-large"], "block_size": 64, "hash_id_scope": "local"}
    session |= {"tool_tokens": 2000, "system_tokens": 700, "requests": entries}
    return (json.dumps(session, separators=(",", ":")) + "\n").encode(), len(own) + len(other)


def qwen_bailian() -> tuple[bytes, int]:
    """Return chats of which some continue another: blocks of 16 tokens, a chat's first ones are its parent's."""
    rng, rows = stream(SEED, "qwen_bailian"), 200
    times = gamma_arrivals(rng, rows, rate_per_s=1.5, cv=1.4)
    chats: list[dict[str, Any]] = []
    unused = 0
    for number, time_s in enumerate(times.tolist()):
        parent = chats[int(rng.integers(number))] if number and rng.random() < 0.4 else None
        before = parent["hash_ids"] if parent else []
        prompt = (parent["input_length"] if parent else 0) + int(rng.lognormal(5.5, 0.8)) + 1
        fresh = -(-prompt // 16) - len(before)
        chats.append(
            {
                "chat_id": number,
                "parent_chat_id": parent["chat_id"] if parent else -1,
                "timestamp": round(time_s, 3),
            }
            | {"input_length": prompt, "output_length": int(rng.lognormal(5.2, 0.7)) + 1}
            | {"type": "text", "turn": parent["turn"] + 1 if parent else 1}
            | {"hash_ids": [*before, *range(unused, unused + fresh)]}
        )
        unused += fresh
    return _text([json.dumps(chat, separators=(",", ":")) for chat in chats]), rows


def ragpulse() -> tuple[bytes, int]:
    """Return questions with passages: times as text, ids of chunks by part of the prompt."""
    rng, rows = stream(SEED, "ragpulse"), 200
    times = np.floor(np.cumsum(rng.exponential(85.0, rows))).astype(int)
    lines = []
    for number, time_s in enumerate(times.tolist()):
        passages = (rng.zipf(1.4, int(rng.integers(0, 7))) % 500).tolist()
        parts = {"sys_prompt": [1000, 1001], "passages_ids": passages, "history": [1100 + number % 50]}
        parts |= {"web_search": [], "user_input": [2000 + number]}
        row = {"timestamp": str(time_s), "input_length": 700 + 400 * len(passages)}
        row |= {"output_length": int(rng.lognormal(5.5, 0.5)) + 1, "hash_ids": parts}
        lines.append(json.dumps(row | {"session_id": f"session-{int(rng.integers(120))}"}))
    return _text(lines), rows


def lmcache() -> tuple[bytes, int]:
    """Return sessions of an agent whose texts grow: made-up words, lines not in order of time, some without output."""
    rng, start_us = stream(SEED, "lmcache"), 1_767_258_000_000_000
    words = ["".join(rng.choice(list("aeilnorstu"), int(rng.integers(2, 9)))) for _ in range(200)]

    def text(count: float) -> str:
        return " ".join(rng.choice(words, max(int(count), 1)))

    lines, time_s = [], 0.0
    for number in range(6):
        session, context = rng.bytes(16).hex(), f"task {number}: {text(60)}"
        calls = []
        for _ in range(int(rng.integers(4, 9))):
            output = "" if rng.random() < 0.15 else text(rng.lognormal(2.5, 0.6))
            call = {"timestamp": start_us + round(time_s * 1e6), "input": context, "output": output}
            calls.append(json.dumps(call | {"session_id": session}))
            context += f"\n\n{output}\n\n{text(rng.lognormal(3.0, 0.8))}"
            time_s += rng.gamma(2.0, 1.5)
        if number % 2:
            calls[-2:] = reversed(calls[-2:])
        lines += calls
    return _text(lines), len(lines)


def servegen_pool() -> tuple[dict[str, bytes], int]:
    """Return five clients: by day, in bursts, at night, seldom, and one without lengths of its own."""
    rng, windows, files = stream(SEED, "servegen_pool"), 144, {}
    hours = np.arange(windows) / 6
    by_day = 1 + 0.6 * np.cos((hours - 15) * np.pi / 12)
    night = np.where(hours < 6, 1.0, 0.0)
    seldom = np.where(rng.random(windows) < 0.1, 1.0, 0.0)
    clients = [  # requests in a window, cv, pattern, mean prompt and output (None: no dataset)
        (300 * by_day, 1.2, "Gamma", (800, 200)),
        (60 * by_day * rng.lognormal(0, 0.8, windows), 4.0, "Weibull", (2000, 60)),
        (120 * night, 0.5, "Gamma", (6000, 400)),
        (40 * seldom, 2.0, "Weibull", (300, 20)),
        (20 * by_day, 1.0, "Gamma", None),
    ]
    for client, (means, cv, pattern, lengths) in enumerate(clients):
        shape = cv**-2 if pattern == "Gamma" else weibull_shape(cv)
        mean_of_scale_1 = shape if pattern == "Gamma" else math.gamma(1 + 1 / shape)
        lines = [f"{600 * window},0,0,,0,0" for window in range(windows)]
        for window, requests in enumerate(rng.poisson(means).tolist()):
            if requests:
                scale = 600 / requests / mean_of_scale_1
                lines[window] = f"{600 * window},{requests / 600},{cv},{pattern},{shape:.6f},{scale:.6f}"
        files[f"chunk-{client}-trace.csv"] = "\n".join(lines).encode()
        if lengths is not None:
            active = [means[36 * part : 36 * part + 36].any().item() for part in range(4)]
            files[f"chunk-{client}-dataset.json"] = _servegen_dataset(rng, active, *lengths)
    return files, windows * len(clients)


def _servegen_dataset(rng: np.random.Generator, active: list[bool], prompt: float, output: float) -> bytes:
    """Return histograms of 40 lengths for every six hours, empty where the client is idle."""
    dataset: dict[str, dict[str, str]] = {}
    for part, has_requests in enumerate(active):
        fields = dataset[str(21600 * part)] = {}
        for name, mean, sigma in (("input_tokens", prompt, 0.9), ("output_tokens", output, 0.7)):
            lengths = LognormalLength(mean=mean, sigma=sigma, max=30000).sample(
                rng, 40 if has_requests else 0
            )
            values, counts = np.unique(lengths, return_counts=True)
            fields[name] = str(dict(zip(values.tolist(), (counts / 40).tolist(), strict=True)))
    return (json.dumps(dataset, indent=2) + "\n").encode()


def table() -> tuple[bytes, int]:
    """Return a gateway's log in no trace's form: epoch milliseconds, in order of completion, own names."""
    rng, rows, start_ms = stream(SEED, "table"), 500, 1_767_258_000_000
    lines = ["received_ms,team,tier,input_len,output_len,status"]
    times = gamma_arrivals(rng, rows, rate_per_s=2.0, cv=1.3)
    prompts, outputs = CONV_PROMPTS.sample(rng, rows), CONV_OUTPUTS.sample(rng, rows)
    teams = rng.choice(["search", "support", "batch"], rows, p=[0.5, 0.3, 0.2])
    tiers = {"search": 0, "support": 1, "batch": 2}
    for row in np.argsort(times + 0.1 + 0.02 * outputs, kind="stable").tolist():
        received_ms, team = start_ms + round(times[row] * 1e3), teams[row]
        lines.append(f"{received_ms},{team},{tiers[team]},{prompts[row]},{outputs[row]},200")
    return _text(lines), rows


def huawei_cold_starts() -> tuple[bytes, int]:
    """Return the cold-start table of a day and 150 functions, seconds to the microsecond."""
    table = cold_start_table(_huawei()[0])
    seconds = [name for name in table.columns if name.endswith(("Cost", "_start"))]
    table = table.with_columns(pl.col(seconds).round(6), pl.col("time").round(3)).sort("time")
    return table.write_csv(float_scientific=False).encode(), table.height


def huawei_functions() -> tuple[bytes, int]:
    """Return the function table that belongs to the cold starts."""
    requests = {22: 100, 23: 125, 24: 300, 26: 500, 30: 1000}
    rows = ["funcID,cpu_request,runtime,triggerType-invocationType"]
    for function, pool, runtime, trigger in _huawei()[1].rows():
        shown = "unknown-unknown" if trigger == "unknown" else trigger
        rows.append(f"{function},{requests[int(pool.split('-')[0][4:])]},{runtime},{shown}")
    return _text(rows), len(rows) - 1


def huawei_requests_per_minute() -> tuple[bytes, int]:
    """Return the wide series of requests: a column for every function, NaN where there is none."""
    rng, rows = stream(SEED, "huawei_series"), 60
    functions = _huawei()[1]["function"][:8].to_list()
    lines = [",".join(["day", "time", *functions])]
    for minute in range(rows):
        counts = rng.poisson(np.geomspace(0.1, 60, len(functions)))
        lines.append(",".join(["0", f"{60 * minute}", *(f"{n}.0" if n else "NaN" for n in counts)]))
    return _text(lines), rows


def azure_functions_2019() -> tuple[bytes, int]:
    """Return a day of counts a minute: two timers, the rest at random, most of them seldom."""
    rng, rows = stream(SEED, "azure_functions_2019"), 10
    lines = [",".join(["HashOwner", "HashApp", "HashFunction", "Trigger", *map(str, range(1, 1441))])]
    triggers = [
        "timer",
        "timer",
        "http",
        "http",
        "queue",
        "event",
        "storage",
        "orchestration",
        "http",
        "others",
    ]
    for row, trigger in enumerate(triggers):
        counts = rng.poisson(0.002 * 3.0**row, 1440)
        if trigger == "timer":
            counts = (np.arange(1440) % (5, 60)[row] == 0).astype(int)
        identity = [rng.bytes(8).hex() for _ in range(3)]
        lines.append(",".join([*identity, trigger, *map(str, counts.tolist())]))
    return _text(lines), rows


def azure_functions_2021() -> tuple[bytes, int]:
    """Return invocations in order of their ends, durations of milliseconds to minutes."""
    rng, rows = stream(SEED, "azure_functions_2021"), 200
    functions = [(rng.bytes(8).hex(), rng.bytes(8).hex()) for _ in range(12)]
    starts = gamma_arrivals(rng, rows, rate_per_s=1.64, cv=2.0)
    durations = np.round(rng.lognormal(np.log(0.1), 2.5, rows).clip(0.001, 400), 3)
    picked = (12 * rng.random(rows) ** 2).astype(int)
    lines = ["app,func,end_timestamp,duration"]
    for row in np.argsort(starts + durations, kind="stable").tolist():
        app, function = functions[picked[row]]
        lines.append(f"{app},{function},{float(starts[row] + durations[row])!r},{durations[row]}")
    return _text(lines), rows


def genai_base_model() -> tuple[bytes, int]:
    """Return loads of base models in milliseconds on a grid of 57 s: a third are quick, some without a container."""
    rng, rows = stream(SEED, "genai_base_model"), 200
    containers = ["NULL", "", *(rng.bytes(16).hex() for _ in range(20))]
    quick = rng.random(rows) < 0.35
    load_ms = np.where(quick, rng.uniform(1300, 4500, rows), rng.normal(30000, 8500, rows).clip(15000, 52000))
    grid_s = 57 * np.sort(rng.integers(0, 1428, rows))
    lines = ["timestamp_anon,value,container_ip"]
    for time_s, value, which in zip(grid_s, load_ms, rng.integers(len(containers), size=rows), strict=True):
        lines.append(f"{float(time_s)},{value:.2f},{containers[which]}")
    return _text(lines), rows


def genai_requests() -> tuple[bytes, int]:
    """Return image requests, not in order, 1.5 % of them failed, a sixth with adapters."""
    rng, rows, start = stream(SEED, "genai_requests"), 200, datetime(2024, 11, 15, 16, 57, 50)
    header = "gmt_create,predict_type,predict_status,exec_time_seconds,groupId,prompt_length,negative_prompt_length,"
    header += "num_images_per_prompt,num_inference_steps,checkpoint_model_version_id,num_lora"
    lines = []
    for time_s in gamma_arrivals(rng, rows, rate_per_s=0.0135, cv=12.0):
        stamp = start + timedelta(seconds=int(time_s))
        failed = rng.random() < 0.015
        seconds = 3.0 if failed else float(np.ceil(rng.lognormal(3.1, 0.65)))
        kind = ("TXT_2_IMG", "IMG_2_IMG", "INPAINTING")[rng.integers(3)]
        negative = "" if rng.random() < 0.4 else "26.0"
        model, lora = int(87 * rng.random() ** 4), int(rng.random() < 0.17)
        fields = [f"{stamp:%Y-%m-%d %H:%M:%S}", kind, "FAILED" if failed else "SUCCEED", seconds]
        fields += [f"G{rng.integers(40):04d}", 60.0, negative, 1.0, 30.0, f"M{model:04d}", lora]
        lines.append(",".join(map(str, fields)))
    mixed = [lines[row] for row in rng.permutation(rows).tolist()]
    return _text([header, *mixed]), rows


@cache
def _huawei() -> tuple[pl.DataFrame, pl.DataFrame]:
    """Return the first 250 cold starts of 150 functions, and the functions."""
    log = generate_functions(seed=SEED, functions=150, requests_per_pod_most=1)
    assert log.cold_starts is not None
    assert log.functions is not None
    clusters = pl.Series(stream(SEED, "huawei_clusters").integers(1, 5, 250).astype(str))
    cold_starts = log.cold_starts.collect().head(250).with_columns(cluster=clusters)
    return cold_starts, log.functions.select("function", "pool", "runtime", "trigger").collect()


def _gpt_rows(
    rng: np.random.Generator, rows: int, failed_ratio: float, api_ratio: float
) -> Iterator[tuple[str, str, int, int]]:
    """Yield model, log type and lengths; failed conversations have no tokens, failed API calls a prompt."""
    prompts, outputs = GPT_PROMPTS.sample(rng, rows), GPT_OUTPUTS.sample(rng, rows)
    draws = rng.random((rows, 3))
    for prompt, output, (api, gpt4, failed) in zip(prompts.tolist(), outputs.tolist(), draws, strict=True):
        log_type = "API log" if api < api_ratio else "Conversation log"
        if failed < failed_ratio:
            prompt, output = (prompt if log_type == "API log" else 0), 0  # noqa: PLW2901
        yield ("GPT-4" if gpt4 < 0.16 else "ChatGPT"), log_type, prompt, output


def _text(lines: list[str]) -> bytes:
    return ("\n".join(lines) + "\n").encode()


@dataclass(frozen=True)
class Sample:
    """One file: how it is made, and what its datasheet says beside what all of them say."""

    reader: str
    make: Callable[[], tuple[bytes | dict[str, bytes], int]]  # a dict: a folder of files by name
    like: str
    composition: str
    known_defects: tuple[str, ...]
    parameters: dict[str, Any] = field(default_factory=dict)
    row: str = "a request"
    drawn_from: str = "distributions fitted to published statistics"


_AZURE_DEFECTS = ("lengths are independent of each other and of time; the real trace has a daily shape",)
_GPT_DEFECTS = (
    "rows with 0 response tokens are failures, as in the real trace",
    "times are whole seconds, so that several requests arrive at once",
    "the rate is constant; the real trace has a daily shape and floods",
)

SAMPLES = {
    "azure_conv_sample.csv": Sample(
        "azure",
        azure_conv,
        "the Azure LLM inference trace 2023, conversation",
        "2,000 requests at 5.53/s (cv 1.09), prompts of about 1,155 tokens, outputs of about 211",
        (
            "CRLF line ends, seven decimals, no zone, no newline at the end, as in the real file",
            *_AZURE_DEFECTS,
        ),
    ),
    "azure_2024_sample.csv": Sample(
        "azure",
        azure_2024,
        "the Azure LLM inference trace 2024, conversation",
        "1,000 requests at 45.1/s; lengths as in 2023, since none are published for 2024",
        _AZURE_DEFECTS,
    ),
    "azure_lmm_2025_sample.csv": Sample(
        "azure",
        azure_lmm_2025,
        "the Azure multimodal inference trace 2025",
        "1,000 requests at 1.65/s with 0 to 49 images (mean 1.5), each worth 640 prompt tokens",
        _AZURE_DEFECTS,
    ),
    "burstgpt_1_sample.csv": Sample(
        "burstgpt",
        burstgpt_1,
        "BurstGPT file 1, six columns",
        "1,000 requests at 0.27/s, half of them API calls, 16 % GPT-4, 4.25 % failures",
        _GPT_DEFECTS,
    ),
    "burstgpt_3_sample.csv": Sample(
        "burstgpt",
        burstgpt_3,
        "BurstGPT file 3, eight columns",
        "1,000 requests at 0.56/s from day 225 on, 40 % API calls without a session, 7.26 % failures",
        ("sessions are drawn at random: turns do not grow", *_GPT_DEFECTS),
    ),
    "lmcache_sample.jsonl": Sample(
        "lmcache",
        lmcache,
        "LMCache's agent traces",
        "calls in 6 sessions of an agent, whose texts of made-up words grow from 60 words on",
        (
            "lines are not in order of time, as in the real trace",
            "some outputs are empty: their call of a tool has no text, as in the real trace",
            "no session shares text with another",
        ),
        drawn_from="made-up distributions",
    ),
    "mooncake_sample.jsonl": Sample(
        "mooncake",
        mooncake,
        "the Mooncake conversation trace",
        "300 requests in 90 s, prompts of about 12,000 tokens in blocks of 512; a third continues another",
        ("times lie on a grid of 3 s, as in the real trace: see the reader's spread_s",),
    ),
    "claude_code_sample.json": Sample(
        "claude_code",
        claude_code,
        "the coding-agent sessions of kv-cache-tester",
        "30 requests of an agent and of one that it starts, prompts that grow from 3,200 tokens",
        ("prompts are far shorter than the published ones", "block ids are consecutive numbers"),
    ),
    "qwen_bailian_sample.jsonl": Sample(
        "qwen_bailian",
        qwen_bailian,
        "the Qwen-Bailian usage traces",
        "200 chats at 1.5/s, four in ten continue another",
        ("lengths are made up: statistics of the real traces were not at hand",),
    ),
    "ragpulse_sample.jsonl": Sample(
        "ragpulse",
        ragpulse,
        "RAGPulse",
        "200 questions in some 5 h with 0 to 6 passages",
        ("times are text, as in the real trace", "lengths of chunks are not beside it"),
    ),
    "table_sample.csv": Sample(
        "table",
        table,
        "a gateway's log, which no public trace has",
        "500 requests at 2/s (cv 1.3) of three teams, each with a priority, lengths as in the Azure trace",
        (
            "rows stand in order of completion, not of arrival",
            "times are milliseconds since 1970",
            "lengths are independent of each other, of the team and of time",
        ),
        parameters={
            "columns": {
                "arrival_s": "received_ms",
                "prompt_tokens": "input_len",
                "output_tokens": "output_len",
                "tenant": "team",
                "slo_class": "team",
                "priority": "tier",
            },
            "time_unit": "ms",
        },
    ),
}


_GENERATED = "drawn by servesim.serverless.generate_functions; no hour of the day is busier than another"

SERVERLESS_SAMPLES = {
    "huawei_cold_starts_sample.csv": Sample(
        "huawei_cold_starts",
        huawei_cold_starts,
        "the cold-start table of the Huawei Public Cloud Trace 2025",
        "250 cold starts of 150 functions of region R2, with their four parts",
        (_GENERATED, "requestID is a number, not a hash"),
        row="a cold start",
    ),
    "huawei_functions_sample.csv": Sample(
        "huawei_functions",
        huawei_functions,
        "the function table of the Huawei Public Cloud Trace 2025",
        "150 functions with runtime, trigger and CPU request",
        (_GENERATED,),
        row="a function",
    ),
    "huawei_requests_sample.csv": Sample(
        "huawei_series",
        huawei_requests_per_minute,
        "the per-minute series of the Huawei Public Cloud Trace 2025",
        "60 minutes of 8 functions; NaN where a function has no request",
        ("counts are Poisson",),
        row="a minute",
    ),
    "azure_functions_2019_sample.csv": Sample(
        "azure_functions_2019_invocations",
        azure_functions_2019,
        "the Azure Functions trace 2019, invocations",
        "10 functions in 1,440 minutes, two of them timers of 5 and 60 minutes",
        ("counts of functions that are no timers are Poisson",),
        row="a function",
    ),
    "azure_functions_2021_sample.csv": Sample(
        "azure_functions_2021",
        azure_functions_2021,
        "the Azure Functions invocation trace 2021",
        "200 invocations of 12 functions with durations of 1 ms to 400 s",
        ("rows stand in order of their ends, as in the real trace",),
        row="an invocation",
    ),
    "genai_base_model_update_latency_sample.csv": Sample(
        "genai_loads",
        genai_base_model,
        "the base-model loads of Alibaba's GenTD26",
        "200 loads in 22.6 hours, a third of 1.3 to 4.5 s, the others of 15 to 52 s",
        ("times lie on a grid of 57 s", "some rows have no container: NULL or empty, as in the real trace"),
        row="the load of a model",
    ),
    "genai_lora_request_trace_sample.csv": Sample(
        "genai_requests",
        genai_requests,
        "the application's requests of Alibaba's GenTD26",
        "200 image requests of 87 models at most, 17 % with a LoRA adapter, 1.5 % failed",
        ("rows are not in order of time, as in the real trace",),
    ),
}


POOL_SAMPLES = {
    "servegen_sample": Sample(
        "servegen",
        servegen_pool,
        "ServeGen's released client pools",
        "5 clients in the 144 windows of a day, with histograms of lengths for every six hours; the checksum is of all "
        "files in the order of their names, one after the other",
        (
            "no header and no newline at the end, as in the release; a histogram is a Python dict in a string",
            "client 4 has no dataset, as some of the release",
            "a client's CV never changes",
        ),
        row="a client's window of 600 s",
        drawn_from="made-up distributions",
    ),
}
"""Folders."""


_ALL = SAMPLES | SERVERLESS_SAMPLES | POOL_SAMPLES


def datasheet(name: str, content: bytes, rows: int) -> Datasheet:
    """Return the datasheet of the sample *name*."""
    sample = _ALL[name]
    return Datasheet(
        file=name,
        reader=sample.reader,
        parameters=sample.parameters,
        rows=rows,
        sha256=hashlib.sha256(content).hexdigest(),
        motivation=f"A small trace in the native form of {sample.like}, for examples and tests.",
        composition=f"A row is {sample.row}. {sample.composition[0].upper()}{sample.composition[1:]}.",
        collection=f"Drawn by scripts/make_samples.py from {sample.drawn_from}.",
        preprocessing="None.",
        uses="Trying out and testing; not for conclusions about real traffic, which need the public trace.",
        licence="Apache-2.0",
        known_defects=sample.known_defects,
    )


def make_samples(folder: Path) -> None:
    """Write all samples and datasheets to *folder*."""
    for name, sample in _ALL.items():
        content, rows = sample.make()
        files = content if isinstance(content, dict) else {"": content}
        for part, of_file in sorted(files.items()):
            path = folder / name / part
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(of_file)
        sheet = datasheet(name, b"".join(files[part] for part in sorted(files)), rows)
        beside = folder / f"{Path(name).stem}.datasheet.yaml"
        _write(sheet, beside)  # says how the file is read
        _write(sheet.model_copy(update={"rubric": rubric_of(look(folder / name).findings)}), beside)


def _write(sheet: Datasheet, path: Path) -> None:
    yaml = YAML()
    yaml.width = 1000
    text = io.StringIO()
    yaml.dump(sheet.model_dump(mode="json", exclude_defaults=True), text)
    path.write_text(text.getvalue(), encoding="utf-8")


if __name__ == "__main__":
    make_samples(TRACES)
