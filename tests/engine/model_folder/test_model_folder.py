"""Model folders of every form: refused in one line, at once and without a trace, or accepted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import tomli_w

from engine.errors import LaunchError
from engine.model_folder import FolderFault, check_folder, check_loaded, located
from engine.plan import make_plan
from engine.startup.preflight import check
from profiles.load import load
from profiles.schema import Profile
from tests.support.command_line import mathrl
from tests.support.fake_hub import hub
from tests.support.folder_forms import (
    CHAT,
    CONFIG,
    EMBEDDING,
    FAULTS,
    HEAD,
    NORM,
    ROWS,
    SHAPES,
    TEMPLATE,
    change,
    config,
    good_folder,
    replaced,
    shard,
    tokenizer_config,
    weights,
    with_tokens,
    without,
    write_json,
    write_weights,
)
from tests.support.places import ROOT

MOST_SECONDS = 3.0
STAGES = ("data", "traces", "preprocess", "sft", "eval")


def profile(source: str | Path, *settings: str) -> Profile:
    """The demo's experiment on the model `source` instead of a made one."""
    table = load("demo", ["data.train_rows=80", "data.validation_rows=20", *settings]).model_dump(mode="json")
    table["model"]["source"] = str(source)
    table["arms"] = [{"name": "base", "stage": "none"}, {"name": "sft", "stage": "sft", "parent": "base"}]
    return Profile.model_validate(table)


def preflight(home: Path, wanted: Profile, stages: tuple[str, ...] = STAGES) -> None:
    """Check a run as its launcher does, on a machine without GPUs."""
    check(home, wanted, make_plan(wanted, stages), [])


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_folder_is_refused_at_once(name: str, tmp_path: Path) -> None:
    form, folder, home = FAULTS[name], good_folder(tmp_path / "model"), tmp_path / "home"
    form.spoil(folder)
    began = time.monotonic()
    with pytest.raises(LaunchError) as caught:
        preflight(home, profile(folder, *form.settings))
    message = str(caught.value)
    assert time.monotonic() - began < MOST_SECONDS
    assert message.startswith(f"model.source {folder}: ")
    assert "\n" not in message
    for text in form.expected:
        assert text in message
    assert not home.exists()


def _sharded(folder: Path) -> None:
    shard(folder)


def _masks(folder: Path) -> None:
    """GPT-2's checkpoints keep causal masks as bytes."""
    mask = "h.0.attn.bias"
    write_weights(folder / "model.safetensors", {**SHAPES, mask: (1, 4, 4)}, {mask: "U8"})


