"""Broken configurations and absurd values, decided by a seed alone; ``fuzz_configurations.py`` throws them."""

import random
from typing import Any, Callable, Dict, Iterator, List

from ipu_train.config.json_schema import of_key
from ipu_train.config.keys import all_keys

SENTINEL = "code_was_run"  # a file that code in a configuration would make

# -- fuzzed files ------------------------------------------------------------------------------------------------

_WORDS = [
    "null", "~", "true", "off", "-1", "0", "1e400", "-.inf", ".nan", "1e-400", "9" * 60, "0x" + "f" * 60, "''", "{}",
    "[]", "[[]]", "{a: b}", "&a", "*a", "<<: *a", "!!python/object/apply:os.system ['touch code_was_run']",
    "!!python/name:os.system", "!!binary aGk=", "!!set {a}", "!!timestamp 2021-01-01", "|\n  text", ">\n  text",
    "\t", "\u0000", "\ufeff", "\u2028", "\U0001f600", "a" * 5000, "2021-06-07", "1:30", "---", "...", "%YAML 1.1",
    "? a\n: b", "@x", "`x`", "'", '"', "#", ": ", "- ", "{", "}", "[", "]", ",", "base: quickstart", "base: nowhere",
    "base: /dev/zero", "base: /dev/stdin", "base: ..", "base: [a]", "base: resnet50_gn_pn",
]  # fmt: skip


def _any_line(text: str, rng: random.Random) -> List[str]:
    return text.split("\n") or [""]


def _change_character(text: str, rng: random.Random) -> str:
    at = rng.randrange(len(text) + 1)
    return text[:at] + chr(rng.choice([rng.randrange(32, 127), rng.randrange(0, 0x3000)])) + text[at + 1 :]


