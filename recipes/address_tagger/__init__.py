"""Postal addresses of six countries, tagged: house number, street, unit, postcode, city, region, country."""

from recipes.address_tagger.task import AddressTagger

__all__ = ["AddressTagger"]
