"""Fails where a page of the built site links to what is not there, or has a picture without a
text in its place: `links.py DIRECTORY`.
"""

import os
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

DOCS = Path(__file__).resolve().parent.parent


class Page(HTMLParser):
    """What a page links to, what can be linked to in it, and its pictures without a text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.ids: set[str] = set()
        self.silent: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        if name := given.get("id"):
            self.ids.add(name)
        for name in ("href", "src"):
            if link := given.get(name):
                self.links.add(link)
        if tag == "img" and not given.get("alt"):
            self.silent.append(str(given.get("src"))[:80])


def main(site: Path) -> int:
    # An example that came along as it is is no page of the site.
    made = (path for path in site.rglob("*.html") if not (DOCS / path.relative_to(site)).exists())
    pages = {path: Page(path.read_text()) for path in made}
    wrong, checked = [], 0
    for path, page in pages.items():
        name = path.relative_to(site)
        wrong += [f"{name}: {image} has no alt text" for image in page.silent]
        for link in page.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            checked += 1
            # Only the page for what is not there has links from the root.
            of = site if name.name == "404.html" else path.parent
            to = Path(os.path.normpath(of / unquote(parts.path).lstrip("/"))) if parts.path else path
            if to.is_dir():
                to = to / "index.html"
            if not to.is_file():
                wrong.append(f"{name}: {link} leads nowhere")
            elif parts.fragment and to in pages and unquote(parts.fragment) not in pages[to].ids:
                wrong.append(f"{name}: {link}: there is no such heading")
    for line in sorted(wrong):
        print(line, file=sys.stderr)
    print(f"{checked} links of {len(pages)} pages, {len(wrong)} wrong")
    # A site of a few links was not built as it should be.
    return 1 if wrong or checked < 500 else 0


sys.exit(main(Path(sys.argv[1])))
