"""Model folders of a few hundred bytes, written without torch: a good one, and one for each fault.

`FAULTS` names each faulty form with a function that spoils a good folder and a text that the refusal must hold.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

ROWS = 40
WIDTH = 8
WORDS = ["<end>", *(f"w{number}" for number in range(1, 30))]
TEMPLATE = (
    "{% for message in messages %}<{{ message.role }}>{{ message.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 98765432\n"
CONFIG = {
    "model_type": "qwen2",
    "architectures": ["Qwen2ForCausalLM"],
    "vocab_size": ROWS,
    "hidden_size": WIDTH,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 4096,
    "tie_word_embeddings": False,
    "eos_token_id": 0,
}
PLAIN = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
BYTES = {"F32": 4, "BF16": 2, "F16": 2, "I32": 4, "U8": 1, "F8_E4M3": 1, "I8": 1}
EMBEDDING, NORM, HEAD = "model.embed_tokens.weight", "model.norm.weight", "lm_head.weight"
SHAPES = {EMBEDDING: (ROWS, WIDTH), NORM: (WIDTH,), HEAD: (ROWS, WIDTH)}


def write_weights(
    path: Path, shapes: Mapping[str, tuple[int, ...]], dtypes: Mapping[str, str] | None = None
) -> None:
    """Write a safetensors file of zeros, by hand."""
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        dtype = (dtypes or {}).get(name, "F32")
        start, end = end, end + prod(shape) * BYTES[dtype]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + bytes(end))


def write_json(path: Path, content: object) -> None:
    path.write_text(json.dumps(content), encoding="utf-8")


def change(path: Path, **fields: object) -> None:
    """Set fields of a JSON file; a field set to `change` itself is removed."""
    table = json.loads(path.read_text()) | fields
    write_json(path, {name: value for name, value in table.items() if value is not change})


def good_folder(folder: Path) -> Path:
    """Write a folder that the preflight accepts: a Qwen2 with an untied head, and a tokenizer of words."""
    folder.mkdir(parents=True)
    write_json(folder / "config.json", CONFIG)
    write_weights(folder / "model.safetensors", SHAPES)
    vocabulary = {word: number for number, word in enumerate(WORDS)}
    write_json(
        folder / "tokenizer.json",
        {
            "version": "1.0",
            "added_tokens": [{"id": 0, "content": "<end>", "special": True, **PLAIN}],
            "pre_tokenizer": {"type": "WhitespaceSplit"},
            "model": {"type": "WordLevel", "vocab": vocabulary, "unk_token": "w1"},
        },
    )
    write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<end>", "chat_template": TEMPLATE},
    )
    return folder


def shard(folder: Path) -> Path:
    """Split the weights of a good folder into two shards; return the index."""
    (folder / "model.safetensors").unlink()
    names = {EMBEDDING: "model-1.safetensors", NORM: "model-2.safetensors", HEAD: "model-2.safetensors"}
    for file in set(names.values()):
        write_weights(folder / file, {name: SHAPES[name] for name in SHAPES if names[name] == file})
    index = folder / "model.safetensors.index.json"
    write_json(index, {"metadata": {}, "weight_map": names})
    return index


def config(**fields: object) -> Callable[[Path], None]:
    """Return a function that sets fields of config.json."""
    return lambda folder: change(folder / "config.json", **fields)


def tokenizer_config(**fields: object) -> Callable[[Path], None]:
    """Return a function that sets fields of tokenizer_config.json."""
    return lambda folder: change(folder / "tokenizer_config.json", **fields)


def weights(
    shapes: Mapping[str, tuple[int, ...]] = SHAPES, dtypes: Mapping[str, str] | None = None
) -> Callable[[Path], None]:
    """Return a function that writes other weights."""
    return lambda folder: write_weights(folder / "model.safetensors", shapes, dtypes)


def replaced(name: str, content: str | bytes) -> Callable[[Path], None]:
    """Return a function that writes another content to file `name`."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data) and None


def without(*names: str) -> Callable[[Path], None]:
    """Return a function that removes files."""

    def spoil(folder: Path) -> None:
        for name in names:
            (folder / name).unlink()

    return spoil