def _drop(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    del lines[rng.randrange(len(lines))]
    return "\n".join(lines)


def _repeat(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    return "\n".join(lines[:at] + [lines[at]] * rng.choice([2, 3, 50]) + lines[at + 1 :])


def _swap(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    lines[i], lines[j] = lines[j], lines[i]
    return "\n".join(lines)


def _indent(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    lines[at] = rng.choice([" ", "  ", "\t", "      "]) + lines[at]
    return "\n".join(lines)


def _cut(text: str, rng: random.Random) -> str:
    return text[: rng.randrange(len(text) + 1)]


def _put_word(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    head = lines[at].partition(":")[0]
    lines[at] = rng.choice(
        [f"{head}: {rng.choice(_WORDS)}", rng.choice(_WORDS), lines[at] + rng.choice(_WORDS)]
    )
    return "\n".join(lines)


def _misspell_key(text: str, rng: random.Random) -> str:
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    head, colon, rest = lines[at].partition(":")
    if colon and head.strip():
        i = rng.randrange(len(head))
        lines[at] = head[:i] + rng.choice("abcxyz_-") + head[i + rng.choice([0, 1]) :] + colon + rest
    return "\n".join(lines)


def _set_key(text: str, rng: random.Random) -> str:
    found = rng.choice(list(_KEYS))
    value = rng.choice([*_WORDS, *map(str, _numbers(rng)), *found.choices])
    section = f"{found.section}:\n  " if found.section else ""
    return f"{text}\n{section}{found.name}: {value}\n"


def _bomb(text: str, rng: random.Random) -> str:
    width, depth = rng.choice([2, 9, 20]), rng.choice([4, 9, 30])
    lines = ["x0: &x0 [" + ", ".join(["a"] * width) + "]"]
    kind = rng.choice(["list", "map", "merge"])
    for level in range(1, depth):
        inside = f"*x{level - 1}"
        if kind == "list":
            lines.append(f"x{level}: &x{level} [" + ", ".join([inside] * width) + "]")
        elif kind == "map":
            lines.append(f"x{level}: &x{level} {{" + ", ".join(f"k{i}: {inside}" for i in range(width)) + "}")
        else:
            lines.append(f"x{level}: &x{level}\n  <<: [" + ", ".join([inside] * width) + "]")
    last = f"*x{depth - 1}"
    where = rng.choice([f"model:\n  name: resnet20\n  options: {{a: {last}}}\n", f"y: {last}\n", ""])
    return "\n".join(lines) + "\n" + where


def _nest(text: str, rng: random.Random) -> str:
    depth, kind = rng.choice([15, 400, 5000, 30000]), rng.choice(["[", "{a: ", "- ", "? "])
    inside = kind * depth + ("]" * depth if kind == "[" and rng.random() < 0.5 else "")
    return rng.choice(
        [inside, f"model: {{name: resnet20, options: {{a: {inside}", f"{text}\nrun_dir: {inside}"]
    )


def _many(text: str, rng: random.Random) -> str:
    count = rng.choice([1000, 20000])
    return rng.choice(
        [
            "".join(f"k{i}: {i}\n" for i in range(count)),
            "device: {pipeline_splits: [" + ", ".join(["a"] * count) + "]}\n",
            "model: {name: resnet20, options: {" + ", ".join(f"o{i}: 1" for i in range(count)) + "}}\n",
            "optimizer:\n" + "".join(f"  momentun{i}: 0.9\n" for i in range(count)),
            text + "\n" + "# comment\n" * count,
            text + "\nrun_dir: " + "a" * 50 * count + "\n",
            '"' + "\\u0041" * count + '": 1\n',
        ]
    )


_KEYS = list(all_keys())
_CHANGES: List[Callable[[str, random.Random], str]] = [
    _change_character, _drop, _repeat, _swap, _indent, _cut, _put_word, _misspell_key, _set_key,
]  # fmt: skip


def fuzzed(rng: random.Random, sources: List[str]) -> bytes:
    """One broken file."""
    text = rng.choice(sources)
    if rng.random() < 0.03:
        return rng.choice([_bomb, _nest, _many])(text, rng).encode("utf-8", "surrogatepass")
    for _ in range(rng.choice([1, 1, 2, 3, 8])):
        text = rng.choice(_CHANGES)(text, rng)
    data = text.encode("utf-8", "surrogatepass")
    if rng.random() < 0.03 and data:
        at = rng.randrange(len(data))
        data = data[:at] + bytes([rng.randrange(256)]) + data[at + 1 :]
    return data


# -- absurd values -----------------------------------------------------------------------------------------------


def _numbers(rng: random.Random) -> List[Any]:
    return [
        -1,
        10**13,
        10**20,
        10**30,
        "1e300",
        "-1e300",
        "-1e-320",
        ".inf",
        ".nan",
        rng.randrange(-(10**6), 0),
    ]


def absurd(count: int, seed: int) -> Iterator[List[str]]:
    """Overrides of the quick start, none of which any run can have; the ones once seen to slip through come first."""
    rng = random.Random(seed)
    seen = [
        "data.name=synthetic data.validation_fraction=null data.length=1000000000000",
        "data.image_size=100000", "data.name=generated data.validation_fraction=null data.num_classes=1000000000",
        "validation.micro_batch_size=1000000000", "device.threads=100000000000", "optimizer.loss_scaling=1e300",
        "optimizer.weight_decay=1e300", "data.workers=100000", "run_dir=''", 'run_dir="a\\0b"',
        'run_dir="\\ud800"', 'model.weights="\\0"', "model.options.width=1e300", "model.options.width=1000000000",
        "model.name=efficientnet_b0 model.norm_groups=null model.options.depth=1e9",
        "model.name=efficientnet_b0 model.norm_groups=null model.options.expansion=1000000000",
        "model.name=resnet50 model.norm_groups=null model.options.group_width=1000000000",
        "training.micro_batch_size=1000000000000", "training.replicas=1000000", "training.epochs=1000000000",
        "training.gradient_accumulation=100000000", "training.device_iterations=1000000",
        "schedule.name=exponential schedule.decay_epochs=1e-300", "schedule.name=step schedule.milestones=[1e300]",
        "optimizer.loss_scaling_epochs=[1,2,3] optimizer.loss_scaling_factor=1e30",
        "data.image_size=4096", "data.name=generated data.validation_fraction=null data.num_classes=100000 "
        "data.image_size=2048", "model.num_classes=1000000000", "model.norm_groups=1000000000",
        "model.proxy_norm_quantiles=1000000000", "data.mean=[1e300] data.std=[1e-300]",
        "device.pipeline_splits=[" + ",".join(["a"] * 2000) + "]", "run_dir=" + "a/" * 5000, "model.name=" + "a" * 9000,
        "training.seed=-1", "training.seed=100000000000000000000", "logging.every_steps=0", "checkpoint.keep=0",
        "run_dir=/dev/null", "run_dir=/dev/null/x", "data.path=x", "base=quickstart",
    ]  # fmt: skip
    for text in seen[:count]:
        yield text.split(" ")
    numeric = [found for found in _KEYS if _bounded(found)]
    for _ in range(count - len(seen)):
        found = rng.choice(numeric)
        chosen = next(name for name in found.fields)
        change = [f"{found.path}={rng.choice(_numbers(rng))}"]
        if chosen and found.section == "data":
            change = [f"data.name={chosen}", "data.validation_fraction=null", *change]
        elif chosen:
            change = [f"{found.section}.name={chosen}", *_QUIET.get(found.section, []), *change]
        yield change


# what the quick start sets and other choices may not read
_QUIET: Dict[str, List[str]] = {
    "optimizer": ["optimizer.momentum=null", "optimizer.nesterov=null"],
    "schedule": [],
    "averaging": [],
}


def _bounded(found: Any) -> bool:
    schema = of_key(found)
    kinds = [variant.get("type") for variant in schema.get("anyOf", [schema])]
    return bool({"integer", "number"} & set(map(str, kinds))) and found.path != "training.seed"
