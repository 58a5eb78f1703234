"""Config files of other trainers: their formats, the names of their settings, and what `from` reads of them."""
