"""What mdBook calls before it writes the site: links that are right on a code host become
links of the site.

A page may lie outside of `docs`, as the README does: it gets a place in the site by its path
in the repository. What a page links to and is no page (a proto, a unit, a picture) comes along: text as
a page that shows it, pictures within the page. A link to nothing is an error.
"""

import base64
import json
import os
import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent.parent
DOCS = "docs/"
PICTURES = {".png": "image/png", ".svg": "image/svg+xml"}
LANGUAGES = {".rs": "rust", ".toml": "toml", ".yaml": "yaml", ".proto": "protobuf",
             ".ts": "typescript", ".tsx": "typescript", ".js": "javascript", ".py": "python",
             ".go": "go", ".json": "json", ".css": "css", ".html": "html", ".sh": "sh"}

# `](target)` and `src="target"`: an image or a link, in Markdown or HTML.
LINK = re.compile(r'(\]\(|(?:src|href)=")([^)"\s]+)')


class Broken(Exception):
    """A link that leads nowhere, or a page that nothing leads to: which."""


def place(source: str) -> str:
    """Where a page of the repository is in the site: `docs/api.md` is `api.md`."""
    folder, name = os.path.split(source.removeprefix(DOCS))
    return os.path.join(folder, "index.md" if name == "README.md" else name)


class Book:
    """The chapters by their path in the repository, and the files that they bring along."""

    def __init__(self, items: list[Any]) -> None:
        self.chapters: dict[str, dict[str, Any]] = {}
        self.files: dict[str, Path] = {}
        self.collect(items)

    def collect(self, items: list[Any]) -> None:
        for item in items:
            chapter = item.get("Chapter") if isinstance(item, dict) else None
            if chapter and chapter["source_path"]:
                source = os.path.normpath(DOCS + chapter["source_path"])
                self.chapters[source] = chapter
                chapter["path"] = place(source)
                self.collect(chapter["sub_items"])

    def expect_all(self) -> None:
        """Fails unless each page of `docs` is a chapter."""
        for file in (ROOT / DOCS).rglob("*.md"):
            path = file.relative_to(ROOT).as_posix()
            if path not in self.chapters and file.name != "SUMMARY.md":
                raise Broken(f"{path} is not in docs/SUMMARY.md")

    def target(self, source: str, link: str) -> str:
        """A link of the page at `source`, as the site needs it."""
        if re.match(r"[a-z]+:", link) or link.startswith("#"):
            return link
        path, mark, anchor = link.partition("#")
        path = os.path.normpath(os.path.join(os.path.dirname(source), path))
        if (ROOT / path).is_dir():
            path = os.path.join(path, "README.md")
        file = ROOT / path
        if not file.is_file():
            raise Broken(f"{source}: {link} leads nowhere")
        if file.suffix in PICTURES:
            if path.startswith(DOCS):
                return self.relative(source, path.removeprefix(DOCS))
            data = base64.b64encode(file.read_bytes()).decode()
            return f"data:{PICTURES[file.suffix]};base64,{data}"
        if path in self.chapters:
            return self.relative(source, place(path)) + mark + anchor
        if file.suffix == ".md":
            raise Broken(f"{source}: {link} is not in docs/SUMMARY.md")
        self.files[path] = file
        return self.relative(source, self.place_of_file(path))

    def place_of_file(self, path: str) -> str:
        return f"files/{path}.md"

    def relative(self, source: str, to: str) -> str:
        return os.path.relpath(to, os.path.dirname(place(source)) or ".")

    def rewrite(self, source: str, text: str) -> str:
        """The text with its links made those of the site; code is left as it is."""

        def link(found: re.Match[str]) -> str:
            return str(found[1]) + self.target(source, found[2])

        lines, fence, is_drawing = [], None, False
        for line in text.split("\n"):
            if opened := re.match(r" *(```+)(.*)", line):
                fence = None if fence == opened[1] else fence or opened[1]
                # A code host draws it. Here it is text, for who wants it.
                if fence and opened[2] == "mermaid":
                    is_drawing = True
                    line = f"<details><summary>The drawing, in Mermaid's words</summary>\n\n{line}"
                elif fence is None and is_drawing:
                    is_drawing = False
                    line += "\n\n</details>"
            elif fence is None:
                # Every second piece is code: `array[i](x)` is no link.
                pieces = re.split(r"(`[^`]*`)", line)
                pieces[::2] = [LINK.sub(link, piece) for piece in pieces[::2]]
                line = "".join(pieces)
            lines.append(line)
        return "\n".join(lines)

    def shown(self, path: str) -> dict[str, Any]:
        """A page that shows a file."""
        file = self.files[path]
        language = LANGUAGES.get(file.suffix, "text")
        content = f"# {path}\n\n`````{language}\n{file.read_text().rstrip()}\n`````\n"
        return {"Chapter": {"name": path, "content": content, "number": None, "sub_items": [],
                            "path": self.place_of_file(path), "source_path": None,
                            "parent_names": []}}


def main() -> None:
    if sys.argv[1:2] == ["supports"]:
        sys.exit(0 if sys.argv[2] == "html" else 1)
    _, book = json.load(sys.stdin)
    pages = Book(book["items"])
    pages.expect_all()
    for source, chapter in pages.chapters.items():
        chapter["content"] = pages.rewrite(source, chapter["content"])
    if pages.files:
        book["items"].append({"PartTitle": "Files that the pages name"})
        book["items"] += [pages.shown(path) for path in sorted(pages.files)]
    json.dump(book, sys.stdout)


try:
    main()
except Broken as broken:
    sys.exit(f"docs/site/pages.py: {broken}")
