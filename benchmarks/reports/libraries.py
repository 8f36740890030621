"""asv's site without a network: what its index.html takes from ten other places lies beside it.

The libraries are those of packages that pip installs, of versions near the ones that asv names.
Three of which asv needs little, and which no package has, are replaced by our own site.js.
"""

import re
import shutil
from importlib import metadata
from pathlib import Path

OURS = Path(__file__).parent / "templates" / "site.js"
FOLDER = "libraries"
JQUERY, FLOT, BOOTSTRAP = "js.jquery", "js.jquery_flot", "js.bootstrap"
# Of a file that asv names: the package that has it, and its name there.
SOURCES = {
    "jquery-3.3.1.min.js": (JQUERY, r"jquery-[\d.]+\.min\.js"),
    "jquery.flot.min.js": (FLOT, r"jquery\.flot\.min\.js"),
    "jquery.flot.time.min.js": (FLOT, r"jquery\.flot\.time\.min\.js"),
    "jquery.flot.selection.min.js": (FLOT, r"jquery\.flot\.selection\.min\.js"),
    "jquery.flot.categories.min.js": (FLOT, r"jquery\.flot\.categories\.min\.js"),
    "bootstrap.min.js": (BOOTSTRAP, r"bootstrap\.min\.js"),
    "bootstrap.min.css": (BOOTSTRAP, r"bootstrap\.min\.css"),
}
REPLACED = {"jquery.flot.orderBars.js", "stupidtable.min.js", "md5.min.js"}
ELSEWHERE = re.compile(
    r'<(script|link)\b[^>]*\b(?:src|href)="https?://[^"]*/([^"/]+)"[^>]*>(?:</script>)?'
)


def bring_home(site):
    """Copies what index.html of a site asks of other places beside it, and asks for the copies.

    LookupError where one cannot be found; the site is as it was.
    """
    index = Path(site) / "index.html"
    html = index.read_text(encoding="utf-8")
    names = [name for _, name in ELSEWHERE.findall(html)]
    found = {name: source(name) for name in names}
    (index.parent / FOLDER).mkdir(exist_ok=True)
    for path in set(found.values()):
        shutil.copyfile(path, index.parent / FOLDER / path.name)
    loaded = set()

    def local(tag):
        kind, name = tag.groups()
        address = f"{FOLDER}/{found[name].name}"
        if address in loaded:
            return ""
        loaded.add(address)
        if kind == "link":
            return f'<link rel="stylesheet" href="{address}">'
        return f'<script src="{address}"></script>'

    index.write_text(ELSEWHERE.sub(local, html), encoding="utf-8")


def source(name):
    """The path of what stands for a file that asv names."""
    if name in REPLACED:
        return OURS
    if name not in SOURCES:
        raise LookupError(f"nothing here stands for {name}")
    package, pattern = SOURCES[name]
    try:
        files = metadata.files(package) or []
    except metadata.PackageNotFoundError:
        raise LookupError(f"{package} is not installed (pip install {package})") from None
    for file in files:
        if re.fullmatch(pattern, file.name):
            return Path(file.locate())
    raise LookupError(f"{package} has no {name}")
