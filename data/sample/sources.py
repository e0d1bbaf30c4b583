"""The photographs of the sample: where each lies, who took it, its licence, and which parts of it are used."""

from dataclasses import dataclass

FULL, TENTH = "full", "tenth"

PACKAGES = {
    "lomiri-wallpapers-16.04": "20.04.0-2",
    "lomiri-wallpapers-20.04": "20.04.0-2",
    "gcompris-qt-data": "3.1-2",
}

LICENCES = {
    "CC0 1.0": "https://creativecommons.org/publicdomain/zero/1.0/",
    "CC BY 3.0": "https://creativecommons.org/licenses/by/3.0/",
    "CC BY 4.0": "https://creativecommons.org/licenses/by/4.0/",
    "CC BY-SA 3.0": "https://creativecommons.org/licenses/by-sa/3.0/",
    "CC BY-SA 4.0": "https://creativecommons.org/licenses/by-sa/4.0/",
    "public domain": None,
}

COMMONS = "https://commons.wikimedia.org/wiki/File:"


@dataclass(frozen=True)
class Source:
    """One photograph, which is one class."""

    name: str  # of the class
    role: str  # FULL: every sample labelled, none in val. TENTH: one in ten labelled, the rest in unsup, and in val.
    title: str
    author: str
    licence: str
    package: str
    file: str  # below the package's root; `A.rcc!B` is file B in the Qt resource container A
    link: str | None = None  # to the original, where the package gives one
    area: tuple[float, float, float, float] = (0, 0, 1, 1)  # left, top, right, bottom that crops may touch, in [0, 1]
    val: tuple[float, float] | None = None  # left and right of the stripe of `area` that belongs to val alone


def lomiri(name, title, author, licence, release, file, area=(0, 0, 1, 1)):
    package = f"lomiri-wallpapers-{release}"
    return Source(name, FULL, title, author, licence, package, f"usr/share/backgrounds/{file}", area=area)


def gcompris(name, role, title, author, licence, activity, file, link, area=(0, 0, 1, 1), val=None):
    container = f"usr/share/gcompris-qt/rcc/{activity}.rcc"
    path = f"{container}!gcompris/src/activities/{activity}/resource/{file}"
    return Source(name, role, title, author, licence, "gcompris-qt-data", path, COMMONS + link, area, val)


def animal(name, title, author, licence, file, link):
    return gcompris(name, FULL, title, author, licence, "erase", file, link)


def monument(name, title, author, licence, file, link, area, val):
    return gcompris(name, TENTH, title, author, licence, "explore_monuments", file, link, area, val)


AITZOL = "Aitzol Berasategi"

SOURCES = [
    # The fully labelled half: scenes that differ.
    lomiri("shrub", "Dragonfly", "Bolly", "CC BY-SA 4.0", "16.04", "Dragonfly_by_Bolly.jpg"),
    lomiri("paintbrushes", "Picture 1A", 'Trevor "Freespace"', "CC BY 4.0", "16.04", "Picture_1A_by_freespace.jpg"),
    lomiri("autumn-slope", "aitzgorri", AITZOL, "CC BY 4.0", "16.04", "aitzgorri_by_Aitzol_Berasategi.jpg", (0, 0.1, 1, 1)),
    lomiri("stream", "life", AITZOL, "CC BY 4.0", "16.04", "life_by_Aitzol_Berasategi.jpg"),
    lomiri("alpine-path", "picosdeeuropa", AITZOL, "CC BY 4.0", "16.04", "picosdeeuropa_by_Aitzol_Berasategi.jpg", (0, 0.15, 1, 1)),
    lomiri("dandelions", "seeding", "Clemens Engelhardt", "CC0 1.0", "16.04", "seeding_by_Clements_Engelhardt.jpg"),
    lomiri("bark", "Kleiber", "Lukas Baubkus", "CC BY-SA 3.0", "20.04", "Kleiber_by_Lukas_Baubkus.jpg", (0, 0, 0.45, 1)),
    animal("chameleon", "Chamaeleo chamaeleon, Samos", "Benny Trapp", "CC BY 3.0", "chamaeleon.webp", "BennyTrapp_Chamaeleo_chamaeleon_Samos_Griechenland.jpg"),
    animal("giraffe", "Giraffe", "Sergio Cambelo", "public domain", "giraffe.webp", "Giraffe.JPG"),
    animal("red-panda", "Red Panda", "Mathias Appel", "CC0 1.0", "red_panda.webp", "Red_Panda_(30324056733).jpg"),
    # The tenth half: old stone under an open sky, seen on one side while training and on the other in val.
    monument("arles", "Amphitheatre of Arles", "(WT-fr) OT Arles", "public domain", "france/arlesAmphitheater.webp", "Arenes_arles.JPG", (0.02, 0.22, 1, 0.9), (0.02, 0.4)),
    monument("carcassonne", "Cité de Carcassonne", "Petitemontagnedujura", "public domain", "france/citedeCarcassonne.webp", "Carcassonne_-_la_Cit%C3%A9.jpg", (0, 0, 1, 0.9), (0.6, 1)),
    monument("colosseum", "Colosseum, Rome", "Urse Ovidiu", "public domain", "wonders/colosseum.webp", "Colosseum_Roma_2009.jpg", (0.04, 0.08, 0.95, 0.9), (0.57, 0.95)),
    monument("hawa-mahal", "Hawa Mahal, Jaipur", "Janwiki", "public domain", "india/hawaMahal.webp", "Hawa_Mahal,_Jaipur,_India.jpg", (0, 0.1, 1, 1), (0.62, 1)),
    monument("konark", "Sun Temple, Konark", "Tetraktys", "public domain", "india/konarkSunTemple.webp", "Konark_Sun_Temple_Front_view.jpg", (0, 0, 1, 1), (0, 0.36)),
    monument("mysore", "Mysore Palace", "Shiva sg", "public domain", "india/mysorePalace.webp", "Mysore_Palace_2006.jpg", (0, 0.1, 1, 0.92), (0.6, 1)),
    monument("palais-des-papes", "Palais des Papes, Avignon", "Tognopop", "CC0 1.0", "france/palaisdesPapes.webp", "Main_entrance_of_the_Palais_des_Papes_-_20050823.jpg", (0, 0.15, 0.9, 0.95), (0.52, 0.9)),
    monument("petra", "Ad Deir, Petra", "Berthold Werner", "public domain", "wonders/petra.webp", "Petra_Jordan_BW_36.JPG", (0, 0.05, 1, 1), (0.55, 0.92)),
    monument("pont-du-gard", "Pont du Gard", "Mimova", "public domain", "france/pontduGard.webp", "Pontdugard.jpg", (0.12, 0.2, 1, 0.95), (0.6, 1)),
    monument("reims", "Reims cathedral", "Mattana", "public domain", "france/reimsCathedral.webp", "Reims_Cathedrale_Notre_Dame_002_chevet.JPG", (0, 0.25, 0.95, 1), (0, 0.38)),
]