def _byte_order_mark(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8-sig")


def _slow_tokenizer(folder: Path) -> None:
    without("tokenizer.json", "tokenizer_config.json")(folder)
    write_json(folder / "vocab.json", {"<|endoftext|>": 0, "a": 1})
    (folder / "merges.txt").write_text("#version: 0.2\n")


def _image_token(folder: Path) -> None:
    """Gemma 3's text models have a token of images behind the last row of the embedding."""
    with_tokens(**{"<image>": ROWS})(folder)
    change(folder / "tokenizer_config.json", image_token="<image>")


GOOD: dict[str, tuple[Callable[[Path], object], tuple[str, ...]]] = {
    "as made": (lambda folder: None, ()),
    "with its chat template": (lambda folder: None, CHAT),
    "shards": (_sharded, ()),
    "integer buffers": (_masks, ()),
    "16-bit weights": (weights(dtypes={EMBEDDING: "BF16", NORM: "F16"}), ()),
    "a tied head": (config(tie_word_embeddings=True), ()),
    "a token of images": (_image_token, CHAT),
    "no quantisation": (config(quantization_config=None), ()),
    "code that is not needed": (config(auto_map={"AutoModelForCausalLM": "modeling.Qwen2ForCausalLM"}), ()),
    "no architectures": (config(architectures=change), ()),
    "several ends": (config(eos_token_id=[0, 3]), ()),
    "a byte order mark": (_byte_order_mark, ()),
    "vocabulary and merges": (_slow_tokenizer, ()),
    "longrope within its length": (
        config(rope_parameters={"rope_type": "longrope", "original_max_position_embeddings": 1024}),
        (),
    ),
    "yarn": (
        config(rope_parameters={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 512}),
        (),
    ),
    "linear rope": (config(max_position_embeddings=512, rope_scaling={"type": "linear", "factor": 2.0}), ()),
    "named templates": (tokenizer_config(chat_template=[{"name": "default", "template": TEMPLATE}]), CHAT),
    "a marked answer": (
        replaced(
            "chat_template.jinja",
            "{% generation %}" + TEMPLATE + "{% endgeneration %}{{ strftime_now('%Y') }}",
        ),
        CHAT,
    ),
    "no template where none is asked for": (tokenizer_config(chat_template=change), ()),
    "a template for user messages": (
        tokenizer_config(
            chat_template="{% if messages|length > 1 %}{{ raise_exception('one') }}{% endif %}" + TEMPLATE
        ),
        ("preprocess.template=chat", "preprocess.system_prompt="),
    ),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_folder_is_accepted(name: str, tmp_path: Path) -> None:
    spoil, settings = GOOD[name]
    folder = good_folder(tmp_path / "model")
    spoil(folder)
    preflight(tmp_path / "home", profile(folder, *settings))
    assert not (tmp_path / "home").exists()


@pytest.mark.parametrize("name", ["pickled weights", "no tokenizer", "more ids than rows", "short positions"])
def test_the_command_refuses_with_status_2(name: str, tmp_path: Path) -> None:
    folder, home = good_folder(tmp_path / "model"), tmp_path / "home"
    FAULTS[name].spoil(folder)
    file = tmp_path / "mine.toml"
    file.write_text(tomli_w.dumps(profile(folder).model_dump(mode="json")))
    began = time.monotonic()
    done = mathrl(home, "run", "--profile", file, *STAGES)
    assert (done.returncode, done.stdout) == (2, "")
    assert time.monotonic() - began < MOST_SECONDS
    assert done.stderr.count("\n") == 1
    assert all(text in done.stderr for text in FAULTS[name].expected)
    assert not home.exists()


@pytest.mark.skipif(find_spec("vllm") is None, reason="vLLM is not installed")
def test_serve_refuses_the_same_folders(tmp_path: Path) -> None:
    folder = good_folder(tmp_path / "model")
    FAULTS["GPTQ"].spoil(folder)
    done = mathrl(tmp_path / "home", "serve", folder)
    assert done.returncode == 2, done.stderr
    assert "quantised (gptq)" in done.stderr
    assert not (tmp_path / "home").exists()


def test_a_folder_that_may_not_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = good_folder(tmp_path / "model")

    def forbidden(path: Path, *_: object) -> bytes:
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(Path, "read_bytes", forbidden)
    with pytest.raises(
        FolderFault, match="^config.json: cannot be read .Permission denied.; check the file's owner"
    ):
        check_folder(located(str(folder)) or pytest.fail("no folder"))


def test_the_checks_load_no_model_library(tmp_path: Path) -> None:
    folder = good_folder(tmp_path / "model")
    script = (
        "import sys; from engine.model_folder import check_folder, located; check_folder(located(sys.argv[1]));"
        "print({'torch', 'transformers', 'numpy', 'huggingface_hub'} & sys.modules.keys())"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", script, str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.stdout.strip() == "set()", done.stderr


def _cached(cache: Path, *names: str) -> None:
    """A good folder's files `names` as the hub's cache keeps them for some/model at main."""
    made = good_folder(cache / "made")
    repository = cache / "models--some--model"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    for name in names:
        (snapshot / name).write_bytes((made / name).read_bytes())


@pytest.mark.parametrize("offline", [False, True])
def test_a_cached_snapshot_is_checked_as_far_as_it_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, offline: bool
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", offline)
    _cached(tmp_path / "cache", "config.json", "tokenizer.json", "tokenizer_config.json")
    wanted, home = profile("some/model"), tmp_path / "home"
    if offline:
        with pytest.raises(LaunchError, match="model.source some/model: a checkpoint folder with no weights"):
            preflight(home, wanted)
        return
    preflight(home, wanted)
    snapshot = tmp_path / "cache" / "models--some--model" / "snapshots" / "abc"
    change(snapshot / "config.json", model_type="brandnew")
    with pytest.raises(LaunchError, match="model.source some/model: config.json: model_type 'brandnew'"):
        preflight(home, wanted)


def test_a_hub_name_that_cannot_be_had(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(LaunchError, match="not in the hub's cache, and HF_HUB_OFFLINE"):
        preflight(tmp_path / "home", profile("some/model"))
    preflight(tmp_path / "home", profile("some/model"), ("data", "traces"))
    with pytest.raises(LaunchError, match="no such folder, and not a hub name"):
        preflight(tmp_path / "home", profile("some model"))


def test_the_mappings_are_those_of_transformers() -> None:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES

    from engine.model_folder.architecture import CAUSAL, CONFIGS, mapping

    assert mapping(*CONFIGS) == dict(CONFIG_MAPPING_NAMES)
    assert mapping(*CAUSAL) == dict(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)


def test_templates_and_ids_are_those_of_transformers(tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    from engine.model_folder.chat_template import TemplateAlone
    from engine.model_folder.tokenizer_settings import chat_template, special_tokens
    from engine.model_folder.vocabulary import token_ids

    source = good_folder(tmp_path / "model")
    replaced(
        "chat_template.jinja",
        "{% for message in messages %}\n  {% if loop.index > 9 %}{% break %}{% endif %}\n{{ message | tojson }}"
        "{% generation %}{{ eos_token }}{% endgeneration %}\n{% endfor %}{{ bos_token is defined }}",
    )(source)
    change(source / "tokenizer_config.json", pad_token="<pad>", additional_special_tokens=["<x>"])
    folder = located(str(source)) or pytest.fail("no folder")
    oracle = PreTrainedTokenizerFast.from_pretrained(source)
    messages = [{"role": "system", "content": "é < \\"}, {"role": "user", "content": "2 > 1?"}]
    ours = TemplateAlone(chat_template(folder) or "", special_tokens(folder))
    expected = oracle.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    assert ours.apply_chat_template(messages, tokenize=False, add_generation_prompt=True) == expected
    ids = token_ids(folder) or {}
    assert ids.keys() == oracle.get_vocab().keys()
    assert max(ids.values()) == max(oracle.get_vocab().values())
    check_loaded(folder, oracle)


def test_tokens_that_a_class_adds_by_itself(tmp_path: Path) -> None:
    """transformers gives Qwen2's own class an end token that is in no file: here it has no row."""
    from engine.data.tokenizer import load_tokenizer

    source = good_folder(tmp_path / "model")
    change(source / "tokenizer_config.json", tokenizer_class="Qwen2Tokenizer", eos_token=change)
    change(source / "config.json", vocab_size=30)
    weights({EMBEDDING: (30, 8), HEAD: (30, 8), NORM: (8,)})(source)
    folder = located(str(source)) or pytest.fail("no folder")
    check_folder(folder)
    with pytest.raises(
        FolderFault, match="token '<.endoftext.>' has the id 30, but the embedding has 30 rows"
    ):
        check_loaded(folder, load_tokenizer(source))


FETCH = """
import sys
from engine.model_folder import FolderFault, check_folder, small_files
try:
    folder = small_files(sys.argv[1], "main")
    check_folder(folder)
    print(sorted(path.name for path in folder.path.iterdir()))
except FolderFault as error:
    print(error)
"""


def _fetched(tmp_path: Path, endpoint: str, name: str = "some/model") -> str:
    """What a process prints that fetches `name` from a hub."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HF_ENDPOINT": endpoint,
        "HF_HUB_CACHE": str(tmp_path / "cache"),
        "HF_HUB_OFFLINE": "0",
        "HF_HUB_DISABLE_XET": "1",
    }
    command = [sys.executable, "-c", FETCH, name]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_hub_model_is_checked_before_its_weights_are_downloaded(tmp_path: Path) -> None:
    folder = good_folder(tmp_path / "model")
    with hub(folder) as (endpoint, taken):
        small = ["config.json", "tokenizer.json", "tokenizer_config.json"]
        assert _fetched(tmp_path, endpoint) == str(small)
        assert sorted(taken) == small
        taken.clear()
        FAULTS["pickled weights"].spoil(folder)
        assert _fetched(tmp_path, endpoint).startswith("pytorch_model.bin: weights in pickled form")
        assert taken == []
        assert "the hub does not provide it" in _fetched(tmp_path, endpoint, "some/other")
