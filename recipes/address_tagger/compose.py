"""Write addresses as people type them: missing parts, abbreviations, capitals, commas, typing errors."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from random import Random
from string import Formatter
from typing import NamedTuple
from unicodedata import combining, normalize

from recipes.address_tagger.countries import Country
from recipes.address_tagger.labels import Span
from recipes.address_tagger.names import Names

PART_PROBABILITY = {
    "house_number": 0.92,
    "street": 0.93,
    "unit": 0.3,
    "postcode": 0.85,
    "city": 0.93,
    "region": 0.55,
    "country": 0.35,
}
"""Probability that a part is written, if the format has it."""
SEPARATORS = {", ": 70, " ": 12, ",": 7, "; ": 4, " - ": 4, " , ": 3}
"""Separators between parts, and how often each is used, in percent."""
CASES: dict[Callable[[str], str], int] = {str: 78, str.upper: 12, str.lower: 10}
"""Letter cases, and how often each is used, in percent."""
ABBREVIATED, FULL_STOP_LEFT_OUT = 0.35, 0.4
"""Share of streets with an abbreviation, and of abbreviations without their full stop."""
ACCENTS_LEFT_OUT = 0.12
"""Share of addresses without accents."""
MISTYPED = 0.06
"""Share of streets and cities with a typing error."""
BRACKETED = 0.06
"""Share of countries and regions in brackets."""
ENDS_IN_FULL_STOP = 0.08
"""Share of addresses with a full stop at the end."""


class Address(NamedTuple):
    """A text and the spans of its parts. A span starts and ends with a letter or a digit."""

    text: str
    spans: tuple[Span, ...]


def compose(country: Country, streets: Names, places: Names, random: Random) -> Address:
    """Write one address of the country, with a street of `streets` and a city of `places`."""
    case = random.choices([*CASES], [*CASES.values()])[0]
    separator = random.choices([*SEPARATORS], [*SEPARATORS.values()])[0]
    plain = country.latin and random.random() < ACCENTS_LEFT_OUT
    parts = _parts(country, streets, places, random)
    text, spans = "", []
    for literal, tag in _fields(random.choice(country.formats)):
        if tag not in parts:
            continue
        value = case(without_accents(parts[tag]) if plain else parts[tag])
        before, after = case(literal).replace(", ", separator) if text else literal.lstrip(", "), ""
        if text and tag in ("region", "country") and random.random() < BRACKETED:
            before, after = f"{before}(", ")"
        text += before
        spans.append(core(Span(tag, len(text), len(text) + len(value)), text + value))
        text += value + after
    return Address(f"{text}." if random.random() < ENDS_IN_FULL_STOP else text, tuple(spans))


def core(span: Span, text: str) -> Span:
    """Shrink a span to its first and last letter or digit, so that the full stop of `St.` is outside."""
    inside = [at for at in range(span.start, span.end) if text[at].isalnum()]
    return Span(span.tag, inside[0], inside[-1] + 1)


def without_accents(text: str) -> str:
    """Remove accents: `Straße` becomes `Strasse`, `Zürich` becomes `Zurich`."""
    letters = normalize("NFKD", text.replace("ß", "ss"))
    return "".join(letter for letter in letters if not combining(letter))


@cache
def _fields(form: str) -> list[tuple[str, str]]:
    """Return the fields of a format, each as the literal text before it and its tag."""
    return [(literal, tag) for literal, tag, _, _ in Formatter().parse(form) if tag]


def _parts(country: Country, streets: Names, places: Names, random: Random) -> dict[str, str]:
    city, region = random.choice(places.places)
    parts = {
        "house_number": random.choice(streets.house_numbers),
        "street": _street(country, random.choice(streets.streets), random),
        "unit": random.choice(streets.units),
        "postcode": random.choice(places.postcodes),
        "city": city if random.random() > MISTYPED else mistyped(city, random),
        "region": region,
        "country": random.choice(country.countries),
    }
    kept = {tag: part for tag, part in parts.items() if random.random() < PART_PROBABILITY[tag]}
    if "street" not in kept:
        kept = {tag: part for tag, part in kept.items() if tag not in ("house_number", "unit")}
        kept["city"] = city  # so that at least one part is left
    return kept


def _street(country: Country, street: str, random: Random) -> str:
    if random.random() < ABBREVIATED:
        for word, short in country.abbreviations:
            if word in street:
                street = street.replace(word, short.rstrip(".") if random.random() < FULL_STOP_LEFT_OUT else short)
                break
    return street if random.random() > MISTYPED else mistyped(street, random)


def mistyped(name: str, random: Random) -> str:
    """Swap two neighbouring letters or drop one, but not the first or the last."""
    if len(name) < 4:
        return name
    at = random.randrange(1, len(name) - 2)
    return name[:at] + random.choice([name[at + 1] + name[at], name[at + 1]]) + name[at + 2 :]
