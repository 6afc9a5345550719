"""What MkDocs is told at each build (`hooks` in mkdocs.yml): pages that are made from something else, so that they cannot drift.

    README.md, README.ru.md          the first pages
    CHANGELOG.md, CONTRIBUTING.md,   pages of their own
    benchmarks/README.md, model cards
    click's commands                 commands/*.md
    what `faceembed` exports         reference/python.md, filled by mkdocstrings

A link in any of them goes by the file's place in the repository, as it must on a forge; here it becomes the page's address.
"""

from __future__ import annotations

import posixpath
import re
import sys
import textwrap
import types
import typing
from pathlib import Path
from typing import Any

from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File

sys.path.insert(0, str(Path(__file__).parent))
from commands import pages as command_pages

ROOT = Path(__file__).resolve().parents[2]
CARDS = sorted(path.relative_to(ROOT).as_posix() for path in ROOT.glob("engine/models/builtin/*.md"))

# File in the repository -> page of the site.
PAGES = {
    "README.md": "index.md",
    "README.ru.md": "ru.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "benchmarks.md",
    "LICENSE": "licence.md",
    **{card: f"models/{Path(card).name}" for card in CARDS},
}
PICTURES = {"benchmarks/results/vs_face_recognition.png": "pictures/vs_face_recognition.png"}

_LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#)([^)\s#]+)(#[^)\s]*)?(?=\))")
_FOREIGN = re.compile(
    r"<(?:script|img|iframe|source|video)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^>]*>|<link\b[^>]*\bhref=[\"']?(?:https?:)?//[^>]*>"
)
_IMAGE = re.compile(r'(?<=<img src=")(?![a-z]+:)([^"]+)(?=")')


def on_config(config: Any) -> Any:
    """Put commands and model cards into the navigation."""
    _fill(config.nav, "Commands", [f"commands/{name}.md" for name in command_pages(_main())])
    _fill(config.nav, "Models", ["models.md", *(PAGES[card] for card in CARDS), "yunet.md"])
    return config


def on_files(files: Any, config: Any) -> Any:
    """Add the made pages and the pictures that lie elsewhere."""
    for source, page in {**PAGES, **PICTURES}.items():
        text = {"content": _licence()} if source == "LICENSE" else {"abs_src_path": str(ROOT / source)}
        files.append(File.generated(config, page, **text))
    for name, content in command_pages(_main()).items():
        files.append(File.generated(config, f"commands/{name}.md", content=content))
    files.append(File.generated(config, "reference/python.md", content=python_reference()))
    return files


def on_page_markdown(markdown: str, page: Any, config: Any, files: Any) -> str:
    """Turn links between files of the repository into links between pages."""
    here = page.file.src_uri
    sources = {made: source for source, made in PAGES.items()}
    folder = posixpath.dirname(sources.get(here, f"docs/{here}"))

    def there(link: re.Match[str]) -> str:
        anchor = (link.group(2) if link.re is _LINK else "") or ""
        target = posixpath.normpath(posixpath.join(folder, link.group(1)))
        made = PAGES.get(target) or PICTURES.get(target) or target.removeprefix("docs/")
        if made == target:  # neither a page nor below docs/: the strict build says that it leads nowhere
            return link.group(0)
        if link.re is _IMAGE:  # HTML is not looked at by MkDocs: relative to the page's address
            return posixpath.relpath(made, posixpath.dirname(page.file.dest_uri) or ".")
        return posixpath.relpath(made, posixpath.dirname(here) or ".") + anchor

    return _IMAGE.sub(there, _LINK.sub(there, markdown))


def on_post_build(config: Any) -> None:
    """Refuse a site that makes a reader's browser ask another machine for anything.

    Raises:
        PluginError: a page does.
    """
    for page in sorted(Path(config.site_dir).rglob("*.html")):
        if found := _FOREIGN.search(page.read_text(encoding="utf-8")):
            raise PluginError(f"{page} loads something from elsewhere: {found.group()}")


def python_reference() -> str:
    """Every public name of the package, and the types that its functions give back."""
    import faceembed
    from faceembed.engine.pipeline.serving import SeenPhoto

    public = [(name, getattr(faceembed, name)) for name in faceembed.__all__ if not name.startswith("__")]
    functions = [(name, it) for name, it in public if isinstance(it, types.FunctionType)]
    results = {kind.__name__: kind for _, it in functions for kind in _classes(typing.get_type_hints(it)["return"])}
    warm = {name: it for name, it in public if name in ("Embedder", "Face")}
    groups = {
        "Functions": functions,
        "Models kept warm": [*warm.items(), ("SeenPhoto", SeenPhoto)],
        "What they give back": list(results.items()),
        "Settings and errors": [(name, it) for name, it in public if isinstance(it, type) and name not in warm],
    }
    example = "\n\n".join((faceembed.__doc__ or "").split("\n\n")[2:-1])
    lines = ["# Python", "", "```python", textwrap.dedent(example), "```", ""]
    lines += ["`import faceembed` loads nothing heavy; the verbs come when they are used.", ""]
    for title, members in groups.items():
        lines += [f"## {title}", "", *(line for member in members for line in _member(*member))]
    lines += ["## All errors", "", f"::: {faceembed.FaceEmbedError.__module__}", "    options:"]
    lines += ["      show_root_heading: false", "      show_root_toc_entry: false", ""]
    return "\n".join(lines)


def _member(name: str, it: Any) -> list[str]:
    """What mkdocstrings reads, under the name by which it is used."""
    return [
        f"::: {it.__module__}.{it.__qualname__}",
        "    options:",
        f"      heading: {name}",
        f"      toc_label: {name}",
        "",
    ]


def _classes(hint: Any) -> list[type]:
    """The classes of ours in a type such as ``list[tuple[str, list[Hit] | str]]``."""
    if isinstance(hint, type) and not typing.get_args(hint):
        return [hint] if hint.__module__.startswith("faceembed.") else []
    return [kind for part in typing.get_args(hint) for kind in _classes(part)]


def _fill(nav: list[Any], title: str, entries: list[str]) -> None:
    (place,) = [entry for entry in nav if isinstance(entry, dict) and title in entry]
    place[title] = entries


def _licence() -> str:
    return f"# Licence\n\n```text\n{(ROOT / 'LICENSE').read_text(encoding='utf-8')}\n```\n"


def _main() -> Any:
    from faceembed.cli.main import main

    return main
