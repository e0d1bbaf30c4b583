"""Writes `LICENSES.md`: who took each photograph, and under which licence."""

from sources import FULL, LICENCES, PACKAGES, SOURCES

HEAD = """\
# Authors and licences of the sample

Every picture in `train/`, `val/` and `unsup/` is a crop of one of the photographs below, so a derivative of it. Changes
to all of them: scaled down, cropped, turned by a few degrees, some mirrored, brightness, contrast, white balance and
saturation changed, some made grey, stored as JPEG. The pictures of GCompris were scaled, cropped and sharpened before
that by the authors of GCompris. None of the photographers endorses this project.

A crop keeps the licence of its photograph: crops of CC BY-SA photographs are under CC BY-SA of the same version, crops of
CC BY photographs may be used under CC BY of the same version with the credit given here, and crops of photographs in the
public domain or under CC0 ask for nothing. In `overview.jpg` each small picture keeps the licence of its photograph (the
rows are in the order of this table). Those who made the crops claim no rights of their own in them. The licence of this
project's code does not cover the pictures.

The class of a picture is the name of its folder. In `unsup/`, whose names tell no class, all pictures are crops of
photographs whose role is *tenth*, and all of those are in the public domain or under CC0.

| class | role | title | author | licence | source |
|---|---|---|---|---|---|
"""


def text() -> str:
    """The whole file; also checks what it says about unsup/."""
    free = {"CC0 1.0", "public domain"}
    assert all(source.role == FULL or source.licence in free for source in SOURCES)
    lines = [HEAD]
    for source in SOURCES:
        url = LICENCES[source.licence]
        licence = f"[{source.licence}]({url})" if url else source.licence
        origin = f", [original]({source.link})" if source.link else ""
        file = source.file.rpartition("/")[2]
        cells = source.name, source.role, source.title, source.author, licence, f"`{file}` of {source.package}{origin}"
        lines.append("| " + " | ".join(cells) + " |\n")
    lines.append("\nThe Debian packages, and where they state author and licence:\n\n")
    for package, version in PACKAGES.items():
        where = (
            "the `README` beside the pictures in the resource containers `explore_monuments.rcc` and `erase.rcc`"
            if package == "gcompris-qt-data"
            else f"`/usr/share/doc/{package}/copyright`"
        )
        lines.append(f"- {package} {version}: {where}\n")
    return "".join(lines)
