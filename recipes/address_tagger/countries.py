"""How addresses are written in each country: order of the parts, abbreviations, words.

The order is the one that the national post recommends. `names` generates streets, postcodes and numbers.
"""

# ruff: noqa: RUF001 - Russian addresses are written in Cyrillic letters

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Country:
    """One source of addresses."""

    locale: str
    """Faker's name of the locale. Its last two letters are the ISO code of the country."""
    formats: tuple[str, ...]
    """Order of the parts, as `{tag}`. A part that is left out also removes the text before it."""
    countries: tuple[str, ...]
    """Names of the country."""
    units: tuple[str, ...]
    """Flats and floors. `#` stands for a digit, `%` for a digit that is not 0, `?` for a letter."""
    abbreviations: tuple[tuple[str, str], ...]
    """Words of street names and their abbreviations."""
    postcode_prefix: str = ""
    """Prefix that some postcodes have."""
    house_number_suffixes: tuple[str, ...] = ("A", "B")
    """Suffixes that some house numbers have."""
    latin: bool = True
    """Whether accents may be left out."""


COUNTRIES = {
    "us": Country(
        locale="en_US",
        formats=(
            "{house_number} {street}, {unit}, {city}, {region} {postcode}, {country}",
            "{house_number} {street} {unit}, {city}, {region} {postcode}, {country}",
            "{unit}, {house_number} {street}, {city} {region} {postcode}, {country}",
        ),
        countries=("USA", "U.S.A.", "United States", "United States of America", "US"),
        units=("Apt. %##", "Apt %?", "Suite %##", "Ste. %##", "Unit %#", "No. %#", "Floor %"),
        abbreviations=(
            ("Street", "St."),
            ("Avenue", "Ave."),
            ("Drive", "Dr."),
            ("Road", "Rd."),
            ("Lane", "Ln."),
            ("Mount", "Mt."),
            ("Court", "Ct."),
            ("Square", "Sq."),
            ("Parkway", "Pkwy."),
        ),
    ),
    "gb": Country(
        locale="en_GB",
        formats=(
            "{unit}, {house_number} {street}, {city}, {region}, {postcode}, {country}",
            "{house_number} {street}, {city} {postcode}, {country}",
            "{unit} {house_number} {street}, {city}, {region} {postcode}",
            "{house_number}, {street}, {city}, {postcode}, {country}",
        ),
        countries=("UK", "U.K.", "United Kingdom", "Great Britain"),
        units=("Flat %", "Flat %#", "Flat %?", "Studio %#", "Unit %", "1st Floor", "Basement Flat"),
        abbreviations=(
            ("Street", "St."),
            ("Road", "Rd."),
            ("Square", "Sq."),
            ("Court", "Ct."),
            ("Avenue", "Ave."),
            ("Lane", "Ln."),
            ("Drive", "Dr."),
        ),
    ),
    "fr": Country(
        locale="fr_FR",
        formats=(
            "{house_number}, {street}, {postcode} {city}, {country}",
            "{house_number} {street}, {unit}, {postcode} {city}, {region}, {country}",
            "{unit}, {house_number} {street} {postcode} {city}, {country}",
        ),
        countries=("France", "FR", "République française"),
        units=("Appt. %#", "Appartement %", "Bât. ?", "Bâtiment ?", "Esc. %", "2e étage", "3ème étage", "RDC"),
        abbreviations=(("avenue", "av."), ("boulevard", "bd."), ("chemin", "ch."), ("place", "pl."), ("rue", "r.")),
        postcode_prefix="F-",
        house_number_suffixes=(" bis", " ter", "B"),
    ),
    "de": Country(
        locale="de_DE",
        formats=(
            "{street} {house_number}, {postcode} {city}, {country}",
            "{street} {house_number}, {unit}, {postcode} {city}, {region}, {country}",
            "{postcode} {city}, {street} {house_number}, {unit}",
        ),
        countries=("Deutschland", "Germany", "DE", "Bundesrepublik Deutschland"),
        units=("Hinterhaus", "%. OG", "EG", "Whg. %#", "Wohnung %", "Haus ?"),
        abbreviations=(("straße", "str."), ("Straße", "Str."), ("platz", "pl."), ("Platz", "Pl.")),
        postcode_prefix="D-",
        house_number_suffixes=("a", "b", " c"),
    ),
    "nl": Country(
        locale="nl_NL",
        formats=(
            "{street} {house_number}, {postcode} {city}, {country}",
            "{street} {house_number} {unit}, {postcode} {city}, {region}, {country}",
            "{street} {house_number}, {postcode}, {city}, {region}",
        ),
        countries=("Nederland", "The Netherlands", "Netherlands", "NL"),
        units=("%-hoog", "App. %#", "Appartement %", "bis", "hs", "Kamer %#"),
        abbreviations=(("straat", "str."), ("weg", "wg."), ("laan", "ln."), ("plein", "pln.")),
        postcode_prefix="NL-",
        house_number_suffixes=("A", "-B", "-2"),
    ),
    "ru": Country(
        locale="ru_RU",
        formats=(
            "{postcode}, {region}, г. {city}, {street}, д. {house_number}, {unit}",
            "{country}, {postcode}, {region}, {city}, {street}, {house_number}, {unit}",
            "{city}, {street}, дом {house_number}, {unit}, {postcode}, {country}",
            "{street}, {house_number}, г. {city}, {postcode}",
        ),
        countries=("Россия", "РФ", "Российская Федерация"),
        units=("кв. %#", "кв. %##", "квартира %", "оф. %#", "офис %##", "корп. %", "подъезд %"),
        abbreviations=(("ул.", "улица"), ("пр.", "проспект"), ("пер.", "переулок"), ("наб.", "набережная")),
        house_number_suffixes=("А", "Б", "к2"),
        latin=False,
    ),
}