def with_tokens(**added: int) -> Callable[[Path], None]:
    """Return a function that gives the tokenizer more tokens."""

    def spoil(folder: Path) -> None:
        table = json.loads((folder / "tokenizer.json").read_text())
        table["added_tokens"] += [{"id": number, "content": word} for word, number in added.items()]
        write_json(folder / "tokenizer.json", table)

    return spoil


def _all(*steps: Callable[[Path], None]) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for step in steps:
            step(folder)

    return spoil


def _empty(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()


def _a_file(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.write_text("weights")


def _truncated(folder: Path) -> None:
    content = (folder / "model.safetensors").read_bytes()
    (folder / "model.safetensors").write_bytes(content[:-10])


def _shard_missing(folder: Path) -> None:
    shard(folder)
    (folder / "model-2.safetensors").unlink()


def _tensor_missing(folder: Path) -> None:
    shard(folder)
    write_weights(folder / "model-2.safetensors", {NORM: SHAPES[NORM]})


def _two_forms(folder: Path) -> None:
    kept = (folder / "model.safetensors").read_bytes()
    shard(folder)
    (folder / "model.safetensors").write_bytes(kept)


def _shard_elsewhere(folder: Path) -> None:
    change(shard(folder), weight_map={EMBEDDING: "../other/model.safetensors"})


def _pickled(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _adapter(folder: Path) -> None:
    without("model.safetensors", "config.json")(folder)
    write_json(folder / "adapter_config.json", {"base_model_name_or_path": "some/base", "peft_type": "LORA"})
    write_weights(folder / "adapter_model.safetensors", {"base.lora_A.weight": (2, WIDTH)})


@dataclass(frozen=True)
class Form:
    """A faulty folder: how it comes about, and what the refusal must hold."""

    spoil: Callable[[Path], None]
    expected: tuple[str, ...]
    settings: tuple[str, ...] = ()  # of the profile


def _form(spoil: Callable[[Path], None], *expected: str, settings: tuple[str, ...] = ()) -> Form:
    return Form(spoil, expected, settings)


CHAT = ("preprocess.template=chat", "preprocess.system_prompt=Think.")
NO_SYSTEM = (
    "{% if messages[0].role == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
)
LONGROPE = {"rope_type": "longrope", "original_max_position_embeddings": 512}

FAULTS: dict[str, Form] = {
    "no folder": _form(shutil.rmtree, "no such folder"),
    "a file": _form(_a_file, "a file; give the folder"),
    "an empty folder": _form(_empty, "has no config.json: it is empty"),
    "no config": _form(without("config.json"), "has no config.json"),
    "config is no JSON": _form(replaced("config.json", "{'a': 1}"), "config.json: not valid JSON"),
    "config is cut off": _form(replaced("config.json", '{"model_type": "qw'), "config.json: not valid JSON"),
    "config is a list": _form(replaced("config.json", "[]"), "config.json: expected a table, found a list"),
    "config is a number": _form(replaced("config.json", "3"), "config.json: expected a table, found 3"),
    "config is no UTF-8": _form(replaced("config.json", b"\xff\xfe\x00"), "config.json: not UTF-8"),
    "config is a pointer": _form(replaced("config.json", POINTER), "config.json: a Git-LFS pointer"),
    "config is a folder": _form(
        _all(without("config.json"), lambda folder: (folder / "config.json").mkdir()), "has no config.json"
    ),
    "no weights": _form(without("model.safetensors"), "no weights", "model.safetensors"),
    "pickled weights": _form(_pickled, "pytorch_model.bin", "save_pretrained"),
    "weights of another name": _form(
        lambda folder: (folder / "model.safetensors").rename(folder / "model.fp16.safetensors") and None,
        "model.fp16.safetensors",
    ),
    "adapter": _form(_adapter, "adapter_config.json", "some/base", "merge_and_unload"),
    "weights are a pointer": _form(replaced("model.safetensors", POINTER), "Git-LFS pointer", "git lfs pull"),
    "weights are truncated": _form(_truncated, "model.safetensors", "bytes"),
    "weights are empty": _form(replaced("model.safetensors", b""), "not a whole safetensors file"),
    "weights are noise": _form(replaced("model.safetensors", b"\x10" + bytes(40)), "unreadable header"),
    "weights are a web page": _form(
        replaced("model.safetensors", "<!doctype html>" * 9), "not a whole safetensors file"
    ),
    "shard is missing": _form(_shard_missing, "model-2.safetensors, which is missing"),
    "shard lacks a tensor": _form(_tensor_missing, HEAD, "does not hold it"),
    "shard elsewhere": _form(_shard_elsewhere, "is not a file of this folder"),
    "index without a map": _form(lambda folder: change(shard(folder), weight_map={}), "has no weight_map"),
    "index is a pointer": _form(
        lambda folder: shard(folder).write_text(POINTER) and None, "index.json: a Git-LFS pointer"
    ),
    "two forms of weights": _form(_two_forms, "next to model.safetensors.index.json"),
    "float8 weights": _form(weights(dtypes={HEAD: "F8_E4M3"}), HEAD, "F8_E4M3"),
    "integer weights": _form(
        weights(
            {**SHAPES, "model.layers.0.mlp.up_proj.qweight": (2, 2)},
            {"model.layers.0.mlp.up_proj.qweight": "I32"},
        ),
        "qweight holds I32",
    ),
    "no head": _form(weights({EMBEDDING: SHAPES[EMBEDDING], NORM: SHAPES[NORM]}), "no lm_head.weight"),
    "GPTQ": _form(config(quantization_config={"quant_method": "gptq", "bits": 4}), "quantised (gptq)"),
    "bitsandbytes": _form(config(quantization_config={"load_in_8bit": True}), "quantization_config"),
    "compressed tensors": _form(config(compression_config={"quant_method": "x"}), "compression_config"),
    "unknown type": _form(config(model_type="brandnew"), "model_type 'brandnew' is unknown"),
    "remote code": _form(
        config(model_type="brandnew", auto_map={"AutoModelForCausalLM": "modeling.Model"}), "auto_map"
    ),
    "remote code for a known type": _form(
        config(architectures=["MyForCausalLM"], auto_map={"AutoModelForCausalLM": "modeling.MyForCausalLM"}),
        "architectures names MyForCausalLM",
        "auto_map",
    ),
    "no type": _form(config(model_type=change), "has no model_type"),
    "encoder-decoder": _form(
        config(model_type="t5", is_encoder_decoder=True, architectures=["T5ForConditionalGeneration"]),
        "encoder-decoder",
    ),
    "encoder": _form(
        config(model_type="bert", architectures=["BertForMaskedLM"]), "architectures names BertForMaskedLM"
    ),
    "classifier": _form(
        config(architectures=["Qwen2ForSequenceClassification"]), "ForSequenceClassification"
    ),
    "body without a head": _form(config(architectures=["Qwen2Model"]), "names Qwen2Model"),
    "vision model": _form(config(model_type="vit", architectures=[]), "no causal language model of type vit"),
    "vision-language": _form(
        config(model_type="gemma3", architectures=["Gemma3ForConditionalGeneration"], text_config={"a": 1}),
        "text_config",
    ),
    "architectures is a text": _form(config(architectures="Qwen2ForCausalLM"), "not a list"),
    "vocabulary of a text": _form(config(vocab_size="many"), "vocab_size is 'many'"),
    "EOS outside": _form(config(eos_token_id=ROWS), f"eos_token_id {ROWS} is outside"),
    "one EOS outside": _form(config(eos_token_id=[0, 128009]), "eos_token_id 128009 is outside"),
    "EOS outside, generation": _form(
        replaced("generation_config.json", '{"eos_token_id": [0, -1]}'),
        "generation_config.json: eos_token_id -1",
    ),
    "no EOS": _form(tokenizer_config(eos_token=change), "has no eos_token"),
    "EOS switched off": _form(tokenizer_config(eos_token=None), "has no eos_token"),
    "no tokenizer": _form(without("tokenizer.json", "tokenizer_config.json"), "no tokenizer"),
    "tokenizer settings alone": _form(
        without("tokenizer.json"), "no tokenizer: the folder has no tokenizer.json"
    ),
    "tokenizer is a pointer": _form(replaced("tokenizer.json", POINTER), "tokenizer.json: a Git-LFS pointer"),
    "sentencepiece is a pointer": _form(
        _all(
            without("tokenizer.json"),
            tokenizer_config(tokenizer_class="LlamaTokenizer"),
            replaced("tokenizer.model", POINTER),
        ),
        "tokenizer.model: a Git-LFS pointer",
    ),
    "tokenizer is no JSON": _form(replaced("tokenizer.json", "{"), "tokenizer.json: not valid JSON"),
    "tokenizer without words": _form(
        replaced("tokenizer.json", '{"model": {}}'), "has no tokens in model.vocab"
    ),
    "tokenizer of no words": _form(
        replaced("tokenizer.json", '{"model": {"vocab": {}}}'), "has no tokens in model.vocab"
    ),
    "more ids than rows": _form(with_tokens(extra=ROWS), f"'extra' has the id {ROWS}", f"{ROWS} rows"),
    "more words than rows": _form(config(vocab_size=20), "'w29' has the id 29", "20 rows"),
    "more special tokens than rows": _form(
        _all(with_tokens(extra=ROWS), tokenizer_config(extra_special_tokens=["extra"])),
        f"'extra' has the id {ROWS}",
    ),
    "image token in the template": _form(
        _all(
            with_tokens(image=ROWS),
            tokenizer_config(image_token="image", chat_template=TEMPLATE + "image"),
        ),
        f"'image' has the id {ROWS}",
    ),
    "EOS that is added": _form(
        _all(tokenizer_config(eos_token="</s>"), config(vocab_size=30)), "'</s>' has the id 30", "30 rows"
    ),
    "short positions": _form(
        config(max_position_embeddings=128),
        "max_position_embeddings is 128",
        "--set hardware.max_model_len=128",
    ),
    "short positions, GPT-2's name": _form(
        config(max_position_embeddings=change, n_positions=40),
        "n_positions is 40",
        "--set hardware.max_model_len=40 --set grpo.max_new_tokens=20",
    ),
    "positions of a text": _form(config(max_position_embeddings="long"), "max_position_embeddings is 'long'"),
    "longrope": _form(config(rope_parameters=LONGROPE), "rope type longrope", "hardware.max_model_len=512"),
    "longrope, a layer type's": _form(
        config(rope_parameters={"full_attention": LONGROPE, "sliding_attention": {"rope_type": "default"}}),
        "rope type longrope",
    ),
    "dynamic rope": _form(
        config(max_position_embeddings=512, rope_scaling={"type": "dynamic", "factor": 4.0}),
        "rope type dynamic",
    ),
    "no chat template": _form(
        tokenizer_config(chat_template=change), "no chat template", "preprocess.template=plain", settings=CHAT
    ),
    "template refuses a system prompt": _form(
        tokenizer_config(chat_template=NO_SYSTEM + TEMPLATE),
        "refuses preprocess.system_prompt (System role not supported)",
        "--set preprocess.system_prompt=",
        settings=CHAT,
    ),
    "template is no template": _form(
        tokenizer_config(chat_template="{% for x %}"), "cannot be rendered", settings=CHAT
    ),
    "template loses the question": _form(
        replaced("chat_template.jinja", "{{ messages[0].content }}"),
        "does not contain the question",
        settings=CHAT,
    ),
    "template ends in EOS": _form(
        replaced("chat_template.jinja", "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"),
        "ends a prompt with the end-of-sequence token <end>",
        "--set preprocess.template=plain",
        settings=CHAT,
    ),
    "template without a default": _form(
        tokenizer_config(chat_template=[{"name": "tool_use", "template": TEMPLATE}]),
        "no chat template",
        settings=CHAT,
    ),
    "template for an evaluation": _form(
        tokenizer_config(chat_template=change), "no chat template", settings=("eval.templates=['chat']",)
    ),
}
