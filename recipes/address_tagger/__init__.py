"""Tag the parts of postal addresses from six countries: house number, street, unit, postcode, city, region, country."""

from recipes.address_tagger.task import AddressTagger

__all__ = ["AddressTagger"]
