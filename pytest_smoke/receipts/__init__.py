"""Receipts of promotions: what was tested, with which inputs, and whether that still holds."""
